"""The refresh journal: what a run that ended in the middle leaves to the next one."""

import multiprocessing
import os
import shutil
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from dlt_cronofy.source.api.refresh_journal import RefreshJournal, digest
from dlt_cronofy.source.secret import Secret

NOW = datetime(2026, 1, 5, 6, tzinfo=UTC)
FIRST, SECOND, THIRD = (Secret(f"refresh-{name}") for name in ("first", "second", "third"))


def kill_in_the_middle(folder: Path) -> None:
    journal = RefreshJournal(folder)
    journal.begin("one", FIRST, NOW)
    journal.begin("two", SECOND, NOW)
    journal.mark_done(FIRST)
    os._exit(9)


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after a run that ended while it used the second of two refresh tokens."""
    folder = tmp_path_factory.mktemp("killed")
    process = multiprocessing.get_context("spawn").Process(target=kill_in_the_middle, args=(folder,))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(killed_once, tmp_path, dirs_exist_ok=True)


def test_a_run_that_ends_well_leaves_nothing(tmp_path: Path) -> None:
    journal = RefreshJournal(tmp_path)
    assert list(tmp_path.iterdir()) == []
    journal.begin("one", FIRST, NOW)
    assert journal.is_unsettled(FIRST)
    journal.mark_done(FIRST)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_knows_what_was_under_way(killed: Path) -> None:
    journal = RefreshJournal(killed)
    assert journal.is_unsettled(SECOND)
    assert not journal.is_unsettled(FIRST)
    assert list(journal.earlier.values()) == ["two"]
    [path] = killed.glob("*.jsonl")
    assert b'"began_at":"2026-01-05T06:00:00+00:00"' in path.read_bytes()


def test_what_is_settled_is_forgotten(killed: Path) -> None:
    journal = RefreshJournal(killed)
    journal.mark_done(SECOND)
    journal.close()
    assert list(killed.iterdir()) == []


def test_what_is_not_settled_is_handed_on(killed: Path) -> None:
    RefreshJournal(killed).close()
    assert len(list(killed.glob("*.jsonl"))) == 1
    assert RefreshJournal(killed).is_unsettled(SECOND)


@pytest.mark.parametrize(("held", "unsettled"), [((SECOND,), True), ((FIRST, THIRD), False), ((), False)])
def test_a_refresh_token_the_store_replaced_is_settled(
    killed: Path, held: tuple[Secret, ...], unsettled: bool
) -> None:
    journal = RefreshJournal(killed)
    journal.keep_only(held)
    assert journal.is_unsettled(SECOND) is unsettled


def test_a_run_under_way_is_left_alone(tmp_path: Path) -> None:
    """Two runs of one application side by side: what the other one does is no interrupted refresh."""
    context = multiprocessing.get_context("spawn")
    begun, finish = context.Event(), context.Event()
    process = context.Process(target=hold_an_entry, args=(tmp_path, begun, finish))
    process.start()
    assert begun.wait(30)
    other = RefreshJournal(tmp_path)
    assert not other.is_unsettled(FIRST)
    other.close()
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    finish.set()
    process.join(30)
    assert list(tmp_path.iterdir()) == []


def hold_an_entry(folder: Path, begun: Event, finish: Event) -> None:
    journal = RefreshJournal(folder)
    journal.begin("one", FIRST, NOW)
    begun.set()
    finish.wait(30)
    journal.mark_done(FIRST)
    journal.close()


@pytest.mark.parametrize("rest", [b"", b"{", b'{"refresh_token": 1', b"\xff\xfe\n", b"[]\n", b'"text"\n'])
def test_a_line_that_breaks_off_spoils_no_other(killed: Path, rest: bytes) -> None:
    [path] = killed.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + rest)
    assert RefreshJournal(killed).is_unsettled(SECOND)


def test_an_entry_holds_no_token(killed: Path) -> None:
    [path] = killed.glob("*.jsonl")
    assert b"refresh-second" not in path.read_bytes()
    assert digest(SECOND).encode() in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_is_an_error_before_anything_is_used_up(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        RefreshJournal(tmp_path / "file").begin("one", FIRST, NOW)


def test_entries_that_cannot_be_read_are_left_alone(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As those of another user's run are."""
    [path] = killed.glob("*.jsonl")
    lock = path.with_suffix(".lock")
    lock.unlink()
    lock.mkdir()
    journal = RefreshJournal(killed)
    assert not journal.is_unsettled(SECOND)
    journal.close()
    assert path.exists()
    assert f"{path} cannot be read (Is a directory)" in caplog.text
