"""Removing rows so that their text does not stay either, where the warehouse allows that."""

import logging
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
import duckdb
from dlt.common.destination.exceptions import DestinationException
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy.warehouse.dataset import loaded_dataset, writer
from dlt_cronofy.warehouse.duckdb_copy import CannotCopyError, rewrite_without
from dlt_cronofy.warehouse.lake import forget_deleted, has_remote_files, is_lake
from dlt_cronofy.warehouse.pipeline import duckdb_file, location

from .finder import Finder
from .person import Person, Traces
from .relations import Relation, Relations
from .summary import Erased, shown

logger = logging.getLogger("dlt_cronofy")

LAKE_KEEPS = (
    "keeps deleted rows in old files or snapshots ({error}): expire the snapshots"
    " (ducklake_expire_snapshots), delete the old files (ducklake_cleanup_old_files), and run this again"
)
UNSEARCHED_FILES = "the files of {name} are in a bucket, and were not searched"
NOT_REMOVABLE = re.compile(r"([1-9]\d*) dead row versions cannot be removed yet")


@dataclass(frozen=True)
class Removal:
    """The removal of one person's rows: by table, how many; everything is reported in the result."""

    pipeline: dlt.Pipeline
    person: Person
    traces: Traces
    rows: Mapping[Relation, int]
    result: Erased

    def run(self) -> None:
        """Remove the rows, all or none where the warehouse has transactions.

        Raises:
            DestinationException: the warehouse is out of reach or refused.
        """
        file = duckdb_file(self.pipeline)
        if file is not None:
            # its free blocks may hold the person though no row does
            if any(self.rows.values()) or Finder(self.traces.texts()).is_in(file):
                self._copy_file(file)
        elif any(self.rows.values()) or is_lake(self.pipeline):
            # the files of a lake may hold the person though no row does
            self._delete()
            self.overwrite_deleted()

    def _copy_file(self, file: Path) -> None:
        name = location(self.pipeline)
        logger.info("copying %s without these rows", name)
        doomed = {
            (relation.schema, relation.name): condition
            for relation in self.rows
            if (condition := self.person.condition(relation.keys, "?"))
        }
        try:
            rewrite_without(file, doomed)
        except CannotCopyError as error:
            self._delete()
            self.result.problems.append(
                f"the rows are deleted, but {name} could not be replaced by a copy ({error}):"
                " the text of deleted rows stays in free blocks of the file until DuckDB uses them again"
            )
        else:
            self.result.files_rewritten.append(shown(file))

    def _delete(self) -> None:
        with writer(self.pipeline), loaded_dataset(self.pipeline) as client:
            relations = Relations(client)
            has_transactions = client.capabilities.supports_transactions
            with client.begin_transaction() if has_transactions else nullcontext():
                for relation, count in self.rows.items():
                    condition = self.person.condition(relation.keys)
                    if count and condition:
                        relations.delete(relation, condition)

    def overwrite_deleted(self) -> None:
        """Overwrite what deleting leaves behind, or say who can."""
        name, result = location(self.pipeline), self.result
        kind = self.pipeline.destination.destination_type.rpartition(".")[2]
        if kind == "ducklake":
            self._forget_in_lake(name)
        elif kind == "postgres":
            touched = [relation for relation, count in self.rows.items() if count]
            logger.info("rewriting %d tables", len(touched))
            with loaded_dataset(self.pipeline) as client:
                result.problems += vacuum(client, touched)
            result.notes.append(
                f"backups, replicas and the write-ahead log of {name} are beyond this command"
            )
        else:
            result.notes.append(
                f"{name} keeps deleted rows for time travel, fail-safe and backups until their retention"
                " period has passed"
            )

    def _forget_in_lake(self, name: str) -> None:
        logger.info("rewriting the files of %s without these rows", name)
        try:
            forget_deleted(self.pipeline)
        except (CannotCopyError, DestinationException, duckdb.Error, sqlite3.Error, OSError) as error:
            # its message may quote a row
            self.result.problems.append(f"{name} {LAKE_KEEPS.format(error=type(error).__name__)}")
        if has_remote_files(self.pipeline):
            self.result.notes.append(UNSEARCHED_FILES.format(name=name))


def vacuum(client: SqlClientBase[Any], relations: Iterable[Relation]) -> list[str]:
    """Rewrite PostgreSQL tables and forget what the planner knows of them; returns what went wrong.

    PostgreSQL leaves out tables of other owners, and keeps rows that an open transaction may still read.
    Only notices say so.
    """
    problems = []
    for relation in relations:
        notices = client.native_connection.notices
        del notices[:]
        before = _file_node(client, relation)
        client.execute_sql(f"VACUUM (FULL, ANALYZE, VERBOSE) {relation.qualified}")
        if _file_node(client, relation) == before:
            problems.append(f"{relation.label} could not be rewritten: VACUUM FULL needs its owner")
        elif any(NOT_REMOVABLE.search(notice) for notice in notices):
            problems.append(
                f"{relation.label} still holds deleted rows, because an open transaction may read them:"
                f" run VACUUM FULL {relation.qualified} when it has ended"
            )
    return problems


def _file_node(client: SqlClientBase[Any], relation: Relation) -> Any:
    rows = client.execute_sql("SELECT pg_relation_filenode(%s::regclass)", relation.qualified)
    assert rows is not None
    return rows[0][0]
