"""Refusals: what a warehouse does not let a load do until somebody with the right to changes something there.

Nothing is wrong with the package then. It stays, and is loaded once that is done.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import dlt
import duckdb

from dlt_cronofy.source.tables import RUNS, TABLES, TOKEN_STATUS, Row
from dlt_cronofy.views import VIEWS
from dlt_cronofy.warehouse.dataset import has_current_views, query_rows, sql_client
from dlt_cronofy.warehouse.failures import is_of_a_driver, sqlstate

# states and what repairs them; names in braces are those of the error
REPAIRS: Sequence[tuple[str, str]] = (
    ("23502", "ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL"),
    ("23505", "ALTER TABLE {table} DROP CONSTRAINT {constraint}, or DROP INDEX {schema}.{constraint}"),
    ("23|44", "ALTER TABLE {table} DROP CONSTRAINT {constraint}"),
    (
        "2200[13]",
        "ALTER TABLE {table} ALTER COLUMN … TYPE text, or bigint, for the column that is too narrow",
    ),
    ("P0|09|27|3[89]", "ALTER TABLE {table} DISABLE TRIGGER USER, or correct what the trigger demands"),
    (
        "25006",
        "ALTER ROLE {role} SET default_transaction_read_only = off, or name the server that is written",
    ),
    ("53300", "ALTER ROLE {role} CONNECTION LIMIT …, or raise max_connections"),
    ("53400", "ALTER ROLE {role} SET temp_file_limit = …"),
    ("57014", "ALTER ROLE {role} SET statement_timeout = 0, if nobody cancelled it"),
    ("55P03|55006", "ALTER ROLE {role} SET lock_timeout = 0, or end what holds the lock"),
    ("25P03|57P05", "ALTER ROLE {role} SET idle_in_transaction_session_timeout = 0"),
)
TOO_MANY_CONNECTIONS = re.compile(r"too many (connections|clients)|connection slots are reserved")
# DuckDB quotes the row
QUOTED_KEY = re.compile(r'(Duplicate key )".*?"')

# what each part of a statement asks for
STEP = re.compile(
    r"\b(?P<verb>INSERT INTO|DELETE FROM|UPDATE|TRUNCATE TABLE|COPY|ALTER TABLE"
    r"|CREATE TABLE(?: IF NOT EXISTS)?|CREATE OR REPLACE VIEW|DROP VIEW IF EXISTS|FROM|JOIN)\s+"
    r'(?P<schema>"[^"]+"|\w+)\.(?P<name>"[^"]+"|\w+)',
    re.IGNORECASE,
)
PRIVILEGES = {
    "MERGE INTO": ("SELECT", "INSERT", "DELETE"),
    "APPEND TO": ("SELECT", "INSERT"),
    "INSERT INTO": ("INSERT",),
    "COPY": ("INSERT",),
    "DELETE FROM": ("SELECT", "DELETE"),
    "UPDATE": ("SELECT", "UPDATE"),
    "TRUNCATE TABLE": ("TRUNCATE",),
    "FROM": ("SELECT",),
    "JOIN": ("SELECT",),
}
RIGHTS = """
    SELECT quote_ident(current_user) AS role, quote_ident(n.nspname) AS schema,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation,
           CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind,
           has_schema_privilege(n.oid, 'USAGE') AS "USAGE", has_schema_privilege(n.oid, 'CREATE') AS "CREATE",
           pg_has_role(c.relowner, 'USAGE') AS owned, c.relrowsecurity AS filtered,
           has_table_privilege(c.oid, 'SELECT') AS "SELECT", has_table_privilege(c.oid, 'INSERT') AS "INSERT",
           has_table_privilege(c.oid, 'UPDATE') AS "UPDATE", has_table_privilege(c.oid, 'DELETE') AS "DELETE",
           has_table_privilege(c.oid, 'TRUNCATE') AS "TRUNCATE"
    FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = %s
    WHERE n.nspname = %s
"""
SESSION = """
    SELECT quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
           has_database_privilege(current_database(), 'CREATE') AS "CREATE",
           current_setting('transaction_read_only') = 'on' AS read_only
