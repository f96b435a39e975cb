"""`dlt-cronofy demo`."""

from pathlib import Path

import click

from .console import progress, result_console


@click.command(short_help="Play weeks of simulated history.")
@click.option("--days", type=click.IntRange(2, 365), default=31, show_default=True, help="Simulated days.")
@click.option(
    "--accounts", type=click.IntRange(1, 5000), default=240, show_default=True, help="Simulated accounts."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same history.")
@click.option(
    "--loads-per-day",
    type=click.IntRange(1, 24),
    default=2,
    show_default=True,
    help="Loads per simulated day.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default="demo",
    show_default=True,
    help="Where the demo puts its files.",
)
def demo(days: int, accounts: int, seed: int, loads_per_day: int, directory: Path) -> None:
    """Play weeks of history against the built-in sandbox and show the health summary.

    Real HTTP, real loads, a real DuckDB file; only the clock is simulated.
    """
    from dlt_cronofy.report.command import write_report
    from dlt_cronofy.sandbox.demo import REPORT, Demo

    from .summary import print_demo

    plan = Demo(days=days, accounts=accounts, seed=seed, loads_per_day=loads_per_day, directory=directory)
    with progress("playing", "loads") as (set_total, set_done):
        set_total(plan.loads)
        result = plan.play(set_done)
    report = directory / REPORT
    write_report(plan.open_pipeline(), report, None, anonymous=False)
    print_demo(result_console(), result, report)
