"""The command as no setting allows it: with packages of another size, and killed at a named instant.

    python -P killed_load.py NOTES SIZE INSTANT load --every 0s ...

NOTES is a file: one line per package of polls before its content is extracted. SIZE is in polls, 0 for the
product's own; INSTANT is `-` for none.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

NO_INSTANT = "-"
EVIDENCE_TABLES = ("polls", "token_status", "coverage", "runs")


@dataclass(frozen=True)
class Instant:
    """Before or after the nth call of a function of the product or of dlt.

    Attributes:
        function: its name in the module, which may be that of a method or of a class.
        of_evidence: only calls count in which a job of dlt's writes a table of evidence.
    """

    module: str
    function: str
    call: int = 1
    after: bool = False
    of_evidence: bool = False


SEAL = ("dlt.extract.storage", "ExtractStorage.commit_new_load_package")
NORMALIZED = ("dlt.common.storages.load_storage", "LoadStorage.commit_new_load_package")
FOLLOWED_UP = ("dlt.load.load", "Load.create_followup_jobs")
MERGE = ("dlt.destinations.job_client_impl", "SqlLoadJob.run")
OPEN = ("dlt_cronofy.load.maintenance", "Upkeep.open_run")
CLOSE = ("dlt_cronofy.load.maintenance", "Upkeep.close_run")
FINISH = ("dlt_cronofy.load.maintenance", "Upkeep.finish_run")
EXTRACT = ("dlt_cronofy.load.steps", "extract")
# what comes first in a load after one that was killed
HEAL = ("dlt_cronofy.rebuild", "heal")
# in the order in which a load comes to them; without a number it is the first package
INSTANTS = {
    "pending packages not looked at": Instant("dlt_cronofy.load.run", "settle_pending"),
    "nothing prepared": Instant("dlt_cronofy.load.maintenance", "Upkeep.look"),
    "plan": Instant("dlt_cronofy.load.run", "make_plan"),
    "run not open": Instant(*OPEN),
    "run open": Instant(*OPEN, after=True),
    "content not extracted": Instant(*EXTRACT),
    "content written, not sealed": Instant(*SEAL),
    "content sealed": Instant(*SEAL, after=True),
    "content without evidence": Instant(*EXTRACT, call=2),
    "evidence written, not sealed": Instant(*SEAL, call=2),
    "all sealed": Instant("dlt.pipeline.pipeline", "Pipeline.normalize"),
    "content normalized, not committed": Instant(*NORMALIZED),
    "content normalized twice over": Instant(*NORMALIZED, after=True),
    "evidence normalized twice over": Instant(*NORMALIZED, call=2, after=True),
    "all normalized": Instant("dlt.pipeline.pipeline", "Pipeline.load"),
    "content half loaded": Instant(*FOLLOWED_UP, call=6),
    "content loaded, not noted": Instant("dlt.load.load", "Load.complete_package"),
    "content loaded": Instant("dlt.load.load", "Load.complete_package", after=True),
    "evidence not loaded": Instant("dlt.load.load", "Load.load_single_package", call=2),
    "first table of evidence merged": Instant(*MERGE, after=True, of_evidence=True),
    "second table of evidence merged": Instant(*MERGE, call=2, after=True, of_evidence=True),
    "third table of evidence merged": Instant(*MERGE, call=3, after=True, of_evidence=True),
    "evidence loaded, not noted": Instant("dlt.load.load", "Load.complete_package", call=2),
    "second turn": Instant(*OPEN, call=2),
    "second content without evidence": Instant(*EXTRACT, call=4),
    "second evidence written, not sealed": Instant(*SEAL, call=4),
    "run not closed": Instant(*CLOSE),
    "run not counted": Instant("dlt_cronofy.rebuild", "recount_run"),
    "run counted": Instant("dlt_cronofy.rebuild", "recount_run", after=True),
    "run not finished": Instant(*FINISH),
    "run finished": Instant(*FINISH, after=True),
    "views": Instant("dlt_cronofy.load.run", "refresh_views"),
}
# where a load comes to that follows a killed one
HEALING = {
    "not healed": Instant(*HEAL),
    "healing worked out": Instant("dlt_cronofy.rebuild.replacement", "swap"),
    "healed": Instant(*HEAL, after=True),
}


def unusual_command(notes: Path, package_polls: int, instant: str = NO_INSTANT) -> list[str]:
    """The command line that runs this module; arguments of the command follow."""
    return [sys.executable, "-P", __file__, str(notes), str(package_polls), instant]


def main() -> None:
    """Run the command with what the first three arguments say."""
    notes, size, instant = sys.argv[1:4]
    del sys.argv[1:4]
    from dlt_cronofy.cli.main import main as command
    from dlt_cronofy.load import steps

    if int(size):
        steps.MIN_PACKAGE_POLLS = steps.MAX_PACKAGE_POLLS = int(size)
    note_packages(Path(notes))
    if instant != NO_INSTANT:
        kill_at((INSTANTS | HEALING)[instant])
    command()


def note_packages(notes: Path) -> None:
    """Write down which polls each package is about, before its content is extracted."""
    from dlt_cronofy.load.steps import Loading

    def note(_: Loading, polls: Sequence[Any], *__: object) -> None:
        with notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps([(poll.token_key, poll.endpoint) for poll in polls]) + "\n")

    Loading._extract = _with(Loading._extract, before=note)  # type: ignore[method-assign]


def read_packages(notes: Path) -> list[set[tuple[str, str]]]:
    """The token and endpoint of the polls of each package."""
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    return [{(token, endpoint) for token, endpoint in json.loads(line)} for line in lines]


def kill_at(instant: Instant) -> None:
    """Kill this process at that instant."""
    holder = importlib.import_module(instant.module)
    *classes, name = instant.function.split(".")
    for each in classes:
        holder = getattr(holder, each)
    numbers = count(1)

    def kill(*arguments: Any, **_: object) -> None:
        if instant.of_evidence and arguments[0].job_file_info().table_name not in EVIDENCE_TABLES:
            return
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
