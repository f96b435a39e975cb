"""Token stores: what is read, and the one line that says where a store cannot be used."""

import hashlib
import pickle
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.cronofy.errors import ConfigurationError
from sources.cronofy.secret import Secret
from sources.cronofy.tokens import Token, read_tokens, token_key

SECRET = "hunter2-is-secret"


def shown(tokens: list[Token]) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (
            each.key,
            each.access_token.reveal(),
            each.refresh_token.reveal() if each.refresh_token else None,
            each.data_center,
        )
        for each in tokens
    ]


@pytest.mark.parametrize(
    ("access", "refresh", "hashed"), [("at", "rt", "rt"), ("at", None, "at"), ("at", "", "at")]
)
def test_a_token_without_a_key_is_named_by_what_lasts(access: str, refresh: str | None, hashed: str) -> None:
    assert token_key(access, refresh) == "tok_" + hashlib.sha256(hashed.encode()).hexdigest()[:16]


def test_a_key_survives_a_refresh() -> None:
    [before] = read_tokens([{"access_token": "old", "refresh_token": "rt"}])
    [after] = read_tokens([{"access_token": "new", "refresh_token": "rt"}])
    assert before.key == after.key


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "{!r:>40}".format, "%s".__mod__, lambda s: f"{Token('k', s, s)}"]
)
def test_a_secret_does_not_show_itself(show: Callable[[Any], str]) -> None:
    assert SECRET not in show(Secret(SECRET))


def test_a_secret_is_neither_pickled_nor_shown_in_a_traceback() -> None:
    secret = Secret(SECRET)
    with pytest.raises(TypeError, match="not pickled") as error:
        pickle.dumps(secret)
    assert SECRET not in "".join(
        traceback.TracebackException.from_exception(error.value, capture_locals=True).format()
    )


def test_secrets_are_equal_by_value() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


FULL = {"key": "k", "access_token": "at", "refresh_token": "rt", "data_center": "DE"}


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([FULL], [("k", "at", "rt", "de")]),
        (["at"], [(token_key("at", None), "at", None, None)]),
        ('["at"]', [(token_key("at", None), "at", None, None)]),
        ('[{"key": "k", "access_token": "at"}]', [("k", "at", None, None)]),
        (lambda: [FULL], [("k", "at", "rt", "de")]),
        (iter([FULL]), [("k", "at", "rt", "de")]),
        ([{"key": 7, "access_token": "at"}], [("7", "at", None, None)]),
        ([{"key": "Ω é", "access_token": "at"}], [("Ω é", "at", None, None)]),
        (
            [{"key": " k ", "access_token": " at ", "refresh_token": " ", "data_center": ""}],
            [("k", "at", None, None)],
        ),
        ([{"access_token": Secret("at"), "key": "k"}], [("k", "at", None, None)]),
        ([Token("k", Secret("at"))], [("k", "at", None, None)]),
        ([{"key": "k", "access_token": "at", "email": "x@y"}], [("k", "at", None, None)]),
    ],
    ids=[
        "full", "plain", "JSON plain", "JSON", "callable", "iterator", "number as key", "Unicode key",
        "blanks", "secret", "token", "more columns",
    ],
)  # fmt: skip
def test_configured_tokens(tokens: Any, expected: list[tuple[Any, ...]]) -> None:
    assert shown(read_tokens(tokens)) == expected


