"""Capture: a batch of polls + what the warehouse knows → the rows that are new. Pure.

Only change is written. An unchanged answer leaves one row in `polls` and nothing else; a failed one
touches nothing but `polls`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..calls.polling import Poll
from ..tables import ACCOUNT, CALENDARS, POLLS, PROFILE_CHANGES, PROFILES, USERINFO
from .changes import Change, ProfileState, State, apply_changes, detect_changes
from .knowledge import AccountHistory, KnownRow, LastSamples, Row, TokenContent
from .late import Later, Told
from .payloads import CALENDAR, CONFERENCING, Calendar, Payload, Profile, Record

# where a row carries the fields that have no column yet (frames.py); no column can be called that
EXTRAS = "\x00extras"
BOOKKEEPING = frozenset({"run_id", "_dlt_load_id", "_dlt_id"})


@dataclass(slots=True)
class Known:
    """What is known of the tokens and accounts of a batch; capture brings it up to date as it goes."""

    tokens: dict[str, TokenContent] = field(default_factory=dict)
    histories: dict[str, AccountHistory] = field(default_factory=dict)
    samples: dict[str, LastSamples] = field(default_factory=dict)
    later: Later = field(default_factory=Later)


class Capture:
    """Collects the new rows of one batch, table by table."""

    def __init__(self, run_id: str, known: Known, tables: set[str]) -> None:
        self._run_id = run_id
        self._known = known
        self._tables = tables
        self.rows: dict[str, list[Row]] = {name: [] for name in tables}
        self._told: dict[str, Row] = {}

    def add(self, poll: Poll) -> None:
        """Add what one poll shows. Polls come in the order of `polled_at`."""
        if POLLS.name in self._tables:
            self._write(POLLS.name, poll_row(poll, self._run_id))
        if poll.payload is None:
            return
        later = self._known.later
        is_outdated = later.has_poll_after(poll.token_key, poll.endpoint, poll.answer.polled_at)
        if poll.payload.record is not None and not is_outdated:
            self._add_identity(poll, poll.payload.record)
        is_late = self._add_late_samples(poll, poll.payload)
        if not is_late:
            for profile_type, profiles in poll.payload.samples.items():
                if poll.account_id is not None:
                    self._add_changes(poll, poll.account_id, profile_type, profiles)
        # an account's profiles are the same whichever of its tokens asks
        for token_key in (poll.token_key, *poll.stand_ins):
            content = self._known.tokens.setdefault(token_key, TokenContent())
            if (is_late or is_outdated) and (content.profiles or content.calendars):
                continue  # what is known of it may be newer; where nothing is, this is better
            for profile_type, profiles in poll.payload.samples.items():
                self._add_profiles(poll, token_key, profile_type, profiles, content)
            self._add_calendars(poll, token_key, content)

    def _write(self, table: str, row: Row) -> None:
        if table in self._tables:
            row["run_id"] = self._run_id
            self.rows[table].append(row)

    def _add_identity(self, poll: Poll, record: Record) -> None:
        content = self._known.tokens.setdefault(poll.token_key, TokenContent())
        known = content.userinfo if poll.endpoint == USERINFO.name else content.account
        row = _content_row(poll, record, token_key=poll.token_key)
        if not _same_content(known, row):
            self._write(poll.endpoint, row)
        if poll.endpoint == USERINFO.name:
            content.userinfo = row
        elif poll.endpoint == ACCOUNT.name:
            content.account = row

    def _add_profiles(
        self, poll: Poll, token_key: str, profile_type: str, profiles: list[Profile], content: TokenContent
    ) -> None:
        listed = set()
        for profile in profiles:
            key = (profile_type, profile.profile_id)
            listed.add(key)
            row = _content_row(
                poll,
                profile.record,
                token_key=token_key,
                profile_type=profile_type,
                profile_id=profile.profile_id,
                state=_state(profile).value,
            )
            known = content.profiles.get(key)
            if known is None or known["state"] == State.REMOVED or not _same_content(known, row):
                self._write(PROFILES.name, row)
                content.profiles[key] = row
        for key, known in content.profiles.items():
            if key[0] == profile_type and key not in listed and known["state"] != State.REMOVED:
                content.profiles[key] = row = _carried(known, observed_at=poll.answer.polled_at)
                row |= {"state": State.REMOVED.value, "profile_connected": None, "profile_relink_url": None}
                self._write(PROFILES.name, row)

    def _add_changes(self, poll: Poll, account_id: str, profile_type: str, profiles: list[Profile]) -> None:
        history = self._known.histories.setdefault(account_id, {}).setdefault(profile_type, {})
        samples = self._known.samples.setdefault(account_id, {})
        changes = detect_changes(history, _states(profiles))
        for change in changes:
            row = change_row(poll, account_id, profile_type, change, samples.get(profile_type))
            self._write(PROFILE_CHANGES.name, row)
        apply_changes(history, changes)
        samples[profile_type] = poll.answer.polled_at

    def _add_late_samples(self, poll: Poll, payload: Payload) -> bool:
        """Put samples of an account of which newer ones are known into its history; whether there are any."""
        account_id, at, later = poll.account_id, poll.answer.polled_at, self._known.later
        if account_id is None or not any(
            later.has_sample_after(account_id, profile_type, at) for profile_type in payload.samples
        ):
            return False
        for profile_type, profiles in payload.samples.items():
            if not later.has_sample_after(account_id, profile_type, at):
                self._add_changes(poll, account_id, profile_type, profiles)
                continue
            history = later.histories[account_id, profile_type]
            for told in history.insert(at, _states(profiles)):
                row = {"run_id": self._run_id} | told_row(poll, account_id, profile_type, told)
                history.put(told, row)
                self._told[row["change_id"]] = row
            self._known.histories.setdefault(account_id, {})[profile_type] = history.states(
                max(history.instants)
            )
        return True

    def finish(self) -> None:
        """All polls of the batch were added."""
        if PROFILE_CHANGES.name in self._tables:
            # what was told several times is written as it was told last
            self.rows[PROFILE_CHANGES.name] += self._told.values()

    def _add_calendars(self, poll: Poll, token_key: str, content: TokenContent) -> None:
        assert poll.payload is not None
        profiles = poll.payload.samples.get(CALENDAR)
        if profiles is None or poll.endpoint != USERINFO.name:
            return
        listed: dict[str, Calendar] = {}
        silent = set()  # profiles that were listed without saying anything of their calendars
        for profile in profiles:
            if profile.calendars is None:
                silent.add(profile.profile_id)
            for calendar in profile.calendars or ():
                listed.setdefault(calendar.calendar_id, calendar)
        for calendar in listed.values():
            row = _content_row(
                poll,
                calendar.record,
                token_key=token_key,
                calendar_id=calendar.calendar_id,
                profile_id=calendar.profile_id,
                removed_at=None,
            )
            known = content.calendars.get(calendar.calendar_id)
            if known is None or known["removed_at"] is not None or not _same_content(known, row):
                self._write(CALENDARS.name, row)
                content.calendars[calendar.calendar_id] = row
        for calendar_id, known in content.calendars.items():
            if (
                calendar_id not in listed
                and known["removed_at"] is None
                and known["profile_id"] not in silent
            ):
                content.calendars[calendar_id] = row = _carried(known, observed_at=poll.answer.polled_at)
                row["removed_at"] = poll.answer.polled_at
                self._write(CALENDARS.name, row)


def poll_row(poll: Poll, run_id: str) -> Row:
    """The row of `polls`: what was asked, what came back, how many profiles it listed."""
    answer = poll.answer
    samples = poll.payload.samples if poll.payload else {}
    row: Row = {
        "poll_id": row_key(run_id, poll.token_key, poll.endpoint),
        "run_id": run_id,
        "token_key": poll.token_key,
        "account_id": poll.account_id,
        "endpoint": poll.endpoint,
        "data_center": poll.data_center,
        "requested_at": answer.requested_at,
        "polled_at": answer.polled_at,
        "outcome": answer.outcome.value,
        "http_status": answer.http_status,
        "attempts": answer.attempts,
        "refreshes": answer.refreshes,
        "latency_ms": answer.latency_ms,
        "message": answer.message,
    }
    for profile_type, listed, down in (
        (CALENDAR, "profiles", "disconnected"),
        (CONFERENCING, "conferencing_profiles", "conferencing_disconnected"),
    ):
        if profile_type in samples:
            row[listed] = len(samples[profile_type])
            row[down] = sum(not profile.connected for profile in samples[profile_type])
    return row


def change_row(
    poll: Poll,
    account_id: str,
    profile_type: str,
    change: Change,
    previous_poll_at: datetime | None,
    observed_at: datetime | None = None,
) -> Row:
    """The row of `profile_changes`. The change lies after `previous_poll_at`, at or before `observed_at`."""
    observed_at = observed_at or poll.answer.polled_at
    return {
        "change_id": row_key(account_id, profile_type, change.profile_id, instant_text(observed_at)),
        "token_key": poll.token_key,
        "account_id": account_id,
        "profile_type": profile_type,
        "profile_id": change.profile_id,
        "observed_at": observed_at,
        "previous_poll_at": previous_poll_at,
        "state": change.now.state.value,
        "previous_state": change.before.state.value if change.before else None,
        "kind": change.kind.value,
        "provider_name": change.now.provider_name,
        "provider_service": change.now.provider_service,
        "profile_name": change.now.profile_name,
        "profile_initial_sync_required": change.now.profile_initial_sync_required,
        "profile_relink_url": change.now.profile_relink_url,
    }


def told_row(poll: Poll, account_id: str, profile_type: str, told: Told) -> Row:
    """The row of a change that a late sample puts in, or that is told again because of it."""
    row = change_row(poll, account_id, profile_type, told.change, told.previous_poll_at, told.observed_at)
    if told.row is not None:
        # told again: the same change of the same run, seen from what is known now
        row |= {name: told.row[name] for name in ("change_id", "token_key", "run_id")}
    return row


def row_key(*parts: str) -> str:
    """A key of fixed length over the parts, which may hold anything."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()


