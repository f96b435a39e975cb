"""JSON Lines token files: their rows, and the same text with other tokens in it."""

import json
from typing import Any

import orjson

from .file_changes import Changes
from .rows import NumberedRows, RowError, is_blank


def json_rows(_: str, text: str) -> NumberedRows:
    """The rows of a file by the number of their line."""
    for number, line in enumerate(text.split("\n"), start=1):
        row = _parsed(line)
        if line.strip() and not is_blank(row):
            yield number, row


def rewrite_json_lines(text: str, changes: Changes) -> str:
    """The JSON Lines text with its changes; a line without one stays as it is.

    A row gets an `expires_at` only where it had one.
    """
    lines = text.split("\n")
    rows = (row if isinstance(row, dict) else {} for row in map(_parsed, lines))
    for number, values in changes.edits(rows).items():
        line = lines[number]
        # of the two libraries this one keeps integers of any length
        row = json.loads(line) | values
        end = line[len(line.rstrip()) :]
        lines[number] = json.dumps(row, ensure_ascii=False) + end
    return "\n".join(lines)


def _parsed(line: str) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return RowError("not a JSON object")
