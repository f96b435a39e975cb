"""`dlt-cronofy erase`."""

import logging
import sys

import click

from .console import LOAD_FAILED, LOADED, result_console
from .options import destination_options, json_option, print_json

logger = logging.getLogger("dlt_cronofy")


@click.command(short_help="Remove one person, and search for what is left.")
@click.option("--account", metavar="ID", help="account_id or e-mail address; its tokens go too.")
@click.option("--token", metavar="KEY", help="One token_key; its account goes too if it has no other token.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option("what was removed")
@destination_options
def erase(
    account: str | None,
    token: str | None,
    yes: bool,
    as_json: bool,
    destination: str | None,
    dataset: str | None,
) -> None:
    """Remove one person from every table and from the local working files, then search for what is left.

    Exit status: 0 removed and nothing found afterwards, 1 in no table, or something is left, 2 bad
    configuration or usage.
    """
    from dlt_cronofy.erase.erasure import Erase, account_of
    from dlt_cronofy.erase.summary import erased_lines, subject
    from dlt_cronofy.warehouse.locks import sole_writer, turn
    from dlt_cronofy.warehouse.pipeline import location, open_pipeline

    if bool(account) == bool(token):
        raise click.UsageError("give either --account ID or --token KEY")
    pipeline = open_pipeline(destination, dataset)
    if account and "@" in account:
        account = account_of(pipeline, account)
    command = Erase(pipeline, account or None, token or None)
    if not yes:
        _confirm(f"Remove {subject(account or None, token)} from {location(pipeline)} for good?")
    with sole_writer(pipeline), turn(pipeline):
        result = command.run()
    if as_json:
        print_json(result.as_dict())
    else:
        for line in erased_lines(result):
            result_console().print(line, markup=False, soft_wrap=True)
    if not result.is_known:
        logger.error("%s is in no table", result.subject)
    elif not result.is_complete:
        logger.error("%s: something is left, see above", result.subject)
    sys.exit(LOADED if result.is_complete else LOAD_FAILED)


def _confirm(question: str) -> None:
    """Ask on the terminal; ends the program unless the answer is yes."""
    if not sys.stdin.isatty():
        from dlt_cronofy.source.errors import ConfigurationError

        raise ConfigurationError(f"{question} There is no terminal to ask on: add --yes")
    click.confirm(question, abort=True, err=True)
