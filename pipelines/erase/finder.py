"""Looking for texts in files, also within Parquet and gzip."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# one pattern must not outgrow RE2's memory
TEXTS_PER_PATTERN = 200
CHUNK_BYTES = 1 << 24
GZIP_MAGIC = b"\x1f\x8b"


class UnreadableError(Exception):
    """A file that claims to be compressed, or Parquet, and is not."""


class Finder:
    """Looks for any of some texts in files, all in one pass."""

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


def _escaped(text: bytes) -> str:
    return "".join(f"\\x{{{byte:02x}}}" for byte in text)
