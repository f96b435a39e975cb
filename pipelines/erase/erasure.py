"""Erasing one person: from every table, from the files beside them, and a search that proves it.

The working files go first and the rows last, because the rows say what to look for: a run that was killed
is simply repeated.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations.exceptions import DestinationConnectionError
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy import rebuild
from dlt_cronofy.configuration import configured_store, read_settings
from dlt_cronofy.load.pending import settle_pending
from dlt_cronofy.shards.erasing import erase_from_handoff
from dlt_cronofy.shards.exchange_directory import possible_exchange
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tokens.token import StoredTokens
from dlt_cronofy.warehouse.dataset import loaded_dataset, writer
from dlt_cronofy.warehouse.duckdb_file import leftovers, log_of
from dlt_cronofy.warehouse.pipeline import duckdb_file, location, pipeline_target
from dlt_cronofy.warehouse.working_folders import WorkingFolder

from .duckdb_rewrite import CannotCopyError, rewrite_without
from .elsewhere import erase_elsewhere
from .person import (
    ACCOUNT_ID,
    MIN_SEARCHED,
    TOKEN_KEY,
    Person,
    Traces,
    person_of_account,
    person_of_token,
    searchable,
    traces_of,
)
from .relations import Place, Relation, Relations
from .working_files import Cleaned, Finder, Searched, WorkingFiles

logger = logging.getLogger("dlt_cronofy")

POSTGRES = "postgres"
DUCKLAKE = "ducklake"
BEYOND = "working files of other users, on other machines and in another DLT_DATA_DIR are beyond this command"
NOT_REMOVABLE = re.compile(r"([1-9]\d*) dead row versions cannot be removed yet")


@dataclass
class Erased:
    """What one erasure did; the keys of `erase --json`.

    Attributes:
        rows: removed rows by table.
        staging_rows: rows that dlt had left on the way to the tables, everybody's.
        packages_deleted: loaded or abandoned packages in dlt's working files, everybody's.
        left_out: values that were not searched for, by the column they stood in, or why.
        found: tables and files that still hold one of the values.
        problems: what could not be done, in words for a person.
        notes: what is beyond this command, in words for a person.
        in_token_store: keys of the person's tokens that the token store holds; None where it is unknown.
        shared_accounts: how many accounts of the token stay, because they have another token.
    """

    account: str | None
    token: str | None
    destination: str = ""
    dataset: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    staging_rows: int = 0
    packages_deleted: int = 0
    files_deleted: list[str] = field(default_factory=list)
    files_rewritten: list[str] = field(default_factory=list)
    searched_bytes: int = 0
    searched_files: int = 0
    searched_rows: int = 0
    searched_values: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_token_store: list[str] | None = None
    shared_accounts: int = 0

    @property
    def subject(self) -> str:
        """Who was asked for, as the command line named them."""
        return subject(self.account, self.token)

    @property
    def is_known(self) -> bool:
        """Whether any table had a row of theirs."""
        return any(self.rows.values())

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the person is left that this command can reach."""
        return self.is_known and not self.found and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"complete": self.is_complete}


@dataclass(frozen=True)
class Findings:
    """What the warehouse knows of a person before they are erased.

    Attributes:
        person: whose rows go.
        traces: the values to search for.
        rows: by table, how many rows go.
        newest_accounts: the account that each shared token named last.
    """

    person: Person
    traces: Traces
    rows: Mapping[Relation, int]
    newest_accounts: Mapping[str, str]

    def telling(self) -> Traces:
        """The values that give a file away that cannot be cleaned: the person's keys in any case."""
        keys = {key for key in self.person.accounts | self.person.tokens if len(key) >= MIN_SEARCHED}
        return Traces(self.traces.values | keys)

    def tokens_now(self) -> set[str]:
        """The tokens that would bring the person back."""
        shared = {key for key, owner in self.newest_accounts.items() if owner in self.person.accounts}
        return set(self.person.tokens) | shared


