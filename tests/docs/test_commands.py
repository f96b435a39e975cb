"""The commands in docs/: each is run, in the order of its page, in a folder with what the page presumes.

A block under `<!-- not run: why -->` is left out; a page with `<!-- commands tested by tests/….py -->` is for
that module. Output shown right below a block is what it prints (`UPDATE_DOCS=1` writes it).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from dlt_cronofy.sandbox import MovableClock, SandboxServer, build_world, serve
from dlt_cronofy.sandbox.demo import START, Demo
from dlt_cronofy.source.tables import TABLES
from tests.docs.questions import DOCS, trimmed
from tests.pipelines.views.warehouse import DATASET, PostgresWarehouse
from tests.pipelines.views.warehouse import _in_utc as in_utc
from tests.postgres import credentials

ROOT = DOCS.parent
# the demo is played here where no test of another module has asked for it before
pytestmark = pytest.mark.timeout(300)

TESTED_ELSEWHERE = re.compile(r"<!-- commands tested by (\S+) -->")
BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>.+?) -->\n)?^```(?P<language>sh|python)\n(?P<text>.*?)^```\n"
    r"(?:\n```text\n(?P<shown>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
NOT_RUN = "not run: "
# pages whose commands take long, each a process of its own, and change seldom
SLOW_PAGES = ("operations.md", "privacy.md", "report.md")
# few, so that a load takes no longer than the command's start
TOKENS = 12


@dataclass(frozen=True)
class Block:
    """One block of commands, or a Python file to be saved (`# name.py` is its first line)."""

    language: str
    text: str
    shown: str | None
    reason_not_to_run: str | None

    @property
    def file_name(self) -> str | None:
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found and self.language == "python" else None


@dataclass
class Place:
    """The folder a page's commands run in."""

    folder: Path
    environment: dict[str, str]


def blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [_block(found) for found in BLOCK.finditer(text)]


def _block(found: "re.Match[str]") -> Block:
    comment = found["comment"] or ""
    reason = comment.removeprefix(NOT_RUN) if comment.startswith(NOT_RUN) else None
    return Block(found["language"], found["text"], found["shown"], reason)


def with_tokens(place: Place, request: pytest.FixtureRequest) -> None:
    """A token file, and a Cronofy that knows the tokens."""
    server: SandboxServer = request.getfixturevalue("sandbox")
    shutil.copy(request.getfixturevalue("token_file"), place.folder / "tokens.csv")
    place.environment |= {
        "SOURCES__CRONOFY__TOKENS_FILE": "tokens.csv",
        "SOURCES__CRONOFY__BASE_URL": server.base_url,
    }


def with_warehouse(place: Place, request: pytest.FixtureRequest) -> None:
    """A copy of the demo's warehouse."""
    database: Path = request.getfixturevalue("demo_file")
    for file in database.parent.glob(f"{database.name}*"):
        shutil.copy(file, place.folder)


def with_other_application(place: Place, request: pytest.FixtureRequest) -> None:
    """The tokens of a second application."""
    lines = Path(request.getfixturevalue("token_file")).read_text(encoding="utf-8").splitlines(keepends=True)
    (place.folder / "tokens_eu.csv").write_text("".join(lines[:3]), encoding="utf-8")


def with_postgres(place: Place, request: pytest.FixtureRequest) -> None:
    """A PostgreSQL without our dataset."""
    with closing(PostgresWarehouse(request.getfixturevalue("postgres_uri"))) as postgres:
        postgres.execute(f"DROP SCHEMA IF EXISTS {DATASET} CASCADE")
    place.environment["DESTINATION__POSTGRES__CREDENTIALS"] = credentials(
        request.getfixturevalue("postgres_uri")
    )


Setup = Callable[[Place, pytest.FixtureRequest], None]

# what each page presumes
SETUPS: dict[str, tuple[Setup, ...]] = {
    "calls.md": (with_tokens, with_warehouse),
    "operations.md": (with_tokens, with_warehouse, with_other_application, with_postgres),
    "privacy.md": (with_warehouse,),
    "report.md": (with_warehouse,),
}


