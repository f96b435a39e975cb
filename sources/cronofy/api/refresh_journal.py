"""The refresh journal: the trace a killed run leaves of a refresh token that may be used up.

A refresh may replace the refresh token. Between the server's response and the write-back the only copy of
the new one is in memory; no program can close that gap, but none needs to be silent about it. So an entry is
on disk before the request is sent, and marked as done when the store holds the new token. It names the
token's key and a digest of its refresh token, never the token.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import fasteners
import orjson

from ..secret import Secret

PATTERN = "cronofy-refreshing-*.jsonl"

logger = logging.getLogger("dlt_cronofy")


def digest(refresh_token: Secret) -> str:
    """What an entry holds of a refresh token: enough to recognize it by, too little to use it."""
    return hashlib.sha256(b"refreshing\0" + refresh_token.reveal().encode()).hexdigest()[:16]


class RefreshJournal:
    """The entries of one run, in a file of its own; reads those that ended runs left behind.

    The file is appended to, so that a kill leaves every earlier line whole. It exists while there is
    an entry, and its run holds a lock on it.

    Attributes:
        earlier: what ended runs left unsettled: keys of tokens, by the digest of the refresh token.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / PATTERN.replace("*", secrets.token_hex(4))
        self._lock: Any = None
        self._descriptor = -1
        self._open: dict[str, str] = {}
        self._writing = threading.Lock()
        self._left_behind: list[Path] = []
        self.earlier: dict[str, str] = {}
        for path in sorted(folder.glob(PATTERN)):
            self._read_earlier(path)

    def begin(self, token_key: str, refresh_token: Secret, now: datetime) -> None:
        """Record durably that this refresh token is about to be used.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._writing:
            self._begin(digest(refresh_token), token_key, began_at=now.isoformat(timespec="seconds"))

    def mark_done(self, refresh_token: Secret) -> None:
        """The refresh is settled; that of an earlier run too."""
        name = digest(refresh_token)
        with self._writing:
            self.earlier.pop(name, None)
            if self._open.pop(name, None) is None:
                return
            # what cannot be marked is found settled by the next run: the store has another token then
            with contextlib.suppress(OSError):
                self._append(refresh_token=name)
                if not self._open:
                    os.ftruncate(self._descriptor, 0)

    def is_unsettled(self, refresh_token: Secret) -> bool:
        """Whether this refresh token was used and its refresh is not settled."""
        if not self.earlier and not self._open:
            return False
        name = digest(refresh_token)
        return name in self.earlier or name in self._open

    def keep_only(self, refresh_tokens: Iterable[Secret]) -> None:
        """Forget earlier entries of refresh tokens that the store no longer holds: they were replaced."""
        if self.earlier:
            held = {digest(refresh_token) for refresh_token in refresh_tokens}
            self.earlier = {name: key for name, key in self.earlier.items() if name in held}

    def close(self) -> None:
        """Leave behind what is unsettled, nothing else."""
        try:
            for name, token_key in self.earlier.items():
                self._begin(name, token_key)
        except OSError:
            self._left_behind = []  # a disk is full: the earlier entries stay where they are
        for path in self._left_behind:
            path.unlink(missing_ok=True)
            _lock_file(path).unlink(missing_ok=True)
        if self._lock is not None:
            if not self._open:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._lock.release()
            self._lock = None
            _lock_file(self._path).unlink(missing_ok=True)

    def _begin(self, name: str, token_key: str, **more: str) -> None:
        if self._lock is None:
            lock = fasteners.InterProcessLock(_lock_file(self._path))
            lock.acquire()
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._lock = lock
        self._append(refresh_token=name, token_key=token_key, **more)
        os.fsync(self._descriptor)
        self._open[name] = token_key

    def _append(self, **line: str) -> None:
        os.write(self._descriptor, orjson.dumps(line) + b"\n")

    def _read_earlier(self, path: Path) -> None:
        lock = fasteners.InterProcessLock(_lock_file(path))
        try:
            if not lock.acquire(blocking=False):
                lock.lockfile.close()
                return  # its run is under way
            lines = path.read_bytes().splitlines()
            lock.release()
        except OSError as error:
            # another user's: that user's next run looks after it
            logger.warning("%s cannot be read (%s)", path, error.strerror)
            return
        self._left_behind.append(path)
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line of a killed run
                entry = orjson.loads(line)
                name = entry["refresh_token"]
                if "token_key" in entry:
                    self.earlier[name] = str(entry["token_key"])
                else:
                    self.earlier.pop(name, None)


def _lock_file(path: Path) -> Path:
    return path.with_suffix(".lock")
