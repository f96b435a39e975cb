"""What a command imports: a person waits for it, so it is not more than the command needs."""

import sys

import pytest

from tests.acceptance.documents import profile, userinfo
from tests.acceptance.place import Place, run
from tests.pipelines.conftest import Answers

SHOWN = """
import sys
from dlt_cronofy.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
CHARTS = {"pandas", "numpy", "altair", "jinja2"}
CLIENT, SANDBOX, SOURCE = {"httpx", "aiohttp"}, {"starlette", "uvicorn"}, {"dlt_cronofy.source.resources"}
READING = CHARTS | CLIENT | SANDBOX | SOURCE | {"pyarrow", "sqlalchemy", "dlt_cronofy.load.run"}
NEVER_IMPORTED = {
    ("load", "--json"): CHARTS | CLIENT | SANDBOX | {"sqlalchemy", "pyarrow.compute", "rich"},
    ("status",): READING,
    ("query", "SELECT 1"): READING,
    ("plan",): CHARTS | CLIENT | SANDBOX | {"sqlalchemy"},
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("command", NEVER_IMPORTED, ids=lambda command: command[0])
def test_a_command_imports_what_it_needs(command: tuple[str, ...], place: Place, answers: Answers) -> None:
    answers.by_token["one"] = userinfo("acc_one", [profile("pro_1")])
    place.write_tokens(["one"])
    assert place.invoke("load").exit_code == 0
    done = run([sys.executable, "-c", SHOWN, *command], place.directory, place.environment())
    assert done.returncode == 0, done.stderr[:1000]
    imported = set(done.stderr.split())
    assert "dlt" in imported
    assert NEVER_IMPORTED[command] & imported == set(), done.stdout
