"""Working folders: whose they are, which one a target gets, and which others there are."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dlt_cronofy.warehouse.target import Target
from dlt_cronofy.warehouse.working_folders import (
    ELSEWHERE,
    EXTRACTED,
    NORMALIZED,
    OWNER,
    QUARANTINE,
    WorkingFolder,
    default_folder,
    folder_for,
    folder_name,
    other_folders,
)

PROD, TEST = (Target("postgres", f"db:5432/{name}", "cronofy") for name in ("prod", "test"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """dlt's own folder for working files."""
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("PIPELINES_DIR", raising=False)
    return tmp_path / "data" / "pipelines"


def folder_at(place: Path, owner: Target | None = None, holds: str | None = None) -> WorkingFolder:
    """A folder as loads leave it: whose it is, and a package in one of dlt's folders."""
    folder = WorkingFolder(place)
    (folder.working_dir / (f"{holds}/1700000000.5" if holds else "schemas")).mkdir(parents=True)
    if owner is not None:
        folder.give_to(owner)
    return folder


def gone(folder: Path) -> Target:
    return Target("duckdb", str(folder / "gone.duckdb"), "cronofy")


def moved(folder: WorkingFolder) -> None:
    """What it says of itself was written in another place."""
    mark = json.loads((folder.path / OWNER).read_text())
    (folder.path / OWNER).write_text(json.dumps(mark | {"place": "/elsewhere"}))


def damaged(folder: WorkingFolder) -> None:
    (folder.path / OWNER).write_text('{"place": ')


