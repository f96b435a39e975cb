"""The way through the code in CONTRIBUTING.md and AGENTS.md: every module and folder named there exists."""

import re

import pytest

from tests.docs.questions import DOCS

ROOT = DOCS.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATH = re.compile(r"`((?:sources|pipelines|tests|docs)/[\w/.-]+)`")
PAGES = ("CONTRIBUTING.md", "AGENTS.md")


def rooms_in(text: str) -> set[str]:
    """The folders in the first column of the table of rooms."""
    table = text.partition("| room |")[2].partition("\n\n")[0]
    return {
        name
        for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_path_leads_somewhere(page: str) -> None:
    paths = PATH.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_room_is_named() -> None:
    folders = {file.parent.name for file in (ROOT / "pipelines").glob("*/__init__.py")}
    assert rooms_in(CONTRIBUTING) == (folders - {"source"}) | {"dbt", "scheduling"}
