"""Late samples: what a sample adds to the history of an account of which newer ones are known already. Pure.

A worker's polls may reach the warehouse after those of a later run. The change log is append-only and read in
the order of `observed_at`, so a late sample puts in what it showed, and the sample after it is told again by
comparison with the late one. Rows keep their keys: one told again takes the place of the first telling. In
the end the log says what it would have said had all samples come in order, but for rows that would not be
there; those say that nothing changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .changes import Change, Kind, ProfileState, State, apply_changes, detect_changes

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A row of `profile_changes`, and the state it speaks of."""

    row: Row
    profile_id: str
    observed_at: datetime
    now: ProfileState


@dataclass(frozen=True, slots=True)
class Told:
    """A change at an instant, to be written; `row` is the row it takes the place of."""

    observed_at: datetime
    previous_poll_at: datetime | None
    change: Change
    row: Row | None = None


@dataclass
class SampledHistory:
    """All samples and changes of one account's profiles of one type.

    Attributes:
        instants: when it was sampled, in any order.
        log: its changes by instant and profile.
    """

    instants: set[datetime] = field(default_factory=set)
    log: dict[tuple[datetime, str], LoggedChange] = field(default_factory=dict)

    def add(self, logged: LoggedChange) -> None:
        """Take in a change; at one instant disconnected wins."""
        known = self.log.setdefault((logged.observed_at, logged.profile_id), logged)
        if logged.now.state is State.DISCONNECTED:
            self.log[known.observed_at, known.profile_id] = logged

    def next_after(self, instant: datetime) -> datetime | None:
        """The first sample after that instant."""
        return min((each for each in self.instants if each > instant), default=None)

    def last_before(self, instant: datetime) -> datetime | None:
        """The last sample before that instant."""
        return max((each for each in self.instants if each < instant), default=None)

    def insert(self, at: datetime, listed: Mapping[str, ProfileState]) -> list[Told]:
        """Put a sample between the others; what is to be written, what later ones tell anew included."""
        known = self.states(at)
        changes = detect_changes(known, listed)
        previous = self.last_before(at)
        told = [Told(at, previous, change, self._row(at, change.profile_id)) for change in changes]
        self.instants.add(at)
        apply_changes(known, changes)
        while (following := self.next_after(at)) is not None:
            shown = self.states(following)
            told += self._tell_again(following, at, known, shown)
            at = following
            if known == shown:
                break  # from here on all is as it was
        return told

    def put(self, told: Told, row: Row) -> None:
        """Take in a change that is being written."""
        profile_id = told.change.profile_id
        self.log[told.observed_at, profile_id] = LoggedChange(
            row, profile_id, told.observed_at, told.change.now
        )

    def _tell_again(
        self,
        at: datetime,
        previous: datetime,
        known: dict[str, ProfileState],
        shown: Mapping[str, ProfileState],
    ) -> list[Told]:
        """The changes of the sample at that instant, compared with what is known before it now.

        Args:
            at: when it was sampled.
            previous: when the sample before it was.
            known: every profile's state before it; is brought up to date.
            shown: every profile's state after it, as the log has it.
        """
        listed = {key: state for key, state in shown.items() if state.state is not State.REMOVED}
        changes = {change.profile_id: change for change in detect_changes(known, listed)}
        apply_changes(known, changes.values())
        told = [
            Told(at, previous, change, self._row(at, profile_id)) for profile_id, change in changes.items()
        ]
        for (instant, profile_id), logged in self.log.items():
            if instant == at and profile_id not in changes:
                # it changed before, as is known now
                unchanged = Change(profile_id, Kind.ATTRIBUTES, known[profile_id], known[profile_id])
                told.append(Told(at, previous, unchanged, logged.row))
        return told

    def states(self, until: datetime) -> dict[str, ProfileState]:
        """Every profile's state as it was known at that instant."""
        states: dict[str, ProfileState] = {}
        for (instant, profile_id), logged in sorted(self.log.items(), key=lambda item: item[0]):
            if instant <= until:
                states[profile_id] = logged.now
        return states

    def _row(self, instant: datetime, profile_id: str) -> Row | None:
        logged = self.log.get((instant, profile_id))
        return logged.row if logged is not None else None


# (account_id, profile_type) → its history
SampledHistories = dict[tuple[str, str], SampledHistory]


@dataclass
class Later:
    """What the warehouse knows that is newer than late polls.

    Attributes:
        ok_at: the newest ok poll of a token's endpoint, as far as it is newer than the oldest of them.
        histories: the accounts that late polls are of.
    """

    ok_at: dict[tuple[str, str], datetime] = field(default_factory=dict)
    histories: SampledHistories = field(default_factory=dict)

    def has_sample_after(self, account_id: str, profile_type: str, at: datetime) -> bool:
        """Whether a newer sample is known already."""
        history = self.histories.get((account_id, profile_type))
        return history is not None and history.next_after(at) is not None

    def has_poll_after(self, token_key: str, endpoint: str, at: datetime) -> bool:
        """Whether a newer ok poll is known already."""
        ok_at = self.ok_at.get((token_key, endpoint))
        return ok_at is not None and ok_at > at
