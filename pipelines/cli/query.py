"""`dlt-cronofy query`."""

import json

import click

from .console import result_console
from .options import destination_options


# a query may begin with a comment, which begins like an option
@click.command(context_settings={"ignore_unknown_options": True}, short_help="Run one read-only SQL query.")
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
@destination_options
def query(sql: str, as_json: bool, destination: str | None, dataset: str | None) -> None:
    """Run one read-only SQL query on the tables and views, on any destination."""
    from dlt_cronofy.warehouse.dataset import check_query, loaded_dataset, query_rows
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    from .summary import print_rows

    with loaded_dataset(open_pipeline(destination, dataset)) as client:
        check_query(client, sql)
        rows = query_rows(client, sql)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, default=str))
    else:
        print_rows(result_console(), rows)
