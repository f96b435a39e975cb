"""The GitHub workflow: valid, pinned, and its steps load and report when run as a runner runs them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import croniter  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from pip._internal.commands import create_command

from dlt_cronofy.alerts.sending import AlertsConfiguration
from dlt_cronofy.source.settings import CronofyConfiguration
from tests.postgres import credentials, postgres_database

from .machine import RECIPES, ROOT, VENV, Machine, execute

FILE = RECIPES / "github-workflow.yml"
# to YAML 1.1 `on` is a word for true
WORKFLOW: dict[str, Any] = {
    "on" if key is True else key: value
    for key, value in yaml.safe_load(FILE.read_text(encoding="utf-8")).items()
}
JOB: dict[str, Any] = WORKFLOW["jobs"]["load"]
STEPS: dict[str, str] = {step["name"]: step["run"] for step in JOB["steps"] if "run" in step}
SECRET = re.compile(r"\$\{\{ secrets\.(\w+) \}\}")
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")


def test_github_would_accept_it(tmp_path: Path) -> None:
    command = [VENV / "bin" / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", FILE]
    execute(list(map(str, command)), tmp_path, {"HOME": str(tmp_path)})


def test_what_is_promised_of_it() -> None:
    """Hourly and by hand, one at a time, with no right but to read, and pinned."""
    (schedule,) = WORKFLOW["on"]["schedule"]
    assert croniter.croniter.is_valid(schedule["cron"])
    assert "workflow_dispatch" in WORKFLOW["on"]
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False
    assert WORKFLOW["defaults"]["run"]["shell"] == "bash"  # with pipefail, unlike GitHub's default
    assert JOB["timeout-minutes"] < 60
    actions = [step["uses"] for step in JOB["steps"] if "uses" in step]
    assert [action for action in actions if not PINNED.fullmatch(action)] == []


def test_secrets_have_the_names_dlt_asks_for() -> None:
    secrets = {name: match[1] for name, value in JOB["env"].items() if (match := SECRET.fullmatch(value))}
    assert secrets == {name: name for name in secrets}
    assert {"SOURCES__CRONOFY__TOKENS_DATABASE", "DESTINATION__POSTGRES__CREDENTIALS"} <= secrets.keys()


def test_every_setting_that_is_a_secret_is_passed() -> None:
    fields = {
        name.upper()
        for spec in (CronofyConfiguration, AlertsConfiguration)
        for name, hint in spec.get_resolvable_fields().items()
        if "SecretText" in str(hint)
    }
    assert "ALERTS_TO" in fields
    assert "SOURCES__CRONOFY__TOKENS_QUERY" not in JOB["env"]  # empty, it would hide that of config.toml
    wanted = {f"SOURCES__CRONOFY__{name}" for name in fields} | {"RUNTIME__SLACK_INCOMING_HOOK"}
    assert wanted - JOB["env"].keys() == set()


@pytest.mark.parametrize(
    ("arguments", "lock"),
    [(shlex.split(STEPS["Install"])[1:], "requirements-charts.lock"), (["install"], "requirements.lock")],
)
def test_make_install_names_files_that_exist_and_options_that_pip_knows(
    arguments: list[str], lock: str
) -> None:
    """As the workflow says it, and as the pages do; nothing is installed here."""
    listed = execute(["make", "--dry-run", *arguments], ROOT, {"PATH": "/usr/bin:/bin"}).stdout
    commands = [shlex.split(line) for line in listed.splitlines() if " pip install " in line]
    locked, project = (
        create_command("install").parse_args(command[command.index("install") + 1 :]) for command in commands
    )
    options, rest = locked
    assert (options.require_hashes, rest) == (True, [])
    assert options.requirements == ["requirements-build.lock", f"pipelines/scheduling/{lock}"]
    assert [path for path in options.requirements if not (ROOT / path).is_file()] == []
    options, rest = project
    assert (options.ignore_dependencies, options.build_isolation, rest) == (True, False, [])
    assert len(options.editables) == 1


@pytest.fixture
def secrets(machine: Machine) -> Iterator[dict[str, str]]:
    """What somebody has set as repository secrets: an application's database, and a PostgreSQL."""
    with postgres_database() as uri:
        yield {
            "SOURCES__CRONOFY__TOKENS_DATABASE": f"sqlite:///{machine.tokens}",
            "DESTINATION__POSTGRES__CREDENTIALS": credentials(uri),
        }


@pytest.mark.long
def test_the_steps_load_and_report(machine: Machine, secrets: dict[str, str]) -> None:
    """Every step but the installation, in the workflow's environment; secrets that are not set are empty."""
    machine.stub("sudo")
    (machine.checkout / ".dlt" / "secrets.toml").unlink()
    environment = {
        name: SECRET.sub(lambda match: secrets.get(match[1], ""), value) for name, value in JOB["env"].items()
    }
    summary = machine.root / "summary.md"
    environment |= {
        "GITHUB_STEP_SUMMARY": str(summary),
        "SOURCES__CRONOFY__BASE_URL": machine.base_url,  # the sandbox in place of Cronofy
    }
    shown = {}
    for name, script in STEPS.items():
        if name != "Install":
            done = machine.shell(script, **environment)
            assert done.returncode == 0, done.stderr
            shown[name] = done.stdout
    assert list(shown) == ["Name the machine", "Load", "Report"]
    assert machine.calls == ["sudo hostname dlt-cronofy"]
    assert summary.read_text(encoding="utf-8") == shown["Load"]
    assert re.search(r"^    Loaded into postgres, dataset cronofy", shown["Load"], re.MULTILINE)
    (upload,) = [step["with"] for step in JOB["steps"] if "upload-artifact" in step.get("uses", "")]
    report = (machine.checkout / upload["path"]).read_text(encoding="utf-8")
    assert "<html" in report
    assert "@" not in re.sub(r"@(media|font-face|page|import|keyframes|supports|charset)", "", report)


def test_a_load_that_fails_fails_its_step(machine: Machine) -> None:
    """Though its output goes through other programs."""
    machine.tokens.unlink()
    done = machine.shell(STEPS["Load"], GITHUB_STEP_SUMMARY=str(machine.root / "summary.md"))
    assert done.returncode == 2
    assert "application.sqlite" in done.stderr
