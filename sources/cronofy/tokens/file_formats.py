"""The formats of token files: how each is read, and how it is written with other tokens."""

from collections.abc import Callable, Container
from typing import NamedTuple

from ..errors import ConfigurationError
from .file_changes import Changes
from .file_csv import csv_rows, rewrite_csv
from .file_json import json_rows, rewrite_json_lines
from .file_parquet import parquet_rows, rewrite_parquet
from .rows import NumberedRows

BOM = b"\xef\xbb\xbf"


class FileFormat(NamedTuple):
    """One format of token files.

    Attributes:
        unit: what messages call a row.
        rows: the numbered rows of a file, by what messages call it, its content and the names of the labels
            to read as well; raises ConfigurationError.
        rewrite: the content with its changes; raises ValueError.
    """

    unit: str
    rows: Callable[[str, bytes, Container[str]], NumberedRows]
    rewrite: Callable[[bytes, Changes], bytes]


def _text_format(
    rows: Callable[[str, str], NumberedRows], rewrite: Callable[[str, Changes], str]
) -> FileFormat:
    """A format of UTF-8 text, with a byte order mark or without."""

    def rows_of(name: str, content: bytes, _: Container[str]) -> NumberedRows:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ConfigurationError(f"{name}: not UTF-8 text; save it as UTF-8") from None
        return rows(name, text)

    def rewritten(content: bytes, changes: Changes) -> bytes:
        mark = BOM if content.startswith(BOM) else b""
        return mark + rewrite(content.removeprefix(BOM).decode(), changes).encode()

    return FileFormat("line", rows_of, rewritten)


JSON_LINES = _text_format(json_rows, rewrite_json_lines)
FORMATS = {
    ".csv": _text_format(csv_rows, rewrite_csv),
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".parquet": FileFormat("row", parquet_rows, rewrite_parquet),
}
