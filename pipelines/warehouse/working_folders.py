"""Working folders: where dlt keeps the packages of a load, and for which target each was used.

dlt calls such a folder `pipelines_dir`. Beside dlt's own files lie the lock of the load that uses it
(`locks.py`), the journal of refreshes under way, and a mark: a file that names the target. Packages in a
folder are loaded into that target and no other. A folder that was moved or copied and holds no packages is
given to the next target.
"""

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import dlt
from dlt.common.pipeline import get_dlt_pipelines_dir

from dlt_cronofy.source import SOURCE_NAME
from dlt_cronofy.source.api.refresh_journal import PATTERN as REFRESH_NOTES
from dlt_cronofy.source.files import replace_file

from .target import PIPELINE_NAME, Target

# below dlt's working files of a pipeline
EXTRACTED, NORMALIZED, QUARANTINE = "normalize/extracted", "load/normalized", "quarantine"
LOADED = "load/loaded"
OWNER, LOCK = f".{PIPELINE_NAME}.target.json", f".{PIPELINE_NAME}.lock"
# in dlt's folder for working files: the folders elsewhere that were configured at some time
ELSEWHERE = f".{PIPELINE_NAME}-folders.jsonl"
# what dlt remembers of its last run; of some drivers' errors that is a row
TRACE = "trace.pickle"
# by any of these a folder of dlt's is known
DLTS_OWN = {"state.json", "schemas", "normalize", "load", QUARANTINE}
# a load in shards works here, and what it leaves is in the handoff as well
SHARDS = "shards"
# named after a target, also by 0.2; an application's name may follow
MADE_HERE = re.compile(rf"{PIPELINE_NAME}-[0-9a-f]{{8,16}}(-|$)")


