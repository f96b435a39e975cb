"""The command `rebuild`: the evidence is worked out again from the polls, or compared with them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dlt

from . import rebuild
from .rebuild import Difference
from .warehouse import loaded_dataset, query_rows, sql_client, writer
from .writers import sole_writer, turn

SHOWN_DIFFERENCES = 100
EVIDENCE = ("token_status", "coverage", "runs")


@dataclass(frozen=True)
class Compared:
    """What a comparison has found."""

    differences: list[Difference]

    def lines(self) -> list[str]:
        """For the terminal: the first differences, and how many more there are."""
        if not self.differences:
            return ["no difference"]
        shown = [str(each) for each in self.differences[:SHOWN_DIFFERENCES]]
        more = len(self.differences) - len(shown)
        return [*shown, f"and {more:,} more"] if more else shown

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: all of them."""
        return {"differences": [each.as_dict() for each in self.differences]}


def check_evidence(pipeline: dlt.Pipeline, hold: timedelta) -> Compared:
    """Compare the evidence with the polls; only reads.

    Raises:
        ConfigurationError: nothing was loaded there yet.
    """
    with loaded_dataset(pipeline) as client:
        return Compared(rebuild.differences(client, hold))


def rebuild_evidence(pipeline: dlt.Pipeline, hold: timedelta) -> dict[str, int]:
    """Work the evidence out from the polls; returns how many rows each table has then.

    Raises:
        ConfigurationError: nothing was loaded there yet.
        WarehouseBusy: a load is writing there.
    """
    with loaded_dataset(pipeline):
        pass
    with sole_writer(pipeline), turn(pipeline), writer(pipeline), sql_client(pipeline) as client:
        rebuild.rebuild(client, hold)
        rebuild.analyze(client, EVIDENCE)
        return {table: _count(client, table) for table in EVIDENCE}


def _count(client: Any, table: str) -> int:
    name = client.make_qualified_table_name(table)
    return int(query_rows(client, f"SELECT COUNT(*) AS n FROM {name}")[0]["n"])  # noqa: S608 - our own name
