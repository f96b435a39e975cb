"""dlt's working files: what they hold of a person, removed and searched for."""

import gzip
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlt_cronofy.source.api.refresh_journal import PATTERN as REFRESH_NOTES
from dlt_cronofy.warehouse.working_folders import QUARANTINE

from .person import Person, Traces
from .relations import TEXTS_PER_PATTERN

CHUNK_BYTES = 1 << 24
GZIP_MAGIC = b"\x1f\x8b"

# Folders below dlt's working directory with what nobody finishes or needs any more: packages that were loaded
# and kept, and halves of packages that a kill left. Pending packages are in `normalize/extracted`.
LEFTOVERS = ("load/loaded/*", "load/new/*", "normalize/*")
KEPT = {"extracted"}


@dataclass
class Cleaned:
    """What became of the working files, by path; packages that were of no use any more are counted."""

    packages: int = 0
    deleted: list[Path] = field(default_factory=list)
    rewritten: list[Path] = field(default_factory=list)

    def add(self, other: "Cleaned") -> None:
        """What became of the files of another folder."""
        self.packages += other.packages
        self.deleted += other.deleted
        self.rewritten += other.rewritten


@dataclass
class Searched:
    """What a search of files came to."""

    bytes: int = 0
    files: int = 0
    found: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)

    def add(self, other: "Searched") -> None:
        """What a search of other files came to."""
        self.bytes += other.bytes
        self.files += other.files
        self.found += other.found
        self.unreadable += other.unreadable


class UnreadableError(Exception):
    """A file that says it is compressed, or Parquet, and is not."""


class Finder:
    """Looks for any of some texts in files."""

    def __init__(self, traces: Traces) -> None:
        texts = sorted(text.encode() for text in traces.texts())
        self._longest = max(map(len, texts), default=1)
        self._patterns = [
            "|".join(map(_escaped, texts[start : start + TEXTS_PER_PATTERN]))
            for start in range(0, len(texts), TEXTS_PER_PATTERN)
        ]

    def is_in(self, path: Path) -> bool:
        """Whether a file holds one of the texts, also within compression.

        Raises:
            UnreadableError: it claims to be compressed, or Parquet, and cannot be read.
            OSError: it cannot be opened.
        """
        if not self._patterns:
            return False
        with path.open("rb") as file:
            if self._is_in_stream(file):
                return True
        if path.suffix == ".parquet":
            return any(self._is_in_column(column) for column in read_parquet(path).columns)
        return _is_gzip(path) and self._is_in_gzip(path)

    def _is_in_gzip(self, path: Path) -> bool:
        try:
            with gzip.open(path) as file:
                return self._is_in_stream(file)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise UnreadableError(path.name) from None

    def _is_in_stream(self, file: IO[bytes] | gzip.GzipFile) -> bool:
        kept = b""
        while chunk := file.read(CHUNK_BYTES):
            if self._is_in_values(pa.array([kept + chunk], pa.large_binary())):
                return True
            kept = (kept + chunk)[-self._longest :]
        return False

    def _is_in_column(self, column: pa.ChunkedArray) -> bool:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return self._is_in_values(column.cast(pa.large_binary()))
        if pa.types.is_nested(column.type) or pa.types.is_dictionary(column.type):
            return self._is_in_values(pa.array([str(column.to_pylist()).encode()], pa.large_binary()))
        return False

    def _is_in_values(self, values: Any) -> bool:
        return any(
            pc.any(pc.match_substring_regex(values, pattern)).as_py() is True for pattern in self._patterns
        )


@dataclass(frozen=True)
class WorkingFiles:
    """The working files of one pipeline: dlt's folder, and what this program puts beside it."""

    working_dir: Path

    def clean(self, person: Person, traces: Traces) -> Cleaned:
        """Remove the person from every file that dlt does not need, whatever its format.

        Pending packages must be settled: they are not looked at.
        """
        cleaned = Cleaned()
        for leftover in self._leftovers():
            _delete(leftover)
            cleaned.packages += 1
        finder = Finder(traces)
        for path in _files(self.working_dir / QUARANTINE):
            self._clean_quarantined(path, person, finder, cleaned)
        for path in sorted(self.working_dir.parent.glob(REFRESH_NOTES)):
            if _strike_out(path, person):
                cleaned.rewritten.append(path)
        trace = self.working_dir / "trace.pickle"
        if trace.is_file() and finder.is_in(trace):
            trace.unlink()
            cleaned.deleted.append(trace)
        return cleaned

    def search(self, traces: Traces, others: Iterable[Path] = ()) -> Searched:
        """Look for the values in every file, and in some others."""
        finder, searched = Finder(traces), Searched()
        beside = sorted(self.working_dir.parent.glob(REFRESH_NOTES))
        for path in [*_files(self.working_dir), *beside, *(path for path in others if path.is_file())]:
            searched.files += 1
            searched.bytes += path.stat().st_size
            try:
                if finder.is_in(path):
                    searched.found.append(path)
            except UnreadableError:
                searched.unreadable.append(path)
        return searched

    def _leftovers(self) -> Iterator[Path]:
        for pattern in LEFTOVERS:
            for path in sorted(self.working_dir.glob(pattern)):
                if path.name not in KEPT and not path.name.startswith("."):
                    yield path

    def _clean_quarantined(self, path: Path, person: Person, finder: Finder, cleaned: Cleaned) -> None:
        try:
            if path.suffix == ".parquet" and _rewrite_parquet(path, person):
                cleaned.rewritten.append(path)
            is_telling = finder.is_in(path)
        except UnreadableError:
            is_telling = True
        if is_telling:
            path.unlink()
            cleaned.deleted.append(path)


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file as it is, without guessing at its path.

    Raises:
        UnreadableError: it is none.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError):
        raise UnreadableError(path.name) from None


def _rewrite_parquet(path: Path, person: Person) -> bool:
    """Write a Parquet file anew without the person's rows; says whether there were any."""
    kept = without_person(read_parquet(path), person)
    if kept is None:
        return False
    fresh = path.with_name(path.name + ".erasing")
    pq.write_table(kept, fresh)
    fresh.replace(path)
    return True


def without_person(table: pa.Table, person: Person) -> pa.Table | None:
    """A table without the person's rows; None where there are none."""
    doomed = pa.array([False] * len(table), pa.bool_())
    for column, values in (("account_id", person.accounts), ("token_key", person.tokens)):
        if column in table.column_names:
            mine = pc.is_in(table[column].cast(pa.string()), pa.array(sorted(values), pa.string()))
            doomed = pc.or_(doomed, pc.fill_null(mine, False))
    return table.filter(pc.invert(doomed)) if pc.any(doomed).as_py() else None


def _strike_out(path: Path, person: Person) -> bool:
    """Remove the person's tokens from the notes on refreshes under way; says whether there were any."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _noted_token(line) not in person.tokens]
    if len(kept) == len(lines):
        return False
    fresh = path.with_suffix(".erasing")
    fresh.write_bytes(b"".join(kept))
    fresh.replace(path)
    return True


def _noted_token(line: bytes) -> str | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None  # the last line of a killed run
    return str(said["token_key"]) if isinstance(said, dict) and "token_key" in said else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def _escaped(text: bytes) -> str:
    return "".join(f"\\x{{{byte:02x}}}" for byte in text)
