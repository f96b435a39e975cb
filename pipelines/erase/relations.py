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

from .person import KEYS, VALUE_COLUMNS, Condition, Pair, Person

# parameters of one query; every warehouse dlt reaches takes this many
MAX_PARAMETERS = 1000
# rows that are in memory at once
ROWS_AT_ONCE = 10_000

# engines whose every type can be read as text
READS_ALL_AS_TEXT = {"duckdb", "postgres"}
TEXT = re.compile(r"(?:n?var)?char|character|text|string|json|variant", re.IGNORECASE)
PLAIN_TEXT = re.compile(r"(?:n?varchar|character|text|string)\b(?!.*\[)", re.IGNORECASE)


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
        keys: those of account_id and token_key that it has, likewise; none where its rows stay.
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

    @property
    def value_columns(self) -> list[str]:
        """The columns whose values say who somebody is."""
        return [column for column in VALUE_COLUMNS if column in self.columns]


class Relations:
    """The tables an open SQL client reaches, and what `erase` asks of them."""

    def __init__(self, client: SqlClientBase[Any]) -> None:
        self._client = client
        self._dialect = str(client.capabilities.sqlglot_dialect or DEFAULT_DESTINATION)
        self._is_duckdb = self._dialect == DEFAULT_DESTINATION
        self.all = list(self._listed())
        self._keyed = [each for each in self.all if each.keys]

    def pairs(self, column: str, value: str) -> set[Pair]:
        """All that the tables say of a token's accounts and of the other tokens of these, or the reverse."""
        other = 1 - KEYS.index(column)
        direct = self._pairs_with(column, [value])
        partners = sorted({str(pair[other]) for pair in direct if pair[other] is not None})
        return direct | self._pairs_with(KEYS[other], partners)

    def _pairs_with(self, column: str, values: Sequence[str]) -> set[Pair]:
        found: set[Pair] = set()
        for relation in self._keyed:
            if values and len(relation.keys) == len(KEYS):
                names = ", ".join(relation.keys[key] for key in KEYS)
                marks = ", ".join(["%s"] * len(values))
                condition = f"{relation.keys[column]} IN ({marks})"
                found.update(
                    self._rows(f"SELECT DISTINCT {names} FROM {{}} WHERE {condition}", relation, values)
                )
        return found

    def current_tokens(self, accounts: Sequence[str]) -> set[str]:
        """The tokens that named one of the accounts last."""
        sql = "SELECT token_key FROM {} WHERE account_id = %s"
        return {
            str(key)
            for relation in self._keyed
            if relation.label.lower() == TOKEN_STATUS.name
            for account in accounts
            for (key,) in self._rows(sql, relation, [account])
        }

    def count(self, relation: Relation, person: Person) -> int:
        """How many rows of a table are the person's."""
        condition = person.condition(relation.keys)
        if condition is None:
            return 0
        return int(
            self._rows(f"SELECT COUNT(*) FROM {{}} WHERE {condition[0]}", relation, condition[1])[0][0]
        )

    def delete(self, relation: Relation, condition: Condition) -> None:
        """Delete the rows that meet the condition."""
        self._client.execute_sql(f"DELETE FROM {relation.qualified} WHERE {condition[0]}", *condition[1])

    def values(self, person: Person) -> dict[str, str]:
        """The values the person's rows can be recognized by, and the first column each stands in."""
        found: dict[str, str] = {}
        for relation in self._keyed:
            columns, condition = relation.value_columns, person.condition(relation.keys)
            if not condition:
                continue
            names = ", ".join(relation.columns[column] for column in columns)
            sql = f"SELECT DISTINCT {names} FROM {{}} WHERE {condition[0]}"
            for row in self._rows(sql, relation, condition[1]):
                for column, value in zip(columns, row, strict=True):
                    if value:
                        found.setdefault(str(value), column)
        return found

    def held_by_others(self, values: Sequence[str], person: Person) -> set[str]:
        """Those of the values that stand in the rows of other people, alone or within a longer text."""
        left = set(values)
        for relation in self._keyed:
            columns = ", ".join(relation.columns[column] for column in relation.value_columns)
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

    def search(self, relation: Relation, texts: Sequence[str]) -> tuple[int, int]:
        """How many rows a table has, and how many have one of the texts in their text columns."""
        ((rows,),) = self._rows("SELECT COUNT(*) FROM {}", relation)
        if not rows or not relation.columns:
            return rows, 0
        # one text a row, so that each value is looked for once
        row_text = " || ' | ' || ".join(
            f"COALESCE({exp.cast(exp.Var(this=column), 'text').sql(dialect=self._dialect)}, '')"
            for column in relation.columns.values()
        )
        position = exp.StrPosition(this=exp.Var(this="row_text"), substr=exp.Var(this="%s"))
        contains = f"{position.sql(dialect=self._dialect)} > 0"
        found = 0
        for start in range(0, len(texts), MAX_PARAMETERS):
            chunk = texts[start : start + MAX_PARAMETERS]
            condition = " OR ".join([contains] * len(chunk))
            sql = f"SELECT COUNT(*) FROM (SELECT {row_text} AS row_text FROM {{}}) texts WHERE {condition}"
            found += self._rows(sql, relation, chunk)[0][0]
        return rows, found

    def _rows(self, sql: str, relation: Relation, parameters: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        with self._client.execute_query(sql.replace("{}", relation.qualified), *parameters) as cursor:
            return [tuple(row) for row in cursor.fetchall()]

    def _listed(self) -> Iterator[Relation]:
        """Every base table with its columns; those of other schemas only where they are in the same file."""
        client = self._client
        own = client.make_qualified_table_name_path(None, quote=False)[-1]
        with client.with_staging_dataset():
            staging = client.make_qualified_table_name_path(None, quote=False)[-1]
        tables: dict[tuple[str, str, str], dict[str, str]] = {}
        for row in query_rows(client, self._catalog_query()):
            *path, column, type_ = (str(value) for value in row.values())
            tables.setdefault((path[0], path[1], path[2]), {})[column] = type_
        for (catalog, schema, table), types in sorted(tables.items()):
            kind = _schema_kind(schema, own, staging)
            if kind is SchemaKind.OTHER and not self._is_duckdb:
                continue
            qualified = client.make_qualified_table_name_path(
                table,
                casefold=False,
                dataset_name=schema,
                # a schema of any name may be called like the file
                catalog=catalog if self._is_duckdb else None,
            )
            columns, keys = self._columns(types)
            keys = {} if kind is SchemaKind.OTHER else keys
            yield Relation(schema, table, kind, ".".join(qualified), columns, keys)

    def _catalog_query(self) -> str:
        qualify = self._client._qualify_info_schema_table_name  # noqa: SLF001 - BigQuery and others have their own
        here = " AND t.table_catalog = current_database()" if self._is_duckdb else ""
        return (
            "SELECT c.table_catalog, c.table_schema, c.table_name, c.column_name, c.data_type"
            f" FROM {qualify('COLUMNS')} c JOIN {qualify('TABLES')} t"
            " ON t.table_catalog = c.table_catalog AND t.table_schema = c.table_schema"
            f" AND t.table_name = c.table_name WHERE t.table_type = 'BASE TABLE'{here}"
        )

    def _columns(self, types: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """The columns that can be read as text, and the key columns, of a table: types by column."""
        escape = self._client.capabilities.escape_identifier
        names = {column.lower(): str(escape(column)) for column in types}
        kinds = {column.lower(): type_ for column, type_ in types.items()}
        reads_all = self._dialect in READS_ALL_AS_TEXT
        columns = {key: name for key, name in names.items() if reads_all or TEXT.match(kinds[key])}
        return columns, {key: names[key] for key in KEYS if key in names and PLAIN_TEXT.match(kinds[key])}


def _schema_kind(schema: str, own: str, staging: str) -> SchemaKind:
    if schema == own:
        return SchemaKind.DATASET
    # that of another writer ends in a name of its own
    is_anothers = re.fullmatch(re.escape(own) + "_staging(?:_[0-9a-f]{8})?", schema, re.IGNORECASE)
    return SchemaKind.STAGING if schema == staging or is_anothers else SchemaKind.OTHER
