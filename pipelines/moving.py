"""Moving: the whole history copied into another warehouse, where loads go on.

The logs are copied load by load, the other tables as a whole, each only where the two warehouses differ. So a
copy that broke off is finished by the next one, and one that is complete is left alone.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.schema import Schema
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy import rebuild
from dlt_cronofy.formatting import count, program
from dlt_cronofy.rebuild import Difference
from dlt_cronofy.rebuild.command import check_evidence
from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.history.state import MAX_PARAMETERS
from dlt_cronofy.source.resources import column_types
from dlt_cronofy.source.tables import (
    BOOL,
    INT,
    LOAD_ID,
    NUMBER,
    POLLS,
    PROFILE_CHANGES,
    TABLES,
    TEXT,
    TIME,
    Row,
    arrow_type,
)
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.warehouse.dataset import loaded_dataset, query_rows, refresh_views, sql_client, writer
from dlt_cronofy.warehouse.dlt_workarounds import learn_columns
from dlt_cronofy.warehouse.locks import sole_writer, turn
from dlt_cronofy.warehouse.pipeline import location, open_pipeline, pipeline_target

Client = SqlClientBase[Any]

# append-only: a row of a load stays as it is
LOGS = (POLLS.name, PROFILE_CHANGES.name)
# dlt's own table: a load is in it once all its rows are there
LOADS = "_dlt_loads"
# so many rows of a log are copied as one package, whole loads together
PACKAGE_ROWS, FETCHED_ROWS = 200_000, 50_000


@dataclass
class Moved:
    """What was copied. Rows by table; tables that were the same on both sides are left out."""

    destination: str
    dataset: str
    loads: int  # that the history consists of
    rows: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)  # of `rebuild --check` on the other side

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"differences": [each.as_dict() for each in self.differences]}


def move_history(
    old: dlt.Pipeline,
    destination: str,
    hold: timedelta,
    credentials: str | None = None,
    on_rows: Callable[[int], object] = lambda _: None,
) -> Moved:
    """Copy what a warehouse holds into the same dataset of another one, make the views there, and compare.

    Run again, it adds what is missing and nothing twice. `on_rows` is called with the rows copied so far.

    Raises:
        ConfigurationError: both are one, or the other one holds a history of its own.
        WarehouseBusy: a load is running.
        PipelineStepFailed: the other warehouse refused; what was copied stays, and the next copy goes on.
    """
    with tempfile.TemporaryDirectory(prefix="dlt-cronofy-move-") as folder:
        # a copy that is killed leaves no packages where a load would look for some
        new = open_pipeline(destination, old.dataset_name, credentials, Path(folder))
        if pipeline_target(old) == pipeline_target(new):
            raise ConfigurationError(f"--to {destination}: the history is there already ({location(old)})")
        with loaded_dataset(old):
            pass
        with sole_writer(old), sole_writer(new), turn(old), turn(new), writer(new):
            moved = Copy(old, new, on_rows).run()
            with sql_client(new) as client:
                rebuild.create_missing(client)
                rebuild.prepare_postgres(client)
                rebuild.analyze(client, list(TABLES))
            refresh_views(new, hold.total_seconds())
        moved.differences = check_evidence(new, hold)
    return moved


@dataclass
class Copy:
    """One copy, within the turn to write."""

    old: dlt.Pipeline
    new: dlt.Pipeline
    on_rows: Callable[[int], object]
    _done: int = 0

    def run(self) -> Moved:
        """Copy what differs."""
        self.old.sync_destination()
        learn_columns(self.old)
        schema = _without_order(self.old.schemas[SOURCE_NAME])
        with sql_client(self.old) as source:
            self._refuse_unsettled(source)
            loads = query_rows(source, f"SELECT * FROM {source.make_qualified_table_name(LOADS)}")  # noqa: S608
            here = {name: _rows_by_load(source, name) for name in LOGS}
            moved = Moved(location(self.new), self.new.dataset_name or "", len(loads))
            if self._goes_on_there(loads, here):
                return moved
            for name in LOGS:
                self._copy_log(source, schema, name, here[name], moved)
            self._copy_tables(source, schema, moved)
        self._copy_loads(loads)
        return moved

    def _refuse_unsettled(self, source: Client) -> None:
        """What a killed load left is put right by the next one, and is then copied as it should be."""
        is_unsettled = (
            self.old.has_pending_data
            or rebuild.is_needed(source)
            or rebuild.incomplete_tables(source, TABLES)
            or rebuild.unfinished_runs(source)
        )
        if is_unsettled:
            raise ConfigurationError(
                f"{location(self.old)} is not as a finished load of this release leaves it:"
                f" run {program()} load once, then move"
            )

    def _goes_on_there(self, loads: Sequence[Row], here: dict[str, Counter[str]]) -> bool:
        """Whether loads have gone on there since all of this was copied.

        Raises:
            ConfigurationError: what is there is another history, or both have gone on.
        """
        with sql_client(self.new) as target:
            there = {load for name in LOGS for load in _rows_by_load(target, name)}
            finished = {load["load_id"] for load in _rows(target, LOADS)}
        known = {load["load_id"] for load in loads}
        others = there - known.union(*here.values())
        if others and not known <= finished:
            raise ConfigurationError(
                f"{location(self.new)}, dataset {self.new.dataset_name}, holds another history"
                f" ({count(len(others), 'load')} that {location(self.old)} does not have):"
                " move with another --dataset, or drop that one"
            )
        return bool(others)

    def _copy_log(self, source: Client, schema: Schema, name: str, here: Counter[str], moved: Moved) -> None:
        """Copy the loads whose rows are not all there; what is there of them is removed first."""
        with sql_client(self.new) as target:
            there = _rows_by_load(target, name)
            different = sorted(load for load in here.keys() | there.keys() if here[load] != there[load])
            for part in _slices([load for load in different if there[load]], MAX_PARAMETERS):
                _delete(target, name, part)
        for part in _packages([load for load in different if here[load]], here):
            self._append({name: _frames(source, schema, name, part)}, schema)
            moved.rows[name] = moved.rows.get(name, 0) + sum(here[load] for load in part)

    def _copy_tables(self, source: Client, schema: Schema, moved: Moved) -> None:
        """Put the rows of the other tables in the place of those that are there, unless they are the same."""
        different: dict[str, pa.Table] = {}
        # a schema that was read back from the warehouse does not know which tables have rows
        for name in dict.fromkeys((*TABLES, *schema.data_table_names(seen_data_only=False))):
            if name in (*LOGS, *PUBLIC_VIEWS):
                continue
            here = _whole(source, schema, name)
            with sql_client(self.new) as target:
                there = _whole(target, schema, name)
                if here.equals(there):
                    continue
                if there.num_rows:
                    _delete(target, name)
            moved.rows[name] = here.num_rows
            if here.num_rows:
                different[name] = here
        if different:
            self._append({name: iter([table]) for name, table in different.items()}, schema)

    def _append(self, frames: Mapping[str, Iterator[pa.Table]], schema: Schema) -> None:
        def rows(name: str) -> Iterator[pa.Table]:
            for frame in frames[name]:
                self._done += frame.num_rows
                self.on_rows(self._done)
                yield frame

        resources = [dlt.resource(rows, name=name)(name) for name in frames]
        # dlt makes no tables for a schema that it has stored there already, with the package before
        own = schema.clone()
        own.drop_tables([name for name in own.data_table_names(seen_data_only=False) if name not in frames])
        self.new.run(resources, schema=own, write_disposition="append")

    def _copy_loads(self, loads: Sequence[Row]) -> None:
        """Mark the loads as complete, which they are now; dlt's marks of the copying itself go."""
        with sql_client(self.new) as target, target.begin_transaction():
            table = target.make_qualified_table_name(LOADS)
            finished = {load["load_id"] for load in _rows(target, LOADS)}
            for load in loads:
                if load["load_id"] not in finished:
                    names, marks = ", ".join(load), ", ".join(["%s"] * len(load))
                    target.execute_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", *load.values())  # noqa: S608
            for package in finished - {load["load_id"] for load in loads}:
                target.execute_sql(f"DELETE FROM {table} WHERE load_id = %s", package)  # noqa: S608


