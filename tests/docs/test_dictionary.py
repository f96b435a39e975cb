"""docs/data-dictionary.md: it is what schemas and headers make it (`UPDATE_DOCS=1` writes it)."""

import os

import pytest

from pipelines import dictionary
from pipelines.dictionary import COLUMN_MEANINGS, Meanings, data_dictionary, read_header
from pipelines.views import PUBLIC_VIEWS
from sources.cronofy.tables import TABLES
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


def test_a_column_without_a_meaning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(COLUMN_MEANINGS, "email")
    with pytest.raises(ValueError, match=r"userinfo\.email has no meaning"):
        data_dictionary()


def test_a_meaning_without_a_column_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dictionary.VIEW_COLUMN_MEANINGS, "no_such_column", "nothing")
    with pytest.raises(ValueError, match="meanings of nothing: no_such_column"):
        data_dictionary()


def test_the_more_specific_meaning_wins() -> None:
    meanings = Meanings({"polls.account_id": "may be null", "account_id": "never null"})
    assert meanings.of("polls.account_id", "account_id") == "may be null"
    assert meanings.of("profiles.account_id", "account_id") == "never null"