"""
# dlt's own, to which every load adds rows
DLT_TABLES = ("_dlt_loads", "_dlt_pipeline_state", "_dlt_version")

Ask = Callable[..., list[Row]]


def explain_refusal(cause: BaseException, message: str, pipeline: dlt.Pipeline | None) -> str | None:
    """What is refused, and the statement that repairs it; None where it is no refusal.

    The message is the first line of what the driver raised. PostgreSQL is asked which right is missing.
    """
    if isinstance(cause, duckdb.ConstraintException):
        message = QUOTED_KEY.sub(r"\1", message)
        return f"the warehouse refuses: {message}; drop that constraint or index, and run again"
    state = sqlstate(cause)
    if state is None and is_of_a_driver(cause) and TOO_MANY_CONNECTIONS.search(message):
        state = "53300"
    if state == "42501":
        granted = "; ".join(_missing_rights(cause, pipeline))
        repair = f"run {granted}" if granted else "have that right granted"
    else:
        repairs = (text for states, text in REPAIRS if state is not None and re.match(states, state))
        repair = "".join(f"run {text.format_map(_names(cause, pipeline))}" for text in [*repairs][:1])
    return f"the warehouse refuses: {message}; {repair}; then run again" if repair else None


def _missing_rights(cause: BaseException, pipeline: dlt.Pipeline | None) -> list[str]:
    """Statements that grant what the failed statement lacked; empty where that cannot be found out."""
    statement = _statement(cause)
    if pipeline is None or not statement:
        return []
    try:
        with sql_client(pipeline) as client:
            return list(dict.fromkeys(_grants(statement, partial(query_rows, client))))
    except Exception:  # noqa: BLE001 - another warehouse, or it is away by now: the error itself is reported
        return []


def missing_rights(pipeline: dlt.Pipeline, hold_seconds: float) -> list[str]:
    """Statements that grant what a load would lack on PostgreSQL; of other warehouses nothing is known."""
    with sql_client(pipeline) as client:
        if client.capabilities.sqlglot_dialect != "postgres":
            return []
        return list(dict.fromkeys(_grants_for_a_load(client, pipeline, hold_seconds)))


def _grants_for_a_load(client: Any, pipeline: dlt.Pipeline, hold_seconds: float) -> Iterator[str]:
    ask, schema = partial(query_rows, client), client.dataset_name
    if (session := ask(SESSION)[0])["read_only"]:
        yield f"ALTER ROLE {session['role']} SET default_transaction_read_only = off"
    with client.with_staging_dataset():
        staging = client.dataset_name
    # no relation has that name: the question is whether one can be created
    found = [(each, ask(RIGHTS, "_", each)) for each in (schema, staging)]
    if not all(rights for _, rights in found):
        yield from _grants_of_database(ask)
    for each in found[1][1]:
        yield from _grants_of("CREATE TABLE", each)
    wanted = [(table, "MERGE INTO") for table in TABLES] + [(table, "APPEND TO") for table in DLT_TABLES]
    wanted += [(table.name, "UPDATE") for table in (RUNS, TOKEN_STATUS)]
    if not has_current_views(pipeline, hold_seconds):
        wanted += [(view, "CREATE OR REPLACE VIEW") for view in VIEWS]
    for name, verb in wanted if found[0][1] else ():
        for each in ask(RIGHTS, name, schema):
            yield from _grants_of(verb if each["relation"] else "CREATE TABLE", each)


def _grants_of_database(ask: Ask) -> Iterator[str]:
    here = ask(SESSION)[0]
    if not here["CREATE"]:
        yield f"GRANT CREATE ON DATABASE {here['database']} TO {here['role']}"


def _grants(statement: str, ask: Ask) -> Iterator[str]:
    if statement.lstrip().upper().startswith("CREATE SCHEMA"):
        yield from _grants_of_database(ask)
    for step in STEP.finditer(statement):
        verb = " ".join(step["verb"].upper().split())
        for found in ask(RIGHTS, step["name"].strip('"'), step["schema"].strip('"')):
            yield from _grants_of(verb, found)


def _grants_of(verb: str, found: Row) -> Iterator[str]:
    """What one part of a statement lacks, by the rights on its relation."""
    role, schema, relation = found["role"], found["schema"], found["relation"]
    if not found["USAGE"]:
        yield f"GRANT USAGE ON SCHEMA {schema} TO {role}"
    elif relation is None:
        if verb.startswith("CREATE") and not found["CREATE"]:
            yield f"GRANT CREATE ON SCHEMA {schema} TO {role}"
    elif verb not in PRIVILEGES:
        if not found["owned"]:
            yield f"ALTER {found['kind']} {relation} OWNER TO {role}"
    elif missing := [right for right in PRIVILEGES[verb] if not found[right]]:
        yield f"GRANT {', '.join(missing)} ON {relation} TO {role}"
    elif found["filtered"] and not found["owned"] and verb == "INSERT INTO":
        yield f"ALTER TABLE {relation} DISABLE ROW LEVEL SECURITY, or ALTER ROLE {role} BYPASSRLS"


def _names(cause: BaseException, pipeline: dlt.Pipeline | None) -> dict[str, str]:
    """What the error is about, by what PostgreSQL says and the statement writes; `…` for the rest."""
    diag = getattr(cause, "diag", None)
    named = {
        part: getattr(diag, f"{part}_name", None) for part in ("schema", "table", "column", "constraint")
    }
    written = [
        step for step in STEP.finditer(_statement(cause)) if step["verb"].upper() not in ("FROM", "JOIN")
    ]
    if written and not named["table"]:
        named |= {"schema": written[-1]["schema"].strip('"'), "table": written[-1]["name"].strip('"')}
    names = {part: _quoted(name) for part, name in (named | {"role": _user(pipeline)}).items() if name}
    if "table" in names:
        names["table"] = f"{names.get('schema', '…')}.{names['table']}"
    return defaultdict(lambda: "…", names)


def _statement(cause: BaseException) -> str:
    query: Any = getattr(getattr(cause, "cursor", None), "query", None)
    return query.decode(errors="replace") if isinstance(query, bytes) else ""


def _user(pipeline: dlt.Pipeline | None) -> str | None:
    try:
        return getattr(pipeline.sql_client().credentials, "username", None) if pipeline else None
    except Exception:  # noqa: BLE001 - only a name for a message
        return None


def _quoted(name: str) -> str:
    """An identifier as a statement needs it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
