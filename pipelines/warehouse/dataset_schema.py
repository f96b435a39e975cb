"""The views in dlt's schema of the dataset, so that `dataset()` of plain dlt reaches them like tables.

dlt 1.31 reads what its schema names and nothing else. A load creates and changes only tables that it has rows
for, so it leaves the views alone.
"""

import dlt
from dlt.common.schema.utils import new_table
from dlt.destinations.job_client_impl import SqlJobClientBase

from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.views import PUBLIC_VIEWS


def knows_views(pipeline: dlt.Pipeline) -> bool:
    """Whether the schema in the working folder names all views."""
    return SOURCE_NAME in pipeline.schemas and pipeline.schemas[SOURCE_NAME].tables.keys() >= set(
        PUBLIC_VIEWS
    )


def learn_views(pipeline: dlt.Pipeline) -> None:
    """Put the views' columns, as the warehouse has them, into dlt's schema, here and in the warehouse."""
    if SOURCE_NAME not in pipeline.schemas:
        pipeline.sync_destination()
    if SOURCE_NAME not in pipeline.schemas:
        return
    schema = pipeline.schemas[SOURCE_NAME]
    with pipeline.destination_client(SOURCE_NAME) as client:
        if not isinstance(client, SqlJobClientBase):
            return
        for view, columns in client.get_storage_tables(PUBLIC_VIEWS):
            # some warehouses write all names in capitals
            named = [
                column | {"name": schema.naming.normalize_path(name)} for name, column in columns.items()
            ]
            if named:
                schema.tables[view] = new_table(view, columns=named)
        pipeline.schemas.save_schema(schema)
        client.update_stored_schema(only_tables=schema.dlt_table_names())