def _without_order(schema: Schema) -> Schema:
    """The schema without the hint that only a merge understands; the next load sets it again."""
    cloned = schema.clone()
    for table in cloned.data_tables():
        for column in table["columns"].values():
            column.pop("dedup_sort", None)
    return cloned


def _has(client: Client, name: str) -> bool:
    return client.has_dataset() and bool(
        query_rows(
            client,
            "SELECT 1 AS found FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
            *client.make_qualified_table_name_path(name, quote=False)[-2:],
        )
    )


def _rows(client: Client, name: str) -> list[Row]:
    """All rows of a table of dlt's; none where it is missing."""
    if not _has(client, name):
        return []
    return query_rows(client, f"SELECT * FROM {client.make_qualified_table_name(name)}")  # noqa: S608


def _rows_by_load(client: Client, name: str) -> Counter[str]:
    """How many rows each load wrote; none where there is no such table."""
    if not _has(client, name):
        return Counter()
    table = client.make_qualified_table_name(name)
    query = f"SELECT {LOAD_ID} AS load_id, COUNT(*) AS found FROM {table} GROUP BY {LOAD_ID}"  # noqa: S608
    return Counter({row["load_id"]: int(row["found"]) for row in query_rows(client, query)})


def _whole(client: Client, schema: Schema, name: str) -> pa.Table:
    """A table that is not a log, in the order of its key; without columns where it is missing or empty."""
    frames = (
        [frame for frame in _frames(client, schema, name) if frame.num_rows] if _has(client, name) else []
    )
    if not frames:
        return pa.table({})
    table = pa.concat_tables(frames, promote_options="default")
    columns = sorted(table.column_names)
    return table.select(columns).sort_by([(column, "ascending") for column in _key(name, columns)])


