"""The command as no setting allows it: with packages of another size, and killed at a named instant.

    python -P killed_load.py NOTES SIZE INSTANT load --every 0s ...

NOTES is a file: one line per batch of polls before its content is extracted, an empty line after each
package. SIZE is in polls, 0 for the product's own; INSTANT is `-` for none.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

NO_INSTANT = "-"


@dataclass(frozen=True)
class Instant:
    """Before or after the nth call of a function of the product or of dlt.

    Attributes:
        function: its name in the module, which may be that of a method or of a class.
    """

    module: str
    function: str
    call: int = 1
    after: bool = False


SEAL = ("dlt.extract.storage", "ExtractStorage.commit_new_load_package")
NORMALIZED = ("dlt.common.storages.load_storage", "LoadStorage.commit_new_load_package")
# in the order in which a load comes to them; without a number it is the first package
INSTANTS = {
    "pending packages not looked at": Instant("pipelines.load", "settle_pending"),
    "plan": Instant("pipelines.load", "make_plan"),
    "content written, not sealed": Instant(*SEAL),
    "content sealed": Instant(*SEAL, after=True),
    "content without polls": Instant("pipelines.steps", "RecordedPolls"),
    "polls written, not sealed": Instant(*SEAL, call=2),
    "all sealed": Instant("dlt.pipeline.pipeline", "Pipeline.normalize"),
    "content normalized, not committed": Instant(*NORMALIZED),
    "content normalized twice over": Instant(*NORMALIZED, after=True),
    "polls normalized twice over": Instant(*NORMALIZED, call=2, after=True),
    "all normalized": Instant("dlt.pipeline.pipeline", "Pipeline.load"),
    "content half loaded": Instant("dlt.load.load", "Load.create_followup_jobs", call=6),
    "content loaded, not noted": Instant("dlt.load.load", "Load.complete_package"),
    "content loaded": Instant("dlt.load.load", "Load.complete_package", after=True),
    "polls loaded, not noted": Instant("dlt.load.load", "Load.complete_package", call=2),
    "second content without polls": Instant("pipelines.steps", "RecordedPolls", call=2),
    "second polls written, not sealed": Instant(*SEAL, call=4),
    "views": Instant("pipelines.load", "refresh_views"),
}


def unusual_command(notes: Path, package_polls: int, instant: str = NO_INSTANT) -> list[str]:
    """The command line that runs this module; arguments of the command follow."""
    return [sys.executable, "-P", __file__, str(notes), str(package_polls), instant]


def main() -> None:
    """Run the command with what the first three arguments say."""
    notes, size, instant = sys.argv[1:4]
    del sys.argv[1:4]
    from pipelines import steps
    from pipelines.cli import main as command

    if int(size):
        steps.MIN_PACKAGE_POLLS = steps.MAX_PACKAGE_POLLS = int(size)
    note_packages(Path(notes))
    if instant != NO_INSTANT:
        kill_at(INSTANTS[instant])
    command()


def note_packages(notes: Path) -> None:
    """Write down which polls each package is about, before its content is extracted."""
    from pipelines.tally import Tally

    def note(line: str) -> None:
        with notes.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def captured(polls: list[Any]) -> None:
        note(json.dumps([(poll.token_key, poll.endpoint) for poll in polls]))

    Tally.add_captured = _with(Tally.add_captured, before=lambda _, polls: captured(polls))  # type: ignore[method-assign]
    Tally.take_poll_rows = _with(Tally.take_poll_rows, before=lambda _: note(""))  # type: ignore[method-assign]


def read_packages(notes: Path) -> list[set[tuple[str, str]]]:
    """The token and endpoint of the polls of each package; the last one may be half written."""
    packages: list[set[tuple[str, str]]] = [set()]
    for line in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else ():
        if line:
            packages[-1] |= {(token, endpoint) for token, endpoint in json.loads(line)}
        else:
            packages.append(set())
    return [package for package in packages if package]


def kill_at(instant: Instant) -> None:
    """Kill this process at that instant."""
    holder = importlib.import_module(instant.module)
    *classes, name = instant.function.split(".")
    for each in classes:
        holder = getattr(holder, each)
    numbers = count(1)

    def kill(*_: object, **__: object) -> None:
        if next(numbers) == instant.call:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(holder, name, _with(getattr(holder, name), **{"after" if instant.after else "before": kill}))


def _with(
    function: Callable[..., Any],
    before: Callable[..., None] = lambda *_, **__: None,
    after: Callable[..., None] = lambda *_, **__: None,
) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        before(*arguments, **named)
        result = function(*arguments, **named)
        after(*arguments, **named)
        return result

    return wrapped


if __name__ == "__main__":
    main()
