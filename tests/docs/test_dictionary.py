"""docs/data-dictionary.md: it is what schemas and headers make it (`UPDATE_DOCS=1` writes it)."""

import os

from dlt_cronofy.source.tables import TABLES
from dlt_cronofy.views import PUBLIC_VIEWS
from dlt_cronofy.views.headers import read_header
from docs.generators.dictionary import data_dictionary
from tests.docs.questions import DOCS

DOCUMENT = DOCS / "data-dictionary.md"


def test_the_document_is_up_to_date() -> None:
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(data_dictionary(), encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == data_dictionary()


def test_every_table_and_every_public_view_is_in_it() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    headings = [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]
    assert headings == [*TABLES, *PUBLIC_VIEWS]


def test_a_header_is_grain_definition_and_columns() -> None:
    header = read_header("account_health")
    assert header.grain.startswith("one row per account: ")
    assert header.definition.startswith("A profile that its newest sample did not list")
    assert header.columns["profiles"] == "connected + disconnected + unknown"
    assert header.columns["verdict"].endswith("known to be connected")  # the line goes on in the next one
