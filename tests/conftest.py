"""For all tests: a fresh logger, and how thorough properties are.

`HYPOTHESIS_EXAMPLES=500 make test` tries more than the everyday share.
"""

import gc
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from dlt_cronofy.load.gc_tuning import THRESHOLDS
from tests.certificates import trust_nobody
from tests.postgres import FOLDER, stop_shared_server

# no test is timed: on a busy machine an example takes as long as it takes
settings.register_profile(
    "suite", max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "30")), deadline=None
)
settings.load_profile("suite")


# what is imported and collected stays: to look through it again and again is a quarter of the time it takes
gc.disable()

# the first of these plays the demo that others need; at the end they would keep one worker alone busy
FIRST = ("tests/docs/test_questions.py", "tests/test_readme.py", "tests/pipelines/dbt/test_build.py")


def pytest_configure(config: pytest.Config) -> None:
    """No telemetry of dlt, and a folder for the PostgreSQL server of all workers; it starts when needed."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    # how wide the terminal is that the tests are started from says nothing of what is piped
    os.environ.pop("COLUMNS", None)
    trust_nobody()
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="pg")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last process stops the server."""
    stop_shared_server()
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a sampled test the first ones are for every day, the others are long."""
    cases: Counter[str] = Counter()
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is not None:
            function = item.nodeid.partition("[")[0]
            cases[function] += 1
            if cases[function] > sampled.args[0]:
                item.add_marker("long")
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on garbage is collected, of what the tests make alone and as rarely as in commands."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Commands set the program's logger up; the next test starts with a fresh one."""
    logger = logging.getLogger("dlt_cronofy")
    yield
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
