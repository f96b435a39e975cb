"""`dlt-cronofy views`."""

import click

from .options import destination_options


@click.command(short_help="Create or replace the SQL views.")
@destination_options
def views(destination: str | None, dataset: str | None) -> None:
    """Create or replace the SQL views on the destination."""
    from dlt_cronofy.configuration import read_settings
    from dlt_cronofy.load.maintenance import make_evidence
    from dlt_cronofy.warehouse.dataset import loaded_dataset, refresh_views, writer
    from dlt_cronofy.warehouse.locks import turn
    from dlt_cronofy.warehouse.pipeline import open_pipeline

    _, settings = read_settings()
    pipeline = open_pipeline(destination, dataset)
    with loaded_dataset(pipeline):
        pass
    with turn(pipeline), writer(pipeline):
        make_evidence(pipeline, settings.hold)
        names = refresh_views(pipeline, settings.hold.total_seconds())
    click.echo("\n".join(names))
