"""Support: whether the rows that a digest speaks for are in the warehouse. Pure: makes the SQL that asks.

A table may be dropped, emptied or newly selected, and the package that carried its rows may never have
arrived. Then an unchanged answer has to be read again. A digest says how many rows it speaks for
(`digests.py`); each table's rows are counted in one pass, which costs as much as there are tokens.
"""

from collections.abc import Collection, Iterator

from ..tables import ACCOUNT, CALENDARS, PROFILE_CHANGES, PROFILES, USERINFO
from .digests import SPEAKS_FOR, held_text

_STATE_COLUMNS = ("calendar", "calendar_down", "conferencing", "conferencing_down")
# by profile type: all that are listed, and of these the disconnected ones
_STATES = ", ".join(
    f"SUM(CASE WHEN profile_type = '{kind}' THEN 1 ELSE 0 END) AS {kind},"
    f" SUM(CASE WHEN profile_type = '{kind}' AND state = 'disconnected' THEN 1 ELSE 0 END) AS {kind}_down"
    for kind in ("calendar", "conferencing")
)
_NEWEST_CHANGES = """
    SELECT account_id, profile_type, state, ROW_NUMBER() OVER (
        PARTITION BY account_id, profile_type, profile_id
        ORDER BY observed_at DESC, CASE state WHEN 'disconnected' THEN 0 WHEN 'connected' THEN 1 ELSE 2 END
    ) AS newness
    FROM {profile_changes}
"""
# the rows of each table that are counted, one row per token or account
_COUNTS = {
    USERINFO.name: "SELECT token_key, COUNT(*) AS n FROM {userinfo} GROUP BY token_key",
    ACCOUNT.name: "SELECT token_key, COUNT(*) AS n FROM {account} GROUP BY token_key",
    PROFILES.name: (
        f"SELECT token_key, {_STATES} FROM {{profiles}} WHERE state <> 'removed' GROUP BY token_key"  # noqa: S608 - our own names
    ),
    CALENDARS.name: (
        "SELECT token_key, COUNT(*) AS n FROM {calendars} WHERE removed_at IS NULL GROUP BY token_key"
    ),
    PROFILE_CHANGES.name: (
        f"SELECT account_id, {_STATES} FROM ({_NEWEST_CHANGES}) ranked"  # noqa: S608 - our own names
        " WHERE newness = 1 AND state <> 'removed' GROUP BY account_id"
    ),
}
COUNTED = tuple(_COUNTS)


def unsupported_queries(wanted: Collection[str], missing: Collection[str]) -> Iterator[str]:
    """SQL that lists the tokens whose digests speak for rows that are not there: a query for each table.

    One query for all would hold the counts of all tables at once.

    Args:
        wanted: the tables that have to hold what answers say.
        missing: those of them that the warehouse does not have at all.

    Yields:
        DuckDB's dialect; `{table}` stands for `token_status`, every other table for itself in braces.
    """
    if missing:
        any_digest = ", ".join(f"{endpoint}_digest" for endpoint in SPEAKS_FOR)
        yield f"SELECT token_key FROM {{table}} WHERE COALESCE({any_digest}) IS NOT NULL"  # noqa: S608 - our own names
        return
    for name in (name for name in COUNTED if name in wanted):
        key, pattern = _key(name), _pattern(name)
        digests = [f"{endpoint}_digest" for endpoint, names in SPEAKS_FOR.items() if name in names]
        conditions = " OR ".join(f"s.{digest} NOT LIKE {pattern}" for digest in digests)
        yield (
            f"SELECT s.token_key FROM {{table}} s LEFT JOIN ({_COUNTS[name]}) {name}_rows"  # noqa: S608 - our own names
            f" ON s.{key} = {name}_rows.{key} WHERE {conditions}"
        )


def _key(name: str) -> str:
    return "account_id" if name == PROFILE_CHANGES.name else "token_key"


def _pattern(name: str) -> str:
    """SQL for a pattern that a digest fits where it names the counts that the table has."""
    columns = _STATE_COLUMNS if name in (PROFILES.name, PROFILE_CHANGES.name) else ("n",)
    counts = [f"' || {_text(f'{name}_rows.{column}')} || '" for column in columns]
    return f"'%:{held_text(name, counts)}:%'"


def _text(count: str) -> str:
    return f"CAST(CAST(COALESCE({count}, 0) AS BIGINT) AS VARCHAR)"
