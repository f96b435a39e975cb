"""Checkpoints: whenever a kill comes, the file opens and holds what it held."""

import shutil
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from pipelines.checkpoint import PRAGMAS, SETTINGS, checkpoint, mend


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a hundred rows, and ten more in its write-ahead log."""
    path = tmp_path / "some.duckdb"
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT range AS n FROM range(100)")
    with closing(duckdb.connect(str(path), config=dict(SETTINGS))) as connection:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("INSERT INTO numbers SELECT range FROM range(10)")
    assert (tmp_path / "some.duckdb.wal").exists()
    return path


def rows(file: Path) -> int:
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM numbers").fetchall()[0][0])


def beside(file: Path) -> set[str]:
    return {path.name for path in file.parent.iterdir()} - {file.name}


def copy(file: Path) -> None:
    """What is there while a checkpoint is under way."""
    for suffix in (".wal", ""):
        source = file.with_name(file.name + suffix)
        shutil.copy(source, file.with_name(f"{file.name}.checkpointing{suffix}"))


def tear(file: Path) -> None:
    """Half of every block written over, as by a write that was cut off."""
    content = bytearray(file.read_bytes())
    for start in range(12_288, len(content), 262_144):
        content[start : start + 1000] = b"\xff" * 1000
    file.write_bytes(content)


def test_the_log_goes_into_the_file_and_nothing_stays_beside_it(file: Path) -> None:
    checkpoint(file)
    assert beside(file) == set()
    assert rows(file) == 110
    before = file.read_bytes()
    checkpoint(file)
    assert file.read_bytes() == before


def test_a_torn_file_is_mended_from_the_copy(file: Path) -> None:
    copy(file)
    tear(file)
    with pytest.raises(duckdb.Error):
        rows(file)
    mend(file)
    assert rows(file) == 110
    assert beside(file) == {"some.duckdb.wal"}
    checkpoint(file)
    assert (rows(file), beside(file)) == (110, set())


def test_a_file_that_was_not_torn_is_kept(file: Path) -> None:
    """The kill came after the checkpoint, and somebody has written since."""
    copy(file)
    with closing(duckdb.connect(str(file))) as connection:
        connection.execute("INSERT INTO numbers VALUES (1000)")
    mend(file)
    assert (rows(file), beside(file)) == (111, set())


@pytest.mark.parametrize(
    "left", ["checkpointing.wal", "checkpointing.part", "checkpointing.wal.part"], ids=str
)
def test_half_a_copy_is_none(file: Path, left: str) -> None:
    file.with_name(f"{file.name}.{left}").write_bytes(b"half")
    mend(file)
    assert (rows(file), beside(file)) == (110, {"some.duckdb.wal"})


def test_without_room_for_a_copy_the_log_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    checkpoint(file)
    assert (rows(file), beside(file)) == (110, {"some.duckdb.wal"})
