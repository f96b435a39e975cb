"""Frames: every field finds a column, whatever it is called and whatever it holds."""

from collections.abc import Mapping
from typing import Any

import orjson
import pyarrow as pa
import pytest
from dlt.common.schema import Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from dlt_cronofy.source.history.arrow import (
    MAX_EXTRA_COLUMNS,
    OVERFLOW,
    Framer,
    to_arrow,
    typed,
    with_load_id,
)
from dlt_cronofy.source.history.capture import EXTRAS
from dlt_cronofy.source.history.parse import parse
from dlt_cronofy.source.tables import ACCOUNT, CALENDARS, POLLS, PROFILES, TABLES, USERINFO, Table
from tests.cronofy.bodies import Json, userinfo

NORMALIZE = Schema("cronofy").naming.normalize_path


def frame(table: Table, *rows: Json, known: Mapping[str, str] | None = None) -> pa.Table:
    found = to_arrow(table, list(rows), known or {}, NORMALIZE)
    names = found.column_names
    assert len(set(names)) == len(names), f"columns twice: {sorted({n for n in names if names.count(n) > 1})}"
    return found


def extra_columns(table: Table, *rows: Json, known: Mapping[str, str] | None = None) -> Json:
    """The columns beyond the documented ones that hold anything, as lists of values."""
    found = frame(table, *rows, known=known)
    documented = set(table.schema.names)
    columns = {name: found[name].to_pylist() for name in found.column_names if name not in documented}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_without_rows_a_frame_has_the_documented_columns(table: Table) -> None:
    found = frame(table)
    assert found.num_rows == 0
    assert found.column_names == table.schema.names
    assert "run_id" in found.column_names
    assert with_load_id(found, "load-1").column_names == [*table.schema.names, "_dlt_load_id"]


def test_rows_keep_their_order_and_missing_columns_are_null() -> None:
    found = frame(ACCOUNT, {"token_key": "k1", "name": "A"}, {"token_key": "k2", "email": "b@x"})
    assert found["token_key"].to_pylist() == ["k1", "k2"]
    assert found["name"].to_pylist() == ["A", None]
    assert found["email"].to_pylist() == [None, "b@x"]
    loaded = with_load_id(found, "load-1")
    assert loaded["_dlt_load_id"].to_pylist() == ["load-1", "load-1"]
    assert loaded.schema.field("_dlt_load_id").type == pa.string()


@pytest.mark.parametrize(
    ("value", "data_type", "stored"),
    [
        (True, "bool", True),
        (0, "bigint", 0),
        (2**63 - 1, "bigint", 2**63 - 1),
        (-(2**63), "bigint", -(2**63)),
        (2**63, "text", "9223372036854775808"),
        (1.5, "double", 1.5),
        ("x\0", "text", "x\ufffd"),
        ({"b": [1, None]}, "text", '{"b":[1,null]}'),
        ([], "text", "[]"),
        (float("nan"), "text", "null"),
    ],
    ids=repr,
)
def test_an_unknown_field_is_typed_by_its_value(value: Any, data_type: str, stored: Any) -> None:
    assert typed(value)[1:] == (data_type, stored)
    assert extra_columns(ACCOUNT, {"token_key": "k1", EXTRAS: {"plan": value}}) == {"plan": [stored]}


@pytest.mark.parametrize(
    ("path", "column"),
    [
        ("plan", "plan"),
        ("accountPlan", "account_plan"),
        ("cronofy.region", "cronofy_region"),
        ("cronofy.data__quota", "cronofy_data__quota"),
        ("cronofy.data__authorization__expires", "cronofy_data__authorization__expires"),
    ],
)
def test_an_unknown_field_is_named_after_its_path(path: str, column: str) -> None:
    assert extra_columns(USERINFO, {"token_key": "k1", EXTRAS: {path: 1}}) == {column: [1]}


def test_a_field_of_some_rows_is_null_in_the_others() -> None:
    rows: list[Json] = [
        {"token_key": "k1"},
        {"token_key": "k2", EXTRAS: {"plan": "gold"}},
        {"token_key": "k3", EXTRAS: {}},
    ]
    assert extra_columns(ACCOUNT, *rows) == {"plan": [None, "gold", None]}


