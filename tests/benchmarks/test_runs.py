"""Benchmarks that nothing else runs between two runs of `make bench`, at a size that takes seconds."""

from pathlib import Path

import pytest

from benchmarks import views
from benchmarks.peers.contenders import Job, _load
from benchmarks.peers.runs import run
from benchmarks.server import serving, write_tokens
from dlt_cronofy.views import PUBLIC_VIEWS

pytestmark = pytest.mark.long


def test_every_view_is_measured() -> None:
    found = views._measured(profiles=200, rounds=1)
    assert found.keys() == {views.SCAN, *PUBLIC_VIEWS}
    assert found[views.SCAN][0] == 200 * views.POLLS_EACH


def test_what_our_own_load_wrote_is_counted(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens.csv", 3)
    with serving() as (url, _):
        job = Job(url, tmp_path / "tokens.csv", tmp_path)
        rows = run("load", _load("userinfo")(job), job).rows
    assert rows["userinfo"] == rows["polls"] == 3
