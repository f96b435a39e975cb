"""A sealed set: the polls of one shard of one run in a Parquet file, whole or not there at all.

One row a poll, in the order of `polled_at`. What an ok answer said is kept as it was read, after
`personal_data` was applied, so the file holds what the tables will hold, and no token.

A shard may be polled twice, when a worker is taken for dead and is not. Each attempt has a file of its own,
and the one sealed first counts: its name says when that was.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Self

import orjson
import pyarrow as pa
from pyarrow import parquet

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import Calendar, Outcome, Payload, Poll, Profile, Record, Response
from dlt_cronofy.source.tables import TIME

from .exchange_directory import Handoff
from .saved_plan import METADATA, VERSION, check_version

NAME = re.compile(r"shard-(\d{4})\.(\d{8}T\d{12})-[0-9a-f]{8}\.parquet")
# The loader has so many polls of every shard in memory at once.
ROW_GROUP_POLLS = 250

SCHEMA = pa.schema(
    [
        ("token_key", pa.string()),
        ("data_center", pa.string()),
        ("endpoint", pa.string()),
        ("account_id", pa.string()),
        ("fallback_tokens", pa.list_(pa.string())),
        ("digest", pa.string()),
        ("outcome", pa.string()),
        ("requested_at", TIME),
        ("polled_at", TIME),
        ("latency_ms", pa.int64()),
        ("http_status", pa.int64()),
        ("attempts", pa.int64()),
        ("refreshes", pa.int64()),
        ("message", pa.string()),
        ("body_bytes", pa.int64()),
        ("payload", pa.large_binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What polling a shard took.

    Attributes:
        requests: sent to Cronofy.
        stopped_by: what ended it early.
        lost_refresh_tokens: keys of tokens whose refresh could not be brought to its end.
    """

    requests: int = 0
    stopped_by: str | None = None
    lost_refresh_tokens: Sequence[str] = ()


class SetWriter:
    """Writes a set into an open file: polls batch by batch, and in the end what they took."""

    def __init__(self, file: IO[bytes]) -> None:
        self._writer = parquet.ParquetWriter(file, SCHEMA, compression="zstd")

    def add(self, polls: Sequence[Poll]) -> None:
        """Add a batch."""
        table = pa.Table.from_pylist([_poll_row(poll) for poll in polls], SCHEMA)
        self._writer.write_table(table, row_group_size=ROW_GROUP_POLLS)

    def add_summary(self, summary: ShardSummary) -> None:
        """Say what all of them took."""
        about = {"version": VERSION, **asdict(summary)}
        self._writer.add_key_value_metadata({METADATA: orjson.dumps(about)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # of what is broken off as well: left to itself, it would write when the file is closed
        self._writer.close()


@dataclass(frozen=True, slots=True)
class SealedSet:
    """One of a run's sets in the handoff, by its name."""

    handoff: Handoff
    run_id: str
    name: str

    @property
    def shard(self) -> int:
        """Whose it is."""
        found = NAME.fullmatch(self.name)
        assert found is not None
        return int(found[1])

    def summary(self) -> ShardSummary:
        """What it took.

        Raises:
            ConfigurationError: it cannot be read, or is of another version.
        """
        with self._file() as file:
            about = orjson.loads((file.metadata.metadata or {}).get(METADATA, b"{}"))
        check_version(about, self._label)
        about.pop("version")
        return ShardSummary(**about)

    def polls(self) -> Iterator[Poll]:
        """Its polls, in the order of `polled_at`."""
        with self._file() as file:
            for batch in file.iter_batches(ROW_GROUP_POLLS):
                for row in batch.to_pylist():
                    yield _poll(row)

    def remove(self) -> None:
        """Remove it: what it says is in the warehouse."""
        self.handoff.remove(self.run_id, self.name)

    @property
    def _label(self) -> str:
        return f"{self.name} of run {self.run_id}"

    @contextmanager
    def _file(self) -> Iterator[Any]:
        with self.handoff.open(self.run_id, self.name) as opened:
            try:
                file = parquet.ParquetFile(opened)
            except pa.ArrowInvalid:
                raise ConfigurationError(
                    f"{self._label} in {self.handoff.root} is damaged; remove it and poll its shard again"
                ) from None
            with file:
                yield file


def new_name(shard: int, sealed_at: datetime) -> str:
    """A name for a set, which nobody else gives; names of one shard sort by when they were sealed."""
    return f"shard-{shard:04}.{sealed_at.astimezone(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.parquet"


def sets_of(handoff: Handoff, run_id: str) -> list[SealedSet]:
    """The sets of a run; those of one shard in the order in which they were sealed."""
    return [SealedSet(handoff, run_id, name) for name in handoff.names(run_id) if NAME.fullmatch(name)]


@contextmanager
def at_hand(sets: Sequence[SealedSet]) -> Iterator[Sequence[SealedSet]]:
    """The same sets on this machine's disk: all are read at once, and a remote one keeps megabytes ready."""
    if all(each.handoff.is_local for each in sets):
        yield sets
        return
    with TemporaryDirectory(prefix="cronofy-sealed-") as folder:
        here = Handoff.at(folder)
        for each in sets:
            each.handoff.fetch(each.run_id, each.name, Path(folder) / each.run_id / each.name)
        yield [replace(each, handoff=here) for each in sets]


def _poll_row(poll: Poll) -> dict[str, Any]:
    response = poll.response
    return {
        "token_key": poll.token_key,
        "data_center": poll.data_center,
        "endpoint": poll.endpoint,
        "account_id": poll.account_id,
        "fallback_tokens": list(poll.fallback_tokens),
        "digest": poll.digest,
        "outcome": response.outcome.value,
        "requested_at": response.requested_at,
        "polled_at": response.polled_at,
        "latency_ms": response.latency_ms,
        "http_status": response.http_status,
        "attempts": response.attempts,
        "refreshes": response.refreshes,
        "message": response.message,
        "body_bytes": poll.body_bytes,
        "payload": None if poll.payload is None else orjson.dumps(poll.payload),
    }


def _poll(row: dict[str, Any]) -> Poll:
    response = Response(
        Outcome(row["outcome"]),
        row["requested_at"],
        row["polled_at"],
        row["latency_ms"],
        row["http_status"],
        message=row["message"],
        attempts=row["attempts"],
        refreshes=row["refreshes"],
    )
    return Poll(
        row["token_key"],
        row["data_center"],
        row["endpoint"],
        response,
        row["account_id"],
        None if row["payload"] is None else _payload(orjson.loads(row["payload"])),
        row["digest"],
        row["body_bytes"],
        tuple(row["fallback_tokens"]),
    )


def _payload(said: dict[str, Any]) -> Payload:
    return Payload(
        said["account_id"],
        said["record"] and Record(**said["record"]),
        {kind: [_profile(each) for each in profiles] for kind, profiles in said["samples"].items()},
    )


def _profile(said: dict[str, Any]) -> Profile:
    calendars = said["calendars"]
    return Profile(
        said["profile_type"],
        said["profile_id"],
        said["connected"],
        Record(**said["record"]),
        None if calendars is None else [_calendar(each) for each in calendars],
    )


def _calendar(said: dict[str, Any]) -> Calendar:
    return Calendar(said["calendar_id"], said["profile_id"], Record(**said["record"]))
