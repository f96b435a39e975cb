"""Files that are replaced as a whole."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dlt_cronofy.source import files
from dlt_cronofy.source.files import abandoned, put_in_place, replace_file, written_beside

Prepare = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some [file].csv"
    path.write_bytes(b"old")
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_and_nothing_stays_beside_it(file: Path) -> None:
    inode = file.stat().st_ino
    replace_file(file, b"new")
    assert (file.read_bytes(), [*file.parent.iterdir()]) == (b"new", [file])
    assert file.stat().st_ino != inode


@pytest.mark.parametrize("before", [0o640, 0o400, 0o777])
def test_the_mode_stays(file: Path, before: int) -> None:
    file.chmod(before)
    replace_file(file, b"new", mode=0o666)
    assert mode(file) == before


@pytest.mark.parametrize(("chosen", "expected"), [(None, 0o600), (0o666, 0o644)])
def test_the_mode_of_a_new_file(tmp_path: Path, chosen: int | None, expected: int) -> None:
    umask = os.umask(0o022)
    try:
        replace_file(tmp_path / "new", b"new", *([] if chosen is None else [chosen]))
    finally:
        os.umask(umask)
    assert mode(tmp_path / "new") == expected


def test_what_a_group_could_do_is_not_for_another_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    file.chmod(0o664)
    monkeypatch.setattr(os, "chown", refuse)
    replace_file(file, b"new")
    assert mode(file) == 0o604


def test_a_link_stays_one(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    replace_file(link, b"new")
    assert (link.is_symlink(), file.read_bytes()) == (True, b"new")


def failing(name: str, module: object = os) -> Prepare:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    return lambda monkeypatch: monkeypatch.setattr(module, name, fail)


@pytest.mark.parametrize("fail", [failing("fsync"), failing("replace", Path)], ids=["write", "rename"])
def test_a_failure_leaves_the_old_file_alone(
    fail: Prepare, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        replace_file(file, b"new")
    assert (file.read_bytes(), [*file.parent.iterdir()]) == (b"old", [file])


def test_a_folder_that_cannot_be_synced_fails_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing("sync", files)(monkeypatch)
    replace_file(file, b"new")
    assert file.read_bytes() == b"new"


def test_it_is_on_the_disk_before_it_has_the_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        assert path.read_bytes() == b"new"
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    replace_file(file, b"new")
    assert steps == ["file", "rename", "folder"]


def test_a_version_beside_it_is_complete_and_then_gone(file: Path) -> None:
    file.chmod(0o640)
    with written_beside(file, b"new") as fresh:
        assert (fresh.read_bytes(), mode(fresh), abandoned(file)) == (b"new", 0o640, [fresh])
        assert file.read_bytes() == b"old"
    assert (file.read_bytes(), abandoned(file)) == (b"old", [])
    with written_beside(file, b"new") as fresh:
        put_in_place(fresh, file)
    assert (file.read_bytes(), abandoned(file)) == (b"new", [])
