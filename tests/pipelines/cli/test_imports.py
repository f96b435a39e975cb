"""What a command imports: a person waits for it, so it is not more than the command needs."""

import sys

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
    ("status",): READING,
    ("query", "SELECT 1"): READING,
    ("plan",): CHARTS | CLIENT | SANDBOX | {"sqlalchemy"},
    ("load",): CHARTS | CLIENT | SANDBOX | {"sqlalchemy"},
}


def test_commands_import_what_they_need(place: Place, answers: Answers) -> None:
    answers.by_token["one"] = userinfo("acc_one", [profile("pro_1")])
    place.write_tokens(["one"])
    assert place.invoke("load").exit_code == 0
    for command, never in NEVER_IMPORTED.items():
        done = run([sys.executable, "-c", SHOWN, *command], place.directory, place.environment())
        assert done.returncode == 0, done.stderr[:1000]
        imported = set(done.stderr.split())
        assert "dlt" in imported
        assert never & imported == set(), (command, done.stdout)
