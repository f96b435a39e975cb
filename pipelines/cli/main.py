"""The program `dlt-cronofy`: all commands, in the order its help lists them."""

import sys

import click

from .check import check
from .completion import completion
from .console import set_up_logging
from .demo import demo
from .erase import erase
from .load import load
from .plan import plan
from .query import query
from .rebuild import rebuild
from .report import report
from .sandbox import sandbox
from .status import status
from .views import views


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dlt-cronofy")
@click.option("-v", "--verbose", is_flag=True, help="Log more, to stderr.")
def cli(verbose: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Which calendars are connected through Cronofy, which broke, when, for how long."""
    set_up_logging(verbose=verbose)


def main() -> None:
    """Entry point; exits with 0, 1 or 2 as the commands' help says."""
    if sys.argv[1:2] == ["load"]:
        from dlt_cronofy.load.without_pandas import do_without_pandas

        do_without_pandas()
    cli(prog_name="dlt-cronofy")


for command in (load, plan, views, rebuild, status, report, demo, sandbox, query, erase, completion, check):
    cli.add_command(command)
