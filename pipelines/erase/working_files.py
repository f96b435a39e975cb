"""Working files: what they hold of a person, removed and searched for.

Packages that were pending are in the warehouse by now, so a folder needs no package any more. What was set
aside because no warehouse takes it loses the person's rows. Packages for another warehouse are not touched,
because others would lose their polls: where they hold the person, the result says so.
"""

import gzip
import shutil
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlt_cronofy.formatting import program
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

from .person import ACCOUNT_ID, MIN_SEARCHED, TOKEN_KEY, Person, Traces
from .relations import TEXTS_PER_PATTERN
from .summary import Erased, shown

CHUNK_BYTES = 1 << 24
GZIP_MAGIC = b"\x1f\x8b"


class UnreadableError(Exception):
    """A file that claims to be compressed, or Parquet, and is not."""


class Finder:
    """Looks for any of some texts in files."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = sorted({text.encode() for text in texts})
        self._longest = max(map(len, encoded), default=1)
        self._patterns = [
            "|".join(map(_escaped, encoded[start : start + TEXTS_PER_PATTERN]))
            for start in range(0, len(encoded), TEXTS_PER_PATTERN)
        ]

    def is_in(self, path: Path) -> bool:
        """Whether a file holds one of the texts, also within compression.

        Raises:
            UnreadableError: it claims to be compressed, or Parquet, and cannot be read.
            OSError: it cannot be opened.
        """
        kept = b""
        for chunk in _contents(path) if self._patterns else ():
            searched = pa.array([kept + chunk], pa.large_binary())
            if any(pc.match_substring_regex(searched, pattern)[0].as_py() for pattern in self._patterns):
                return True
            kept = (kept + chunk)[-self._longest :]
        return False


class WorkingFiles:
    """The working files of one user on this machine, from which a person is removed."""

    def __init__(self, person: Person, traces: Traces, result: Erased) -> None:
        """Everything is reported in the result."""
        self.person = person
        self.result = result
        self._finder = Finder(traces.texts())
        # where rows cannot be removed, the keys count even if they stand in other people's texts as well
        keys = {key for key in person.accounts | person.tokens if len(key) >= MIN_SEARCHED}
        self._wider_finder = Finder([*traces.texts(), *keys])

    def erase(self, own: WorkingFolder, target: Target | None) -> None:
        """Remove the person from all folders, and search what is left in them.

        Args:
            own: the folder of the pipeline, which nothing else uses; its packages are settled.
            target: that of the pipeline.
        """
        self._erase_in(own, target)
        others, unreadable = other_folders(own)
        self._report(f"{folder} cannot be read; packages may wait there" for folder in unreadable)
        for folder in others:
            try:
                if folder.working_dir.is_dir() and not (folder.path / LOCK).exists():
                    self._search_program(folder.working_dir)
                    continue
                with sole_user(folder):
                    self._erase_in(folder, target)
            except WarehouseBusy:
                self._report(
                    [f"a load is running over {folder.path}; nothing was done there; run this again"]
                )
            except OSError as error:
                self._report([f"{folder.path} cannot be cleaned ({error.strerror})"])
        try:
            for working_dir in other_programs():
                self._search_program(working_dir)
        except OSError as error:
            self._report([f"{error.filename} cannot be read; a program of your own may keep packages there"])

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
                self._report([f"{shown(path)} could not be searched"])
        return found

    def _erase_in(self, folder: WorkingFolder, target: Target | None) -> None:
        """Clean one folder; nothing else may use it meanwhile."""
        # what a load in shards leaves pending comes again from the handoff
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
            self._report([_pending_line(folder, target)])
        else:
            self.result.found += map(shown, found)

    def _remove_packages(self, folder: WorkingFolder) -> None:
        for package in folder.packages():
            _remove(package)
            self.result.packages_deleted += 1
        trace = folder.working_dir / TRACE
        if trace.exists():
            trace.unlink()
            self.result.files_deleted.append(shown(trace))

    def _clean_set_aside(self, path: Path) -> None:
        """Remove the person's rows; a file of which that is not possible goes as a whole."""
        try:
            is_left = (
                self._is_left_in_parquet(path)
                if path.suffix == ".parquet"
                else self._wider_finder.is_in(path)
            )
        except UnreadableError:
            is_left = True
        if is_left:
            path.unlink()
            self.result.files_deleted.append(shown(path))

    def _is_left_in_parquet(self, path: Path) -> bool:
        kept = without_person(read_parquet(path), self.person)
        if kept is not None:
            content = BytesIO()
            pq.write_table(kept, content)
            replace_file(path, content.getvalue())
            self.result.files_rewritten.append(shown(path))
        return self._finder.is_in(path)

    def _clean_journal(self, path: Path) -> None:
        """Remove the refreshes of the person's tokens that were under way."""
        keys = [orjson.dumps(token) for token in self.person.tokens]
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not any(key in line for key in keys)]
        if kept != lines:
            replace_file(path, b"".join(kept))
            self.result.files_rewritten.append(shown(path))

    def _search_program(self, working_dir: Path) -> None:
        """A program that loads with the source alone takes no lock, so nothing is changed there."""
        for path in self.search(_files(working_dir))[:1]:
            self._report([f"{path} holds them, and another program made it: delete {working_dir}"])

    def _report(self, problems: Iterable[str]) -> None:
        self.result.problems += problems


def read_parquet(source: Path | IO[bytes]) -> pa.Table:
    """A Parquet file as it is, without guessing at its path.

    Raises:
        UnreadableError: it is none.
    """
    try:
        with pq.ParquetFile(source) as file:
            table, metadata = file.read(), file.metadata.metadata or {}
            # that of the file stands beside that of its schema
            return table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    except (pa.ArrowException, OSError):
        raise UnreadableError(str(source)) from None


def without_person(table: pa.Table, person: Person) -> pa.Table | None:
    """A table without the person's rows; None where there are none."""
    doomed = pa.array([False] * len(table), pa.bool_())
    for column, values in ((ACCOUNT_ID, person.accounts), (TOKEN_KEY, person.tokens)):
        if column in table.column_names:
            mine = pc.is_in(table[column].cast(pa.string()), pa.array(sorted(values), pa.string()))
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


def _contents(path: Path) -> Iterator[bytes]:
    """What a file holds, chunk by chunk; that of a compressed one as it is, and then what it unpacks to."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        yield from iter(partial(file.read, CHUNK_BYTES), b"")
    if path.suffix == ".parquet":
        for column in read_parquet(path).columns:
            yield "\n".join(map(str, column.to_pylist())).encode()
    elif is_gzip:
        try:
            with gzip.open(path) as unpacked:
                yield from iter(partial(unpacked.read, CHUNK_BYTES), b"")
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise UnreadableError(path.name) from None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _escaped(text: bytes) -> str:
    return "".join(f"\\x{{{byte:02x}}}" for byte in text)
