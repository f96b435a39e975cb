"""`dlt init cronofy duckdb --location <clone>` in an empty folder gives a script that runs."""

import os
import shutil
import sys
import venv
from collections import Counter
from pathlib import Path

import pytest

from tests.certificates import trusting

from .conftest import Serve
from .documents import account, disconnected, profile, userinfo
from .place import query, run
from .server import Reply, Request, ScriptedServer, says

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DATABASE, DATASET = "folder_cronofy.duckdb", "cronofy"
# what an environment with dlt[duckdb] alone lacks
HIDDEN = {
    "aiohttp",
    "fasteners",
    "httpx",
    "httpx_aiohttp",
    "numpy",
    "pandas",
    "pyarrow",
    "redis",
    "sqlalchemy",
}
HIDING = f"""
import sys

class Hidden:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
from dlt._workspace.cli._dlt import main
sys.exit(main())
"""
# needed by one of the token stores only, as the README says
OPTIONAL = {"sqlalchemy"}


@pytest.fixture
def server(serve: Serve) -> ScriptedServer:
    def answer(request: Request) -> Reply:
        sub = f"acc_{request.token}"
        if request.endpoint == "account":
            return says(account(sub))
        return says(userinfo(sub, [profile("pro_1"), disconnected(profile("pro_2"))]))

    return serve(answer)


@pytest.fixture
def environment(tmp_path: Path, server: ScriptedServer) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "DLT_DATA_DIR": str(tmp_path / "data"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "SOURCES__CRONOFY__BASE_URL": server.base_url,
        "SOURCES__CRONOFY__TOKENS": '["one", {"key": "two", "access_token": "two"}]',
    }


@pytest.fixture
def folder(tmp_path: Path, environment: dict[str, str]) -> Path:
    """An empty folder after `dlt init` from a clone, where nothing but dlt and DuckDB can be imported."""
    clone, folder = tmp_path / "clone", tmp_path / "folder"
    shutil.copytree(REPOSITORY / "sources", clone / "sources", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-c", "user.name=someone", "-c", "user.email=someone@example.com"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "clone"]):
        assert run([*git, *arguments], clone, environment).returncode == 0
    folder.mkdir()
    initialize([sys.executable, "-c", HIDING], clone, folder, environment)
    return folder


def initialize(dlt: list[str], clone: Path, folder: Path, environment: dict[str, str]) -> None:
    init = ["--non-interactive", "init", "cronofy", "duckdb", "--location", str(clone)]
    done = run([*dlt, *init], folder, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "cronofy_pipeline.py").exists()


@pytest.mark.long
def test_the_script_runs(folder: Path, environment: dict[str, str], server: ScriptedServer) -> None:
    present = {path.name for path in folder.iterdir()}
    assert present >= {".dlt", "cronofy", "cronofy_pipeline.py", "requirements.txt"}
    assert (folder / "cronofy" / "README.md").read_text(encoding="utf-8").strip()
    # the source stands alone: nothing else of this repository may be imported
    for name in ("sources", "pipelines"):
        (folder / f"{name}.py").write_text("raise ImportError('not part of the source')\n", encoding="utf-8")

    for polls, calls in ((4, Counter(userinfo=2, account=2)), (6, Counter(userinfo=2))):
        server.log.clear()
        done = run([sys.executable, "cronofy_pipeline.py"], folder, environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert server.calls == calls
        assert done.stdout.splitlines()[-1] == f"polls: {calls.total()} ok"
        assert read(folder, "SELECT COUNT(*) FROM polls WHERE outcome = 'ok'") == [(polls,)]
    assert read(folder, "SELECT state, COUNT(*) FROM profiles GROUP BY state ORDER BY state") == [
        ("connected", 2),
        ("disconnected", 2),
    ]
    assert read(folder, "SELECT kind, COUNT(*) FROM profile_changes GROUP BY kind") == [("first_seen", 4)]
    assert "two" in {key for (key,) in read(folder, "SELECT token_key FROM userinfo")}


@pytest.mark.long
def test_the_script_names_what_failed(tmp_path: Path, environment: dict[str, str], serve: Serve) -> None:
    folder = tmp_path / "my project"
    shutil.copytree(REPOSITORY / "sources", folder)
    server = serve(lambda request: Reply(401 if request.token == "one" else 403))
    environment["SOURCES__CRONOFY__BASE_URL"] = server.base_url
    done = run([sys.executable, "cronofy_pipeline.py"], folder, environment)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "no poll succeeded")
    _, _, polls = done.stdout.partition("polls: ")
    assert (folder / "my_project_cronofy.duckdb").exists()
    assert "1 token_rejected" in polls
    assert "userinfo: token_rejected (HTTP 401)" in polls
    assert "  two userinfo: forbidden (HTTP 403)" in polls.splitlines()


@pytest.mark.long
def test_an_environment_with_dlt_alone_and_then_the_requirements(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    python, other = tmp_path / "venv" / "bin" / "python", tmp_path / "other"
    other.mkdir()

    def install(*packages: str) -> None:
        command = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", str(python), *packages]
        done = run(command, other, trusting())
        assert done.returncode == 0, done.stderr

    venv.create(tmp_path / "venv")
    install("dlt[duckdb]")
    initialize([str(python.with_name("dlt"))], tmp_path / "clone", other, environment)
    install("--requirement", "requirements.txt")
    done = run([str(python), "cronofy_pipeline.py"], other, environment)
    assert (done.returncode, done.stderr) == (0, "")
    dataset = "dlt.pipeline('other_cronofy', destination='duckdb', dataset_name='cronofy').dataset()"
    count = f"import dlt; print({dataset}.profiles.arrow().num_rows)"
    done = run([str(python), "-c", count], other, environment)
    assert (done.stdout, done.stderr) == ("4\n", "")


def read(folder: Path, sql: str) -> list[tuple[object, ...]]:
    return query(folder / DATABASE, sql, DATASET)


def test_the_requirements_name_what_the_source_imports() -> None:
    source = REPOSITORY / "sources" / "cronofy"
    required = (source / "requirements.txt").read_text(encoding="utf-8").replace("_", "-")
    imported = {
        line.split()[1].split(".")[0].replace("_", "-")
        for path in source.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from ")) and not line.startswith("from .")
    }
    third_party = imported - {name.replace("_", "-") for name in sys.stdlib_module_names}
    assert third_party >= {"dlt", "httpx", "pyarrow"}
    assert {name for name in third_party - OPTIONAL if name not in required} == set()