@dataclass
class Erase:
    """The erasure of one account, or of one token, from the warehouse and the working files of a pipeline."""

    pipeline: dlt.Pipeline
    account: str | None = None
    token: str | None = None

    @property
    def subject(self) -> str:
        """Who is asked for."""
        return subject(self.account, self.token)

    def run(self) -> Erased:
        """Settle pending packages, remove, and search.

        Raises:
            PipelineStepFailed: pending packages could not be loaded; nothing was changed.
            DestinationException: the warehouse is out of reach or refused.
            ConfigurationError: nothing was loaded there yet, or its tables cannot be listed.
        """
        result = Erased(self.account, self.token, location(self.pipeline), self.pipeline.dataset_name or "")
        settle_pending(self.pipeline)
        with reached(self.pipeline) as client:
            findings = self._look_up(Relations(client))
        _count(result, findings)
        files = WorkingFiles(Path(self.pipeline.working_dir))
        _report(result, files.clean(findings.person, findings.telling()))
        self._clean_elsewhere(findings, result)
        _clean_handoff(findings.person, result)
        self._remove_rows(findings, result)
        if result.is_known:
            self._count_without_them()
        self._search(findings, files, result)
        result.notes.append(BEYOND)
        result.in_token_store = _still_stored(findings)
        return result

    def _clean_elsewhere(self, findings: Findings, result: Erased) -> None:
        """The files of loads that had another working folder."""
        own = WorkingFolder(Path(self.pipeline.pipelines_dir))
        target = pipeline_target(self.pipeline)
        elsewhere = erase_elsewhere(own, target, findings.person, findings.telling())
        _report(result, elsewhere.cleaned)
        result.problems += elsewhere.problems
        _add_search(result, elsewhere.searched)

    def _look_up(self, relations: Relations) -> Findings:
        if not any(relation.place is Place.DATASET for relation in relations.all):
            raise ConfigurationError(f"the tables of {location(self.pipeline)} cannot be listed")
        if self.account is not None:
            values = {self.account: ACCOUNT_ID}
            person = person_of_account(self.account, relations.pairs(ACCOUNT_ID, self.account))
        else:
            assert self.token is not None
            values = {self.token: TOKEN_KEY}
            person = person_of_token(self.token, relations.pairs(TOKEN_KEY, self.token))
        values = relations.values(person) | values
        held = relations.held_by_others(searchable(values), person)
        doomed = {relation: relation.doomed(person) for relation in relations.all}
        return Findings(
            person,
            traces_of(values, held),
            {relation: relations.count(relation, each) for relation, each in doomed.items() if each},
            relations.newest_accounts(sorted(person.shared_tokens)),
        )

    def _remove_rows(self, findings: Findings, result: Erased) -> None:
        path = duckdb_file(self.pipeline)
        if path is not None and path.is_file():
            self._remove_from_file(path, findings, result)
        elif any(findings.rows.values()):
            self._delete(findings)
            self._clear_up(findings, result)

    def _remove_from_file(self, path: Path, findings: Findings, result: Erased) -> None:
        """Write the DuckDB file anew, also if only its free blocks hold the person."""
        if not any(findings.rows.values()) and not Finder(findings.traces).is_in(path):
            return
        logger.info("writing %s anew", location(self.pipeline))
        doomed = {
            (relation.schema, relation.name): condition
            for relation in findings.rows
            if (condition := relation.doomed(findings.person, "?"))
        }
        try:
            rewrite_without(path, doomed)
        except CannotCopyError as error:
            self._delete(findings)
            result.problems.append(
                f"the rows are deleted, but {location(self.pipeline)} could not be written anew ({error}):"
                " the text of deleted rows stays in free blocks of the file until DuckDB uses them again"
            )
        else:
            result.files_rewritten.append(_shown(path))

    def _delete(self, findings: Findings) -> None:
        """Delete the rows, all or none where the warehouse has transactions."""
        with writer(self.pipeline), reached(self.pipeline) as client:
            relations = Relations(client)
            if client.capabilities.supports_transactions:
                with client.begin_transaction():
                    _delete_rows(relations, findings)
            else:
                _delete_rows(relations, findings)

    def _clear_up(self, findings: Findings, result: Erased) -> None:
        """Overwrite what deleting leaves behind, as far as the warehouse lets us."""
        name = location(self.pipeline)
        kind = self.pipeline.destination.destination_type
        if kind.endswith(f".{DUCKLAKE}"):
            result.problems.append(
                f"{name} keeps deleted rows in old snapshots: rewrite the data files"
                " (ducklake_rewrite_data_files, delete_threshold 0), expire the snapshots"
                " (ducklake_expire_snapshots) and delete the old files (ducklake_cleanup_old_files)"
            )
            return
        if not kind.endswith(f".{POSTGRES}"):
            result.notes.append(
                f"{name} keeps deleted rows for time travel, fail-safe and backups until their retention"
                " period has passed; the database is not a file here, so nothing was written anew"
            )
            return
        touched = [relation for relation, count in findings.rows.items() if count]
        logger.info("writing %d tables anew", len(touched))
        with reached(self.pipeline) as client:
            result.problems += vacuum(client, touched)
        result.notes.append(f"backups, replicas and the write-ahead log of {name} are beyond this command")

    def _count_without_them(self) -> None:
        """Work out the evidence from the polls that are left: another token of the account may have some."""
        logger.info("working out the evidence of the polls that are left")
        with writer(self.pipeline), reached(self.pipeline) as client:
            rebuild.rebuild(client, read_settings()[1].hold)

    def _search(self, findings: Findings, files: WorkingFiles, result: Erased) -> None:
        logger.info("searching for what is left")
        result.searched_values = len(findings.traces.values)
        with reached(self.pipeline) as client:
            relations = Relations(client)
            for relation in relations.all:
                hits = relations.search(relation, findings.traces)
                result.searched_rows += hits.rows
                condition = relation.doomed(findings.person)
                found = max(hits.found, relations.count(relation, condition) if condition else 0)
                if found:
                    result.found.append(f"{relation.label} ({found} row{'' if found == 1 else 's'})")
        searched = files.search(findings.traces, _database_files(self.pipeline))
        _add_search(result, searched)


