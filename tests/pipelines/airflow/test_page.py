"""docs/airflow.md: its files are what Airflow and dlt take."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dlt_cronofy.airflow.tasks import Job
from docs.generators.configuration import SECTION_PARTS, section_keys

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "airflow.md").read_text(encoding="utf-8")
PIN = re.compile(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)

SHOW_DAG = """
import json
from airflow.sdk import DAG
made = []
exit = DAG.__exit__
DAG.__exit__ = lambda self, *error: (made.append(self), exit(self, *error))[1]
{text}
(dag,) = made
print(json.dumps([
    dag.dag_id, dag.schedule, dag.max_active_runs, dag.catchup,
    {{task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}},
    {{task.task_id: task.trigger_rule for task in dag.tasks}},
]))
"""


def block(label: str) -> str:
    """The text of the block below a comment."""
    found = re.search(rf"<!-- {re.escape(label)} -->\n```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, label
    return found[1]


@pytest.mark.parametrize(("label", "is_secret"), [("config.toml", False), ("secrets.toml", True)])
def test_the_settings_are_keys_that_belong_there(label: str, is_secret: bool) -> None:
    known = {key.name: key for part in SECTION_PARTS for key in section_keys(part)}
    settings = tomllib.loads(block(label))["sources"]["cronofy"]
    assert settings
    assert {known[name].is_secret for name in settings} == {is_secret}


def test_the_arguments_are_those_of_load_or_of_the_dag() -> None:
    named = set(re.findall(r"^    (\w+)=", block("dag"), re.MULTILINE))
    assert named - {"schedule"} <= set(Job.__dataclass_fields__)


def test_the_constraints_are_the_versions_that_are_tested() -> None:
    tested = dict(PIN.findall((ROOT / "requirements-airflow.lock").read_text(encoding="utf-8")))
    pinned = dict(
        PIN.findall((ROOT / "pipelines" / "airflow" / "constraints.txt").read_text(encoding="utf-8"))
    )
    assert {"apache-airflow", "apache-airflow-core", "dlt", "duckdb", "sqlglot", "psycopg"} <= set(pinned)
    assert pinned.items() <= tested.items()
    install = block("install")
    assert "--constraint pipelines/airflow/constraints.txt" in install


def test_what_can_be_tried_is_a_target() -> None:
    (command,) = block("try").splitlines()
    assert f"\n{command.removeprefix('make ')}: " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.airflow
def test_the_file_makes_the_dag(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", SHOW_DAG.format(text=block("dag"))],
        cwd=ROOT,
        env={"PATH": "", "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    dag_id, schedule, max_active_runs, catchup, after, rules = json.loads(finished.stdout.splitlines()[-1])
    assert (dag_id, schedule, max_active_runs, catchup) == ("cronofy", "@hourly", 1, False)
    assert after == {"plan": ["load", "poll"], "poll": ["load"], "load": ["views"], "views": []}
    assert rules["load"] == "all_done"


@pytest.mark.airflow
@pytest.mark.parametrize("shards", [0, 513])
def test_shards_that_airflow_cannot_map_are_refused_when_the_file_is_read(
    shards: int, tmp_path: Path
) -> None:
    text = f"from dlt_cronofy.airflow.dag import cronofy_dag\ncronofy_dag('cronofy', None, shards={shards})"
    finished = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env={"PATH": "", "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"ValueError: shards must be between 1 and 512, not {shards}" in finished.stderr