@pytest.mark.parametrize(
    ("known", "values", "columns"),
    [
        ({}, [1, "x"], {"plan": [1, None], "plan__v_text": [None, "x"]}),
        ({}, ["x", 1], {"plan": ["x", None], "plan__v_bigint": [None, 1]}),
        ({}, [1, 1.5, True], {"plan": [1, None, None], "plan__v_double": [None, 1.5, None],
                              "plan__v_bool": [None, None, True]}),
        ({"plan": "text"}, [1, "x"], {"plan__v_bigint": [1, None], "plan": [None, "x"]}),
        ({"plan": "bigint", "plan__v_text": "text"}, ["x"], {"plan__v_text": ["x"]}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_goes_to_a_variant(known: Json, values: list[Any], columns: Json) -> None:
    rows: list[Json] = [{"token_key": f"k{n}", EXTRAS: {"plan": value}} for n, value in enumerate(values)]
    assert extra_columns(ACCOUNT, *rows, known=known) == columns


def test_a_variant_that_is_taken_overflows() -> None:
    known = {"plan": "bigint", "plan__v_text": "double"}
    found = extra_columns(ACCOUNT, {"token_key": "k", EXTRAS: {"plan": "x"}}, known=known)
    assert found == {OVERFLOW: ['{"plan":"x"}']}


@pytest.mark.parametrize(
    ("table", "name", "value", "variant"),
    [
        (ACCOUNT, "name", 5, "name__v_bigint"),
        (USERINFO, "email", True, "email__v_bool"),
        (PROFILES, "profile_initial_sync_required", "no", "profile_initial_sync_required__v_text"),
        (CALENDARS, "calendar_primary", 1, "calendar_primary__v_bigint"),
    ],
)
def test_a_documented_field_of_another_type_goes_to_its_variant(
    table: Table, name: str, value: Any, variant: str
) -> None:
    row = dict.fromkeys(table.key, "k") | {EXTRAS: {name: value}}
    assert extra_columns(table, row) == {variant: [value]}


@pytest.mark.parametrize(
    ("table", "name"),
    [(ACCOUNT, "name"), (USERINFO, "scope"), (PROFILES, "profile_name"), (CALENDARS, "permission_level")],
)
@pytest.mark.parametrize("value", [{"first": "Jane"}, ["a"], 2**64 - 1], ids=["object", "list", "huge"])
def test_a_documented_text_that_became_an_object_is_kept_and_breaks_nothing(
    table: Table, name: str, value: Any
) -> None:
    rows: list[Json] = [
        dict.fromkeys(table.key, "k1") | {name: "as ever"},
        dict.fromkeys(table.key, "k2") | {EXTRAS: {name: value}},
    ]
    assert_kept(frame(table, *rows), 1, value)
    assert frame(table, *rows)[name].to_pylist()[0] == "as ever"


@pytest.mark.parametrize("name", ["scope", "status", "type", "delegated_scope", "service_account_domain"])
def test_a_new_field_named_like_a_column_filled_from_elsewhere_is_kept_and_breaks_nothing(name: str) -> None:
    """`scope` stands in `cronofy.data.authorization`; one day there may be one at the top as well."""
    body = userinfo(data={"authorization": {"scope": "s", "status": "active"}}) | {name: "from the top"}
    record = parse("userinfo", orjson.dumps(body)).record
    assert record is not None
    found = frame(USERINFO, {"token_key": "k1", **record.columns, EXTRAS: record.extras})
    assert_kept(found, 0, "from the top")
    assert found["scope"].to_pylist() == ["s"]
    assert found["type"].to_pylist() == ["account"]


@pytest.mark.parametrize("name", ["profileName", "PROFILE_NAME", "profile name"])
def test_a_field_whose_name_normalizes_to_a_documented_one_is_kept_and_breaks_nothing(name: str) -> None:
    row = dict.fromkeys(PROFILES.key, "k") | {"profile_name": "as ever", EXTRAS: {name: "other"}}
    found = frame(PROFILES, row)
    assert found["profile_name"].to_pylist() == ["as ever"]
    assert_kept(found, 0, "other")


def assert_kept(found: pa.Table, row: int, value: Any) -> None:
    """The value is in some column of that row, as itself or within JSON text."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    texts = [str(each) for each in found.to_pylist()[row].values()]
    assert any(text.strip('"') in each for each in texts)


@pytest.mark.parametrize(
    "name", ["token_key", "observed_at", "run_id", "content_hash", "account_id", "_dlt_load_id"]
)
def test_a_field_named_like_a_column_of_ours_is_prefixed(name: str) -> None:
    found = extra_columns(ACCOUNT, {"token_key": "k1", EXTRAS: {name: "x"}})
    assert list(found.values()) == [["x"]]
    [column] = found
    assert column.startswith("api_")
    assert frame(ACCOUNT, {"token_key": "k1", EXTRAS: {name: "x"}})["token_key"].to_pylist() == ["k1"]


def test_a_state_of_the_api_is_not_our_state() -> None:
    row = dict.fromkeys(PROFILES.key, "k") | {"state": "connected", EXTRAS: {"state": "hibernated"}}
    found = frame(PROFILES, row)
    assert found["state"].to_pylist() == ["connected"]
    assert found["api_state"].to_pylist() == ["hibernated"]


def test_two_fields_of_one_column_name_are_both_kept() -> None:
    found = extra_columns(ACCOUNT, {"token_key": "k1", EXTRAS: {"newField": 1, "new_field": 2}})
    assert found == {"new_field": [1], OVERFLOW: ['{"new_field":2}']}


@pytest.mark.parametrize("value", ["kept", "5", "null", '{"a":"kept"}', ["kept"], 5], ids=repr)
def test_a_field_named_like_the_overflow_breaks_nothing(value: Any) -> None:
    [row] = frame(ACCOUNT, {"token_key": "k1", EXTRAS: {OVERFLOW: value}}).to_pylist()
    assert any(str(row[name]).strip() for name in row.keys() - set(ACCOUNT.schema.names))


@pytest.mark.parametrize("name", ["", " ", "\0", "🌍", "a" * 5000, "select", "1st", "a.b.c", '"; --'])
def test_any_name_is_kept(name: str) -> None:
    found = frame(ACCOUNT, {"token_key": "k1", EXTRAS: {name: "kept"}})
    assert_kept(found, 0, "kept")


def test_a_body_with_too_many_fields_overflows_into_one_column() -> None:
    extras = {f"field_{n:03}": n for n in range(MAX_EXTRA_COLUMNS + 50)}
    found = extra_columns(ACCOUNT, {"token_key": "k1", EXTRAS: extras})
    assert len(found) == MAX_EXTRA_COLUMNS + 1
    [overflow] = found[OVERFLOW]
    assert len(orjson.loads(overflow)) == 50


def test_columns_the_warehouse_has_count() -> None:
    known = {f"old_{n}": "text" for n in range(MAX_EXTRA_COLUMNS)} | {
        "token_key": "text",
        "_dlt_load_id": "text",
    }
    found = extra_columns(ACCOUNT, {"token_key": "k1", EXTRAS: {"old_3": "kept", "new": "over"}}, known=known)
    assert found == {"old_3": ["kept"], OVERFLOW: ['{"new":"over"}']}


@pytest.mark.parametrize(
    ("known", "columns"),
    [
        ({"plan": "text"}, {"plan": "gold"}),
        ({"plan": "bigint", "plan__v_text": "text"}, {"plan": 1, "plan__v_text": "x"}),
        ({"api_state": "text"}, {"api_state": "hibernated"}),
        ({"cronofy_data__quota": "double"}, {"cronofy_data__quota": 1.5}),
        ({OVERFLOW: "text"}, {OVERFLOW: '{"a":1}'}),
        ({"plan": "text"}, {"plan": None}),
    ],
    ids=["plain", "variant", "prefixed", "path", "overflow", "null"],
)
def test_a_carried_row_keeps_its_columns(known: Json, columns: Json) -> None:
    row = dict.fromkeys(PROFILES.key, "k") | {"state": "removed"} | columns
    expected = {name: [value] for name, value in columns.items() if value is not None}
    assert extra_columns(PROFILES, row, known=known) == expected


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    TEXTS,
    st.lists(st.integers(-5, 5), max_size=2),
    st.dictionaries(st.text("ab", max_size=1), st.booleans(), max_size=1),
)
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(
        [*PROFILES.schema.names, OVERFLOW, "_dlt_id", "api_state", "plan", "Plan", "plan__v_text"]
    ),
)
TYPES = st.sampled_from(["text", "bigint", "double", "bool", "timestamp"])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.dictionaries(NAMES, VALUES, max_size=6), max_size=4),
    st.dictionaries(st.sampled_from(["plan", "plan__v_text", "api_state", OVERFLOW]), TYPES),
)
def test_no_field_breaks_a_frame(extras: list[Json], known: Json) -> None:
    rows = [dict.fromkeys(PROFILES.key, "k") | {"state": "connected", EXTRAS: each} for each in extras]
    found = frame(PROFILES, *rows, known=known)
    assert found.num_rows == len(rows)
    assert found["state"].to_pylist() == ["connected"] * len(rows)
    for name in found.column_names:
        assert name == NORMALIZE(name)


def test_polls_have_no_columns_of_the_api() -> None:
    found = extra_columns(POLLS, {"poll_id": "p", EXTRAS: {"outcome": "x"}})
    assert found == {"api_outcome": ["x"]}


def test_the_load_id_of_a_known_row_is_not_carried_along() -> None:
    known = {"plan": "text", "_dlt_load_id": "text"}
    row = {"token_key": "k1", "plan": "gold", "_dlt_load_id": "load-1"}
    found = with_load_id(frame(ACCOUNT, row, known=known), "load-2")
    assert found["_dlt_load_id"].to_pylist() == ["load-2"]
    assert found["plan"].to_pylist() == ["gold"]


def test_a_framer_knows_the_columns_of_its_earlier_frames() -> None:
    """dlt's schema, which does not change here, learns of them later."""
    framer = Framer(lambda _: {"tier": "text"}, NORMALIZE)

    def columns(**extras: Any) -> set[str]:
        found = framer.frames({"account": [{"token_key": "k1", EXTRAS: extras}]}, TABLES)["account"]
        return set(found.column_names) - set(ACCOUNT.schema.names)

    assert columns(plan=1) == {"plan"}
    assert columns(plan="gold") == {"plan__v_text"}
    assert columns(tier=1, plan=2) == {"tier__v_bigint", "plan"}
    assert framer.frames({"account": []}, TABLES)["account"].num_rows == 0
