"""The ledger: what the tables must say, from what the server truly answered.

A killed load may have got any number of its batches into the warehouse. Which ones is not guessed: polls
that arrived say it, and otherwise the tables must be explained by one and the same number for all of them.
Where the working directory was lost too, each table may have got as far as it did.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from tests.acceptance.place import Row
from tests.acceptance.world import ATTRIBUTES, Record

from .stage import Attempt

CONTENT_TABLES = ("userinfo", "account", "profiles", "calendars", "profile_changes")

Tables = Mapping[str, list[Row]]
Content = dict[Any, Any]


@dataclass
class Ledger:
    """The server's record as far as each table got it."""

    records: dict[str, Record] = field(default_factory=lambda: dict.fromkeys(CONTENT_TABLES, Record()))

    def add(self, killed: Sequence[tuple[Attempt, int]], recovery: Attempt, tables: Tables) -> list[str]:
        """Take in a round; says what in the tables nothing explains.

        Args:
            killed: the killed loads, each with the number of batches whose polls arrived.
            recovery: the load after them.
            tables: the rows of the content tables.
        """
        found = {table: content_of(table, tables[table]) for table in CONTENT_TABLES}
        if any(attempt.lost_working_directory for attempt, _ in killed):
            wrong = []
            for table in CONTENT_TABLES:
                wrong += self._explain((table,), found, killed, recovery)
            return wrong
        return self._explain(CONTENT_TABLES, found, killed, recovery)

    def _explain(
        self,
        names: Sequence[str],
        found: Mapping[str, Content],
        killed: Sequence[tuple[Attempt, int]],
        recovery: Attempt,
    ) -> list[str]:
        """Find how many batches of each killed load these tables hold."""
        fewest: tuple[dict[str, Record], list[str]] | None = None
        for chosen in _choices(killed):
            records: dict[int, Record] = {}
            candidates = {}
            for name in names:
                base = self.records[name]
                if id(base) not in records:
                    records[id(base)] = _continued(base, chosen, recovery)
                candidates[name] = records[id(base)]
            wrong = [
                line
                for name in names
                for line in _differences(name, found[name], expected_of(name, candidates[name]))
            ]
            if fewest is None or len(wrong) < len(fewest[1]):
                fewest = candidates, wrong
            if not wrong:
                break
        assert fewest is not None
        self.records |= fewest[0]
        return fewest[1]


def _choices(killed: Sequence[tuple[Attempt, int]]) -> Iterator[list[tuple[Attempt, int]]]:
    """Every number of batches that each killed load may have got through, the likely ones first."""
    ranges = [range(arrived, len(attempt.batches()) + 1) for attempt, arrived in killed]
    for counts in product(*ranges):
        yield [(attempt, count) for (attempt, _), count in zip(killed, counts, strict=True)]


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
        record.add_run(0, [answer for batch in attempt.batches()[:count] for answer in batch])
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