def _key(name: str, columns: Sequence[str]) -> Sequence[str]:
    return TABLES[name].key if name in TABLES else columns


def _frames(
    client: Client, schema: Schema, name: str, loads: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a table, or of some of its loads, typed as dlt's schema has them."""
    types, table = _types(schema, name), client.make_qualified_table_name(name)
    for part in [None] if loads is None else _slices(loads, MAX_PARAMETERS):
        with client.execute_query(f"SELECT * FROM {table}{_of_loads(part)}", *(part or ())) as cursor:  # noqa: S608
            for frame in cursor.iter_arrow(chunk_size=FETCHED_ROWS):
                yield _typed(pa.table(frame), types)


def _types(schema: Schema, name: str) -> dict[str, pa.DataType]:
    """The Arrow types of a table's columns: of ours, and of those that dlt's schema knows."""
    types = {
        column: arrow_type(kind)
        for column, kind in column_types(schema, name).items()
        if kind in (BOOL, INT, NUMBER, TEXT, TIME)
    }
    return types | ({field.name: field.type for field in TABLES[name].schema} if name in TABLES else {})


def _typed(frame: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """With these types: a driver has none for a column without values."""
    columns = {}
    for name, values in zip(frame.column_names, frame.columns, strict=True):
        # some warehouses write all names in capitals
        known = name if name in types else name.lower()
        columns[known] = values.combine_chunks().cast(types.get(known, values.type))
    return pa.table(columns)


def _delete(client: Client, name: str, loads: Sequence[str] | None = None) -> None:
    table = client.make_qualified_table_name(name)
    client.execute_sql(f"DELETE FROM {table}{_of_loads(loads)}", *(loads or ()))  # noqa: S608


def _of_loads(loads: Sequence[str] | None) -> str:
    """The condition that holds for the rows of these loads; of all where there is none."""
    return "" if loads is None else f" WHERE {LOAD_ID} IN ({', '.join(['%s'] * len(loads))})"


def _packages(loads: Sequence[str], rows: Counter[str]) -> Iterator[list[str]]:
    """The loads in groups of about `PACKAGE_ROWS` rows."""
    package: list[str] = []
    for load in loads:
        if package and sum(rows[each] for each in package) + rows[load] > PACKAGE_ROWS:
            yield package
            package = []
        package.append(load)
    if package:
        yield package


def _slices(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def moved_lines(old: dlt.Pipeline, moved: Moved) -> Iterator[str]:
    """What was copied, line by line."""
    place = f"{moved.destination}, dataset {moved.dataset}"
    if moved.rows:
        rows = ", ".join(f"{name} {number:,}" for name, number in sorted(moved.rows.items()))
        yield f"Copied {location(old)} to {place}: {count(moved.loads, 'load')}; rows: {rows}"
    else:
        yield f"Nothing to copy: {place} has all {count(moved.loads, 'load')} of {location(old)}"
