"""A shard output: the polls of one shard of one run in a Parquet file, whole or not there at all.

One row a poll, in the order of `polled_at`. What an ok answer contains is kept as it was read, after
`personal_data` was applied, so the file holds what the tables will hold, and no token.

A shard may be polled twice, when a worker is taken for dead and is not. Each attempt has a file of its own,
and the one finished first counts: its name says when that was. Which outputs count is in the manifest of the
run, written before the first row is loaded: a load that runs again takes the same ones, whatever has been
delivered since, and knows which shards have been delivered.
"""

import heapq
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import orjson
import pyarrow as pa
from pyarrow import parquet

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import Calendar, Outcome, Payload, Poll, Profile, Record, Response

from .exchange_directory import ExchangeDirectory
from .saved_plan import METADATA

NAME = re.compile(r"shard-(\d{4})\.(\d{8}T\d{12})-[0-9a-f]{8}\.parquet")
MANIFEST = "manifest.json"
# The loader has so many polls of every shard in memory at once.
ROW_GROUP_POLLS = 250

# by the first two `erase` finds a person
SCHEMA = pa.schema([("token_key", pa.string()), ("account_id", pa.string()), ("poll", pa.large_binary())])

# (token_key, endpoint) → outcome
Outcomes = Mapping[tuple[str, str], str]


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


@dataclass(frozen=True, slots=True)
class ShardOutput:
    """One of the outputs of a run in the exchange directory, by its name."""

    exchange: ExchangeDirectory
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
            ConfigurationError: it cannot be read.
        """
        with self.exchange.open(self.run_id, self.name) as opened:
            try:
                metadata = parquet.read_metadata(opened).metadata
            except pa.ArrowInvalid:
                raise ConfigurationError(
                    f"{self.name} of run {self.run_id} in {self.exchange.root} is damaged; remove it and poll"
                    " its shard again"
                ) from None
        return ShardSummary(**orjson.loads(metadata[METADATA]))

    def remove(self) -> None:
        """Remove it: what it says is in the warehouse."""
        self.exchange.remove(self.run_id, self.name)


def outputs_of(exchange: ExchangeDirectory, run_id: str) -> list[ShardOutput]:
    """The outputs of a run; those of one shard in the order in which they were finished."""
    return [ShardOutput(exchange, run_id, name) for name in exchange.names(run_id) if NAME.fullmatch(name)]


def new_name(shard: int, finished_at: datetime) -> str:
    """A name for an output, which nobody else gives; those of one shard sort by when they were finished."""
    return f"shard-{shard:04}.{finished_at.astimezone(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.parquet"


def write_output(
    file: IO[bytes], batches: Iterable[Iterable[Poll]], summarize: Callable[[], ShardSummary]
) -> None:
    """Write polls batch by batch, and what they took, which is asked for after the last one."""
    # closed when broken off as well: left to itself, it would write when the file is closed
    with parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for polls in batches:
            table = pa.Table.from_pylist([_row(poll) for poll in polls], SCHEMA)
            writer.write_table(table, row_group_size=ROW_GROUP_POLLS)
        writer.add_key_value_metadata({METADATA: orjson.dumps(asdict(summarize()))})


def read_polls(path: Path) -> Iterator[Poll]:
    """The polls of an output, in the order of `polled_at`."""
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP_POLLS, columns=["poll"]):
            yield from map(_poll, batch.column(0).to_pylist())


@dataclass(frozen=True)
class ManifestEntry:
    """The output of a shard that counts, by its name, and its summary."""

    name: str
    summary: ShardSummary


Manifest = dict[int, ManifestEntry]


def read_manifest(exchange: ExchangeDirectory, run_id: str) -> Manifest:
    """That of a run, by shard; empty where nothing was loaded yet."""
    try:
        with exchange.open(run_id, MANIFEST) as file:
            entries = orjson.loads(file.read())
    except FileNotFoundError:
        return {}
    return {
        int(shard): ManifestEntry(entry["name"], ShardSummary(**entry["summary"]))
        for shard, entry in entries.items()
    }


def write_manifest(exchange: ExchangeDirectory, run_id: str, manifest: Manifest) -> None:
    """Note durably what is about to be loaded."""
    entries = {str(shard): asdict(entry) for shard, entry in manifest.items()}
    exchange.write(run_id, lambda: MANIFEST, lambda file: file.write(orjson.dumps(entries)))


def choose(outputs: Iterable[ShardOutput], manifest: Manifest) -> list[ShardOutput]:
    """Of each shard the output that an earlier load took, if it is there, else the one finished first."""
    taken = {entry.name for entry in manifest.values()}
    chosen: dict[int, ShardOutput] = {}
    for each in sorted(outputs, key=lambda each: (each.name not in taken, each.name)):
        chosen.setdefault(each.shard, each)
    return [chosen[shard] for shard in sorted(chosen)]


@contextmanager
def merged_polls(outputs: Iterable[ShardOutput], loaded: Outcomes) -> Iterator[Iterator[Poll]]:
    """The polls of these outputs in the order of their answers, but for those that are loaded already."""
    with TemporaryDirectory(prefix="cronofy-outputs-") as folder:
        # all are read at once, and a remote one would keep megabytes ready
        paths = [each.exchange.fetch(each.run_id, each.name, Path(folder)) for each in outputs]
        merged = heapq.merge(*map(read_polls, paths), key=lambda poll: poll.response.polled_at)
        yield (
            poll
            for poll in merged
            if loaded.get((poll.token_key, poll.endpoint), Outcome.SKIPPED) == Outcome.SKIPPED
        )


class MergedReader:
    """Polls, batch by batch; what change capture takes instead of a stream under way.

    Attributes:
        taken: token_key and endpoint of the polls that were taken so far.
    """

    def __init__(self, polls: Iterator[Poll]) -> None:
        self._polls = polls
        self.taken: set[tuple[str, str]] = set()

    def take(self) -> list[Poll] | None:
        """The next batch; None when there is none."""
        batch = list(islice(self._polls, ROW_GROUP_POLLS))
        self.taken.update((poll.token_key, poll.endpoint) for poll in batch)
        return batch or None


def _row(poll: Poll) -> dict[str, Any]:
    # the raw body is left out: what is kept of it is in the payload
    content = orjson.dumps(poll, default=lambda _: None)
    return {"token_key": poll.token_key, "account_id": poll.account_id, "poll": content}


def _poll(content: bytes) -> Poll:
    poll = orjson.loads(content)
    response = poll["response"] | {"body": b""}
    response["outcome"] = Outcome(response["outcome"])
    for name in ("requested_at", "polled_at"):
        response[name] = datetime.fromisoformat(response[name])
    poll["response"] = Response(**response)
    poll["payload"] = poll["payload"] and _payload(**poll["payload"])
    poll["fallback_tokens"] = tuple(poll["fallback_tokens"])
    return Poll(**poll)


def _payload(account_id: str | None, record: Any, samples: dict[str, Any]) -> Payload:
    profiles = {kind: [_profile(**each) for each in listed] for kind, listed in samples.items()}
    return Payload(account_id, record and Record(**record), profiles)


def _profile(record: Any, calendars: Any, **known: Any) -> Profile:
    listed = None if calendars is None else [_calendar(**each) for each in calendars]
    return Profile(**known, record=Record(**record), calendars=listed)


def _calendar(record: Any, **known: Any) -> Calendar:
    return Calendar(**known, record=Record(**record))
