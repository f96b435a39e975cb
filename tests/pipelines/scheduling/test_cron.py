"""The crontab: a schedule that cron reads, and a command that does what it says when cron runs it."""

import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import croniter  # type: ignore[import-untyped]
import pytest
from cron_descriptor import get_description  # type: ignore[import-untyped]

from tests.acceptance.place import run

from .machine import RECIPES, Machine, polled_tokens

ASSIGNMENT = re.compile(r"([A-Z]+)=(.*)")


@dataclass(frozen=True)
class Crontab:
    """A crontab with one entry."""

    variables: dict[str, str]
    schedule: str
    command: str

    @classmethod
    def parse(cls, text: str) -> "Crontab":
        """Read it as cron does: variables are not expanded, and an unescaped % ends the command."""
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        variables = {match[1]: match[2] for line in lines if (match := ASSIGNMENT.fullmatch(line))}
        (entry,) = [line for line in lines if not ASSIGNMENT.fullmatch(line)]
        *fields, command = entry.split(None, 5)
        command = re.split(r"(?<!\\)%", command)[0].replace(r"\%", "%")
        return cls(variables, " ".join(fields), command)

    def run(self, machine: Machine) -> "subprocess.CompletedProcess[str]":
        """Run the command in the little environment that cron gives it."""
        path = f"{machine.stubs}:{self.variables['PATH']}"
        own = {"DLT_DATA_DIR": str(machine.root / "data")}  # root's would be outside of the test's folder
        environment = {"HOME": str(machine.root), "LOGNAME": "loader", **self.variables, "PATH": path, **own}
        return run([self.variables["SHELL"], "-c", self.command], machine.root, environment)


@pytest.fixture
def crontab(machine: Machine) -> Crontab:
    machine.stub("logger")
    return Crontab.parse(machine.moved((RECIPES / "crontab").read_text(encoding="utf-8")))


def test_it_runs_every_hour(crontab: Crontab) -> None:
    assert croniter.croniter.is_valid(crontab.schedule)
    runs = croniter.croniter(crontab.schedule, datetime(2026, 1, 5, tzinfo=UTC))
    first, second = (runs.get_next(datetime) for _ in range(2))
    assert second - first == timedelta(hours=1)
    assert get_description(crontab.schedule) == "At 7 minutes past the hour"


@pytest.mark.long
def test_it_loads_and_keeps_a_log(crontab: Crontab, machine: Machine) -> None:
    done = crontab.run(machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert polled_tokens(machine.checkout / "connections.duckdb") > 0
    (log,) = (machine.checkout / "log").iterdir()
    assert log.name == f"load-{datetime.now(UTC):%Y-%m}.log"
    assert "Loaded into connections.duckdb, dataset cronofy" in log.read_text(encoding="utf-8")
    assert machine.calls == []


@pytest.mark.long
def test_a_load_that_fails_is_in_syslog_with_its_status(crontab: Crontab, machine: Machine) -> None:
    machine.tokens.unlink()
    done = crontab.run(machine)
    assert (done.stdout, done.stderr) == ("", "")
    (call,) = machine.calls
    assert call.startswith("logger -t dlt-cronofy -p user.err load ended with status 2, see ")
    (log,) = (machine.checkout / "log").iterdir()
    assert "application.sqlite" in log.read_text(encoding="utf-8")


def test_cron_cuts_at_a_percent_sign_that_is_not_escaped() -> None:
    """So the test above would notice if one were not."""
    assert Crontab.parse(r"* * * * * date +\%F").command == "date +%F"
    assert Crontab.parse("* * * * * date +%F").command == "date +"
