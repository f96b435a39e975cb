"""Files beside the warehouse: what they hold of a person, removed and searched for.

Packages that were pending are in the warehouse by now, so a folder needs no package any more. What was set
aside because no warehouse takes it loses the person's rows, and so does what waits in the exchange directory.
Packages for another warehouse are not touched, because others would lose their polls: where they hold the
person, the result says so.
"""

import shutil
from collections.abc import Iterable
from functools import partial
from io import BytesIO
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlt_cronofy.formatting import program
from dlt_cronofy.shards.exchange_directory import ExchangeDirectory, possible_exchange
from dlt_cronofy.source.api.refresh_journal import PATTERN as REFRESH_JOURNALS
from dlt_cronofy.source.files import replace_file
from dlt_cronofy.warehouse.locks import WarehouseBusy, sole_user
from dlt_cronofy.warehouse.target import Target
from dlt_cronofy.warehouse.working_folders import (
    LOCK,
    QUARANTINE,
    TRACE,
    WorkingFolder,
    other_folders,
    other_programs,
)

from .finder import Finder, UnreadableError, read_parquet
from .person import MIN_SEARCHED, Person, Traces
from .summary import Erased, shown


class WorkingFiles:
    """The working files of one user on this machine, from which a person is removed."""

    def __init__(self, person: Person, traces: Traces, result: Erased) -> None:
        self.person = person
        self.result = result
        self._finder = Finder(traces.texts())
        # where rows cannot be removed, the keys count even if they stand in other people's texts as well
        keys = {key for key in person.accounts | person.tokens if len(key) >= MIN_SEARCHED}
        self._wider_finder = Finder([*traces.texts(), *keys])

    def erase(self, own: WorkingFolder, target: Target | None) -> None:
        """Remove the person from all folders, and search what is left in them.

        Nothing else uses the pipeline's own folder, and its packages are settled.
        """
        self._erase_in(own, target)
        others, unreadable = other_folders(own)
        self.result.problems += [f"{folder} cannot be read; packages may wait there" for folder in unreadable]
        for folder in others:
            try:
                if folder.working_dir.is_dir() and not (folder.path / LOCK).exists():
                    self._search_program(folder.working_dir)
                    continue
                with sole_user(folder):
                    self._erase_in(folder, target)
            except WarehouseBusy:
                self._report(f"a load is running over {folder.path}; nothing was done there; run this again")
            except OSError as error:
                self._report(f"{folder.path} cannot be cleaned ({error.strerror})")
        try:
            for working_dir in other_programs():
                self._search_program(working_dir)
        except OSError as error:
            self._report(f"{error.filename} cannot be read; a program of your own may keep packages there")

    def search(self, files: Iterable[Path]) -> list[Path]:
        """The files that hold the person; counts what was searched, and reports what cannot be."""
        found = []
        for path in files:
            self.result.searched_files += 1
            self.result.searched_bytes += path.stat().st_size
            try:
                if self._finder.is_in(path):
                    found.append(path)
            except UnreadableError:
                self._report(f"{shown(path)} could not be searched")
        return found

    def _erase_in(self, folder: WorkingFolder, target: Target | None) -> None:
        """Clean one folder; nothing else may use it meanwhile."""
        # what a load in shards leaves pending comes again from the exchange directory
        waits = bool(folder.pending()) and not folder.is_of_shards
        if not waits:
            self._remove_packages(folder)
        for path in _files(folder.working_dir / QUARANTINE):
            self._clean_set_aside(path)
        journals = sorted(folder.path.glob(REFRESH_JOURNALS))
        for path in journals:
            self._clean_journal(path)
        found = self.search([*_files(folder.working_dir), *journals])
        if waits and found:
            self._report(_pending_line(folder, target))
        else:
            self.result.found += map(shown, found)

    def _remove_packages(self, folder: WorkingFolder) -> None:
        for package in folder.packages():
            shutil.rmtree(package) if package.is_dir() else package.unlink()
            self.result.packages_deleted += 1
        trace = folder.working_dir / TRACE
        if trace.exists():
            self._delete(trace)

    def _clean_set_aside(self, path: Path) -> None:
        """Remove the person's rows; a file of which that is not possible goes as a whole."""
        finder = self._wider_finder
        try:
            if path.suffix == ".parquet":
                kept = without_person(read_parquet(path), self.person)
                if kept is not None:
                    content = BytesIO()
                    pq.write_table(kept, content)
                    self._rewrite(path, content.getvalue())
                finder = self._finder
            if not finder.is_in(path):
                return
        except UnreadableError:
            pass
        self._delete(path)

    def _clean_journal(self, path: Path) -> None:
        """Remove the refreshes of the person's tokens that were under way."""
        keys = [orjson.dumps(token) for token in self.person.tokens]
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not any(key in line for key in keys)]
        if kept != lines:
            self._rewrite(path, b"".join(kept))

    def _search_program(self, working_dir: Path) -> None:
        """A program that loads with the source alone takes no lock, so nothing is changed there."""
        for path in self.search(_files(working_dir))[:1]:
            self._report(f"{path} holds them, and another program made it: delete {working_dir}")

    def _rewrite(self, path: Path, content: bytes) -> None:
        replace_file(path, content)
        self.result.files_rewritten.append(shown(path))

    def _delete(self, path: Path) -> None:
        path.unlink()
        self.result.files_deleted.append(shown(path))

    def _report(self, problem: str) -> None:
        self.result.problems.append(problem)


def erase_from_exchange(person: Person, result: Erased) -> None:
    """Remove a person's tasks and polls from plans and outputs that wait, where loads are in shards."""
    exchange = possible_exchange()
    for run_id in exchange.runs() if exchange is not None else ():
        assert exchange is not None
        # a file that is not whole may hold anybody
        changed = exchange.remove_unfinished(run_id)
        for name in exchange.names(run_id):
            try:
                if name.endswith(".parquet") and _rewrite_in(exchange, run_id, name, person):
                    changed.append(name)
            except UnreadableError:
                result.problems.append(f"{exchange.root}/{run_id}/{name} cannot be read; remove it")
        result.files_rewritten += [f"{exchange.root}/{run_id}/{name}" for name in changed]


def _rewrite_in(exchange: ExchangeDirectory, run_id: str, name: str, person: Person) -> bool:
    """Whether a file held the person, and does no more."""
    with exchange.open(run_id, name) as file:
        kept = without_person(read_parquet(file), person)
    if kept is None:
        return False
    exchange.write(run_id, partial(str, name), partial(pq.write_table, kept))
    return True


def without_person(table: pa.Table, person: Person) -> pa.Table | None:
    """A table without the person's rows; None where there are none."""
    doomed = pa.array([False] * len(table), pa.bool_())
    for column, values in person.keys.items():
        if column in table.column_names:
            mine = pc.is_in(table[column].cast(pa.string()), pa.array(values, pa.string()))
            doomed = pc.or_(doomed, pc.fill_null(mine, False))
    return table.filter(pc.invert(doomed)) if pc.any(doomed).as_py() else None


def _pending_line(folder: WorkingFolder, target: Target | None) -> str:
    owner = folder.owner()
    waits = f"packages that wait in {folder.working_dir} hold them"
    if owner is None:
        return f"{waits}, and it is not known for which warehouse: delete that folder"
    if owner == target:
        return f"{waits}: load with that working folder and run this again, or delete that folder"
    return f"{waits}: they are for {owner}; run {program()} erase there too, or delete that folder"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
