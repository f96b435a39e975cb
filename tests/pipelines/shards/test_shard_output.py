"""A sealed set: polls come back as they were, in the order of their answers."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.shards.exchange_directory import Handoff
from dlt_cronofy.shards.manifest import Receipts
from dlt_cronofy.shards.merged_reader import Delivery, delivered_polls
from dlt_cronofy.shards.shard_output import SealedSet, SetWriter, ShardSummary, at_hand, new_name, sets_of
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import Outcome, Poll, skipped
from tests.cronofy import bodies
from tests.cronofy.bodies import minute
from tests.cronofy.clocks import START

RUN = "20260105T060000Z-0a1b2c3d"
SUMMARY = ShardSummary(7, "max_duration", ["k9"])


@pytest.fixture
def handoff(tmp_path: Path) -> Handoff:
    return Handoff.at(str(tmp_path))


def _seal(handoff: Handoff, shard: int, polls: Sequence[Poll], sealed_at: datetime = START) -> SealedSet:
    def content(file: Any) -> None:
        with SetWriter(file) as writer:
            writer.add(polls)
            writer.add_summary(SUMMARY)

    name = new_name(shard, sealed_at)
    handoff.write(RUN, lambda: name, content)
    return SealedSet(handoff, RUN, name)


BODIES = {
    "userinfo": bodies.userinfo(),
    "two profiles": bodies.userinfo(bodies.profile(), bodies.profile("pro_2", connected=False)),
    "service account": bodies.service_account(),
    "application calendar": bodies.application_calendar(),
    "fields of tomorrow": bodies.userinfo() | {"tomorrow": {"a": [1, None, {"b": 2.5}], "c": "ü\u2028"}},
    "large numbers": bodies.userinfo() | {"large": 2**63 + 1, "small": -(2**62), "tiny": 5e-324},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_an_ok_poll_comes_back_as_it_was(handoff: Handoff, body: Any) -> None:
    polled = replace(bodies.poll(body, 1), fallback_tokens=("k2", "k3"))
    assert list(_seal(handoff, 0, [polled]).polls()) == [polled]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_failed_poll_comes_back_as_it_was(handoff: Handoff, outcome: Outcome) -> None:
    answer = replace(skipped(minute(3), "why"), outcome=outcome, http_status=500, attempts=3, refreshes=1)
    polled = Poll("k1", "de", "userinfo", answer, None, None)
    assert list(_seal(handoff, 0, [polled]).polls()) == [polled]


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
    handoff = Handoff.at(str(tmp_path_factory.mktemp("handoff")))
    polled = bodies.poll(bodies.userinfo() | {"added": value}, 1)
    assert list(_seal(handoff, 0, [polled]).polls()) == [polled]


def test_the_summary_comes_back(handoff: Handoff) -> None:
    sealed = _seal(handoff, 511, [])
    assert sealed.summary() == SUMMARY
    assert sealed.shard == 511
    assert list(sealed.polls()) == []


def _at(minutes: float, key: str = "k1") -> Poll:
    answer = skipped(minute(minutes), "why")
    return Poll(key, "us", "userinfo", replace(answer, outcome=Outcome.TIMEOUT), None, None)


def test_the_set_that_was_sealed_first_counts(handoff: Handoff) -> None:
    later, first = _seal(handoff, 3, [], minute(9)), _seal(handoff, 3, [], minute(8))
    other = _seal(handoff, 1, [], minute(10))
    assert sets_of(handoff, RUN) == [other, first, later]
    receipts = Receipts.read(handoff, RUN)
    assert receipts.choose(sets_of(handoff, RUN)) == [other, first]
    # a load that runs again takes what the first one took, though an earlier one has come meanwhile
    receipts.take([other, later])
    again = Receipts.read(handoff, RUN)
    assert sorted(each.name for each in again.choose(sets_of(handoff, RUN))) == [other.name, later.name]
    assert again.by_shard[3].summary == SUMMARY
    again.confirm()
    assert Receipts.read(handoff, RUN).choose(sets_of(handoff, RUN)) == []
    assert Receipts.read(handoff, RUN).loaded == {1, 3}


def test_polls_of_all_shards_come_in_the_order_of_their_answers(handoff: Handoff) -> None:
    one = _seal(handoff, 0, [_at(1, "a"), _at(4, "b"), _at(5, "c")])
    other = _seal(handoff, 1, [_at(2, "d"), _at(3, "e"), _at(6, "f")])
    assert "".join(poll.token_key for poll in delivered_polls([one, other], {})) == "adebcf"


def test_what_is_loaded_already_is_left_out_but_for_what_was_skipped(handoff: Handoff) -> None:
    sealed = _seal(handoff, 0, [_at(1, "a"), _at(2, "b"), _at(3, "c")])
    loaded = {("a", "userinfo"): "ok", ("b", "userinfo"): "skipped", ("c", "account"): "ok"}
    assert [poll.token_key for poll in delivered_polls([sealed], loaded)] == ["b", "c"]


def test_a_delivery_comes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlt_cronofy.shards.merged_reader.BATCH_POLLS", 2)
    delivery = Delivery(iter([_at(number, f"k{number}") for number in range(5)]))
    assert [len(batch) for batch in iter(delivery.take, None)] == [2, 2, 1]
    assert delivery.take() is None
    assert len(delivery.taken) == 5


def test_a_batch_of_large_bodies_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlt_cronofy.shards.merged_reader.MAX_BATCH_BYTES", 100)
    polls = [replace(_at(number), body_bytes=60) for number in range(4)]
    delivery = Delivery(iter(polls))
    assert delivery.take() == polls[:2]


def test_remote_sets_are_read_from_this_machine(handoff: Handoff) -> None:
    remote = Handoff.at(f"memory://{secrets.token_hex(4)}")
    sealed = [_seal(remote, 0, [_at(1, "a"), _at(3, "c")]), _seal(remote, 1, [_at(2, "b")])]
    with at_hand(sealed) as here:
        assert all(each.handoff.is_local for each in here)
        assert [poll.token_key for poll in delivered_polls(here, {})] == ["a", "b", "c"]
        folder = Path(here[0].handoff.root)
    assert not folder.exists()
    local = [_seal(handoff, 0, [])]
    with at_hand(local) as here:
        assert here is local


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 no PAR1"])
def test_a_damaged_set_is_named(handoff: Handoff, content: bytes) -> None:
    name = new_name(2, datetime(2026, 1, 5, tzinfo=UTC))
    handoff.write(RUN, lambda: name, lambda file: file.write(content))
    with pytest.raises(ConfigurationError, match=f"{name} of run {RUN} in .* is damaged; remove it"):
        SealedSet(handoff, RUN, name).summary()


def test_a_set_of_another_version_is_refused(handoff: Handoff, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dlt_cronofy.shards.shard_output.VERSION", 99)
        sealed = _seal(handoff, 0, [])
    with pytest.raises(ConfigurationError, match="another version of dlt-cronofy"):
        sealed.summary()


def test_what_is_no_set_is_left_alone(handoff: Handoff) -> None:
    handoff.write(RUN, lambda: "plan.parquet", lambda file: file.write(b"x"))
    handoff.write(RUN, lambda: "notes.txt", lambda file: file.write(b"x"))
    assert sets_of(handoff, RUN) == []
