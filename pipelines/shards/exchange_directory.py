"""The handoff: the folder through which planner, pollers and loader pass files, wherever they run.

Any path that fsspec reaches. A file is written under a name nobody reads and then renamed, so that a reader
finds all of it or nothing. Each attempt has a name of its own; only erasing rewrites a file.
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
from fsspec.implementations.local import LocalFileSystem

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
    """One application's folder: a folder a run, and in it the plan and the outputs.

    Attributes:
        files: the file system, as fsspec has it.
        root: the folder, in the file system's own words.
    """

    files: Any
    root: str

    @classmethod
    def at(cls, url: str) -> "ExchangeDirectory":
        """The handoff at a path or URL.

        Raises:
            ConfigurationError: fsspec knows no such kind of place, or lacks a package for it.
        """
        try:
            files, root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigurationError(f"{SETTING}: {str(error).splitlines()[0]}") from None
        return cls(files, root.rstrip("/"))

    def write(self, run_id: str, name: Callable[[], str], content: Callable[[IO[bytes]], object]) -> None:
        """Have a file in the folder of a run, all of it or none.

        Args:
            run_id: whose it is.
            name: which nothing else has; asked for when the content is complete.
            content: writes it.
        """
        folder = self._path(run_id)
        self.files.makedirs(folder, exist_ok=True)
        part = posixpath.join(folder, f".{secrets.token_hex(8)}")
        try:
            with self.files.open(part, "wb") as file:
                content(file)
                _sync(file)
            self.files.mv(part, posixpath.join(folder, name()))
        except BaseException:
            with suppress(OSError):
                self.files.rm(part)
            raise

    def open(self, run_id: str, name: str) -> IO[bytes]:
        """Open one of them.

        Raises:
            FileNotFoundError: there is none.
        """
        file: IO[bytes] = self.files.open(self._path(run_id, name), "rb")
        return file

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk of this machine, or looks like one."""
        return isinstance(self.files, LocalFileSystem)

    def fetch(self, run_id: str, name: str, path: Path) -> None:
        """Copy one of them to a disk of this machine."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.files.get_file(self._path(run_id, name), str(path))

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

    def remove(self, run_id: str, name: str) -> None:
        """Remove a file, if it is still there."""
        with suppress(FileNotFoundError):
            self.files.rm(self._path(run_id, name))

    def remove_run(self, run_id: str) -> None:
        """Remove a run's folder with what an ended attempt may have left in it."""
        with suppress(FileNotFoundError):
            self.files.rm(self._path(run_id), recursive=True)

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
    """The configured handoff.

    Raises:
        ConfigurationError: there is none, or none that can be used.
    """
    handoff = possible_exchange()
    if handoff is None:
        raise ConfigurationError(
            f"set {SETTING} of .dlt/config.toml, or SOURCES__CRONOFY__HANDOFF, to a folder that all workers"
            " reach, like s3://bucket/cronofy"
        )
    return handoff


def possible_exchange() -> ExchangeDirectory | None:
    """The configured handoff; None where loads are not in shards.

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
