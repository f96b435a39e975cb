import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dlt_cronofy.sandbox import World
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import StoredTokens


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{column: value or None for column, value in row.items()} for row in csv.DictReader(file)]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("name", "read"),
    [("tokens.csv", read_csv), ("deeper/tokens.jsonl", read_jsonl), ("tokens.parquet", read_parquet)],
)
def test_writes_every_token(
    world: World, tmp_path: Path, name: str, read: Callable[[Path], list[dict[str, Any]]]
) -> None:
    path = world.write_tokens(tmp_path / name)
    assert path == tmp_path / name
    rows = [
        {
            "key": token.key,
            "access_token": token.access_token,
            "refresh_token": token.refresh_token,
            "data_center": token.data_center,
            "customer": token.customer,
        }
        for token in world.tokens
    ]
    nothing = {"access_token": None, "refresh_token": None, "data_center": None}
    assert world.invited
    assert read(path) == rows + [
        {"key": each.key, **nothing, "customer": each.customer} for each in world.invited
    ]


def test_who_has_left_is_not_in_the_file(world: World, tmp_path: Path) -> None:
    rows = read_csv(world.write_tokens(tmp_path / "tokens.csv", world.end))
    gone = {token.key for token in world.tokens} - {row["key"] for row in rows}
    accounts = {account.account_id for account in world.accounts if account.left_at}
    assert gone == {token.key for token in world.tokens if token.account_id in accounts} != set()


def test_a_store_reads_its_labels_and_who_has_not_connected(world: World, tmp_path: Path) -> None:
    stored = open_store(tokens_file=str(world.write_tokens(tmp_path / "tokens.csv"))).read()
    assert isinstance(stored, StoredTokens)
    assert [token.labels for token in stored] == [(token.customer,) for token in world.tokens]
    assert len(stored.not_connected) == len(world.invited)
