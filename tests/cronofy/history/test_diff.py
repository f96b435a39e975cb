"""Change detection: every transition, and that the changes alone tell the whole story."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.history.diff import Change, Kind, ProfileState, State, apply_changes, detect_changes

UP = ProfileState(State.CONNECTED, "google", "gsuite", "example@cronofy.com", False)
DOWN = replace(UP, state=State.DISCONNECTED, profile_relink_url="https://app.cronofy.com/relink/google")
GONE = UP.as_removed()


def one(state: ProfileState | None) -> dict[str, ProfileState]:
    return {} if state is None else {"pro_1": state}


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        pytest.param(None, UP, Kind.FIRST_SEEN, id="new and connected"),
        pytest.param(None, DOWN, Kind.FIRST_SEEN, id="new and disconnected"),
        pytest.param(UP, DOWN, Kind.DISCONNECTED, id="connected, disconnected"),
        pytest.param(DOWN, UP, Kind.CONNECTED, id="disconnected, connected"),
        pytest.param(GONE, UP, Kind.REAPPEARED, id="removed, connected"),
        pytest.param(GONE, DOWN, Kind.REAPPEARED, id="removed, disconnected"),
        pytest.param(UP, replace(UP, provider_name="apple"), Kind.ATTRIBUTES, id="provider_name"),
        pytest.param(UP, replace(UP, provider_service="google"), Kind.ATTRIBUTES, id="provider_service"),
        pytest.param(UP, replace(UP, profile_name="new@cronofy.com"), Kind.ATTRIBUTES, id="profile_name"),
        pytest.param(UP, replace(UP, profile_name=None), Kind.ATTRIBUTES, id="no profile_name any more"),
        pytest.param(
            UP, replace(UP, profile_initial_sync_required=True), Kind.ATTRIBUTES, id="initial sync required"
        ),
        pytest.param(
            UP, replace(DOWN, profile_name="new"), Kind.DISCONNECTED, id="a new state and new attributes"
        ),
    ],
)
def test_every_transition_of_a_listed_profile(
    before: ProfileState | None, now: ProfileState, kind: Kind
) -> None:
    assert detect_changes(one(before), one(now)) == [Change("pro_1", kind, now, before)]


def test_another_link_is_no_change() -> None:
    assert detect_changes(one(DOWN), one(replace(DOWN, profile_relink_url="https://x"))) == []


@pytest.mark.parametrize("before", [UP, DOWN], ids=["connected", "disconnected"])
def test_a_profile_that_is_not_listed_any_more_was_removed(before: ProfileState) -> None:
    assert detect_changes(one(before), {}) == [Change("pro_1", Kind.REMOVED, GONE, before)]


@pytest.mark.parametrize(
    ("known", "listed"),
    [
        pytest.param(None, None, id="nothing known, nothing listed"),
        pytest.param(UP, UP, id="still connected"),
        pytest.param(DOWN, DOWN, id="still disconnected"),
        pytest.param(GONE, None, id="still removed"),
    ],
)
def test_a_sample_that_confirms_makes_no_change(
    known: ProfileState | None, listed: ProfileState | None
) -> None:
    assert detect_changes(one(known), one(listed)) == []


def test_a_removed_profile_keeps_its_name_and_loses_its_condition() -> None:
    assert DOWN.as_removed() == ProfileState(State.REMOVED, "google", "gsuite", "example@cronofy.com")


def test_profiles_change_independently() -> None:
    known = {"up": UP, "down": DOWN, "gone": GONE, "same": UP}
    listed = {"new": UP, "down": UP, "gone": UP, "same": UP}
    assert {each.profile_id: each.kind for each in detect_changes(known, listed)} == {
        "new": Kind.FIRST_SEEN,
        "down": Kind.CONNECTED,
        "gone": Kind.REAPPEARED,
        "up": Kind.REMOVED,
    }


states = st.builds(
    ProfileState,
    st.sampled_from([State.CONNECTED, State.DISCONNECTED]),
    st.sampled_from(["google", "apple", None]),
    st.sampled_from(["gsuite", None]),
    st.sampled_from(["a", "b", None]),
    st.sampled_from([True, False, None]),
    st.sampled_from(["https://x", "https://y", None]),
)
samples = st.dictionaries(st.sampled_from(["pro_1", "pro_2", "pro_3", "pro_é", ""]), states)


@given(st.lists(samples, max_size=12))
def test_folding_the_changes_reproduces_every_sample(history: list[dict[str, ProfileState]]) -> None:
    known: dict[str, ProfileState] = {}
    ever: set[str] = set()
    for sample in history:
        apply_changes(known, detect_changes(known, sample))
        ever |= sample.keys()
        assert known.keys() == ever  # nothing is forgotten
        assert {key: now for key, now in known.items() if now.state is not State.REMOVED} == sample
        assert detect_changes(known, sample) == []  # the same sample again says nothing


@given(samples, samples)
def test_a_change_names_what_was_and_is_never_idle(
    before: dict[str, ProfileState], after: dict[str, ProfileState]
) -> None:
    for change in detect_changes(before, after):
        assert change.before == before.get(change.profile_id)
        assert change.now != change.before
        assert change.now == after.get(change.profile_id, change.now)
