"""Erasing from the other working folders of the same user, whatever warehouse they were used for.

What waits there for the same warehouse is loaded before (`elsewhere.py`). Packages for another warehouse are
not touched, because others would lose their polls: where they hold the person, that is said.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dlt_cronofy.formatting import program
from dlt_cronofy.warehouse.locks import WarehouseBusy, sole_user
from dlt_cronofy.warehouse.target import Target
from dlt_cronofy.warehouse.working_folders import (
    EXTRACTED,
    LOCK,
    NORMALIZED,
    WorkingFolder,
    other_folders,
    other_programs,
)

from .person import Person, Traces
from .working_files import Cleaned, Searched, WorkingFiles


@dataclass
class Elsewhere:
    """What became of the person in the other folders.

    Attributes:
        problems: what could not be done, in words for a person.
    """

    cleaned: Cleaned = field(default_factory=Cleaned)
    searched: Searched = field(default_factory=Searched)
    problems: list[str] = field(default_factory=list)


def erase_elsewhere(own: WorkingFolder, target: Target | None, person: Person, traces: Traces) -> Elsewhere:
    """Remove the person from all other folders, and look what is left there."""
    result = Elsewhere()
    folders, unreadable = other_folders(own)
    result.problems += [f"{place} cannot be read; packages may wait there" for place in unreadable]
    for folder in folders:
        try:
            result.problems += _erase_in(folder, target, person, traces, result)
        except WarehouseBusy:
            result.problems.append(
                f"a load is running over {folder.place}, where nothing was done; run this again"
            )
        except OSError as error:
            result.problems.append(f"{folder.place} cannot be cleaned ({error.strerror})")
    result.problems += _found_of_programs(traces)
    return result


def _found_of_programs(traces: Traces) -> Iterator[str]:
    """Where programs that load with the source alone hold the person."""
    try:
        for working_dir in other_programs():
            yield from _found_of_program(working_dir, traces)
    except OSError as error:
        yield f"{error.filename} cannot be read; a program of your own may keep packages there"


def _found_of_program(working_dir: Path, traces: Traces) -> Iterator[str]:
    """It would not know that its folder is in use, so nothing is changed there."""
    searched = WorkingFiles(working_dir).search(traces)
    for path in (searched.found + searched.unreadable)[:1]:
        yield f"{path} holds them or cannot be read, and another program made it: delete {working_dir}"


def _erase_in(
    folder: WorkingFolder, target: Target | None, person: Person, traces: Traces, result: Elsewhere
) -> Iterator[str]:
    """Clean and search one folder; yields what is left to do."""
    files = WorkingFiles(folder.working_dir)
    if folder.working_dir.is_dir() and not (folder.place / LOCK).exists():
        yield from _found_of_program(folder.working_dir, traces)
        return
    with sole_user(folder):
        if folder.is_of_shards and folder.working_dir.is_dir():
            result.cleaned.packages += len(folder.pending())
            shutil.rmtree(folder.working_dir)  # what it holds is in the handoff as well
        result.cleaned.add(files.clean(person, traces))
        searched = files.search(traces)
        pending = [path for path in searched.found if _is_pending(path, folder)]
        searched.found = [path for path in searched.found if path not in pending]
        result.searched.add(searched)
        if pending:
            yield _pending_line(folder, target)


def _is_pending(path: Path, folder: WorkingFolder) -> bool:
    return any(path.is_relative_to(folder.working_dir / stage) for stage in (EXTRACTED, NORMALIZED))


def _pending_line(folder: WorkingFolder, target: Target | None) -> str:
    owner = folder.owner()
    waits = f"packages that wait in {folder.working_dir} hold them"
    if owner is None:
        return f"{waits}, and it is not known for which warehouse: delete that folder"
    if owner == target:
        return f"{waits}: load with that working folder and run this again, or delete that folder"
    return f"{waits}: they are for {owner}; run {program()} erase there too, or delete that folder"
