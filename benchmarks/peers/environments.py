"""Environments of the peers whose dependencies are not ours, built on demand from their lock files."""

import hashlib
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent
ENVIRONMENTS = PEERS.parents[1] / ".venv-peers"
INSTALL_SECONDS = 600


def environment(name: str) -> Path:
    """The folder of programs of what `<name>.lock` names, installed unless it is there."""
    lock = PEERS / f"{name}.lock"
    place = ENVIRONMENTS / name
    mark = place / "installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != digest:
        print(f"Installing {lock.name} into {place}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True, timeout=INSTALL_SECONDS)
        pip = [
            str(place / "bin" / "python"),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "-qq",
        ]
        # the lock names everything, and pip asks for hashes of extras that it leaves out
        strict = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
        subprocess.run([*pip, *strict, "-r", lock], check=True, timeout=INSTALL_SECONDS)
        mark.write_text(digest)
    return place / "bin"
