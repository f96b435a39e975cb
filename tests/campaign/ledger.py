"""The ledger: what the tables must say, from what the server truly answered.

What a package of polls showed is in the warehouse after the next load if dlt had finished writing it when
the kill came, though its polls may be missing: they are written after it. So exactly so many packages are
expected of each killed load. Where the working directory was lost while some waited in it, each table may
have got as far as it did, but not less far than the polls.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from tests.acceptance.place import Row
from tests.acceptance.world import ATTRIBUTES, Record

from .stage import CONTENT_TABLES, Attempt

Tables = Mapping[str, list[Row]]
Content = dict[Any, Any]


@dataclass
class Ledger:
    """The server's record as far as each table got it."""

    records: dict[str, Record] = field(default_factory=lambda: dict.fromkeys(CONTENT_TABLES, Record()))

    def add(self, killed: Sequence[Attempt], recovery: Attempt, tables: Tables) -> list[str]:
        """Take in a round; says what in the tables nothing explains.

        Args:
            killed: the killed loads, with what of them was sealed and what arrived.
            recovery: the load after them.
            tables: the rows of the content tables.
        """
        found = {table: content_of(table, tables[table]) for table in CONTENT_TABLES}
        wrong = []
        for table in CONTENT_TABLES:
            self.records[table], lines = _explained(
                table, self.records[table], found[table], killed, recovery
            )
            wrong += lines
        return wrong


def _explained(
    table: str, base: Record, found: Content, killed: Sequence[Attempt], recovery: Attempt
) -> tuple[Record, list[str]]:
    """The record that comes closest to what is found in the table, and how they differ."""
    best: tuple[Record, list[str]] | None = None
    for chosen in _choices(killed):
        record = _continued(base, chosen, recovery)
        wrong = _differences(table, found, expected_of(table, record))
        if best is None or len(wrong) < len(best[1]):
            best = record, wrong
        if not wrong:
            break
    assert best is not None
    return best


def _choices(killed: Sequence[Attempt]) -> Iterator[list[tuple[Attempt, int]]]:
    """Every number of packages that each killed load may have got through: mostly one."""
    for counts in product(*(_loaded_packages(attempt) for attempt in killed)):
        yield list(zip(killed, counts, strict=True))


def _loaded_packages(attempt: Attempt) -> Sequence[int]:
    """How many packages of a killed load have their content in a table."""
    # polls are loaded after what they showed
    most = max(attempt.arrived, attempt.sealed)
    return range(attempt.arrived if attempt.lost else most, most + 1)


def _continued(base: Record, chosen: Sequence[tuple[Attempt, int]], recovery: Attempt) -> Record:
    record = Record(
        changes=defaultdict(list, {key: list(changes) for key, changes in base.changes.items()}),
        profiles=dict(base.profiles),
        calendars=dict(base.calendars),
        userinfo=dict(base.userinfo),
        userinfo_runs=dict(base.userinfo_runs),
        accounts=dict(base.accounts),
        _last=dict(base._last),
    )
    for attempt, count in chosen:
        record.add_run(0, attempt.answers(count))
    record.add_run(0, recovery.log)
    record.polls.clear()
    return record


def content_of(table: str, rows: Sequence[Row]) -> Content:
    """The rows of a table as the record puts them."""
    if table == "userinfo":
        return {
            row["token_key"]: tuple(row[name] for name in ("account_id", "type", "email", "name", "scope"))
            for row in rows
        }
    if table == "account":
        return {row["token_key"]: (row["account_id"], row["email"]) for row in rows}
    if table == "profiles":
        return {
            (row["token_key"], row["profile_type"], row["profile_id"]): (
                row["account_id"],
                row["state"],
                _attributes(row),
            )
            for row in rows
        }
    if table == "calendars":
        return {
            (row["token_key"], row["calendar_id"]): (
                row["profile_id"],
                row["calendar_name"],
                row["permission_level"],
                row["removed_at"] is None,
            )
            for row in rows
        }
    histories: dict[Any, list[Any]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["observed_at"]):
        histories[row["account_id"], row["profile_type"], row["profile_id"]].append(
            (row["kind"], row["state"], row["previous_state"], _attributes(row))
        )
    return histories


def expected_of(table: str, record: Record) -> Content:
    """What `content_of` must be."""
    if table == "userinfo":
        return {
            token: (
                document["sub"],
                document["cronofy.type"],
                document.get("email"),
                document.get("name"),
                document["cronofy.data"]["authorization"]["scope"],
            )
            for token, document in record.userinfo.items()
        }
    if table == "account":
        return {token: (each["account_id"], each["email"]) for token, each in record.accounts.items()}
    if table == "profiles":
        return {key: known[:3] for key, known in record.profiles.items()}
    if table == "calendars":
        return dict(record.calendars)
    return {
        key: [(each.kind, each.state, each.previous_state, each.attributes) for each in changes]
        for key, changes in record.changes.items()
    }


def _attributes(row: Row) -> tuple[Any, ...] | None:
    return None if row["state"] == "removed" else tuple(row[name] for name in ATTRIBUTES)


def _differences(table: str, found: Content, expected: Content) -> list[str]:
    keys = {key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)}
    return [
        f"{table} {key}: {_tail(found.get(key))} instead of {_tail(expected.get(key))}"
        for key in sorted(keys, key=repr)
    ]


def _tail(value: Any) -> Any:
    return value[-3:] if isinstance(value, list) else value
