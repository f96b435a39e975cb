"""The formats of token files: how each is read, and how it is written with refreshed tokens."""

import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from ..errors import ConfigurationError
from .base import Renewal
from .expiry import expiry_form, expiry_like, is_missing
from .file_csv import csv_rows, write_csv
from .file_parquet import parquet_rows, write_parquet
from .rows import Edits, NumberedRows, RowError, is_blank
from .token import token_key

BOM = b"\xef\xbb\xbf"


class FileFormat(NamedTuple):
    """One format of token files.

    Attributes:
        unit: what messages call a row.
        rows: the rows of a file, from what messages call it, its content and the names of the labels to read
            as well; raises ConfigurationError.
        write: the content with new values in some rows; raises ColumnError.
        empty_expiry: the form of an expiry where no row has one, as `expiry_like` takes it.
    """

    unit: str
    rows: Callable[[str, bytes, Container[str]], NumberedRows]
    write: Callable[[bytes, Edits], bytes]
    empty_expiry: Any

    def renewed(self, name: str, content: bytes, renewals: Sequence[Renewal]) -> tuple[bytes, list[Renewal]]:
        """The content with the renewals, and those whose used refresh token no row holds.

        Raises:
            ConfigurationError: the content cannot be read.
            ColumnError: it cannot hold the renewals.
        """
        by_used = {each.token.refresh_token.reveal(): each for each in renewals if each.token.refresh_token}
        rows = {number: row for number, row in self.rows(name, content, ()) if isinstance(row, Mapping)}
        form = expiry_form((row.get("expires_at") for row in rows.values()), self.empty_expiry)
        found = {
            number: by_used[used] for number, row in rows.items() if (used := _refresh_token(row)) in by_used
        }
        edits = {number: _new_values(rows[number], renewal, form) for number, renewal in found.items()}
        written = set(found.values())
        conflicts = [each for each in renewals if each not in written]
        return self.write(content, edits) if edits else content, conflicts


def _refresh_token(row: Mapping[str, Any]) -> str:
    value = row.get("refresh_token")
    return value.strip() if isinstance(value, str) else ""


def _new_values(row: Mapping[str, Any], renewal: Renewal, form: Any) -> dict[str, Any]:
    """The new values of a row, without `expires_at` where the row has no such column.

    A row without a key is known by its refresh token, so it is given that name before the token goes.
    """
    used, new = _refresh_token(row), renewal.refresh_token.reveal()
    values: dict[str, Any] = {"access_token": renewal.access_token.reveal(), "refresh_token": new}
    key = row.get("key")
    if used != new and (is_missing(key) or not str(key).strip()):
        values["key"] = token_key("", used)
    if "expires_at" in row:
        values["expires_at"] = expiry_like(renewal.expires_at, expiry_form([row["expires_at"]], form))
    return values


def _text_format(rows: Callable[[str, str], NumberedRows], write: Callable[[str, Edits], str]) -> FileFormat:
    """A format of UTF-8 text, with a byte order mark or without."""

    def rows_of(name: str, content: bytes, _: Container[str]) -> NumberedRows:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ConfigurationError(f"{name}: not UTF-8 text; save it as UTF-8") from None
        return rows(name, text)

    def written(content: bytes, edits: Edits) -> bytes:
        mark = BOM if content.startswith(BOM) else b""
        return mark + write(content.removeprefix(BOM).decode(), edits).encode()

    return FileFormat("line", rows_of, written, "")


def _json_rows(_: str, text: str) -> NumberedRows:
    for number, line in enumerate(text.split("\n"), start=1):
        row: Any
        try:
            row = orjson.loads(line)
        except ValueError:
            row = RowError("not a JSON object")
        if line.strip() and not is_blank(row):
            yield number, row


def _write_json_lines(text: str, edits: Edits) -> str:
    """The text with new values; a row gets an `expires_at` only where it had one."""
    lines = text.split("\n")
    for number, values in edits.items():
        line = lines[number - 1]
        # of the two libraries this one keeps integers of any length
        row = json.loads(line) | values
        lines[number - 1] = json.dumps(row, ensure_ascii=False) + line[len(line.rstrip()) :]
    return "\n".join(lines)


JSON_LINES = _text_format(_json_rows, _write_json_lines)
FORMATS = {
    ".csv": _text_format(csv_rows, write_csv),
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".parquet": FileFormat("row", parquet_rows, write_parquet, None),
}
