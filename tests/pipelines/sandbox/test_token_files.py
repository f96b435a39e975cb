import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dlt_cronofy.sandbox import World


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{**row, "refresh_token": row["refresh_token"] or None} for row in csv.DictReader(file)]


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
    assert read(path) == [
        {
            "key": token.key,
            "access_token": token.access_token,
            "refresh_token": token.refresh_token,
            "data_center": token.data_center,
        }
        for token in world.tokens
    ]
