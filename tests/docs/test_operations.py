"""What docs/operations.md says of logs, of summaries and of the demo's warehouse is what the program says."""

import ast
import os
import re
from dataclasses import fields
from functools import cache

import duckdb
import pytest

from dlt_cronofy.load.statistics import LoadResult
from tests.docs.questions import DOCS, printed

ROOT = DOCS.parent
DOCUMENT = DOCS / "operations.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
# the first test plays the demo, which takes long on a busy machine
pytestmark = pytest.mark.timeout(300)

QUERY = re.compile(r"```sql\n(.+?)```\n\n```text\n(.*?)```", re.DOTALL)
LINES = re.findall(r"^\| `(.+?)` \|", "".join(TEXT.partition("| line |")[1:]), re.MULTILINE)
KEYS = re.findall(r"^\| `(\w+)` \|", TEXT.partition("| key |")[2].partition("\n\n")[0], re.MULTILINE)
# what a message has in the place of a value
VALUE = re.compile(r"%(?:\.0)?[sdfg]|\{\}")


@cache
def messages() -> list[str]:
    """All texts in the code, values in f-strings as `{}`."""
    found = []
    for folder in ("pipelines", "sources"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                    found.append("".join(map(str, parts)))
    return found


def test_what_it_tells_of_is_found() -> None:
    assert len(LINES) == len(set(LINES)) >= 25
    assert len(KEYS) == 7
    assert TEXT.count("```sql") == len(QUERY.findall(TEXT)) == 2


# the reason is a value of its own
@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(("waiting", "polling"))])
def test_a_line_is_one_that_the_program_writes(line: str) -> None:
    words = [re.escape(part) for part in line.strip("… ").split("…")]
    assert any(re.search(".*?".join(words), message, re.DOTALL) for message in messages())


def test_lines_whose_reason_is_a_value_are_written_too() -> None:
    waits = [line.removeprefix("waiting … s: ") for line in LINES if line.startswith("waiting")]
    assert len(waits) == 2
    assert {*waits, "waiting %.0f s: %s", "polling", "%s: %s of %s %s, %s"} <= set(messages())


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_one_of_the_summary(key: str) -> None:
    assert key in {"failure_ratio", *(field.name for field in fields(LoadResult))}


def test_queries_print_what_is_shown(connection: duckdb.DuckDBPyConnection) -> None:
    def answered(found: "re.Match[str]") -> str:
        cursor = connection.execute(found[1])
        assert cursor.description
        answer = printed([column[0] for column in cursor.description], cursor.fetchall())
        return f"```sql\n{found[1]}```\n\n```text\n{answer}```"

    connection.execute("SET TimeZone = 'UTC'")
    shown = QUERY.sub(answered, TEXT)
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(shown, encoding="utf-8")
    else:
        assert shown == TEXT


def test_sizes_are_those_that_were_measured() -> None:
    measured = (DOCS / "performance.md").read_text(encoding="utf-8")
    sizes = {
        f"{warehouse}, after a simulated year: bytes per {row}": figure
        for warehouse, row, figure in (
            ("DuckDB", "poll", "39"),
            ("PostgreSQL", "poll", "305"),
            ("DuckDB", "change", "133"),
            ("PostgreSQL", "change", "336"),
        )
    } | {
        "peak memory of a first sweep of 10,000 tokens": "416 MB",
        "peak memory of a first sweep of 100,000 tokens": "481 MB",
    }
    for what, figure in sizes.items():
        assert f"| {what} | {figure} |" in measured
        assert re.search(rf"\b{figure}\b", TEXT)
    polls = 10_000 * 24 * 365
    assert (round(polls / 1e6, 1), round(polls * 39 / 1e9), round(polls * 305 / 1e9)) == (87.6, 3, 27)


def test_figures_of_the_readme_are_those_that_were_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| peak memory of a first sweep of 100,000 tokens | 481 MB |" in readme
    assert "| bytes per poll in DuckDB; in PostgreSQL | 39; 305 |" in readme


def test_comparisons_are_those_that_were_measured() -> None:
    peers = re.compile(r"^\| [^|]+ \| (\d\.\d) \| (\d\.\d) \|$", re.MULTILINE)
    comparison, measured = (
        peers.findall((DOCS / page).read_text(encoding="utf-8"))
        for page in ("comparison.md", "performance.md")
    )
    assert len(measured) == 5
    assert comparison == measured
