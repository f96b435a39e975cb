"""The tables of a warehouse as `erase` sees them: all of the dataset, whoever made them."""

# ruff: noqa: S608 - names are quoted and come from the warehouse's own catalog, values are parameters

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from dlt_cronofy.warehouse.dataset import query_rows
from dlt_cronofy.warehouse.pipeline import DEFAULT_DESTINATION

from .person import ACCOUNT_ID, TOKEN_KEY, VALUE_COLUMNS, Pair, Person, Traces

# parameters of one query; every warehouse dlt reaches takes this many
MAX_PARAMETERS = 1000
# values that one query looks for in other people's rows: each is a column of the answer
VALUES_PER_QUERY = 50

# one pattern must not outgrow RE2's memory
TEXTS_PER_PATTERN = 200

# engines whose every other type can be read as text
READS_ALL_AS_TEXT = {"duckdb", "postgres"}
TEXT = re.compile(r"(?:n?var)?char|character|text|string|json|variant", re.IGNORECASE)
PLAIN_TEXT = re.compile(r"(?:n?varchar|character|text|string)\b(?!.*\[)", re.IGNORECASE)
NO_TEXT = re.compile(
    r"(?:bool|u?(?:tiny|small|big|huge)?int|integer|double|float|real|numeric|decimal|date|time|interval)"
    r"[^\[]*$",
    re.IGNORECASE,
)


class Place(Enum):
    """Where a table is."""

    DATASET = "dataset"
    STAGING = "staging"  # of this working directory: nobody else loads through it
    OTHER_STAGING = "other staging"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Relation:
    """One base table.

    Attributes:
        schema: its schema, as the warehouse spells it.
        name: its name, as the warehouse spells it.
        place: whose it is.
        qualified: its name in SQL.
        columns: the columns that hold text, by lower-case name, as SQL writes them.
        keys: those of account_id and token_key that it has, likewise.
    """

    schema: str
    name: str
    place: Place
    qualified: str
    columns: Mapping[str, str] = field(hash=False)
    keys: Mapping[str, str] = field(hash=False)

    @property
    def label(self) -> str:
        """Its name for people: alone in the dataset, with the schema elsewhere."""
        return self.name if self.place is Place.DATASET else f"{self.schema}.{self.name}"

    @property
    def is_emptied(self) -> bool:
        """Whether all its rows go: what dlt put there on the way to a table is of no use any more."""
        return self.place is Place.STAGING and not self.name.lower().startswith("_dlt")

    def doomed(self, person: Person, placeholder: str = "%s") -> tuple[str, list[str]] | None:
        """The SQL condition of the rows that go, with parameters; None where all stay."""
        if self.is_emptied:
            return "1 = 1", []
        if self.place is Place.ELSEWHERE:
            return None
        return person.condition(self.keys, placeholder)


@dataclass(frozen=True)
class Hits:
    """What a search of one table came to: rows looked at, and rows with a value in them."""

    rows: int
    found: int


