"""The program `dlt-cronofy`: all commands, in the order its help lists them."""

import gc
import logging
import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any

import click

from dlt_cronofy.load.gc_tuning import THRESHOLDS

from .alerts import alerts
from .check import check
from .completion import completion
from .console import set_up_logging
from .demo import demo
from .erase import erase
from .load import load
from .move import move
from .plan import plan
from .query import query
from .rebuild import rebuild
from .report import report
from .sandbox import sandbox
from .status import status
from .views import views

logger = logging.getLogger("dlt_cronofy")

# the commands that draw charts
DRAWING = {"report", "demo"}


class Program(click.Group):
    """Ends with one clear line for an error that a person can fix, and with its exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click's own
        except Exception as error:
            from .errors import explain, is_explained

            if not is_explained(error):
                raise
            logger.debug("the whole error", exc_info=True)
            status, message = explain(error)
            logger.error("%s", message)
            sys.exit(status)


class NoDataFrames(MetaPathFinder):
    """Has pandas and numpy not be found, as where charts are not installed.

    DuckDB, pyarrow and dlt import them to see whether they are given a data frame. Most commands give them
    none, and would take twice as long.
    """

    def find_spec(self, name: str, *_: object) -> None:
        """Nothing; of these not even the installed one."""
        if name in ("pandas", "numpy"):
            raise ModuleNotFoundError(f"only {' and '.join(sorted(DRAWING))} import {name}", name=name)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dlt-cronofy")
@click.option("-v", "--verbose", is_flag=True, help="Log more, to stderr.")
def cli(verbose: bool) -> None:
    """Which calendars are connected through Cronofy, which broke, when, for how long."""
    set_up_logging(verbose=verbose)


def main() -> None:
    """Entry point; exits with 0, 1 or 2 as the commands' help says."""
    # what is imported stays: to look through it again and again takes a tenth of a command's start
    gc.set_threshold(*THRESHOLDS)
    # the client of Databricks is built on pandas
    if DRAWING.isdisjoint(sys.argv) and find_spec("databricks") is None:
        sys.meta_path.insert(0, NoDataFrames())
    cli(prog_name="dlt-cronofy")


for command in (
    load,
    plan,
    views,
    rebuild,
    status,
    report,
    demo,
    sandbox,
    query,
    erase,
    move,
    completion,
    check,
    alerts,
):
    cli.add_command(command)
