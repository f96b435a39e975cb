"""`python -m tests.campaign.torn`: kill commands in the middle of their writes to the DuckDB file.

Every command that writes is run once to count its writes to the folder of the DuckDB file (see
`tests/tearing.py`), then once for each of them, or for some that are evenly spread; that one is done by half
before the process is killed. Each time the file must open with plain DuckDB and hold what it held, and the
next command must bring everything to where it would be without a kill.

Exit status: 0 if every position heals, else 1.
"""

import argparse
import gc
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import duckdb
from dlt import Pipeline
from rich.console import Console

from dlt_cronofy.cli.main import cli
from dlt_cronofy.warehouse import duckdb_file
from tests.acceptance.place import Place
from tests.acceptance.server import ScriptedServer
from tests.acceptance.test_killed_loads import Content, assert_keys_are_unique, content, copied
from tests.acceptance.world import World
from tests.tearing import Tearing

SEED, ACCOUNTS = 17, 12
# of some three thousand writes; all of them take hours
MOST = 25
ERASED = "acc_0"
LOAD = ("load", "--every", "0s", "--max-failure-ratio", "1")
ERASE = ("erase", "--account", ERASED, "--yes")


SCENES = (
    "checkpoint",
    "first load",
    "load of changes",
    "load whose log stays",
    "load over a log",
    "load that finishes packages",
    "views",
    "views over a log",
    "erase",
    "erase over a log",
)


@dataclass(frozen=True)
class Scene:
    """Something that writes, and what must be there when it was killed and something came after it."""

    name: str
    start: Place
    act: Callable[[Place], object]
    heal: Callable[[Place], object]
    expected: Content


def serve_worlds(channel: Connection) -> None:
    """Two servers until told to end: the world of yesterday and that of today, which stand still."""
    worlds = [World(seed=SEED, accounts=ACCOUNTS, shared=False) for _ in range(2)]
    for turns, world in enumerate(worlds, start=1):
        for _ in range(turns):
            world.turn()
    first, second = (ScriptedServer(world.answer_steadily) for world in worlds)
    with first, second:
        channel.send((sorted(worlds[0].owners), first.base_url, second.base_url))
        channel.recv()


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process; its exit status, negative where a signal ended it.

    This process itself never opens DuckDB, whose threads a fork would be without.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    try:
        work()
    except SystemExit as error:
        os._exit(int(error.code or 0))
    except BaseException:  # noqa: BLE001 - shown, and the parent counts it
        traceback.print_exc()
        os._exit(99)
    os._exit(0)


def content_of(place: Place) -> Content:
    """What the tables hold, read in a child."""
    file = place.directory / "content"
    assert in_child(lambda: file.write_bytes(pickle.dumps(content(place)))) == 0
    found: Content = pickle.loads(file.read_bytes())
    file.unlink()
    return found


def run_command(place: Place, *command: str, log_stays: bool = False) -> None:
    """A command as in a process of its own."""
    os.chdir(place.directory)
    os.environ |= place.environment(LOAD__WORKERS="1")
    logging.getLogger("dlt_cronofy").setLevel(logging.ERROR)
    # the log of a large file stays for several loads
    small = 0 if log_stays else duckdb_file.SMALL_FILE_BYTES
    copied = 1 if log_stays else duckdb_file.COPIED_PER_LOGGED_BYTE
    # see Tearing
    one_thread = partial(duckdb.connect, config={"threads": 1})
    with (
        patch.object(duckdb_file, "SMALL_FILE_BYTES", small),
        patch.object(duckdb_file, "COPIED_PER_LOGGED_BYTE", copied),
        patch.object(duckdb, "connect", one_thread),
        Path(os.devnull).open("w") as nowhere,
    ):
        sys.stdout = nowhere
        cli(command, prog_name="dlt-cronofy")


def count_writes(tearing: Tearing, scene: Scene, folder: Path) -> int:
    """How many writes the command makes when nothing kills it."""
    place = copied(scene.start, folder)
    readable, writable = os.pipe()

    def count() -> None:
        tearing.begin(0, place.database.parent)
        try:
            scene.act(place)
        finally:
            os.write(writable, str(tearing.seen).encode())

    assert in_child(count) == 0, scene.name
    return int(os.read(readable, 20))


