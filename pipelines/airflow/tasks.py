"""What the tasks of the DAG do, on the worker that runs them.

A task gets the name of a run and the number of a shard. Tokens and credentials are read where it runs:
from dlt's configuration in `project_dir`, from the environment, and from the token store.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlt_cronofy.warehouse.locks import WarehouseBusy

if TYPE_CHECKING:
    from dlt_cronofy.shards.stages import Stages

logger = logging.getLogger("dlt_cronofy")


class TaskError(Exception):
    """A task failed for a reason that one line explains; running it again may help."""


class FinalTaskError(Exception):
    """A task failed, and running it again changes nothing."""


@dataclass(frozen=True)
class Job:
    """What is loaded and how; the words are those of `dlt-cronofy load`. Holds no secret.

    Attributes:
        project_dir: the folder on the workers that `.dlt` is in; where None, wherever tasks run.
        shards: how many at most.
    """

    project_dir: str | None = None
    destination: str | None = None
    dataset: str | None = None
    shards: int = 8
    every: str = "1h"
    endpoints: str = "userinfo,account"
    order: str = "oldest"
    max_requests: int | None = None
    max_duration: str | None = None
    spread: str | None = None
    max_failure_ratio: float = 0.5

    def plan(self) -> tuple[str, list[int]]:
        """Save what is due; the name of the run and its shards."""
        with self._stages() as stages:
            from dlt_cronofy.load.steps import LoadOptions
            from dlt_cronofy.source.durations import parse_duration
            from dlt_cronofy.source.settings import check_endpoints

            options = LoadOptions(
                every=parse_duration(self.every),
                endpoints=check_endpoints(self.endpoints.split(",")),
                order=self.order,
                max_requests=self.max_requests,
                max_duration=parse_duration(self.max_duration) if self.max_duration else None,
                spread=parse_duration(self.spread) if self.spread else None,
            )
            plan = stages.plan(options, self.shards)
            return plan.run_id, plan.shards

    def poll(self, load_run: str, shard: int) -> None:
        """Poll one shard and write its output."""
        with self._stages() as stages:
            stages.poll(load_run, shard)

    def load(self, load_run: str | None) -> dict[str, Any]:
        """Load what the shards finished; the summary, as `load --json` has it, with counts of shards."""
        if load_run is None:
            raise FinalTaskError("nothing was planned, so there is nothing to load; see the task plan")
        with self._stages() as stages:
            result = stages.load(load_run)
            summary = result.as_dict()
            # the count is enough here; the log has the names
            summary["lost_refresh_tokens"] = len(result.lost_refresh_tokens)
            # `plan` has named these
            del summary["unusable"]
            if result.lost_refresh_tokens:
                logger.error("to be authorized again: %s", ", ".join(result.lost_refresh_tokens))
            return summary

    def views(self, summary: dict[str, Any]) -> None:
        """Make the views, send what is news, and fail where too many tokens failed."""
        with self._stages() as stages:
            stages.views([summary["run_id"], *summary["late_runs"]])
        if summary["failure_ratio"] > self.max_failure_ratio:
            raise FinalTaskError(
                f"{summary['failure_ratio']:.0%} of the tokens failed, more than"
                f" max_failure_ratio {self.max_failure_ratio:g} allows; everything is loaded"
            )

    @contextmanager
    def _stages(self) -> "Iterator[Stages]":
        # dlt would ask Airflow's variables for each setting, an HTTP call each time; secrets that are kept in
        # variables are in Airflow's database
        os.environ.setdefault("PROVIDERS__ENABLE_AIRFLOW_SECRETS", "false")
        with chdir(self.project_dir) if self.project_dir else nullcontext(), _explained():
            from dlt_cronofy.shards.stages import Stages

            yield Stages.configured(self.destination, self.dataset)


@contextmanager
def _explained() -> Iterator[None]:
    """One clear line for what a person can fix; Airflow shows the frames of anything else."""
    from dlt_cronofy.cli.errors import explain, is_explained
    from dlt_cronofy.source.errors import ConfigurationError, UnreachableError

    try:
        yield
    except (UnreachableError, WarehouseBusy) as error:
        raise TaskError(str(error)) from None
    except ConfigurationError as error:
        raise FinalTaskError(str(error)) from None
    except Exception as error:
        if not is_explained(error):
            raise
        logger.debug("the whole error", exc_info=True)
        raise TaskError(explain(error)[1]) from None
