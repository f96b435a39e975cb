"""Files that are replaced as a whole: a kill at any instant leaves the old one or the new one."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# in the name of a version that is not in its place yet; a killed run leaves such a file
TEMPORARY = ".new-"
PRIVATE = 0o600


def replace_file(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Write a file durably, as a whole. Behind a symbolic link, the file that it names.

    Args:
        path: the file. Mode, owner and group of an earlier one stay, where allowed.
        content: all of it.
        mode: of a file that is not there yet, less the umask.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    path = path.resolve()
    with written_beside(path, content, mode) as fresh:
        put_in_place(fresh, path)


@contextmanager
def written_beside(path: Path, content: bytes, mode: int = PRIVATE) -> Iterator[Path]:
    """A new version of a file: complete, on the disk and in the same folder, but under another name.

    It has the mode, owner and group of the file, where allowed. At the end it is removed, unless
    `put_in_place` gave it the name of the file.

    Args:
        path: the file, which may be missing.
        content: all of it.
        mode: of a file that is not there yet, less the umask.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}{TEMPORARY}{secrets.token_hex(6)}")
    status = path.stat() if path.exists() else None
    # the content may be secret, so nobody else can read it before the mode of the old file is known to apply
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode if status is None else PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if status is not None:
                take_over(descriptor, status)
            os.fsync(descriptor)
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)


def put_in_place(fresh: Path, path: Path) -> None:
    """Give a complete file the name of another one, durably.

    Neither is opened: to close a file ends the locks that this process has on it.

    Raises:
        OSError: it cannot be renamed.
    """
    fresh.replace(path)
    with suppress(OSError):  # it is done; some file systems cannot sync a folder
        sync(path.parent)


def take_over(fresh: Path | int, status: os.stat_result) -> None:
    """Give a file, by path or descriptor, the mode, owner and group of another one, where allowed."""
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.chown(fresh, -1, status.st_gid)
    except OSError:
        mode &= ~stat.S_IRWXG  # what the old group could do is not for another one
    with suppress(OSError):
        os.chown(fresh, status.st_uid, -1)
    os.chmod(fresh, mode)  # noqa: PTH101 - also of a descriptor


def abandoned(path: Path) -> list[Path]:
    """The new versions of a file that killed runs left beside it; also those that are being written now."""
    prefix = f".{path.name}{TEMPORARY}"
    return sorted(each for each in path.parent.iterdir() if each.name.startswith(prefix))


def sync(path: Path) -> None:
    """Have a file, or what a folder lists, on the disk.

    Raises:
        OSError: it cannot be opened, or the file system cannot do that.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_mount(path: Path) -> bool:
    """Whether a file is a mount of its own, as containers are given them, which nothing can replace."""
    with suppress(OSError):
        # of each line the fifth word is the mount point, with blanks and the like in octal
        mounts = (line.split()[4] for line in MOUNTS.read_bytes().splitlines())
        return os.fsencode(path) in {
            mount.decode("unicode_escape").encode("latin-1") if b"\\" in mount else mount for mount in mounts
        }
    return path.is_mount()
