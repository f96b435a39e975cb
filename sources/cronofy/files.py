"""Mounts: files that cannot be replaced, as containers are given them."""

import os
from contextlib import suppress
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")


def is_mount(path: Path) -> bool:
    """Whether a file is a mount of its own, which nothing can replace."""
    with suppress(OSError):
        # of each line the fifth word is the mount point, with blanks and the like in octal
        mounts = (line.split()[4] for line in MOUNTS.read_bytes().splitlines())
        return os.fsencode(path) in {
            mount.decode("unicode_escape").encode("latin-1") if b"\\" in mount else mount for mount in mounts
        }
    return path.is_mount()
