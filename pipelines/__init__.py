"""The scheduled load of Cronofy connection health: plan, poll, load, views, and the commands around it.

Python reads the warehouse through `dataset`, which knows all tables and views.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dlt
    from dlt.common.destination import Destination


def dataset(name: str | None = None, destination: str | None = None) -> "dlt.Dataset":
    """Every table and view of a dataset, as dlt's datasets have them; it only reads, in UTC.

    Args:
        name: of the dataset; cronofy where None.
        destination: dlt's name of the warehouse; where None, the configured one, as for commands.

    Raises:
        ConfigurationError: the warehouse is not configured, or holds no data yet.
    """
    import dlt

    from .warehouse.dataset import loaded_dataset
    from .warehouse.pipeline import open_pipeline

    pipeline = open_pipeline(destination, name)
    with loaded_dataset(pipeline):
        return dlt.dataset(pipeline.destination, pipeline.dataset_name)


def destination(name: str | None = None) -> "Destination[Any, Any]":
    """The configured warehouse for `dlt.attach`, `dlt.pipeline` and `dlt.dataset`.

    Other than with dlt's own destination, a DuckDB file may be named like the dataset in it.

    Args:
        name: dlt's name of the warehouse; where None, the configured one, as for commands.

    Raises:
        ConfigurationError: the warehouse is not configured.
    """
    from .warehouse.pipeline import open_pipeline

    found = open_pipeline(name).destination
    assert found is not None
    return found