def tear(tearing: Tearing, scene: Scene, nth: int, folder: Path) -> str | None:
    """Kill the command in that write and repeat it; what went wrong, if anything."""
    place = copied(scene.start, folder)

    def killed() -> None:
        tearing.begin(nth, place.database.parent)
        scene.act(place)

    if in_child(killed) != -signal.SIGKILL:
        return "was not killed"
    if in_child(lambda: opens(place, scene.start)):
        return "does not open, or lacks what it held"
    if in_child(lambda: scene.heal(place)):
        return "the next command fails"
    if in_child(lambda: is_as_expected(place, scene)):
        return "differs from a run without a kill"
    return None


def opens(place: Place, before: Place) -> None:
    """Plain DuckDB reads every table, and finds the changes that were there."""
    if not before.database.exists():
        if place.database.exists():
            with closing(duckdb.connect(str(place.database), read_only=True)) as connection:
                connection.execute("SELECT * FROM duckdb_tables()").fetchall()
        return
    held, found = content(before), content(place)
    for table, rows in held.items():
        # an erasure takes some of one account
        assert len(found[table]) + 8 >= len(rows), table
    assert {row["poll_id"] for row in before.rows("polls") if row["account_id"] != ERASED} <= {
        row["poll_id"] for row in place.rows("polls")
    }


def is_as_expected(place: Place, scene: Scene) -> None:
    """The tables are those of a run without a kill, and nothing is left beside the file."""
    assert content(place) == scene.expected
    assert place.differences() == []
    assert_keys_are_unique(place)
    beside = {path.name for path in place.database.parent.iterdir()}
    assert not {name for name in beside if ".checkpoint" in name or name.endswith(".new")}, beside


@dataclass
class Stage:
    """Places at the start and at the end of scenes, made when they are first asked for."""

    folder: Path
    owners: Sequence[str]
    yesterday_url: str
    today_url: str

    @cached_property
    def empty(self) -> Place:
        place = Place(self.folder / "empty", self.yesterday_url, database_name="warehouse/warehouse.duckdb")
        place.database.parent.mkdir(parents=True)
        place.write_tokens(self.owners)
        return place

    @cached_property
    def yesterday(self) -> Place:
        place = self._after(self.empty, "yesterday", lambda place: place.load(), days_ago=2)
        place.base_url = self.today_url
        return place

    @cached_property
    def pending(self) -> Place:
        return self._after(self.yesterday, "pending", leave_pending)

    @cached_property
    def logged(self) -> Place:
        return self._after(self.yesterday, "logged", load_and_keep_log)

    @cached_property
    def today(self) -> Place:
        return self._after(self.yesterday, "today", lambda place: place.load())

    @cached_property
    def in_log(self) -> Content:
        return content_of(self.logged)

    @cached_property
    def at_end(self) -> Content:
        return content_of(self.today)

    @cached_property
    def at_first(self) -> Content:
        return content_of(self._after(self.empty, "first", lambda place: place.load()))

    @cached_property
    def without_erased(self) -> Content:
        return content_of(self._after(self.today, "erased", erase))

    def _after(self, start: Place, name: str, work: Callable[[Place], object], days_ago: int = 0) -> Place:
        place = copied(start, self.folder / name)
        place.clock.offset = timedelta(days=-days_ago)
        in_child(lambda: work(place))
        return place

    def scene(self, name: str) -> Scene:
        """One scene; its places are made by then."""
        return {
            "checkpoint": lambda: Scene(name, self.logged, checkpoint, opened, self.in_log),
            "first load": lambda: Scene(name, self.empty, load, load_rest, self.at_first),
            "load of changes": lambda: Scene(name, self.yesterday, load, load_rest, self.at_end),
            "load whose log stays": lambda: Scene(
                name, self.yesterday, load_and_keep_log, load_rest, self.at_end
            ),
            "load over a log": lambda: Scene(name, self.logged, load, load_rest, self.at_end),
            "load that finishes packages": lambda: Scene(name, self.pending, load, load_rest, self.at_end),
            "views": lambda: Scene(name, self.today, refresh, refresh, self.at_end),
            "views over a log": lambda: Scene(name, self.logged, refresh, refresh, self.in_log),
            "erase": lambda: Scene(name, self.today, erase, erase_again, self.without_erased),
            "erase over a log": lambda: Scene(name, self.logged, erase, erase_again, self.without_erased),
        }[name]()