class Relations:
    """The tables an open SQL client reaches, and what `erase` asks of them."""

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self._client = client
        self.dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
        self._is_duckdb = self.dialect == DEFAULT_DESTINATION
        self.all = list(self._listed())

    @property
    def _keyed(self) -> list[Relation]:
        return [each for each in self.all if each.keys and each.place is not Place.ELSEWHERE]

    def pairs(self, column: str, value: str) -> set[Pair]:
        """All that the tables say of a token's accounts and of the other tokens of these, or the reverse.

        Args:
            column: `account_id` or `token_key`.
            value: an account_id or a token_key.
        """
        other, index = (TOKEN_KEY, 0) if column == ACCOUNT_ID else (ACCOUNT_ID, 1)
        direct = self._pairs_with(column, [value])
        neighbors = sorted({pair[index] for pair in direct if pair[index] is not None}, key=str)
        return direct | self._pairs_with(other, [str(each) for each in neighbors])

    def _pairs_with(self, column: str, values: Sequence[str]) -> set[Pair]:
        found: set[Pair] = set()
        for relation in self._keyed:
            if len(relation.keys) < 2:
                continue
            token, account = relation.keys[TOKEN_KEY], relation.keys[ACCOUNT_ID]
            for chunk in _chunks(values, MAX_PARAMETERS):
                rows = self._rows(
                    f"SELECT DISTINCT {token} AS t, {account} AS a FROM {relation.qualified}"
                    f" WHERE {relation.keys[column]} IN ({_placeholders(chunk)})",
                    chunk,
                )
                found.update((row[0], row[1]) for row in rows)
        return found

    def count(self, relation: Relation, condition: tuple[str, list[str]]) -> int:
        """How many rows of a table meet the condition."""
        sql = f"SELECT COUNT(*) FROM {relation.qualified} WHERE {condition[0]}"
        return int(self._rows(sql, condition[1])[0][0])

    def delete(self, relation: Relation, condition: tuple[str, list[str]]) -> None:
        """Delete the rows that meet the condition."""
        self._client.execute_sql(f"DELETE FROM {relation.qualified} WHERE {condition[0]}", *condition[1])

    def values(self, person: Person) -> dict[str, str]:
        """The values the person's rows can be recognized by, and the first column each stands in."""
        found: dict[str, str] = {}
        for relation in self._keyed:
            columns = _value_columns(relation)
            condition = person.condition(relation.keys, "%s")
            if not condition:
                continue
            names = ", ".join(relation.columns[column] for column in columns)
            sql = f"SELECT DISTINCT {names} FROM {relation.qualified} WHERE {condition[0]}"
            for row in self._rows(sql, condition[1]):
                for column, value in zip(columns, row, strict=True):
                    if value:
                        found.setdefault(str(value), column)
        return found

    def held_by_others(self, values: Sequence[str], person: Person) -> set[str]:
        """Those of the values that stand in the rows of other people, alone or within a longer text."""
        held: set[str] = set()
        for relation in self._keyed:
            if relation.place is not Place.DATASET:
                continue
            columns = [relation.columns[column] for column in _value_columns(relation)]
            mine, parameters = person.condition(relation.keys, "%s") or ("1 = 0", [])
            others = (
                f"SELECT DISTINCT {', '.join(columns)} FROM {relation.qualified}"
                f" WHERE CASE WHEN {mine} THEN 1 ELSE 0 END = 0"
            )
            left = [value for value in values if value not in held]
            for chunk in _chunks(left, min(VALUES_PER_QUERY, MAX_PARAMETERS // (len(columns) + 1))):
                contained = " OR ".join(self._contains(column) for column in columns)
                flags = ", ".join(
                    f"MAX(CASE WHEN {contained} THEN 1 ELSE 0 END) AS v{number}"
                    for number in range(len(chunk))
                )
                needles = [value for value in chunk for _ in columns]
                (row,) = self._rows(f"SELECT {flags} FROM ({others}) others", [*needles, *parameters])
                held.update(value for value, flag in zip(chunk, row, strict=True) if flag)
        return held

    def search(self, relation: Relation, traces: Traces) -> Hits:
        """Count a table's rows, and those whose text columns hold one of the values."""
        rows = int(self._rows(f"SELECT COUNT(*) FROM {relation.qualified}", [])[0][0])
        if not rows or not relation.columns:
            return Hits(rows, 0)
        # one text a row, so that each value is looked for once
        text = " || ' | ' || ".join(
            f"COALESCE({self._as_text(column)}, '')" for column in relation.columns.values()
        )
        texts = f"SELECT {text} AS row_text FROM {relation.qualified}"
        found = 0
        for condition, parameters in self._holds_any("row_text", traces.texts()):
            sql = f"SELECT COUNT(*) FROM ({texts}) texts WHERE {condition}"
            found += int(self._rows(sql, parameters)[0][0])
        return Hits(rows, found)

    def _holds_any(self, column: str, texts: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
        """SQL conditions, with parameters, of which one holds where the column contains one of the texts."""
        if self._is_duckdb:
            # one pass for all texts; in PostgreSQL a pattern takes longer than looking for each
            for chunk in _chunks(texts, TEXTS_PER_PATTERN):
                yield f"regexp_matches({column}, %s)", ["|".join(map(re.escape, chunk))]
            return
        for chunk in _chunks(texts, MAX_PARAMETERS):
            yield " OR ".join([self._contains(column)] * len(chunk)), chunk

    def newest_accounts(self, tokens: Sequence[str]) -> dict[str, str]:
        """The account that each of these tokens named last."""
        status = next((each for each in self._keyed if each.label.lower() == "token_status"), None)
        if status is None or not tokens:
            return {}
        rows = self._rows(
            f"SELECT token_key, account_id FROM {status.qualified}"
            f" WHERE token_key IN ({_placeholders(tokens)}) AND account_id IS NOT NULL",
            tokens,
        )
        return {row[0]: row[1] for row in rows}

    def _rows(self, sql: str, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        with self._client.execute_query(sql, *parameters) as cursor:
            return [tuple(row) for row in cursor.fetchall()]

    def _contains(self, column: str) -> str:
        part = exp.StrPosition(this=exp.Var(this=column), substr=exp.Var(this="%s"))
        return f"{part.sql(dialect=self.dialect)} > 0"

    def _as_text(self, column: str) -> str:
        return exp.cast(exp.Var(this=column), "text").sql(dialect=self.dialect)

    def _listed(self) -> Iterator[Relation]:
        """Every base table with its columns; those of other schemas only where they are in the same file."""
        client = self._client
        own = client.make_qualified_table_name_path(None, quote=False)[-1]
        with client.with_staging_dataset():
            staging = client.make_qualified_table_name_path(None, quote=False)[-1]
        tables: dict[tuple[str, str, str], dict[str, str]] = {}
        for row in query_rows(client, self._catalog_query()):
            *path, column, kind = (str(value) for value in row.values())
            tables.setdefault((path[0], path[1], path[2]), {})[column] = kind
        for (catalog, schema, table), kinds in sorted(tables.items()):
            place = _place(schema, own, staging)
            if place is Place.ELSEWHERE and not self._is_duckdb:
                continue
            qualified = client.make_qualified_table_name_path(
                table,
                casefold=False,
                dataset_name=schema,
                # a schema of any name may be called like the file
                catalog=catalog if self._is_duckdb else None,
            )
            yield self._relation(schema, table, place, ".".join(qualified), kinds)

    def _catalog_query(self) -> str:
        qualify = self._client._qualify_info_schema_table_name  # noqa: SLF001 - BigQuery and others have their own
        here = " AND t.table_catalog = current_database()" if self._is_duckdb else ""
        return (
            "SELECT c.table_catalog, c.table_schema, c.table_name, c.column_name, c.data_type"
            f" FROM {qualify('COLUMNS')} c JOIN {qualify('TABLES')} t"
            " ON t.table_catalog = c.table_catalog AND t.table_schema = c.table_schema"
            f" AND t.table_name = c.table_name WHERE t.table_type = 'BASE TABLE'{here}"
        )

    def _relation(
        self, schema: str, table: str, place: Place, qualified: str, kinds: Mapping[str, str]
    ) -> Relation:
        escape = self._client.capabilities.escape_identifier
        reads_all = self.dialect in READS_ALL_AS_TEXT
        columns = {
            column.lower(): str(escape(column))
            for column, kind in kinds.items()
            if (not NO_TEXT.match(kind) if reads_all else TEXT.match(kind))
        }
        keys = {
            column.lower(): str(escape(column))
            for column, kind in kinds.items()
            if column.lower() in (ACCOUNT_ID, TOKEN_KEY) and PLAIN_TEXT.match(kind)
        }
        return Relation(schema, table, place, qualified, columns, keys)


def _place(schema: str, own: str, staging: str) -> Place:
    if schema == own:
        return Place.DATASET
    if schema == staging:
        return Place.STAGING
    other = re.fullmatch(re.escape(own) + "_staging(?:_[0-9a-f]{8})?", schema, re.IGNORECASE)
    return Place.OTHER_STAGING if other else Place.ELSEWHERE


def _value_columns(relation: Relation) -> list[str]:
    return [column for column in VALUE_COLUMNS if column in relation.columns]


def _placeholders(values: Sequence[str]) -> str:
    return ", ".join(["%s"] * len(values))


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
