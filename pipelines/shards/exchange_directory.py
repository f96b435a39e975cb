"""The exchange directory: the folder through which planner, pollers and loader pass files, wherever they run.

Any path that fsspec reaches; users configure it as `handoff`. A file is written under a name nobody reads and
then renamed, so that a reader finds all of it or nothing.
"""

import os
import posixpath
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dlt.common.configuration import configspec
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration
from fsspec.core import url_to_fs

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.settings import CONFIG_SECTIONS

SETTING = "handoff in [sources.cronofy]"


@configspec
class ExchangeConfiguration(BaseConfiguration):
    """What section `sources.cronofy` says of loads in shards; apart from the source's own, which has none."""

    handoff: str | None = None
    """a folder that all workers of a load in shards reach: a path, or any URL fsspec knows, like
    `s3://bucket/cronofy`"""


@dataclass(frozen=True)
class ExchangeDirectory:
    """One application's folder in a file system of fsspec: a folder a run, and in it the plan and outputs."""

    files: Any
    root: str

    @classmethod
    def at(cls, url: str) -> "ExchangeDirectory":
        """The one at a path or URL.

        Raises:
            ConfigurationError: fsspec knows no such kind of place, or lacks a package for it.
        """
        try:
            files, root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigurationError(f"{SETTING}: {str(error).splitlines()[0]}") from None
        return cls(files, root.rstrip("/"))

    def write(self, run_id: str, name: Callable[[], str], content: Callable[[IO[bytes]], object]) -> None:
        """Have a file in the folder of a run, all of it or none. It is named when it is complete."""
        self.files.makedirs(self._path(run_id), exist_ok=True)
        part = self._path(run_id, f".{secrets.token_hex(8)}")
        try:
            with self.files.open(part, "wb") as file:
                content(file)
                _sync(file)
            self.files.mv(part, self._path(run_id, name()))
        except BaseException:
            with suppress(OSError):
                self.files.rm(part)
            raise

    def open(self, run_id: str, name: str) -> IO[bytes]:
        """Open a file.

        Raises:
            FileNotFoundError: there is none.
        """
        file: IO[bytes] = self.files.open(self._path(run_id, name), "rb")
        return file

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Copy a file into a folder of this machine."""
        path = folder / name
        self.files.get_file(self._path(run_id, name), str(path))
        return path

    def runs(self) -> list[str]:
        """The runs that have a folder, oldest first."""
        return self._names(self.root)

    def names(self, run_id: str) -> list[str]:
        """The whole files of a run, sorted."""
        return [name for name in self._names(self._path(run_id)) if not name.startswith(".")]

    def remove_unfinished(self, run_id: str) -> list[str]:
        """Remove the files of a run that are not whole; a worker that still writes one has to begin again."""
        parts = [name for name in self._names(self._path(run_id)) if name.startswith(".")]
        for name in parts:
            self.remove(run_id, name)
        return parts

    def remove(self, run_id: str, *name: str) -> None:
        """Remove a file, or the folder of the run where none is named; if it is still there."""
        with suppress(FileNotFoundError):
            self.files.rm(self._path(run_id, *name), recursive=not name)

    def _names(self, folder: str) -> list[str]:
        # object stores remember listings, and other machines write here
        self.files.invalidate_cache()
        try:
            found = self.files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(path.rstrip("/")) for path in found)

    def _path(self, *names: str) -> str:
        return posixpath.join(self.root, *names)


def configured_exchange() -> ExchangeDirectory:
    """The configured directory.

    Raises:
        ConfigurationError: there is none, or none that can be used.
    """
    exchange = possible_exchange()
    if exchange is None:
        raise ConfigurationError(
            f"set {SETTING} of .dlt/config.toml, or SOURCES__CRONOFY__HANDOFF, to a folder that all workers"
            " reach, like s3://bucket/cronofy"
        )
    return exchange


def possible_exchange() -> ExchangeDirectory | None:
    """The configured directory; None where loads are not in shards.

    Raises:
        ConfigurationError: it cannot be used.
    """
    url = resolve_configuration(ExchangeConfiguration(), sections=CONFIG_SECTIONS).handoff
    return ExchangeDirectory.at(url) if url else None


def _sync(file: IO[bytes]) -> None:
    """Have a local file on the disk before it gets its name; stores of objects do that by themselves."""
    file.flush()
    with suppress(OSError, AttributeError):
        os.fsync(file.fileno())
