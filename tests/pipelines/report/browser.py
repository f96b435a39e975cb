"""A real Chromium for tests: the one that CHROMIUM names, the machine's, or that of `make browser`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

FETCHED = Path(__file__).parents[3] / ".browser" / "files"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# no update, no sync, nothing that asks another host
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> tuple[Path, dict[str, str]] | None:
    """The program and what its environment needs."""
    named = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if named:
        return Path(named), {}
    program = FETCHED / "usr/lib/chromium/chromium"
    if not program.exists():
        return None
    libraries = {str(library.parent) for library in (FETCHED / "usr/lib").rglob("*.so*")}
    return program, {"LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))}


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A headless Chromium; without one the test is skipped, or fails where NEED_BROWSER is set."""
    found = chromium()
    if found is None:
        missing = "no Chromium: run `make browser`, or set CHROMIUM to its path"
        if os.environ.get("NEED_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    program, environment = found
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=QUIET, env={**os.environ, **environment}
        )
        yield browser
        browser.close()
