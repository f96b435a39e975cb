"""Manifest: which set of each shard of a run the loader took, and whether all of it is in the warehouse.

Written before the first row is loaded and again when the last one is, while nobody else loads the run. A load
that runs again takes the same sets, whatever has been delivered since; a shard that is through stays through.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

import orjson

from dlt_cronofy.source.errors import ConfigurationError

from .exchange_directory import ExchangeDirectory
from .saved_plan import VERSION, check_version
from .shard_output import ShardOutput, ShardSummary

NAME = "manifest.json"


@dataclass(frozen=True)
class ManifestEntry:
    """What became of one shard.

    Attributes:
        set_name: the set that counts.
        summary: what polling the shard took.
        is_loaded: whether all of it is in the warehouse.
    """

    set_name: str
    summary: ShardSummary
    is_loaded: bool = False


@dataclass(frozen=True)
class Manifest:
    """The manifest of a run, by shard."""

    handoff: ExchangeDirectory
    run_id: str
    by_shard: dict[int, ManifestEntry] = field(default_factory=dict)

    @classmethod
    def read(cls, handoff: ExchangeDirectory, run_id: str) -> "Manifest":
        """Those of a run; none where nothing was loaded yet.

        Raises:
            ConfigurationError: they are of another version.
        """
        try:
            with handoff.open(run_id, NAME) as file:
                said = orjson.loads(file.read())
        except FileNotFoundError:
            return cls(handoff, run_id)
        check_version(said, f"{NAME} of run {run_id}")
        return cls(
            handoff,
            run_id,
            {
                int(shard): ManifestEntry(
                    each["set_name"], ShardSummary(**each["summary"]), each["is_loaded"]
                )
                for shard, each in said["shards"].items()
            },
        )

    @property
    def loaded(self) -> set[int]:
        """The shards that are through."""
        return {shard for shard, entry in self.by_shard.items() if entry.is_loaded}

    def choose(self, sets: Iterable[ShardOutput]) -> list[ShardOutput]:
        """The one set of each shard that counts and is not loaded: taken before, else finished first."""
        waiting = [each for each in sets if each.shard not in self.loaded]
        taken = {entry.set_name for entry in self.by_shard.values()}
        chosen = {each.shard: each for each in waiting if each.name in taken}
        for each in waiting:
            chosen.setdefault(each.shard, each)
        return list(chosen.values())

    def take(self, chosen: Sequence[ShardOutput]) -> "Manifest":
        """Note durably that these are about to be loaded."""
        taken = {each.shard: ManifestEntry(each.name, each.summary()) for each in chosen}
        return self._written(self.by_shard | taken)

    def confirm(self) -> "Manifest":
        """Note durably that all that was taken is in the warehouse."""
        return self._written(
            {shard: replace(entry, is_loaded=True) for shard, entry in self.by_shard.items()}
        )

    def _written(self, by_shard: dict[int, ManifestEntry]) -> "Manifest":
        if by_shard == self.by_shard:
            return self
        said = {"version": VERSION, "shards": {str(shard): asdict(each) for shard, each in by_shard.items()}}
        self.handoff.write(self.run_id, lambda: NAME, lambda file: file.write(orjson.dumps(said)))
        return Manifest(self.handoff, self.run_id, by_shard)


def readable(sets: Iterable[ShardOutput]) -> tuple[list[ShardOutput], list[str]]:
    """The sets that can be read, and what is wrong with the others."""
    good: list[ShardOutput] = []
    problems: list[str] = []
    for each in sets:
        try:
            each.summary()
        except ConfigurationError as error:
            problems.append(str(error))
        else:
            good.append(each)
    return good, problems
