"""Erasing one person: from every table, from the files beside them, and a search that proves it.

The working files go first and the rows last, because the rows say what to look for: a run that was killed
is simply repeated.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations.sql_client import SqlClientBase

from dlt_cronofy import rebuild
from dlt_cronofy.configuration import configured_store, read_settings
from dlt_cronofy.formatting import count
from dlt_cronofy.load.pending import settle_pending
from dlt_cronofy.rebuild.command import check_evidence
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.tokens.token import StoredTokens
from dlt_cronofy.warehouse.dataset import loaded_dataset, read, sql_client, writer
from dlt_cronofy.warehouse.duckdb_file import leftovers, log_of
from dlt_cronofy.warehouse.lake import is_lake, lake_files
from dlt_cronofy.warehouse.pipeline import duckdb_file, location, pipeline_target
from dlt_cronofy.warehouse.working_folders import WorkingFolder

from .person import ACCOUNT_ID, TOKEN_KEY, person_of, searchable, traces_of
from .relations import Relations, SchemaKind
from .removal import Removal
from .summary import Erased, shown
from .working_files import WorkingFiles, erase_from_exchange

logger = logging.getLogger("dlt_cronofy")

BEYOND = "working files of other users, on other machines and in another DLT_DATA_DIR are beyond this command"


def account_of(pipeline: dlt.Pipeline, address: str) -> str:
    """The account_id of an e-mail address, in any letter case; the address itself where no account has it.

    Raises:
        ConfigurationError: several accounts have it, or nothing was loaded there yet.
    """
    stored = read_settings()[1].personal_data.protect(address) or address
    with loaded_dataset(pipeline) as client:
        rows = read(
            client,
            "SELECT account_id FROM {userinfo} WHERE lower(email) = lower(%s) OR email = %s"
            " UNION SELECT account_id FROM {account} WHERE lower(email) = lower(%s) OR email = %s",
            *(address, stored, address, stored),
        )
    accounts = sorted(row["account_id"] for row in rows)
    if len(accounts) > 1:
        raise ConfigurationError(f"{len(accounts)} accounts have that address; erase {' or '.join(accounts)}")
    return accounts[0] if accounts else address


@dataclass
class Erase:
    """The erasure of one account, or of one token, from the warehouse and the working files of a pipeline."""

    pipeline: dlt.Pipeline
    account: str | None = None
    token: str | None = None

    def run(self) -> Erased:
        """Settle pending packages, remove, and search.

        Raises:
            PipelineStepFailed: pending packages could not be loaded; nothing was changed.
            DestinationException: the warehouse is out of reach or refused.
            ConfigurationError: nothing was loaded there yet, or its tables cannot be listed.
        """
        settle_pending(self.pipeline)
        result = Erased(self.account, self.token, location(self.pipeline), self.pipeline.dataset_name or "")
        with loaded_dataset(self.pipeline) as client:
            removal = self._look_up(client, result)
            tokens = Relations(client).current_tokens(sorted(removal.person.accounts))
        files = WorkingFiles(removal.person, removal.traces, result)
        files.erase(WorkingFolder(Path(self.pipeline.pipelines_dir)), pipeline_target(self.pipeline))
        erase_from_exchange(removal.person, result)
        removal.run()
        # who is not known may have been removed by an earlier run that was killed before this step
        if result.is_known or check_evidence(self.pipeline, read_settings()[1].hold):
            self._rebuild()
        logger.info("searching for what is left")
        with loaded_dataset(self.pipeline) as client:
            _search_tables(Relations(client), removal, result)
        found = files.search(path for path in self._database_files() if path.is_file())
        result.found += map(shown, found)
        result.notes.append(BEYOND)
        result.in_token_store = _still_stored(removal.person.tokens | tokens)
        return result

    def _look_up(self, client: SqlClientBase[Any], result: Erased) -> Removal:
        """What has to be removed."""
        relations = Relations(client)
        if not any(relation.kind is SchemaKind.DATASET for relation in relations.all):
            raise ConfigurationError(f"the tables of {location(self.pipeline)} cannot be listed")
        column, key = (TOKEN_KEY, self.token) if self.account is None else (ACCOUNT_ID, self.account)
        assert key is not None
        person = person_of(column, key, relations.pairs(column, key))
        values = relations.values(person) | {key: column}
        traces = traces_of(values, relations.held_by_others(searchable(values), person))
        rows = {relation: relations.count(relation, person) for relation in relations.all}
        result.staging_rows = sum(rows[each] for each in rows if each.kind is SchemaKind.STAGING)
        result.rows = {
            each.label: rows[each] for each in rows if each.kind is SchemaKind.DATASET and rows[each]
        }
        result.left_out = dict(traces.left_out)
        result.searched_values = len(traces.values)
        result.shared_accounts = len(person.shared_accounts)
        return Removal(self.pipeline, person, traces, rows, result)

    def _rebuild(self) -> None:
        """Work out the evidence from the polls that are left: another token of the account may have some."""
        logger.info("working out the evidence of the polls that are left")
        with writer(self.pipeline), sql_client(self.pipeline) as client:
            rebuild.rebuild(client, read_settings()[1].hold)

    def _database_files(self) -> list[Path]:
        if is_lake(self.pipeline):
            return lake_files(self.pipeline)
        file = duckdb_file(self.pipeline)
        return [] if file is None else [file, log_of(file), *leftovers(file.resolve())]


def _search_tables(relations: Relations, removal: Removal, result: Erased) -> None:
    texts = removal.traces.texts()
    for relation in relations.all:
        rows, found = relations.search(relation, texts)
        found = max(found, relations.count(relation, removal.person))
        result.searched_rows += rows
        if found:
            result.found.append(f"{relation.label} ({count(found, 'row')})")


def _still_stored(tokens: frozenset[str]) -> list[str] | None:
    """Those of the tokens that the token store holds; None where no store can be read."""
    try:
        configuration, _ = read_settings()
        stored = StoredTokens.of(configured_store(configuration).read()).keys
    except ConfigurationError:
        return None
    return sorted(tokens & stored)
