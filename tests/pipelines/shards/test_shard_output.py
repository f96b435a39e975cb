"""A shard output: polls come back as they were, in the order of their answers."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.shards.exchange_directory import ExchangeDirectory
from dlt_cronofy.shards.shard_output import (
    ManifestEntry,
    MergedReader,
    Outcomes,
    ShardOutput,
    ShardSummary,
    choose,
    merged_polls,
    new_name,
    outputs_of,
    read_manifest,
    write_manifest,
    write_output,
)
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import Outcome, Poll, skipped
from tests.cronofy import bodies
from tests.cronofy.bodies import minute
from tests.cronofy.clocks import START

RUN = "20260105T060000Z-0a1b2c3d"
SUMMARY = ShardSummary(7, "max_duration", ["k9"])


@pytest.fixture
def handoff(tmp_path: Path) -> ExchangeDirectory:
    return ExchangeDirectory.at(str(tmp_path))


def _finish(
    handoff: ExchangeDirectory, shard: int, polls: Sequence[Poll], finished_at: datetime = START
) -> ShardOutput:
    name = new_name(shard, finished_at)
    handoff.write(RUN, lambda: name, lambda file: write_output(file, [polls], lambda: SUMMARY))
    return ShardOutput(handoff, RUN, name)


def _polls(*outputs: ShardOutput, loaded: Outcomes | None = None) -> list[Poll]:
    with merged_polls(outputs, loaded or {}) as polls:
        return list(polls)


BODIES = {
    "userinfo": bodies.userinfo(),
    "two profiles": bodies.userinfo(bodies.profile(), bodies.profile("pro_2", connected=False)),
    "service account": bodies.service_account(),
    "application calendar": bodies.application_calendar(),
    "fields of tomorrow": bodies.userinfo() | {"tomorrow": {"a": [1, None, {"b": 2.5}], "c": "ü\u2028"}},
    "large numbers": bodies.userinfo() | {"large": 2**63 + 1, "small": -(2**62), "tiny": 5e-324},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_an_ok_poll_comes_back_as_it_was(handoff: ExchangeDirectory, body: Any) -> None:
    polled = replace(bodies.poll(body, 1), fallback_tokens=("k2", "k3"))
    assert _polls(_finish(handoff, 0, [polled])) == [polled]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_failed_poll_comes_back_as_it_was(handoff: ExchangeDirectory, outcome: Outcome) -> None:
    answer = replace(skipped(minute(3), "why"), outcome=outcome, http_status=500, attempts=3, refreshes=1)
    polled = Poll("k1", "de", "userinfo", answer, None, None)
    assert _polls(_finish(handoff, 0, [polled])) == [polled]


texts = st.text(st.characters(exclude_categories=["Cs"]))
json_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    json_leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_whatever_the_api_adds_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    handoff = ExchangeDirectory.at(str(tmp_path_factory.mktemp("handoff")))
    polled = bodies.poll(bodies.userinfo() | {"added": value}, 1)
    assert _polls(_finish(handoff, 0, [polled])) == [polled]


def test_the_summary_comes_back(handoff: ExchangeDirectory) -> None:
    finished = _finish(handoff, 511, [])
    assert finished.summary() == SUMMARY
    assert finished.shard == 511
    assert _polls(finished) == []


def _at(minutes: float, key: str = "k1") -> Poll:
    answer = skipped(minute(minutes), "why")
    return Poll(key, "us", "userinfo", replace(answer, outcome=Outcome.TIMEOUT), None, None)


def test_the_output_that_was_finished_first_counts(handoff: ExchangeDirectory) -> None:
    later, first = _finish(handoff, 3, [], minute(9)), _finish(handoff, 3, [], minute(8))
    other = _finish(handoff, 1, [], minute(10))
    assert outputs_of(handoff, RUN) == [other, first, later]
    assert read_manifest(handoff, RUN) == {}
    assert choose(outputs_of(handoff, RUN), {}) == [other, first]
    # a load that runs again takes what the first one took, though an earlier one has come meanwhile
    write_manifest(handoff, RUN, {each.shard: ManifestEntry(each.name, SUMMARY) for each in (other, later)})
    again = read_manifest(handoff, RUN)
    assert again[3] == ManifestEntry(later.name, SUMMARY)
    assert choose(outputs_of(handoff, RUN), again) == [other, later]
    # and what is left, where that was damaged and is removed
    later.remove()
    assert choose(outputs_of(handoff, RUN), again) == [other, first]


def test_polls_of_all_shards_come_in_the_order_of_their_answers() -> None:
    remote = ExchangeDirectory.at(f"memory://{secrets.token_hex(4)}")
    one = _finish(remote, 0, [_at(1, "a"), _at(4, "b"), _at(5, "c")])
    other = _finish(remote, 1, [_at(2, "d"), _at(3, "e"), _at(6, "f")])
    assert "".join(poll.token_key for poll in _polls(one, other)) == "adebcf"


def test_what_is_loaded_already_is_left_out_but_for_what_was_skipped(handoff: ExchangeDirectory) -> None:
    finished = _finish(handoff, 0, [_at(1, "a"), _at(2, "b"), _at(3, "c")])
    loaded = {("a", "userinfo"): "ok", ("b", "userinfo"): "skipped", ("c", "account"): "ok"}
    assert [poll.token_key for poll in _polls(finished, loaded=loaded)] == ["b", "c"]


def test_merged_polls_come_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlt_cronofy.shards.shard_output.ROW_GROUP_POLLS", 2)
    merged = MergedReader(iter([_at(number, f"k{number}") for number in range(5)]))
    assert [len(batch) for batch in iter(merged.take, None)] == [2, 2, 1]
    assert merged.take() is None
    assert len(merged.taken) == 5


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 no PAR1"])
def test_a_damaged_output_is_named(handoff: ExchangeDirectory, content: bytes) -> None:
    name = new_name(2, datetime(2026, 1, 5, tzinfo=UTC))
    handoff.write(RUN, lambda: name, lambda file: file.write(content))
    with pytest.raises(ConfigurationError, match=f"{name} of run {RUN} in .* is damaged; remove it"):
        ShardOutput(handoff, RUN, name).summary()


def test_what_is_no_output_is_left_alone(handoff: ExchangeDirectory) -> None:
    handoff.write(RUN, lambda: "plan.parquet", lambda file: file.write(b"x"))
    handoff.write(RUN, lambda: "notes.txt", lambda file: file.write(b"x"))
    assert outputs_of(handoff, RUN) == []