def subject(account: str | None, token: str | None) -> str:
    """One of the two, as the command line named it."""
    return f"account {account}" if account is not None else f"token {token}"


@contextmanager
def reached(pipeline: dlt.Pipeline) -> Iterator[SqlClientBase[Any]]:
    """An open SQL client on a dataset that holds something.

    Raises:
        DestinationConnectionError: the warehouse is out of reach; not every client of dlt's says so itself.
        ConfigurationError: nothing was loaded there yet.
    """
    try:
        with loaded_dataset(pipeline) as client:
            yield client
    except Exception as error:
        if not pipeline.sql_client().is_dbapi_exception(error):
            raise
        name = type(error).__name__
        raise DestinationConnectionError(name, pipeline.dataset_name or "", str(error), error) from error


def vacuum(client: SqlClientBase[Any], relations: Iterable[Relation]) -> list[str]:
    """Write PostgreSQL tables anew and forget what the planner knows of them; returns what went wrong.

    PostgreSQL leaves out tables of other owners, and keeps rows that an open transaction may still look at.
    It says so in notices only.
    """
    problems = []
    for relation in relations:
        notices = client.native_connection.notices
        del notices[:]
        before = _file_node(client, relation)
        client.execute_sql(f"VACUUM (FULL, ANALYZE, VERBOSE) {relation.qualified}")
        if _file_node(client, relation) == before:
            problems.append(f"{relation.label} could not be written anew: VACUUM FULL needs its owner")
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


def _delete_rows(relations: Relations, findings: Findings) -> None:
    for relation, count in findings.rows.items():
        condition = relation.doomed(findings.person)
        if count and condition:
            relations.delete(relation, condition)


def _count(result: Erased, findings: Findings) -> None:
    for relation, count in findings.rows.items():
        if relation.is_emptied:
            result.staging_rows += count
        elif count:
            result.rows[relation.label] = count
    result.left_out = dict(findings.traces.left_out)
    result.shared_accounts = len(findings.person.shared_accounts)


def _report(result: Erased, cleaned: Cleaned) -> None:
    result.packages_deleted += cleaned.packages
    result.files_deleted += [_shown(path) for path in cleaned.deleted]
    result.files_rewritten += [_shown(path) for path in cleaned.rewritten]


def _add_search(result: Erased, searched: Searched) -> None:
    result.searched_bytes += searched.bytes
    result.searched_files += searched.files
    result.found += [_shown(path) for path in searched.found]
    result.problems += [f"{_shown(path)} could not be searched" for path in searched.unreadable]


def _clean_handoff(person: Person, result: Erased) -> None:
    """What a load in shards has polled and not loaded yet."""
    handoff = possible_exchange()
    if handoff is None:
        return
    rewritten, unreadable = erase_from_handoff(handoff, person)
    result.files_rewritten += [f"{handoff.root}/{name}" for name in rewritten]
    result.problems += [f"{handoff.root}/{name} cannot be read; remove it" for name in unreadable]


def _database_files(pipeline: dlt.Pipeline) -> list[Path]:
    path = duckdb_file(pipeline)
    return [] if path is None else [path, log_of(path), *leftovers(path.resolve())]


def _still_stored(findings: Findings) -> list[str] | None:
    """The person's tokens that the token store holds; None where no store can be read."""
    try:
        configuration, _ = read_settings()
        stored = StoredTokens.of(configured_store(configuration).read()).keys
    except ConfigurationError:
        return None
    return sorted(findings.tokens_now() & stored)


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