def checkpoint(place: Place) -> None:
    duckdb_file.checkpoint(place.database)


def load(place: Place) -> None:
    run_command(place, *LOAD)


def load_rest(place: Place) -> None:
    place.load(every=timedelta(hours=1))


def load_and_keep_log(place: Place) -> None:
    run_command(place, *LOAD, log_stays=True)


def refresh(place: Place) -> None:
    run_command(place, "views")


def erase(place: Place) -> None:
    run_command(place, *ERASE)


def opened(place: Place) -> None:
    """Open it for writing, and remove what the kill left."""
    with duckdb_file.writing(place.database), closing(duckdb_file.connect(place.database)) as connection:
        connection.execute("CREATE SCHEMA after_the_kill")
    duckdb_file.tidy(place.database)


def erase_again(place: Place) -> None:
    """Again, which finds nothing where the first one was complete; then nothing of the account is there."""
    status = in_child(lambda: run_command(place, *ERASE))
    assert status in (0, 1), status
    for path in place.directory.rglob("*"):
        assert not path.is_file() or ERASED.encode() not in path.read_bytes(), path


def leave_pending(place: Place) -> None:
    """A load that ends when its packages are extracted."""
    with patch.object(Pipeline, "load", side_effect=SystemExit(0)):
        place.load()


def play(chosen: Mapping[str, int], folder: Path, say: Callable[[str], None]) -> int:
    """Tear so many writes of each chosen scene, or all (0); the number of positions that did not heal."""
    tearing = Tearing()
    # a collection in a child would touch, and so copy, all of this process's memory
    gc.freeze()
    gc.disable()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve_worlds, args=(there,))
    server.start()
    failures = 0
    try:
        stage = Stage(folder, *here.recv())
        for name, most in chosen.items():
            failures += play_scene(tearing, stage.scene(name), most, folder / "trial", say)
    finally:
        here.send(None)
        server.join()
    return failures


def play_scene(tearing: Tearing, scene: Scene, most: int, trial: Path, say: Callable[[str], None]) -> int:
    """Tear its writes, or so many of them; the number of those that did not heal."""
    writes = count_writes(tearing, scene, trial)
    assert writes, f"{scene.name} writes nothing"
    shutil.rmtree(trial)
    positions = range(writes, 0, -max(1, writes // most) if most else -1)
    broken = []
    for nth in positions:
        if wrong := tear(tearing, scene, nth, trial):
            broken.append(f"  write {nth}: {wrong}")
        shutil.rmtree(trial)
    say(f"{scene.name}: {len(positions)} of {writes} writes torn, {len(broken)} not healed")
    for line in broken:
        say(line)
    return len(broken)


def main() -> None:
    """Play the scenes."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.torn", description=__doc__)
    parser.add_argument(
        "--scene",
        action="append",
        default=[],
        metavar="NAME[=MOST]",
        help=f"play this one, or so many of its writes: {', '.join(SCENES)} (default: all scenes)",
    )
    parser.add_argument(
        "--most", type=int, default=MOST, help=f"tear so many writes of each, 0: all (default: {MOST})"
    )
    arguments = parser.parse_args()
    chosen = {
        name: int(most) if most else arguments.most
        for name, _, most in (each.partition("=") for each in arguments.scene or SCENES)
    }
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="torn-") as folder:
        os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL", "HOME": folder}
        sys.exit(play(chosen, Path(folder), console.print) > 0)


if __name__ == "__main__":
    main()
