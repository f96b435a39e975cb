"""The tables of a warehouse as `erase` sees them: all of the dataset, those of other programs too."""

# ruff: noqa: S608 - names are quoted and come from the warehouse's own catalog, values are parameters

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dlt.destinations.sql_client import SqlClientBase
from sqlglot import exp

from dlt_cronofy.source.tables import TOKEN_STATUS
from dlt_cronofy.warehouse.dataset import query_rows
from dlt_cronofy.warehouse.pipeline import DEFAULT_DESTINATION

from .person import ACCOUNT_ID, TOKEN_KEY, VALUE_COLUMNS, Condition, Pair, Person, Traces

# parameters of one query; every warehouse dlt reaches takes this many
MAX_PARAMETERS = 1000
# rows that are in memory at once
ROWS_AT_ONCE = 10_000

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


class SchemaKind(Enum):
    """What a schema is to `erase`."""

    DATASET = "dataset"
    STAGING = "staging"  # of any writer; dlt puts rows there on their way to the tables
    OTHER = "other"  # is searched, and not changed


@dataclass(frozen=True)
class Relation:
    """One base table.

    Attributes:
        schema: its schema, as the warehouse spells it.
        name: its name, as the warehouse spells it.
        kind: of the schema.
        qualified: its name in SQL.
        columns: the columns that hold text, by lower-case name, as SQL writes them.
        keys: those of account_id and token_key that it has, likewise.
    """

    schema: str
    name: str
    kind: SchemaKind
    qualified: str
    columns: Mapping[str, str] = field(hash=False)
    keys: Mapping[str, str] = field(hash=False)

    @property
    def label(self) -> str:
        """Its name for people: alone in the dataset, with the schema elsewhere."""
        return self.name if self.kind is SchemaKind.DATASET else f"{self.schema}.{self.name}"

    def doomed(self, person: Person, placeholder: str = "%s") -> Condition | None:
        """The SQL condition of the rows that go, with parameters; None where all stay."""
        return None if self.kind is SchemaKind.OTHER else person.condition(self.keys, placeholder)


