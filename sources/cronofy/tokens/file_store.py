"""The token file: read as it is, and replaced as a whole when tokens were refreshed."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Lock

import fasteners

from ..errors import ConfigurationError
from ..files import TEMPORARY, abandoned, is_mount, put_in_place, written_beside
from ..secret import Hidden
from .base import Renewal, StoreError
from .file_formats import FORMATS
from .file_parquet import ColumnError
from .labels import LabelReader
from .placeholders import trial_renewals
from .rows import collect_tokens
from .token import StoredTokens, Token

LOCK_SECONDS = 60
ATTEMPTS = 10
A_DAY = timedelta(days=1)
# an inter-process lock keeps out other processes only
_thread_locks: dict[str, Lock] = {}

Signature = tuple[int, int, int]


class FileStore:
    """A CSV, JSON Lines or Parquet file; beside it a lock, and a new version while it is being written."""

    def __init__(self, tokens_file: str, labels: Sequence[str] | None = None) -> None:
        """Nothing of it is read yet; `labels` are names in lower case, None for the default.

        Raises:
            ConfigurationError: its name does not say which of these it is.
        """
        self._suffix = Path(tokens_file).suffix.lower()
        if self._suffix not in FORMATS:
            raise ConfigurationError(
                f"{tokens_file}: tokens_file must end in .csv, .jsonl, .ndjson or .parquet"
            )
        self._format = FORMATS[self._suffix]
        self.name = tokens_file
        self.folder: Path | None = Path(tokens_file).resolve().parent
        self._path = Path(tokens_file)
        self._labels = labels
        self._cache_lock = Lock()
        self._seen: Signature | None = None
        self._known: dict[str, Token] = {}

    def read(self) -> StoredTokens:
        """All tokens of the file, in its order, and which rows are none."""
        with self._cache_lock:
            return self._read()

    def _read(self) -> StoredTokens:
        self._seen, self._known = None, {}
        if not self._path.is_file():
            raise ConfigurationError(f"{self.name}: tokens_file does not exist")
        try:
            seen, content = _signature(self._path), Hidden(self._path.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{self.name}: cannot be read ({error.strerror})") from None
        tokens = self._tokens_in(content)
        self._seen, self._known = seen, {each.key: each for each in tokens}
        return tokens

    def _tokens_in(self, content: Hidden) -> StoredTokens:
        rows = self._format.rows(self.name, content.value, LabelReader(self._labels).wanted)
        return collect_tokens(self.name, self._format.unit, rows, self._labels)

    def why_not_saved(self) -> str | None:
        """Does what saving does with placeholders in every row that can be refreshed, short of replacing.

        So a new version is written whole, synced, read back by what reads the store, and removed.
        """
        try:
            with self._locked() as path:
                obstacle = _why_not_replaced(path)
                return f"{self.name} is not writable: {obstacle}" if obstacle else self._tried(path)
        except (StoreError, ConfigurationError) as error:
            return str(error)
        except OSError as error:
            return f"{self.name} is not writable: {_in_words(error)}"

    def _tried(self, path: Path) -> str | None:
        """What is wrong with a new version that has placeholders."""
        content = Hidden(path.read_bytes())
        tokens = self._tokens_in(content)
        renewals = trial_renewals(tokens)
        with written_beside(path, self._renewed(content.value, renewals)[0]) as temporary:
            written = Hidden(temporary.read_bytes())
        with suppress(ConfigurationError):
            found = self._tokens_in(written)
            if len(found) == len(tokens) and all(map(_reads_as, found, _with(renewals, tokens))):
                return None
        return f"{self.name} cannot be written: with new tokens it does not read as it should"

    def current(self, token: Token) -> Token | None:
        """The token of that key; the file is read again only when it has changed."""
        with self._cache_lock:
            try:
                if _signature(self._path) != self._seen:
                    self._read()
            except (ConfigurationError, OSError):
                return None
            return self._known.get(token.key)

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        """Replace the file by one with the refreshed tokens; a crash leaves the one or the other.

        A row without a key is given the one it went by, because that came from its refresh token.
        """
        if not renewals:
            return []
        try:
            with self._locked() as path:
                with suppress(PermissionError):  # a folder that cannot be listed may be written
                    for stale in abandoned(path):
                        stale.unlink(missing_ok=True)
                for _ in range(ATTEMPTS):
                    conflicts = self._replaced(path, renewals)
                    if conflicts is not None:
                        return conflicts
        except ConfigurationError as error:
            raise StoreError(str(error)) from None
        except OSError as error:
            raise StoreError(f"{self.name} cannot be written: {_in_words(error)}") from None
        raise StoreError(f"{self.name} cannot be written: it changes all the time")

    def _replaced(self, path: Path, renewals: Sequence[Renewal]) -> list[Renewal] | None:
        """The renewals that no row was found for; None when the application wrote the file meanwhile."""
        before, content = _signature(path), path.read_bytes()
        new, conflicts = self._renewed(content, renewals)
        if new == content:
            return conflicts
        with written_beside(path, new) as temporary:
            after = _signature(temporary)
            if _signature(path) != before:
                return None
            put_in_place(temporary, path)
        with self._cache_lock:
            if self._seen == before:  # then the new file is known without reading it
                self._known = {each.key: each for each in _with(renewals, self._known.values())}
                self._seen = after
        return conflicts

    def _renewed(self, content: bytes, renewals: Sequence[Renewal]) -> tuple[bytes, list[Renewal]]:
        """The content with the renewals, and those that no row was found for.

        Raises:
            StoreError: a column cannot have them.
        """
        try:
            return self._format.renewed(self.name, content, renewals)
        except ColumnError as error:
            raise StoreError(f"{self.name} cannot be written: {error}") from None

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """The file itself, behind any symbolic links, while no other load writes it."""
        path = self._path.resolve()
        if not path.is_file():
            raise StoreError(f"{self.name} is not writable: there is no such file")
        with _thread_locks.setdefault(str(path), Lock()):
            lock = fasteners.InterProcessLock(path.with_name(path.name + ".lock"))
            try:
                acquired = lock.acquire(timeout=LOCK_SECONDS)
            except RuntimeError:  # the library's word for a file system without locks
                raise StoreError(f"{self.name} is not writable: its folder has no file locks") from None
            if not acquired:
                lock.lockfile.close()
                raise StoreError(f"{self.name} is not writable: {path.name}.lock is held by another process")
            try:
                yield path
            finally:
                lock.release()


def _in_words(error: OSError) -> str:
    """What went wrong, and with which of the files; a new one goes by its folder."""
    words = error.strerror or type(error).__name__
    if not error.filename:
        return words
    path = Path(os.fsdecode(error.filename))
    return f"{words} ({path.parent if TEMPORARY in path.name else path.name})"


def _signature(path: Path) -> Signature:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _why_not_replaced(path: Path) -> str | None:
    """Why a new file cannot take the place of this one, though it can be written beside it.

    Raises:
        OSError: the file may not be changed, so it is not to be replaced either.
    """
    if is_mount(path):
        return "it is a mount of its own, which cannot be replaced; mount its folder instead"
    with path.open("r+b"):
        pass
    folder, user = path.parent.stat(), os.geteuid()
    if folder.st_mode & stat.S_ISVTX and user not in (0, folder.st_uid, path.stat().st_uid):
        return f"{path.parent} lets only the owner of a file replace it (sticky bit)"
    return None


def _with(renewals: Sequence[Renewal], tokens: Iterable[Token]) -> Iterator[Token]:
    """The tokens, renewed where one of the renewals used their refresh token."""
    by_used = {renewal.token.refresh_token: renewal for renewal in renewals}
    for token in tokens:
        renewal = by_used.get(token.refresh_token) if token.refresh_token else None
        yield renewal.applied_to(token) if renewal else token


def _reads_as(found: Token, written: Token) -> bool:
    """Whether a row reads as it must; a column of days, or of inexact numbers, is as good as it gets."""
    if found.expires_at and written.expires_at and abs(found.expires_at - written.expires_at) > A_DAY:
        return False
    return replace(found, expires_at=written.expires_at) == written
