"""`dlt-cronofy load`."""

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from .console import LOAD_FAILED, progress, result_console
from .options import DURATION, destination_options, json_option, plan_options, print_json

if TYPE_CHECKING:
    from dlt_cronofy.load.statistics import LoadResult

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Poll the tokens that are due and load what is new.")
@plan_options
@click.option("--max-duration", type=DURATION, help="Stop sending requests after this time.")
@click.option(
    "--max-failure-ratio",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Exit with 1 if a larger share of the tokens failed.",
)
@click.option(
    "--confirm-left",
    is_flag=True,
    help="Accept that a fifth or more of the tokens left the token store at once.",
)
@json_option("the summary")
@destination_options
def load(
    max_failure_ratio: float, as_json: bool, destination: str | None, dataset: str | None, **options: Any
) -> None:
    """Poll the tokens that are due, by default oldest evidence first, and load what is new.

    Exit status: 0 loaded (some tokens may have failed: that is data), 1 the load failed or more tokens
    failed than --max-failure-ratio allows, 2 bad configuration or usage.
    """
    from dlt_cronofy.alerts.sending import configured_alerts
    from dlt_cronofy.configuration import open_both
    from dlt_cronofy.load.run import Load
    from dlt_cronofy.load.steps import LoadOptions

    from .signals import run_interruptibly

    pipeline, settings, store, tokens = open_both(destination, dataset)
    alerts = configured_alerts()
    work = Load(pipeline, settings, tokens, LoadOptions(**options), store=store, alerts=alerts)
    # one call a token is what a sweep takes; account comes on top once a day
    pace = min(settings.requests_per_minute, 60 * settings.requests_per_second)
    with progress("polling", "tokens", pace) as (work.on_plan, work.on_progress):
        try:
            result = run_interruptibly(work.run, work.stop)
        except Exception:
            _show_lost(work.result, as_json=as_json)
            raise
    if as_json:
        print_json(result.as_dict())
    else:
        from .summary import print_load

        print_load(result_console(), result)
    if result.failure_ratio > max_failure_ratio:
        logger.error(
            "%d of %d tokens failed, more than --max-failure-ratio %g allows",
            result.failed_tokens + result.skipped_tokens,
            result.wanted_tokens,
            max_failure_ratio,
        )
        sys.exit(LOAD_FAILED)


def _show_lost(result: "LoadResult | None", *, as_json: bool) -> None:
    """What a load that failed has used up for good, in the form of its summary."""
    from .summary import print_lost

    if result is None or not result.lost_refresh_tokens:
        return
    if as_json:
        print_json({"run_id": result.run_id, "lost_refresh_tokens": result.lost_refresh_tokens})
    else:
        print_lost(result_console(), result)