@dataclass(frozen=True)
class WorkingFolder:
    """One folder of working files."""

    path: Path

    @property
    def working_dir(self) -> Path:
        """The folder of dlt's own files."""
        return self.path / PIPELINE_NAME

    @property
    def is_of_shards(self) -> bool:
        """Whether a load in shards uses it: what is pending there comes again from the handoff."""
        return SHARDS in (self.path.name, self.path.parent.name)

    def owner(self) -> Target | None:
        """The target of the packages here; None where nothing says so."""
        mark = self._mark()
        return mark[0] if mark is not None else None

    def is_of(self, target: Target) -> bool:
        """Whether the packages here are of that target."""
        owner = self.owner()
        return owner == target if owner is not None else self.path.name == folder_name(target)

    def pending(self) -> list[Path]:
        """The packages that wait here, oldest first; OSError where the folder cannot be read."""
        found = [path for stage in (EXTRACTED, NORMALIZED) for path in _entries(self.working_dir / stage)]
        return sorted(found, key=lambda path: path.name)

    def packages(self) -> list[Path]:
        """All packages here: pending ones, records of loaded ones, and halves that a kill left."""
        return sorted(
            path for stages in ("load", "normalize") for path in self.working_dir.glob(f"{stages}/*/*")
        )

    def is_free(self) -> bool:
        """Whether another target may have it: no packages are here, and its owner does not come back."""
        try:
            if self.pending() or _entries(self.working_dir / QUARANTINE):
                return False
        except OSError:
            return True  # what follows fails and says so
        target, written_at = self._mark() or (None, "")
        return target is None or written_at != str(self.path.resolve()) or target.is_gone()

    def give_to(self, target: Target) -> None:
        """Write down durably whose packages are going to be here."""
        mark = {"place": str(self.path.resolve())} | asdict(target)
        replace_file(self.path / OWNER, json.dumps(mark).encode(), mode=0o666)
        _remember(self.path)

    def _mark(self) -> tuple[Target, str] | None:
        """Whose the folder is, and where it was when that was written down."""
        try:
            mark = json.loads((self.path / OWNER).read_text(encoding="utf-8"))
            target = Target(**{name: str(mark[name]) for name in Target.__dataclass_fields__})
            return target, str(mark["place"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def folder_for(target: Target, base: Path) -> WorkingFolder:
    """The folder for a target where one was configured or given: that itself, unless it is taken."""
    own, shared = WorkingFolder(base / folder_name(target)), WorkingFolder(base)
    if shared.is_of(target):
        return shared
    return shared if shared.is_free() and not own.working_dir.is_dir() else own


def default_folder(target: Target, application: str = "") -> WorkingFolder:
    """The folder for a target where none is configured."""
    name = folder_name(target) + (f"-{application}" if application else "")
    return WorkingFolder(Path(get_dlt_pipelines_dir()) / name)


def configured_base() -> Path | None:
    """The `pipelines_dir` of dlt's configuration."""
    configured: str | None = dlt.config.get("pipelines_dir")
    return Path(configured) if configured else None


def folder_name(target: Target) -> str:
    """What the folder of a target is called."""
    return f"{PIPELINE_NAME}-{target.digest}"


def other_folders(folder: WorkingFolder) -> tuple[list[WorkingFolder], list[Path]]:
    """All other working folders this user is known to have on this machine, and those that may not be read.

    They are looked for in dlt's folder for working files, in the configured one, in those that were
    configured earlier, and where the folder itself is.
    """
    found: dict[Path, WorkingFolder] = {}
    unreadable: list[Path] = []
    seen: set[Path] = set()
    bases = {Path(get_dlt_pipelines_dir()), *_remembered()}
    if (configured := configured_base()) is not None:
        bases.add(configured)
    for base in folder.path, *folder.path.parents:
        bases.add(base)
        if not _is_made_here(base):
            break
    for base in bases:
        _look_through(base, found, unreadable, seen)
    found.pop(folder.path.resolve(), None)
    return [found[place] for place in sorted(found)], unreadable


def other_programs() -> list[Path]:
    """Working files of programs that load with the source alone, in dlt's folder."""
    root = Path(get_dlt_pipelines_dir())
    return [
        path
        for path in _entries(root)
        if path.name != PIPELINE_NAME and (path / "schemas" / f"{SOURCE_NAME}.schema.json").is_file()
    ]


def _look_through(
    place: Path, found: dict[Path, WorkingFolder], unreadable: list[Path], seen: set[Path]
) -> None:
    """Find the working folders from a folder on: itself, and what this program makes below."""
    try:
        resolved = place.resolve()
        if resolved in seen:
            return
        seen.add(resolved)
        entries = _entries(place)
        if any(_is_of_a_load(path) for path in entries):
            found[resolved] = WorkingFolder(place)
        below = [path for path in entries if _is_made_here(path) and path.is_dir()]
    except OSError:
        unreadable.append(place)
        return
    for each in below:
        _look_through(each, found, unreadable, seen)


def _is_made_here(place: Path) -> bool:
    return place.name == SHARDS or MADE_HERE.match(place.name) is not None


def _is_of_a_load(path: Path) -> bool:
    """Whether it is a file of ours, or dlt's folder with what dlt has in it."""
    if path.name == PIPELINE_NAME:
        return any(each.name in DLTS_OWN for each in _entries(path))
    return fnmatch(path.name, REFRESH_NOTES)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing where there is no such folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remember(place: Path) -> None:
    """Write down a configured folder outside of dlt's own, to find it when it is configured no more."""
    base, root = configured_base(), Path(get_dlt_pipelines_dir())
    if base is None or not place.resolve().is_relative_to(base.resolve()):
        return
    path = base.resolve()
    if path.is_relative_to(root.resolve()) or path in _remembered():
        return
    with suppress(OSError):  # a load does not fail for that
        root.mkdir(parents=True, exist_ok=True)
        with (root / ELSEWHERE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(str(path)) + "\n")


def _remembered() -> list[Path]:
    found = []
    with suppress(OSError):
        for line in (Path(get_dlt_pipelines_dir()) / ELSEWHERE).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, TypeError):  # half a line: its writer was killed
                found.append(Path(json.loads(line)))
    return found