def nothing_is_lost(place: Place, request: pytest.FixtureRequest) -> None:
    """PostgreSQL has every row that DuckDB had, and the load after the move went on from there."""
    postgres = PostgresWarehouse(request.getfixturevalue("postgres_uri"))
    with (
        closing(postgres),
        duckdb.connect(str(place.folder / "connections.duckdb"), read_only=True) as connection,
    ):
        connection.execute("USE cronofy")
        connection.execute("SET TimeZone = 'UTC'")
        for table in ("polls", "profile_changes", "_dlt_loads"):
            columns = ", ".join(connection.table(table).columns)
            before = {
                repr(in_utc(row)) for row in connection.execute(f"SELECT {columns} FROM {table}").fetchall()
            }
            after = [repr(row) for row in postgres.query(f"SELECT {columns} FROM {DATASET}.{table}")]
            assert before <= set(after)
            assert len(after) == len(set(after))
        for name, described in TABLES.items():
            keys = f"SELECT {', '.join(described.key)} FROM"
            assert set(connection.execute(f"{keys} {name}").fetchall()) <= set(
                postgres.query(f"{keys} {DATASET}.{name}")
            )
        again = f"SELECT account_id, profile_id FROM {DATASET}.profile_changes WHERE kind = 'first_seen'"
        seen = postgres.query(again)
        assert len(seen) == len(set(seen))
        (runs,) = postgres.query(f"SELECT count(*) FROM {DATASET}.poll_coverage WHERE grain = 'run'")
        assert runs == (27,)


# what is so when all commands of a page have been run
AFTERWARDS: dict[str, Setup] = {"operations.md": nothing_is_lost}

PAGES = sorted(page.name for page in DOCS.glob("*.md") if "```sh" in page.read_text(encoding="utf-8"))
# pages that need not say it themselves, because their own tests read all of them
LEFT_TO = {"scheduling.md": "tests/pipelines/scheduling/test_page.py"}
ELSEWHERE = LEFT_TO | {
    page: found[1]
    for page in PAGES
    if (found := TESTED_ELSEWHERE.search((DOCS / page).read_text(encoding="utf-8")))
}


@pytest.fixture(scope="module")
def sandbox(demo_plan: Demo) -> Iterator[SandboxServer]:
    """The demo's world where the demo left it."""
    world = build_world(
        accounts=demo_plan.accounts, seed=demo_plan.seed, start=START, days=demo_plan.days + 1
    )
    with serve(world, clock=MovableClock(START + timedelta(days=demo_plan.days))) as server:
        yield server


@pytest.fixture(scope="module")
def token_file(sandbox: SandboxServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of its tokens."""
    file = sandbox.world.write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.csv")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[: 1 + TOKENS]), encoding="utf-8")
    return file


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty folder with the commands of this environment at hand."""
    folder = tmp_path / "folder"
    folder.mkdir()
    environment = {
        **os.environ,
        "DLT_DATA_DIR": str(tmp_path / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "TZ": "America/St_Johns",
        "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return Place(folder, environment)


def run(block: Block, place: Place) -> str:
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, f"{block.text}\n{finished.stdout}{finished.stderr}"
    return trimmed(finished.stdout)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.long) if page in SLOW_PAGES else page
        for page in PAGES
        if page not in ELSEWHERE
    ],
)
def test_commands_run_and_print_what_is_shown(
    page: str, place: Place, request: pytest.FixtureRequest
) -> None:
    assert page in SETUPS, f"say in SETUPS what {page} presumes, or in {page} which module tests its commands"
    for setup in SETUPS[page]:
        setup(place, request)
    for block in blocks(page):
        if block.language == "python":
            if block.file_name is not None:
                (place.folder / block.file_name).write_text(block.text, encoding="utf-8")
        elif block.reason_not_to_run is None:
            printed = run(block, place)
            if block.shown is not None and os.environ.get("UPDATE_DOCS"):
                text = (DOCS / page).read_text(encoding="utf-8")
                shown = f"{block.text}```\n\n```text\n"
                (DOCS / page).write_text(text.replace(shown + block.shown, shown + printed), encoding="utf-8")
            elif block.shown is not None:
                assert printed == block.shown
    if page in AFTERWARDS:
        AFTERWARDS[page](place, request)


@pytest.mark.parametrize(("page", "module"), ELSEWHERE.items(), ids=ELSEWHERE)
def test_a_module_that_tests_a_page_exists_and_knows_it(page: str, module: str) -> None:
    file = ROOT / module
    assert file.is_file()
    sources = [each.read_text(encoding="utf-8") for each in file.parent.glob("*.py")]
    assert any(page in source for source in sources), f"nothing beside {module} reads {page}"


def test_few_blocks_are_not_run() -> None:
    left_out = [
        block for page in PAGES if page not in ELSEWHERE for block in blocks(page) if block.reason_not_to_run
    ]
    assert len(left_out) <= 3


@pytest.mark.parametrize("page", PAGES)
def test_no_block_of_commands_is_overlooked(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert len([block for block in blocks(page) if block.language == "sh"]) == text.count("```sh")