# whose the configured folder is, what it holds, what befell it, and whether the test's target gets it
TAKEN: dict[str, tuple[str | None, str | None, Callable[[WorkingFolder], None] | None, bool]] = {
    "nobody's": (None, None, None, True),
    "nobody's, with packages": (None, EXTRACTED, None, False),
    "nobody's, with a quarantine": (None, QUARANTINE, None, False),
    "its own": ("test", None, None, True),
    "its own, with packages": ("test", NORMALIZED, None, True),
    "its own, moved with packages": ("test", NORMALIZED, moved, True),
    "another's": ("prod", None, None, False),
    "another's, with packages": ("prod", NORMALIZED, None, False),
    "another's, moved": ("prod", None, moved, True),
    "another's, moved with packages": ("prod", EXTRACTED, moved, False),
    "that of a file that is gone": ("gone", None, None, True),
    "that of a file that is gone, with packages": ("gone", EXTRACTED, None, False),
    "one that does not say whose": ("prod", None, damaged, True),
    "one that does not say whose, with packages": ("test", NORMALIZED, damaged, False),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_configured_folder_is_shared_by_no_two_targets(case: str, data: Path, tmp_path: Path) -> None:
    name, holds, befell, is_got = TAKEN[case]
    owner = {None: None, "test": TEST, "prod": PROD, "gone": gone(tmp_path)}[name]
    base = folder_at(tmp_path / "configured", owner, holds)
    if befell is not None:
        befell(base)
    own = base.path / folder_name(TEST)
    assert folder_for(TEST, base.path) == (base if is_got else WorkingFolder(own))
    assert not own.exists()  # looking writes nothing


def test_a_folder_of_its_own_is_kept(data: Path, tmp_path: Path) -> None:
    """Where a target had to have one once, it stays there."""
    base = folder_at(tmp_path, PROD, NORMALIZED)
    own = folder_at(folder_for(TEST, tmp_path).path, TEST)
    for package in base.pending():
        package.rmdir()
    moved(base)
    assert folder_for(TEST, tmp_path) == own
    assert folder_for(PROD, tmp_path) == base


def test_whose_a_folder_is_survives(data: Path, tmp_path: Path) -> None:
    folder = folder_at(tmp_path, PROD, EXTRACTED)
    assert (folder.owner(), folder.is_of(PROD), folder.is_of(TEST)) == (PROD, True, False)
    assert [path.name for path in folder.pending()] == ["1700000000.5"]
    folder.give_to(TEST)
    assert folder.owner() == TEST
    assert sorted(path.name for path in tmp_path.glob(".*")) == [OWNER]


def test_the_packages_are_all_but_what_dlt_needs_to_go_on(data: Path, tmp_path: Path) -> None:
    """Without its state dlt would wipe the whole folder, with what was set aside and a DuckDB file in it."""
    folder = folder_at(tmp_path, PROD, EXTRACTED)
    packages = [*folder.pending()]
    for name in ("load/new", "load/normalized", "load/loaded", "normalize/a1b2c3"):
        packages.append(folder.working_dir / name / "1700000000.6")
        packages[-1].mkdir(parents=True)
    for name in ("state.json", "cronofy.duckdb", "load/.version", "normalize/.version"):
        (folder.working_dir / name).touch()
    (folder.working_dir / QUARANTINE / "1700000000.7").mkdir(parents=True)
    assert folder.packages() == sorted(packages)


def test_a_folder_is_known_by_its_name(data: Path) -> None:
    folder = default_folder(PROD)
    assert folder.path.parent == data
    assert (folder.owner(), folder.is_of(PROD), folder.is_of(TEST)) == (None, True, False)
    assert default_folder(PROD, "application").path not in (folder.path, default_folder(PROD, "b").path)


def test_the_other_folders(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, configured = tmp_path / "earlier", tmp_path / "configured"
    for base in (earlier, configured):
        monkeypatch.setenv("PIPELINES_DIR", str(base))
        folder_at(base, PROD)
    notes = data / "cronofy-00000001"
    (data / "another_pipeline" / "schemas").mkdir(parents=True)
    notes.mkdir()
    (notes / "cronofy-refreshing-12ab.jsonl").touch()
    (configured / "shards" / "empty").mkdir(parents=True)
    source = data / "cronofy-source" / "cronofy"  # code, say, of that name
    source.mkdir(parents=True)
    (source / "__init__.py").touch()
    expected = {
        earlier,
        configured,
        notes,
        *(
            folder_at(base / name).path
            for base in (data, configured)
            for name in (
                "cronofy-a1b2c3d4",
                "cronofy-a1b2c3d4/shards",
                "shards",
                f"shards/{folder_name(TEST)}",
            )
        ),
        folder_at(data).path,
    }
    for own in (configured, data / "cronofy-a1b2c3d4" / "shards"):
        found, unreadable = other_folders(WorkingFolder(own))
        assert {folder.path for folder in found} == expected - {own}
        assert unreadable == []
        assert {folder.path for folder in found if folder.is_of_shards} == {
            place for place in expected - {own} if "shards" in place.parts
        }
    # earlier ones stay known, each by one line; dlt's own folder needs none
    monkeypatch.setenv("PIPELINES_DIR", str(earlier))
    WorkingFolder(earlier).give_to(TEST)
    monkeypatch.setenv("PIPELINES_DIR", str(data))
    WorkingFolder(data).give_to(TEST)
    assert (data / ELSEWHERE).read_text().splitlines() == [f'"{earlier}"', f'"{configured}"']
    with (data / ELSEWHERE).open("a") as file:
        file.write('"/half a li')
    monkeypatch.delenv("PIPELINES_DIR")
    assert {folder.path for folder in other_folders(WorkingFolder(data))[0]} == expected - {data}


def test_a_folder_that_may_not_be_read_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder_at(data / "cronofy-a1b2c3d4").path
    seen = folder_at(data / "cronofy-b1b2c3d4")
    listed = Path.iterdir

    def refuse(path: Path) -> object:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert other_folders(WorkingFolder(tmp_path / "own")) == ([seen], [closed])


def test_a_given_folder_is_not_remembered(data: Path, tmp_path: Path) -> None:
    folder_at(tmp_path / "given", PROD)
    assert not data.exists()
