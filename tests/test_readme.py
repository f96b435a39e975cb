"""The README: its commands run, and the summary it shows is what they print."""

import os
import re
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.panel import Panel

from dlt_cronofy.cli.console import PIPED_WIDTH
from dlt_cronofy.cli.main import cli
from dlt_cronofy.cli.summary import health_parts
from dlt_cronofy.report.health import Health
from dlt_cronofy.sandbox import MovableClock, SandboxServer, build_world, serve
from dlt_cronofy.source.tables import Row
from tests.postgres import credentials, postgres_database

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACEHOLDER = "postgresql://user:password@host:5432/database"
COMMANDS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DLT_DATA_DIR": str(tmp_path / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxServer]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    world = build_world(accounts=40, seed=7, start=start, days=40)
    world.write_tokens(tmp_path / "tokens.csv")
    with serve(world, clock=MovableClock(start + timedelta(days=20), running=True)) as server:
        yield server


def run(command: str, directory: Path, environment: dict[str, str]) -> str:
    finished = subprocess.run(  # noqa: PLW1510 - the status is asserted
        ["bash", "-euc", command], cwd=directory, env=environment, capture_output=True, text=True, timeout=100
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def run_here(commands: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a shell would do with `export` and our own command, in this process: a start takes two seconds."""
    shown = ""
    for line in commands.splitlines():
        command, *arguments = shlex.split(line)
        if command == "export":
            monkeypatch.setenv(*arguments[0].split("=", maxsplit=1))
        else:
            assert command == ".venv/bin/dlt-cronofy"
            ran = CliRunner().invoke(cli, arguments, catch_exceptions=False)
            assert ran.exit_code == 0, ran.output
            shown += ran.stdout
    return shown


def test_every_block_of_commands_is_run_below() -> None:
    first_lines = [block.splitlines()[0] for block in COMMANDS]
    assert first_lines == [
        "make demo",
        "export SOURCES__CRONOFY__TOKENS_FILE=tokens.csv",
        ".venv/bin/dlt-cronofy report -o health.html",
        "export DESTINATION__POSTGRES__CREDENTIALS=postgresql://user:password@host:5432/database",
        "dlt init cronofy duckdb --location path/to/this/repository",
    ]


NEEDS_ACTION = {
    "authorize": 4,
    "widen_scope": 2,
    "relink": 20,
    "initial_sync": 4,
    "no_writable_calendar": 6,
    "migrate": 18,
}
ACCOUNTS = 44


def action(reason: str, rank: int, account: str) -> Row:
    """A row of needs_action of which nothing else is known."""
    return defaultdict(lambda: None, reason=reason, rank=rank, account_id=account)


def test_the_summary_it_shows_is_printed_for_these_figures() -> None:
    health = Health(
        as_of=datetime(2026, 2, 4, 18, 12, tzinfo=UTC),
        since=datetime(2026, 1, 5, 6, 12, tzinfo=UTC),
        tokens=248,
        accounts=234,
        states={"connected": 436, "disconnected": 20, "unknown": 6},
        uptime=0.958,
        coverage=0.931,
        providers=[],
        open_outages=[],
        ended={"relinked": 109, "open": 20, "replaced": 4, "removed": 1, "left": 1},
        median_seconds_to_relink=35 * 3600.0,
        failing_tokens=[],
        never_read_tokens=3,
        oldest_evidence_at=datetime(2026, 1, 8, 18, 20, tzinfo=UTC),
        polls={},
        actions=[
            action(reason, rank, f"account {number % ACCOUNTS}")
            for number, (rank, reason) in enumerate(
                (rank, reason)
                for rank, (reason, rows) in enumerate(NEEDS_ACTION.items())
                for _ in range(rows)
            )
        ],
        left_accounts=6,
        freshness={
            "tokens": 240,
            "unreadable_tokens": 8,
            "median_age_seconds": 0.0,
            "p95_age_seconds": 2_100.0,
        },
    )
    console = Console(file=StringIO(), highlight=False, width=PIPED_WIDTH)
    [headline] = [part for part in health_parts(health) if isinstance(part, Panel)]
    console.print(headline)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() in README


def test_make_demo_plays_and_sums_up(tmp_path: Path, environment: dict[str, str]) -> None:
    played = f"DEMO_ARGS='--days 2 --accounts 12 --directory {tmp_path / 'demo'}'"
    shown = run(f"{COMMANDS[0].strip()} {played}", ROOT, environment)
    assert "Connection health" in shown
    assert "SELECT" in shown
    assert "What must be done" in (tmp_path / "demo" / "health.html").read_text(encoding="utf-8")


@pytest.mark.timeout(300)  # nine commands, one after the other
def test_own_tokens_from_file_to_postgres(
    tmp_path: Path, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("SOURCES__CRONOFY__BASE_URL", sandbox.base_url)
    shown = run_here(COMMANDS[1], monkeypatch)
    assert re.search(r"us: http://127.0.0.1:\d+ answered ok", shown)
    assert "Loaded into connections.duckdb, dataset cronofy" in shown
    assert "email,provider,reason,days,url" in shown
    assert (tmp_path / "connections.duckdb").exists()
    assert re.match(r"health.html: \d+ accounts .*need action", run_here(COMMANDS[2], monkeypatch))
    with postgres_database() as uri:
        shown = run_here(COMMANDS[3].replace(PLACEHOLDER, f"'{credentials(uri)}'"), monkeypatch)
    assert "Loaded into postgres, dataset cronofy" in shown
    assert "health.html: " in shown


def test_dlt_init_copies_the_source(tmp_path: Path, environment: dict[str, str]) -> None:
    command = COMMANDS[4].strip().replace("path/to/this/repository", shlex.quote(str(ROOT)))
    run(command.replace("dlt init", "dlt --non-interactive init"), tmp_path, environment)
    assert (tmp_path / "cronofy" / "__init__.py").exists()
    assert (tmp_path / "cronofy_pipeline.py").exists()


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