class Relations:
    """The tables an open SQL client reaches, and what `erase` asks of them."""

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self._client = client
        self.dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
        self._is_duckdb = self.dialect == DEFAULT_DESTINATION
        self.all = list(self._listed())

    @property
    def _keyed(self) -> list[Relation]:
        return [each for each in self.all if each.keys and each.kind is not SchemaKind.OTHER]

    def pairs(self, column: str, value: str) -> set[Pair]:
        """All that the tables say of a token's accounts and of the other tokens of these, or the reverse.

        Args:
            column: `account_id` or `token_key`.
            value: an account_id or a token_key.
        """
        other, index = (TOKEN_KEY, 0) if column == ACCOUNT_ID else (ACCOUNT_ID, 1)
        direct = self._pairs_with(column, [value])
        partners = sorted({str(pair[index]) for pair in direct if pair[index] is not None})
        return direct | self._pairs_with(other, partners)

    def _pairs_with(self, column: str, values: Sequence[str]) -> set[Pair]:
        found: set[Pair] = set()
        for relation in self._keyed:
            if values and len(relation.keys) == len((TOKEN_KEY, ACCOUNT_ID)):
                rows = self._rows(
                    f"SELECT DISTINCT {relation.keys[TOKEN_KEY]} AS t, {relation.keys[ACCOUNT_ID]} AS a"
                    f" FROM {relation.qualified}"
                    f" WHERE {relation.keys[column]} IN ({', '.join(['%s'] * len(values))})",
                    values,
                )
                found.update((token, account) for token, account in rows)
        return found

    def current_tokens(self, accounts: Sequence[str]) -> set[str]:
        """The tokens that named one of the accounts last."""
        return {
            str(key)
            for relation in self._keyed
            if relation.label.lower() == TOKEN_STATUS.name
            for account in accounts
            for (key,) in self._rows(
                f"SELECT token_key FROM {relation.qualified} WHERE account_id = %s", [account]
            )
        }

    def count(self, relation: Relation, condition: Condition) -> int:
        """How many rows of a table meet the condition."""
        sql = f"SELECT COUNT(*) FROM {relation.qualified} WHERE {condition[0]}"
        return int(self._rows(sql, condition[1])[0][0])

    def delete(self, relation: Relation, condition: Condition) -> None:
        """Delete the rows that meet the condition."""
        self._client.execute_sql(f"DELETE FROM {relation.qualified} WHERE {condition[0]}", *condition[1])

    def values(self, person: Person) -> dict[str, str]:
        """The values the person's rows can be recognized by, and the first column each stands in."""
        found: dict[str, str] = {}
        for relation in self._keyed:
            columns = _value_columns(relation)
            condition = person.condition(relation.keys)
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
        left = set(values)
        for relation in self._keyed:
            columns = ", ".join(relation.columns[column] for column in _value_columns(relation))
            mine, parameters = person.condition(relation.keys) or ("1 = 0", [])
            sql = (
                f"SELECT DISTINCT {columns} FROM {relation.qualified}"
                f" WHERE CASE WHEN {mine} THEN 1 ELSE 0 END = 0"
            )
            with self._client.execute_query(sql, *parameters) as cursor:
                while rows := cursor.fetchmany(ROWS_AT_ONCE):
                    texts = "\n".join(str(text) for row in rows for text in row if text)
                    left = {value for value in left if value not in texts}
        return set(values) - left

    def search(self, relation: Relation, traces: Traces) -> tuple[int, int]:
        """How many rows a table has, and how many have one of the values in their text columns."""
        ((rows,),) = self._rows(f"SELECT COUNT(*) FROM {relation.qualified}", [])
        if not rows or not relation.columns:
            return rows, 0
        # one text a row, so that each value is looked for once
        text = " || ' | ' || ".join(
            f"COALESCE({self._as_text(column)}, '')" for column in relation.columns.values()
        )
        found = 0
        for condition, parameters in self._holds_any("row_text", traces.texts()):
            sql = (
                f"SELECT COUNT(*) FROM (SELECT {text} AS row_text FROM {relation.qualified}) texts"
                f" WHERE {condition}"
            )
            found += self._rows(sql, parameters)[0][0]
        return rows, found

    def _holds_any(self, column: str, texts: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
        """SQL conditions, with parameters, of which one holds where the column contains one of the texts."""
        if self._is_duckdb:
            # one pass for all texts; in PostgreSQL a pattern takes longer than looking for each
            for chunk in _chunks(texts, TEXTS_PER_PATTERN):
                yield f"regexp_matches({column}, %s)", ["|".join(map(re.escape, chunk))]
            return
        for chunk in _chunks(texts, MAX_PARAMETERS):
            yield " OR ".join([self._contains(column)] * len(chunk)), chunk

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
            schema_kind = _schema_kind(schema, own, staging)
            if schema_kind is SchemaKind.OTHER and not self._is_duckdb:
                continue
            qualified = client.make_qualified_table_name_path(
                table,
                casefold=False,
                dataset_name=schema,
                # a schema of any name may be called like the file
                catalog=catalog if self._is_duckdb else None,
            )
            yield self._relation(schema, table, schema_kind, ".".join(qualified), kinds)

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
        self, schema: str, table: str, kind: SchemaKind, qualified: str, types: Mapping[str, str]
    ) -> Relation:
        escape = self._client.capabilities.escape_identifier
        reads_all = self.dialect in READS_ALL_AS_TEXT
        columns = {
            column.lower(): str(escape(column))
            for column, type_ in types.items()
            if (not NO_TEXT.match(type_) if reads_all else TEXT.match(type_))
        }
        keys = {
            column.lower(): str(escape(column))
            for column, type_ in types.items()
            if column.lower() in (ACCOUNT_ID, TOKEN_KEY) and PLAIN_TEXT.match(type_)
        }
        return Relation(schema, table, kind, qualified, columns, keys)


def _schema_kind(schema: str, own: str, staging: str) -> SchemaKind:
    if schema == own:
        return SchemaKind.DATASET
    # that of another writer ends in a name of its own
    is_anothers = re.fullmatch(re.escape(own) + "_staging(?:_[0-9a-f]{8})?", schema, re.IGNORECASE)
    return SchemaKind.STAGING if schema == staging or is_anothers else SchemaKind.OTHER


def _value_columns(relation: Relation) -> list[str]:
    return [column for column in VALUE_COLUMNS if column in relation.columns]


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
