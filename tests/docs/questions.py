"""docs/questions.md taken apart: the demo's command, and each question with its SQL and the answer shown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from dlt_cronofy.cli.console import PIPED_WIDTH
from dlt_cronofy.cli.summary import print_rows

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = DOCS / "questions.md"
_TEXT = DOCUMENT.read_text(encoding="utf-8")

_QUESTION = re.compile(
    r"^## (.+?)\n\n(```sql\n(.+?)```\n\n```text\n)(.*?)```\n\n(.+?)(?=^## |\Z)", re.DOTALL | re.MULTILINE
)


def _demo_command() -> str:
    found = re.search(r"<!-- demo command -->\n```sh\n(.+)\n```", _TEXT)
    assert found, "the document says how to play its demo"
    return found[1]


DEMO_COMMAND = _demo_command()


@dataclass(frozen=True)
class Question:
    """One section of the document."""

    title: str
    sql: str
    answer: str
    reading: str


QUESTIONS = [Question(found[1], found[3], found[4], found[5]) for found in _QUESTION.finditer(_TEXT)]


def printed(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """What `dlt-cronofy query` prints, without blanks at the ends of lines and empty lines around it."""
    console = Console(file=StringIO(), highlight=False, width=PIPED_WIDTH)
    print_rows(console, [dict(zip(columns, row, strict=True)) for row in rows])
    assert isinstance(console.file, StringIO)
    return trimmed(console.file.getvalue())


def trimmed(output: str) -> str:
    return "\n".join(line.rstrip() for line in output.splitlines()).strip("\n") + "\n"


def rewrite(question: Question, answer: str) -> None:
    """Put another answer into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    shown = f"{question.sql}```\n\n```text\n"
    DOCUMENT.write_text(text.replace(shown + question.answer, shown + answer), encoding="utf-8")
