"""The DAG on a real Airflow: 20,000 tokens in 8 shards into PostgreSQL, just as one process loads them.

Run by `make airflow-test`, in the environment that has Airflow. `TOKENS` in the environment makes it smaller.
"""

import json
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.peaks import peak
from tests.pipelines.airflow.cluster import TaskInstance, running, wait_for
from tests.pipelines.airflow.scene import (
    DAG,
    PER_MINUTE,
    PER_SECOND,
    RUN_SECONDS,
    SHARDS,
    Scene,
    prepared_scene,
    text_of,
)

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1500)]

TOKENS = int(os.environ.get("TOKENS", "20000"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("airflow")
    with prepared_scene(folder, TOKENS, str(folder / "requests.sqlite")) as scene, running(scene.cluster):
        yield scene


@pytest.fixture(scope="module")
def first_run(scene: Scene) -> Scene:
    """A load of everything for the first time, both ways."""
    scene.load_in_one_process()
    scene.cluster.trigger(DAG, "first")
    assert scene.cluster.wait_for_end("first", RUN_SECONDS) == "success"
    return scene


@pytest.fixture(scope="module")
def second_run(first_run: Scene) -> list[TaskInstance]:
    """After a day in which the world changed, both ways; two workers are killed in the middle of a shard.

    One with its task, one without: that task goes on, though nobody waits for it, while its shard is
    polled again.
    """
    scene, cluster = first_run, first_run.cluster
    scene.pass_time(timedelta(days=1))
    scene.load_in_one_process()
    before = scene.sandbox.app.traffic.total
    cluster.trigger(DAG, "second")
    wait_for(
        lambda: True if scene.sandbox.app.traffic.total >= before + TOKENS // 20 else None,
        RUN_SECONDS, "polling", lambda: str(cluster.instances("second")),
    )  # fmt: skip
    polling = [each for each in cluster.instances("second") if (each.task, each.state) == ("poll", "running")]
    killed = polling[:2]
    for instance, with_task in zip(killed, (True, False), strict=True):
        worker = cluster.worker_of(instance)
        assert worker is not None
        for process in [worker, *(worker.children() if with_task else [])]:
            process.kill()
    through = scene.finished("second") & {instance.map_index for instance in killed}
    assert not through, "killed too late"
    assert cluster.wait_for_end("second", RUN_SECONDS) == "success"
    return killed


def test_the_warehouse_is_that_of_one_process(first_run: Scene) -> None:
    assert first_run.differences() == {}


def test_killed_workers_lose_nothing_and_double_nothing(
    first_run: Scene, second_run: list[TaskInstance]
) -> None:
    tries = {
        each.map_index: each.tries for each in first_run.cluster.instances("second") if each.task == "poll"
    }
    assert all(tries[instance.map_index] > 1 for instance in second_run)
    assert first_run.differences() == {}


@pytest.mark.usefixtures("second_run")
def test_the_limits_hold_at_the_server(first_run: Scene) -> None:
    traffic = first_run.sandbox.app.traffic
    assert not any("429" in answers for answers in traffic.counts().values())
    assert peak(traffic.arrivals, 1.0) <= PER_SECOND
    assert peak(traffic.arrivals, 60.0) <= PER_MINUTE


@pytest.mark.usefixtures("second_run")
def test_no_secret_is_in_the_metadata_database(first_run: Scene) -> None:
    tables = set()
    for table, text in first_run.cluster.metadata_texts():
        tables.add(table)
        assert not first_run.shows_secret(text), table
    assert {"xcom", "task_instance", "rendered_task_instance_fields", "log"} <= tables


@pytest.mark.usefixtures("second_run")
@pytest.mark.parametrize("folder", ["home", "handoff", "dlt"])
def test_no_secret_is_in_a_file(first_run: Scene, folder: str) -> None:
    """Logs of tasks and processes; the plan and the outputs; dlt's working files."""
    files = [path for path in (first_run.folder / folder).rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not first_run.shows_secret(text_of(path)), path


@pytest.mark.usefixtures("second_run")
def test_xcom_holds_numbers_of_shards_and_names(first_run: Scene) -> None:
    pushed: dict[tuple[str, str], str] = {}
    for task, key, value in first_run.cluster.query("SELECT task_id, key, CAST(value AS TEXT) FROM xcom"):
        pushed.setdefault((task, key), value)
    assert set(pushed) >= {("plan", "return_value"), ("plan", "load_run"), ("load", "return_value")}
    assert json.loads(pushed["plan", "return_value"]) == list(range(SHARDS))
    assert max(map(len, pushed.values())) < 4000
