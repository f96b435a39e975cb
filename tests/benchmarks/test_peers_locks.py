"""The lock files of the peers install anywhere, and nothing that is not pinned."""

from pathlib import Path

import pytest

from benchmarks.peers.environments import PEERS

LOCKS = sorted(PEERS.glob("*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_place_and_hashes_everything(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "--index" not in text
    requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert requirements
    assert all("==" in line and line.endswith("\\") for line in requirements)


def test_each_lock_comes_from_a_list_of_requirements() -> None:
    assert [lock.stem for lock in LOCKS] == [source.stem for source in sorted(PEERS.glob("*.in"))] != []
