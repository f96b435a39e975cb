"""Late samples: in whatever order samples come, the log says of every instant what they showed."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sources.cronofy.history.changes import Kind, ProfileState, State, apply_changes, detect_changes
from sources.cronofy.history.late import LoggedChange, SampledHistory, Told
from tests.cronofy.bodies import minute

UP, DOWN = ProfileState(State.CONNECTED, "google"), ProfileState(State.DISCONNECTED, "google")
Listed = dict[str, ProfileState]
Sample = tuple[datetime, Listed]
# what the log says: kind, state before and after, and since when it may be so
Said = dict[tuple[datetime, str], tuple[Kind, ProfileState | None, ProfileState, datetime | None]]


class Log:
    """`profile_changes` of one account and type, kept by the rules of a sweep."""

    def __init__(self) -> None:
        self.history = SampledHistory()
        self.said: Said = {}

    def add(self, at: datetime, listed: Listed) -> list[Told]:
        if self.history.next_after(at) is not None:
            told = self.history.insert(at, listed)
        else:
            known: Listed = {}
            for (_, profile_id), logged in sorted(self.history.log.items(), key=lambda item: item[0]):
                known[profile_id] = logged.now
            previous = self.history.last_before(at)
            told = [Told(at, previous, change) for change in detect_changes(known, listed)]
            self.history.instants.add(at)
        for each in told:
            change = each.change
            self.history.put(each, {"change_id": f"{each.observed_at}/{change.profile_id}"})
            self.said[each.observed_at, change.profile_id] = (
                change.kind, change.before, change.now, each.previous_poll_at,
            )  # fmt: skip
        return told

    def changes(self) -> Said:
        """What is said, but for what says that nothing changed."""
        return {key: said for key, said in self.said.items() if said[1] != said[2]}


def in_order(samples: Sequence[Sample]) -> Said:
    """What the log says where every sample comes in its turn."""
    known: Listed = {}
    said: Said = {}
    previous = None
    for at, listed in sorted(samples, key=lambda sample: sample[0]):
        changes = detect_changes(known, listed)
        apply_changes(known, changes)
        said |= {
            (at, change.profile_id): (change.kind, change.before, change.now, previous) for change in changes
        }
        previous = at
    return said


listings = st.dictionaries(
    st.sampled_from(["a", "b"]), st.sampled_from([UP, DOWN, ProfileState(State.CONNECTED, "exchange")])
)
sampled = st.lists(listings, max_size=7).map(
    lambda found: [(minute(number), listed) for number, listed in enumerate(found)]
)


@given(sampled.flatmap(st.permutations))
def test_the_order_of_arrival_does_not_matter(samples: list[Sample]) -> None:
    log = Log()
    for at, listed in samples:
        log.add(at, listed)
    assert log.changes() == in_order(samples)


@given(sampled.flatmap(st.permutations))
def test_what_is_told_again_keeps_its_row(samples: list[Sample]) -> None:
    log = Log()
    for at, listed in samples:
        before = dict(log.said)
        for told in log.add(at, listed):
            key = told.observed_at, told.change.profile_id
            assert (told.row is not None) == (key in before)


def test_a_change_that_was_undone_meanwhile_is_told_twice() -> None:
    """Up, then up: nothing to tell. The late sample between them says that it was down."""
    log = Log()
    log.add(minute(0), {"a": UP})
    assert not log.add(minute(2), {"a": UP})
    told = log.add(minute(1), {"a": DOWN})
    assert [(each.observed_at, each.change.kind, each.previous_poll_at) for each in told] == [
        (minute(1), Kind.DISCONNECTED, minute(0)),
        (minute(2), Kind.CONNECTED, minute(1)),
    ]


def test_a_change_that_came_earlier_is_told_where_it_came() -> None:
    log = Log()
    log.add(minute(0), {"a": UP})
    log.add(minute(2), {"a": DOWN})
    told = log.add(minute(1), {"a": DOWN})
    assert [(each.observed_at, each.change.kind) for each in told] == [
        (minute(1), Kind.DISCONNECTED),
        (minute(2), Kind.ATTRIBUTES),
    ]
    assert told[1].change.before == told[1].change.now


def test_at_one_instant_disconnected_wins() -> None:
    history = SampledHistory()
    for state in (UP, DOWN, UP):
        history.add(LoggedChange({}, "a", minute(0), state))
    told = history.insert(minute(0) + timedelta(seconds=1), {"a": UP})
    assert [each.change.kind for each in told] == [Kind.CONNECTED]