def test_the_order_of_the_store_is_kept() -> None:
    keys = [f"k{n}" for n in (5, 1, 3)]
    assert [each.key for each in read_tokens([{"key": key, "access_token": "at"} for key in keys])] == keys


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (None, "no tokens: set tokens in .dlt/secrets.toml or tokens_file in .dlt/config.toml"),
        ([], "tokens: holds no tokens"),
        (SECRET, "tokens is not a list"),
        (f'"{SECRET}"', "tokens is not a list"),
        (f'{{"access_token": "{SECRET}"}}', "tokens is not a list"),
        ({"access_token": SECRET}, "tokens is not a list"),
        (5, "tokens is not a list"),
        ([["x"]], "tokens, entry 1: not a table with the columns"),
        (["ok", {"key": "k"}], "tokens, entry 2: access_token is missing"),
        ([{"access_token": ""}], "tokens, entry 1: access_token is missing"),
        ([{"access_token": 5}], "tokens, entry 1: access_token is not text"),
        ([{"access_token": SECRET + "\n"}, {"access_token": SECRET}], "was used before, at entry 1"),
        ([{"access_token": SECRET + "\r\nX-Evil: 1"}], "entry 1: access_token holds characters"),
        ([{"access_token": SECRET + "é"}], "entry 1: access_token holds characters that no token has"),
        ([{"access_token": "at", "refresh_token": f"{SECRET} x"}], "refresh_token holds characters"),
        ([{"access_token": "at", "key": "a\x00b"}], "entry 1: key holds control characters"),
        ([{"access_token": "at", "key": True}], "entry 1: key is not text"),
        (
            [{"access_token": "at", "data_center": SECRET}],
            "tokens, entry 1: unknown data_center; use one of us, au, ca, de, sg, uk",
        ),
        ([{"access_token": each, "key": "k"} for each in "ab"], "entry 2: key 'k' was used before"),
        (["at", "at"], "entry 2: key 'tok_"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_list_is_said_with_its_place(tokens: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_tokens(tokens)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


def test_two_stores_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="two token stores are set"):
        read_tokens(["at"], "tokens.csv")


def parquet(path: Path, columns: Mapping[str, list[Any]]) -> None:
    pq.write_table(pa.table(dict(columns)), path)


FIRST = '{"key":"k1","access_token":"at1","refresh_token":"rt1","data_center":"de"}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "key,access_token,refresh_token,data_center\nk1,at1,rt1,de\nk2,at2,,\n"),
        ("t.CSV", "\ufeffdata_center, access_token ,key,refresh_token\r\nDE,at1,k1,rt1\r\n,at2,k2,\r\n"),
        ("t.csv", 'key,access_token,refresh_token,data_center\n"k1","at1","rt1","de"\n\nk2,at2\n'),
        ("t.csv", "note,key,access_token,refresh_token,data_center\nx,k1,at1,rt1,de\ny,k2,at2,,,,\n"),
        ("t.jsonl", f'{FIRST}\n\n{{"key":"k2","access_token":"at2","refresh_token":null}}'),
        ("t.ndjson", f'{FIRST}\n{{"key":"k2","access_token":"at2"}}\n'),
    ],
    ids=["CSV", "CSV from a spreadsheet", "CSV with gaps", "CSV with more", "JSON Lines", "ndjson"],
)
def test_text_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    tokens = read_tokens(tokens_file=str(tmp_path / name))
    assert shown(tokens) == [("k1", "at1", "rt1", "de"), ("k2", "at2", None, None)]


def test_parquet_files(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "key": [1, 2], "access_token": ["at1", "at2"], "refresh_token": ["rt1", None], "secret": ["x", "y"],
    }  # fmt: skip
    parquet(tmp_path / "t.parquet", columns)
    tokens = read_tokens(tokens_file=str(tmp_path / "t.parquet"))
    assert shown(tokens) == [("1", "at1", "rt1", None), ("2", "at2", None, None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"x", "t.txt: tokens_file must end in .csv, .jsonl, .ndjson or .parquet"),
        ("missing.csv", None, "missing.csv: tokens_file does not exist"),
        ("t.csv", b"", "t.csv: holds no tokens"),
        ("t.csv", b"key,access_token\n", "t.csv: holds no tokens"),
        ("t.csv", f"{SECRET}\n{SECRET}2\n".encode(), "t.csv, line 1: no column access_token"),
        ("t.csv", b"access_token\nat\n\xff\xfe\n", "t.csv: not UTF-8 text"),
        ("t.csv", b"key,access_token\nk1,at1\nk2,\n", "t.csv, line 3: access_token is missing"),
        ("t.csv", b"key,access_token\nk1,at1\n\nk1,at2\n", "line 4: key 'k1' was used before, at line 2"),
        ("t.csv", b"access_token,data_center\nat,mars\n", "t.csv, line 2: unknown data_center"),
        ("t.csv", b'access_token\n"a' + b"x" * 200_000, "t.csv, line"),
        ("t.jsonl", b"", "t.jsonl: holds no tokens"),
        ("t.jsonl", b'{"access_token":"at"}\n{"access', "t.jsonl, line 2: not a JSON object"),
        ("t.jsonl", b"[1]", "t.jsonl, line 1: not a table"),
        ("t.jsonl", b'{"key":"k"}', "t.jsonl, line 1: access_token is missing"),
        ("t.parquet", b"no parquet", "t.parquet: not a Parquet file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        read_tokens(tokens_file=str(tmp_path / name))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"token": ["at"]}, "no column access_token"),
        ({"access_token": pa.array([], pa.string())}, "holds no tokens"),
        ({"access_token": ["at", None]}, "row 2: access_token is missing"),
        ({"access_token": [b"at"]}, "row 1: access_token is not text"),
    ],
)
def test_what_is_wrong_with_a_parquet_file(tmp_path: Path, columns: Any, message: str) -> None:
    parquet(tmp_path / "t.parquet", columns)
    with pytest.raises(ConfigurationError) as error:
        read_tokens(tokens_file=str(tmp_path / "t.parquet"))
    assert message in str(error.value)


@given(
    st.one_of(
        st.text(), st.lists(st.one_of(st.text(), st.dictionaries(st.sampled_from(list(FULL)), st.text())))
    )
)
def test_any_list_is_read_or_a_configuration_error(tokens: Any) -> None:
    try:
        found = read_tokens(tokens)
    except ConfigurationError:
        return
    assert len({each.key for each in found}) == len(found) > 0
    for each in found:
        assert each.access_token.reveal().isascii()
        assert each.data_center in (None, "us", "au", "ca", "de", "sg", "uk")
