"""Torn writes: a process that is killed in the middle of its nth write to the files of a folder.

Every write that the process makes to a file in that folder is counted, as are renames, truncations and
removals there, by DuckDB, Python and Arrow alike. The nth is done by half, or not at all where it has no
halves, and then the process is killed.

It works on the calls to the C library, in the tables through which the loaded libraries find them (the global
offset tables of ELF), so no compiler is needed.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
READ_WRITE = 3  # PROT_READ | PROT_WRITE
# entries of the dynamic section: symbols, their names, and two lists of places to fill in
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_JMPREL = 2, 5, 6, 7, 8, 23
SYMBOL_BYTES = RELOCATION_BYTES = 24

libc = ctypes.CDLL(None, use_errno=True)
Int, Long, Pointer, Text = ctypes.c_int, ctypes.c_long, ctypes.c_void_p, ctypes.c_char_p


@dataclass
class Tearing:
    """Counts what happens to the files of a folder, and ends the process at the nth.

    What counts is Python. DuckDB must do all its work in the thread that calls it: a thread of its own would
    wait for Python while its caller, which holds Python, waits for the thread.
    """

    nth: int = 0
    folder: str = ""
    seen: int = 0

    def __post_init__(self) -> None:
        import duckdb
        import pyarrow.parquet  # what writes must be loaded by now

        del duckdb, pyarrow
        self._lock = threading.Lock()
        replacements = Calls(self).replacements()
        self._places = [
            (place, replacements[name])
            for base, path in [*loaded_libraries()]
            if "duckdb" in path or "python" in Path(path).name or "/arrow" in path
            for name, place in imported_functions(base)
            if name in replacements
        ]

    def begin(self, nth: int, folder: Path) -> None:
        """Count from now on what happens to files in that folder; the nth ends the process, 0 does not."""
        self.nth, self.folder, self.seen = nth, os.path.realpath(folder), 0
        for place, address in self._places:
            libc.mprotect(Pointer(place & -PAGE), ctypes.c_size_t(2 * PAGE), READ_WRITE)
            ctypes.c_uint64.from_address(place).value = address

    def hits(self, path: str) -> bool:
        """Whether this is the nth."""
        if os.path.dirname(path) != self.folder or path.endswith(".lock"):  # noqa: PTH120 - called very often
            return False
        with self._lock:
            self.seen += 1
            return self.seen == self.nth


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - called very often
    except OSError:
        return ""


def path_at(name: bytes) -> str:
    return os.path.abspath(os.fsdecode(name))  # noqa: PTH100 - nothing is resolved


# the libraries call these as long as the process lives
_kept: list[Any] = []


class Calls:
    """What takes the place of the C library's functions."""

    def __init__(self, tearing: Tearing) -> None:
        self._tearing = tearing

    def replacements(self) -> dict[bytes, int]:
        """The address of the replacement by the function's name."""
        found: dict[bytes, int] = {}
        for names, result, arguments, target, halved in (
            (("write",), Long, (Int, Pointer, Long), 0, 2),
            (("pwrite", "pwrite64"), Long, (Int, Pointer, Long, Long), 0, 2),
            (("sendfile", "sendfile64"), Long, (Int, Int, Pointer, Long), 0, 3),
            (("copy_file_range",), Long, (Int, Pointer, Int, Pointer, Long, Int), 2, 4),
            (("ftruncate", "ftruncate64"), Int, (Int, Long), 0, None),
            (("rename",), Int, (Text, Text), 1, None),
            (("unlink",), Int, (Text,), 0, None),
        ):
            kind = ctypes.CFUNCTYPE(result, *arguments, use_errno=True)
            for name in names:
                original = kind((name, libc))
                replacement = kind(self._replacement(original, target, halved, by_name=arguments[0] is Text))
                _kept.extend((original, replacement))
                address = ctypes.cast(replacement, Pointer).value
                assert address is not None
                found[name.encode()] = address
        return found

    def _replacement(
        self, original: Callable[..., int], target: int, halved: int | None, *, by_name: bool
    ) -> Callable[..., int]:
        where: Callable[[Any], str] = path_at if by_name else path_of

        def call(*arguments: Any) -> int:
            if self._tearing.hits(where(arguments[target])):
                if halved is not None:
                    half = [*arguments]
                    half[halved] //= 2
                    original(*half)
                die()
            return original(*arguments)

        return call


def loaded_libraries() -> Iterator[tuple[int, str]]:
    """Base address and path of every ELF file in this process."""
    seen = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[2] == "00000000" and parts[5] not in seen and parts[5].startswith("/"):
            seen.add(parts[5])
            base = int(parts[0].split("-")[0], 16)
            if ctypes.string_at(base, 4) == b"\x7fELF":
                yield base, parts[5]


def word(address: int, size: int = 8) -> int:
    return int.from_bytes(ctypes.string_at(address, size), sys.byteorder)


def dynamic_section(base: int) -> dict[int, int]:
    """The entries of an ELF file's dynamic section, addresses as they are in memory."""
    headers, size, count = base + word(base + 32), word(base + 54, 2), word(base + 56, 2)
    found = [headers + size * each for each in range(count) if word(headers + size * each, 4) == 2]
    if not found:
        return {}
    # an executable that is loaded where it was linked for has absolute addresses
    offset = base if word(base + 16, 2) == 3 else 0
    at, entries = offset + word(found[0] + 16), {}
    while tag := word(at):
        value = word(at + 8)
        is_address = tag in (DT_STRTAB, DT_SYMTAB, DT_RELA, DT_JMPREL)
        entries[tag] = value + offset if is_address and value < offset else value
        at += 16
    entries[0] = offset
    return entries


def imported_functions(base: int) -> Iterator[tuple[bytes, int]]:
    """Name and place in memory of the address of every function that one library takes from others."""
    entries = dynamic_section(base)
    for table, table_bytes in ((DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)):
        for at in range(0, entries.get(table_bytes, 0), RELOCATION_BYTES):
            relocation = entries[table] + at
            symbol = word(relocation + 8) >> 32
            if symbol:
                name = entries[DT_STRTAB] + word(entries[DT_SYMTAB] + SYMBOL_BYTES * symbol, 4)
                yield ctypes.string_at(name), entries[0] + word(relocation)
