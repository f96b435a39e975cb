"""Loads of one user on one machine, some of them killed, into any warehouse and from any working folder."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
import duckdb
import psycopg2  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.rebuild import Difference, differences
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.warehouse.dataset import sql_client
from dlt_cronofy.warehouse.pipeline import open_pipeline
from dlt_cronofy.warehouse.working_folders import WorkingFolder
from tests.acceptance.documents import disconnected, profile, userinfo
from tests.acceptance.place import KilledError, Place, killed
from tests.prepared import prepare

if TYPE_CHECKING:
    from .conftest import Answers

PERSON, PERSONS, OTHERS = "acc_one", "token-of-one", "token-of-two"
HOLD = PollingSettings().hold


@dataclass
class Loads:
    """Loads of one user on one machine, into any warehouse and from any working folder."""

    place: Place
    answers: "Answers"

    @property
    def root(self) -> Path:
        """dlt's own folder for working files."""
        return self.place.data_dir / "pipelines"

    def file(self, name: str) -> str:
        """A DuckDB file of this place."""
        return str(self.place.directory / f"{name}.duckdb")

    def pipeline(self, warehouse: str) -> dlt.Pipeline:
        """As a command opens it: the working folder is the target's, or the configured one."""
        kind = "postgres" if warehouse.startswith("postgresql:") else "duckdb"
        return open_pipeline(kind, credentials=warehouse)

    def folder(self, warehouse: str) -> WorkingFolder:
        """Where loads into that warehouse work at present."""
        return WorkingFolder(Path(self.pipeline(warehouse).pipelines_dir))

    def load(
        self,
        warehouse: str,
        *,
        up: bool = True,
        hours_ago: float = 0,
        tokens_of: Sequence[str] = (PERSONS, OTHERS),
    ) -> LoadResult:
        """One load of everybody; a new DuckDB file has its tables before."""
        if not warehouse.startswith("postgresql:"):
            prepare(Path(warehouse))
        for token in (PERSONS, OTHERS):
            work = profile("pro_1")
            account = f"acc_{token.rpartition('-')[2]}"
            self.answers.by_token[token] = userinfo(account, [work if up else disconnected(work)])
        self.place.clock.offset = timedelta(hours=-hours_ago)
        self.place.write_tokens(tokens_of)
        settings = PollingSettings(
            base_url=self.place.base_url, requests_per_second=1e6, requests_per_minute=1e6, max_attempts=1
        )
        tokens = open_store(tokens_file=str(self.place.tokens_file)).read()
        options = LoadOptions(every=timedelta(0), refresh_views=False)
        return Load(self.pipeline(warehouse), settings, tokens, options, self.place.clock).run()

    def leave_pending(
        self,
        warehouse: str,
        *,
        first: bool = True,
        kill: Callable[[pytest.MonkeyPatch], None] = lambda patched: patched.setattr(
            dlt.Pipeline, "load", killed
        ),
        tokens_of: Sequence[str] = (PERSONS, OTHERS),
    ) -> WorkingFolder:
        """A load, and one that sees everybody disconnected and is killed before that is loaded."""
        if first:
            self.load(warehouse, hours_ago=3)
        with pytest.MonkeyPatch.context() as patched:
            kill(patched)
            with pytest.raises(KilledError):
                self.load(warehouse, up=False, hours_ago=2, tokens_of=tokens_of)
        folder = self.folder(warehouse)
        assert folder.pending()
        return folder

    def polls(self, warehouse: str) -> int:
        """How many polls are in a warehouse."""
        return int(self.ask(warehouse, "SELECT COUNT(*) FROM cronofy.polls")[0][0])

    def kinds(self, warehouse: str) -> list[str]:
        """What happened to the first account's profile, by the warehouse."""
        rows = self.ask(
            warehouse,
            f"SELECT kind FROM cronofy.profile_changes WHERE account_id = '{PERSON}' ORDER BY observed_at",
        )
        return [kind for (kind,) in rows]

    def ask(self, warehouse: str, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        if not warehouse.startswith("postgresql:"):
            with duckdb.connect(warehouse, read_only=True) as connection:
                return connection.execute(sql).fetchall()
        with closing(psycopg2.connect(warehouse)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())

    def differences(self, warehouse: str) -> list[Difference]:
        """In what the evidence is not what the polls say."""
        with sql_client(self.pipeline(warehouse)) as client:
            return differences(client, HOLD)

    def erase(self, warehouse: str, status: int) -> dict[str, Any]:
        """The command, for the first account."""
        arguments = ("erase", "--account", PERSON, "--yes", "--json")
        environment = {
            "DESTINATION__DUCKDB__CREDENTIALS": warehouse,
            "SOURCES__CRONOFY__TOKENS_FILE": str(self.place.tokens_file),
        }
        done = CliRunner().invoke(cli, arguments, env=environment, catch_exceptions=False)
        assert done.exit_code == status, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
