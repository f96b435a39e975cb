"""A process that does without pandas: 40 MB and half a second of a load, which needs none of it.

pyarrow and dlt import pandas wherever it is installed, to see whether they are given a data frame.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ABSENT = "pandas"


class _Absent(MetaPathFinder):
    """Finds nothing, and says so: what asks for pandas goes on as if it were not installed."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the protocol's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] == ABSENT:
            raise ModuleNotFoundError(f"{fullname} is not imported in a load", name=fullname)
        return None


def do_without_pandas() -> None:
    """Have no import of pandas succeed in this process from now on, unless it is there already."""
    if ABSENT not in sys.modules:
        sys.meta_path.insert(0, _Absent())
