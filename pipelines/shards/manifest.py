"""The manifest of a run: which output of each shard was loaded, and what polling the shard took.

Written before the first row is loaded, while nobody else loads the run. A load that runs again takes the same
outputs, whatever has been delivered since, and knows which shards have been delivered.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import orjson

from .exchange_directory import ExchangeDirectory
from .shard_output import ShardOutput, ShardSummary

NAME = "manifest.json"


@dataclass(frozen=True)
class ManifestEntry:
    """The output of a shard that counts, by its name, and its summary."""

    name: str
    summary: ShardSummary


Manifest = dict[int, ManifestEntry]


def read_manifest(exchange: ExchangeDirectory, run_id: str) -> Manifest:
    """That of a run, by shard; empty where nothing was loaded yet."""
    try:
        with exchange.open(run_id, NAME) as file:
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
    exchange.write(run_id, lambda: NAME, lambda file: file.write(orjson.dumps(entries)))


def choose(outputs: Iterable[ShardOutput], manifest: Manifest) -> list[ShardOutput]:
    """Of each shard the output that an earlier load took, if it is there, else the one finished first."""
    taken = {entry.name for entry in manifest.values()}
    chosen: dict[int, ShardOutput] = {}
    for each in sorted(outputs, key=lambda each: (each.name not in taken, each.name)):
        chosen.setdefault(each.shard, each)
    return [chosen[shard] for shard in sorted(chosen)]
