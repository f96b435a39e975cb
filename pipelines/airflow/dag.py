"""The DAG: plan → poll, once a shard → load → views.

`cronofy_dag` makes it. A file in Airflow's DAG folder that holds

    from dlt_cronofy.airflow.dag import cronofy_dag

    cronofy_dag("cronofy", schedule="@hourly", project_dir="/etc/cronofy")

is all it takes; where several applications are loaded, one such line each, with a folder each.
"""

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from dlt_cronofy.shards import check_shards

from .tasks import FinalTaskError, Job

# what `plan` hands on beside the shards; `run_id` is Airflow's own word
LOAD_RUN = "load_run"


def cronofy_dag(
    dag_id: str = "cronofy",
    schedule: Any = "@hourly",
    *,
    parallel: int | None = None,
    retries: int = 3,
    retry_delay: timedelta = timedelta(minutes=1),
    start_date: datetime | None = None,
    tags: tuple[str, ...] = ("cronofy",),
    **job: Any,
) -> Any:
    """The DAG of one application.

    A shard whose task fails for good is no failure of the run: its tokens get `skipped` polls, and what it
    delivers later is loaded later.

    Args:
        dag_id: its name.
        schedule: when it runs, as Airflow has it.
        parallel: at most so many shards at once; no limit but Airflow's own where None.
        retries: of each task.
        retry_delay: before each of them.
        start_date: as Airflow has it.
        tags: as Airflow has them.
        job: fields of `tasks.Job`: project_dir, destination, dataset, shards, every, endpoints, order,
            max_requests, max_duration, spread, max_failure_ratio.

    Raises:
        ValueError: too many shards; Airflow maps a task over 1,024 values at most.
    """
    work = Job(**job)
    check_shards(work.shards)

    @dag(
        dag_id=dag_id,
        schedule=schedule,
        start_date=start_date,
        catchup=False,
        # the past cannot be polled: two runs at once would only share the limits
        max_active_runs=1,
        tags=list(tags),
        default_args={"retries": retries, "retry_delay": retry_delay},
        doc_md=__doc__,
    )
    def cronofy() -> None:
        @task
        def plan() -> list[int]:
            load_run, shards = _run(work.plan)
            get_current_context()["ti"].xcom_push(LOAD_RUN, load_run)
            found: list[int] = shards
            return found

        @task(max_active_tis_per_dagrun=parallel)
        def poll(load_run: str, shard: int) -> None:
            _run(work.poll, load_run, shard)

        # whatever became of the shards
        @task(trigger_rule="all_done")
        def load() -> dict[str, Any]:
            # asked for here, since an argument that `plan` never pushed is an error without a word
            load_run = get_current_context()["ti"].xcom_pull(task_ids="plan", key=LOAD_RUN)
            summary: dict[str, Any] = _run(work.load, load_run)
            return summary

        @task
        def views(summary: dict[str, Any]) -> None:
            _run(work.views, summary)

        planned = plan()
        loaded = load()
        [planned, poll.partial(load_run=planned[LOAD_RUN]).expand(shard=planned)] >> loaded
        views(loaded)

    return cronofy()


def _run(stage: Any, *arguments: Any) -> Any:
    """A stage's work; an error that a retry cannot fix is not retried."""
    try:
        return stage(*arguments)
    except FinalTaskError as error:
        reason = str(error)
    # outside of the handler, so that Airflow's log shows one line and no frames of ours
    raise AirflowFailException(reason)
