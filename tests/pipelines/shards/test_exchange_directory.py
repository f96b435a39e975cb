"""The handoff: whoever finds a file finds all of it, on a disk and wherever fsspec reaches."""

import secrets
from pathlib import Path
from typing import IO

import pytest

from dlt_cronofy.shards.exchange_directory import ExchangeDirectory, configured_exchange
from dlt_cronofy.source.errors import ConfigurationError

RUN = "20260105T060000Z-0a1b2c3d"


@pytest.fixture(params=["a disk", "file://", "memory://"])
def handoff(request: pytest.FixtureRequest, tmp_path: Path) -> ExchangeDirectory:
    places = {
        "a disk": str(tmp_path / "handoff"),
        "file://": f"file://{tmp_path}/handoff/",
        "memory://": f"memory://{secrets.token_hex(4)}/cronofy",
    }
    return ExchangeDirectory.at(places[request.param])


def test_a_file_is_there_when_it_is_complete(handoff: ExchangeDirectory) -> None:
    seen = []

    def content(file: IO[bytes]) -> None:
        file.write(b"half")
        seen.append(handoff.names(RUN))
        file.write(b" and half")

    handoff.write(RUN, lambda: "a.parquet", content)
    assert seen == [[]]
    assert handoff.names(RUN) == ["a.parquet"]
    with handoff.open(RUN, "a.parquet") as file:
        assert file.read() == b"half and half"


def test_what_is_broken_off_is_not_there(handoff: ExchangeDirectory) -> None:
    def content(file: IO[bytes]) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        handoff.write(RUN, lambda: "a.parquet", content)
    assert handoff.names(RUN) == []


def test_runs_and_files_are_sorted_and_removed(handoff: ExchangeDirectory) -> None:
    later = "20260106T060000Z-00000000"
    for run_id, name in ((later, "b"), (RUN, "b"), (RUN, "a")):
        handoff.write(run_id, lambda name=name: name, lambda file: file.write(b"x"))  # type: ignore[misc]
    assert handoff.runs() == [RUN, later]
    assert handoff.names(RUN) == ["a", "b"]
    handoff.remove(RUN, "a")
    handoff.remove(RUN, "a")
    assert handoff.names(RUN) == ["b"]
    handoff.remove(RUN)
    handoff.remove(RUN)
    assert handoff.runs() == [later]


def test_a_handoff_that_was_never_used_is_empty(handoff: ExchangeDirectory) -> None:
    assert handoff.runs() == []
    assert handoff.names(RUN) == []
    with pytest.raises(FileNotFoundError):
        handoff.open(RUN, "a")


@pytest.mark.parametrize(
    ("configured", "message"),
    [
        (None, "set handoff in .sources.cronofy. of .dlt/config.toml, or SOURCES__CRONOFY__HANDOFF"),
        ("", "set handoff in .sources.cronofy."),
        ("elsewhere://bucket", "handoff in .sources.cronofy.: Protocol not known: elsewhere"),
    ],
)
def test_a_handoff_that_cannot_be_used_is_refused(
    configured: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if configured is not None:
        monkeypatch.setenv("SOURCES__CRONOFY__HANDOFF", configured)
    with pytest.raises(ConfigurationError, match=message):
        configured_exchange()