def instant_text(instant: datetime) -> str:
    """UTC with microseconds, always written the same way."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def changed_accounts(polls: Iterable[Poll]) -> set[str]:
    """The accounts a batch has samples of."""
    return {poll.account_id for poll in polls if poll.account_id and poll.payload and poll.payload.samples}


def _content_row(poll: Poll, record: Record, **columns: Any) -> Row:
    return {
        **record.columns,
        **columns,
        "account_id": poll.account_id,
        "observed_at": poll.answer.polled_at,
        "content_hash": record.content_hash,
        EXTRAS: record.extras,
    }


def _same_content(known: KnownRow | None, row: Row) -> bool:
    return (
        known is not None
        and known["content_hash"] == row["content_hash"]
        and known["account_id"] == row["account_id"]
    )


def _carried(known: KnownRow, observed_at: datetime) -> Row:
    """A known row to be written again: columns nobody here knows travel as extras."""
    row = {name: value for name, value in known.items() if name not in BOOKKEEPING}
    row["observed_at"] = observed_at
    return row


def _state(profile: Profile) -> State:
    return State.CONNECTED if profile.connected else State.DISCONNECTED


def _states(profiles: Iterable[Profile]) -> dict[str, ProfileState]:
    return {profile.profile_id: _profile_state(profile) for profile in profiles}


def _profile_state(profile: Profile) -> ProfileState:
    columns = profile.record.columns
    return ProfileState(
        _state(profile),
        columns.get("provider_name"),
        columns.get("provider_service"),
        columns.get("profile_name"),
        columns.get("profile_initial_sync_required"),
        columns.get("profile_relink_url"),
    )
