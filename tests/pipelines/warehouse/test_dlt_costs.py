"""What dlt and DuckDB would do again and again, and what comes of it all the same."""

from pathlib import Path
from typing import Any

import pytest
from dlt.common.schema import Schema
from dlt.common.schema.utils import new_table
from dlt.common.storages import SchemaStorage

from dlt_cronofy.warehouse.dataset import query_rows, sql_client
from dlt_cronofy.warehouse.dlt_workarounds import FileCredentials, _with_texts
from dlt_cronofy.warehouse.pipeline import open_pipeline


@pytest.mark.parametrize(
    ("values", "written", "bound"),
    [
        (("one", 2), "a = 'one' AND b = %s", (2,)),
        (("it's", "%"), "a = 'it''s' AND b = '%'", ()),
        (("50%s", "\0"), "a = %s AND b = %s", ("50%s", "\0")),
        (("one",), "a = %s AND b = %s", ("one",)),
    ],
)
def test_texts_are_written_into_a_query(
    values: tuple[Any, ...], written: str, bound: tuple[Any, ...]
) -> None:
    assert _with_texts("a = %s AND b = %s", values) == (written, bound)


def test_what_is_written_into_a_query_is_what_was_given(tmp_path: Path) -> None:
    texts = ["'; DROP TABLE polls; --", "\\'", "%s", "é\n\t", "{}", '"']
    pipeline = open_pipeline(credentials=str(tmp_path / "some.duckdb"), pipelines_dir=tmp_path)
    with sql_client(pipeline) as client:
        columns = ", ".join(f"%s AS c{number}" for number in range(len(texts)))
        (row,) = query_rows(client, f"SELECT {columns}", *texts)
    assert list(row.values()) == texts


def test_the_file_of_a_schema_is_read_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read = SchemaStorage._load_schema_json

    def counted(self: SchemaStorage, name: str) -> Any:
        reads.append(name)
        return read(self, name)

    monkeypatch.setattr(SchemaStorage, "_load_schema_json", counted)
    ours, theirs = (
        open_pipeline(credentials=str(tmp_path / "some.duckdb"), pipelines_dir=tmp_path) for _ in range(2)
    )
    theirs.schemas.save_schema(Schema("cronofy"))
    reads.clear()
    for _ in range(3):
        assert "added" not in ours.schemas["cronofy"].tables
    assert reads == ["cronofy"]
    changed = theirs.schemas["cronofy"]
    changed.update_table(new_table("added", columns=[{"name": "one", "data_type": "text"}]))
    theirs.schemas.save_schema(changed)
    assert "added" in ours.schemas["cronofy"].tables


@pytest.mark.parametrize(
    "text", ["some.duckdb", "duckdb:///some.duckdb", "duckdb:///some.duckdb?read_only=1"]
)
def test_credentials_are_a_path_or_a_url(text: str) -> None:
    credentials = FileCredentials()
    credentials.parse_native_representation(text)
    assert credentials.database == "some.duckdb"
