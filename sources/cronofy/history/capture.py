"""Capture: a batch of polls + what the warehouse knows → the rows that are new. Pure.

Only change is written. An answer that has the digest of the last one is not even parsed: it leaves one row
in `polls` and moves the evidence forward. A failed poll moves the evidence of its token and nothing else; a
late one leaves its row in `polls` and nothing else.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ..privacy import PersonalData
from ..records import Calendar, Outcome, Payload, Poll, Profile, Record
from ..tables import ACCOUNT, CALENDARS, POLLS, PROFILE_CHANGES, PROFILES, USERINFO, Row
from .diff import Change, ProfileState, State, apply_changes, detect_changes, is_outweighed
from .digests import SPEAKS_FOR, Held, KnownAnswer, Listed, is_same, listed_of
from .evidence import Evidence, newest_ok
from .parse import CALENDAR, CONFERENCING, read_poll
from .runs import RunCounts
from .state import AccountHistory, TokenContent

# where a row carries the fields that have no column yet (frames.py); no column can be called that
EXTRAS = "\x00extras"
# what a profile that is not listed any more has not
CONDITION = ("profile_connected", "profile_relink_url", "graph_api_migration_url")
BOOKKEEPING = frozenset({"run_id", "_dlt_load_id", "_dlt_id"})


@dataclass(slots=True)
class KnownRows:
    """What is known of the tokens and accounts of a batch; capture brings it up to date as it goes.

    Attributes:
        tokens: the current-state rows of each token.
        histories: the newest state of each profile, by account.
        unsupported: tokens of which rows are missing that their digests speak for.
    """

    tokens: dict[str, TokenContent] = field(default_factory=dict)
    histories: dict[str, AccountHistory] = field(default_factory=dict)
    unsupported: set[str] = field(default_factory=set)


def read_changed(
    polls: Sequence[Poll], known: KnownRows, evidence: Evidence, personal: PersonalData
) -> list[Poll]:
    """The same polls; an ok answer is parsed unless it has the digest of the last one."""
    return [
        read_poll(poll, personal) if poll.is_unread and not is_unchanged(poll, known, evidence) else poll
        for poll in polls
    ]


def is_unchanged(poll: Poll, known: KnownRows, evidence: Evidence) -> bool:
    """Whether the warehouse holds all that the answer says."""
    digest = evidence.status(poll.token_key)[f"{poll.endpoint}_digest"]
    tokens = (poll.token_key, *poll.fallback_tokens)
    return is_same(digest, poll.digest) and known.unsupported.isdisjoint(tokens)


class Capture:
    """Collects the new rows of one batch, table by table.

    Attributes:
        rows: by table, for the wanted tables.
        changed_accounts: the accounts that have a new row in the change log.
    """

    def __init__(
        self,
        known: KnownRows,
        evidence: Evidence,
        counts: RunCounts,
        tables: set[str],
        recall: Callable[[Poll], Poll],
    ) -> None:
        self._known = known
        self._evidence = evidence
        self._counts = counts
        self._tables = tables
        self._load_state = recall
        self.rows: dict[str, list[Row]] = {name: [] for name in tables}
        self.changed_accounts: set[str] = set()

    def add(self, poll: Poll) -> None:
        """Add what one poll shows. Polls come in the order of `polled_at`, as `read_changed` returns them."""
        status = self._evidence.status(poll.token_key)
        unchanged = poll.response.outcome is Outcome.OK and is_unchanged(poll, self._known, self._evidence)
        if poll.is_unread and not unchanged:
            # another token of the account has shown something else within the batch
            poll = self._load_state(poll)
        account_id = _account_of(poll) or status["account_id"] or poll.account_id
        listed = listed_of(status[f"{poll.endpoint}_digest"]) if unchanged else listed_in(poll.payload)
        at, outcome = poll.response.polled_at, poll.response.outcome
        streams = [(account_id, each) for each in listed.types] if account_id is not None else []
        is_late = self._evidence.is_late(poll.token_key, poll.endpoint, at, streams)
        self._add_row(poll, account_id, listed, is_late=is_late)
        if is_late:
            return
        if account_id != status["account_id"]:
            # what it answered before was of another account
            self._evidence.forget_answers([poll.token_key])
        self._counts.add_evidence(at, at if outcome is Outcome.OK else newest_ok(status, poll.endpoint))
        self._evidence.add_poll(poll.token_key, poll.endpoint, at, outcome, account_id)
        sampled = {stream[1] for stream in streams if self._evidence.is_sampled_at(stream, at)}
        before = {stream[1]: self._evidence.add_sample(stream, at) for stream in streams}
        if poll.payload is not None and not unchanged:
            fallback_tokens = poll.fallback_tokens if account_id == poll.account_id else ()
            named = replace(poll, account_id=account_id, fallback_tokens=fallback_tokens)
            self._add_content(named, poll.payload, before, sampled)

    def _add_row(self, poll: Poll, account_id: str | None, listed: Listed, *, is_late: bool) -> None:
        row = poll_row(poll, self._evidence.run_id, account_id, listed) | {"is_late": is_late or None}
        self._counts.add_poll(row)
        if POLLS.name in self._tables:
            self.rows[POLLS.name].append(row)

    def _add_content(
        self, poll: Poll, payload: Payload, before: dict[str, datetime | None], sampled: set[str]
    ) -> None:
        """Write what of an answer is new, and keep its digest for the next one.

        Args:
            poll: with the account that is known by now.
            payload: what it says.
            before: when each profile type was last sampled before it.
            sampled: the profile types that another poll has sampled at the same instant.
        """
        outweighed = False
        if payload.record is not None:
            self._add_identity(poll, payload.record)
        if poll.account_id is not None:
            for profile_type, profiles in payload.samples.items():
                outweighed |= self._add_changes(
                    poll,
                    poll.account_id,
                    profile_type,
                    profiles,
                    before.get(profile_type),
                    is_sampled=profile_type in sampled,
                )
        # an account's profiles are the same whichever of its tokens asks
        for token_key in (poll.token_key, *poll.fallback_tokens):
            content = self._known.tokens.setdefault(token_key, TokenContent())
            written = [
                self._add_profiles(poll, token_key, profile_type, profiles, content)
                for profile_type, profiles in payload.samples.items()
            ]
            written.append(self._add_calendars(poll, token_key, content))
            if any(written):
                # another endpoint's last answer says what these rows said before
                self._evidence.forget_answers([token_key], keep=(poll.token_key, poll.endpoint))
        known = None
        if poll.digest is not None and not outweighed:
            known = str(KnownAnswer(poll.digest, listed_in(payload), self._held(poll)))
        self._evidence.know_answer(poll.token_key, poll.endpoint, known)

    def _held(self, poll: Poll) -> Held:
        """How many rows the warehouse has now of what the answer decides, for the wanted tables."""
        content = self._known.tokens.setdefault(poll.token_key, TokenContent())
        counts: dict[str, tuple[int, ...]] = {
            USERINFO.name: (1,),
            ACCOUNT.name: (1,),
            PROFILES.name: _count_states((key[0], row["state"]) for key, row in content.profiles.items()),
            CALENDARS.name: (sum(row["removed_at"] is None for row in content.calendars.values()),),
        }
        if poll.account_id is not None:
            history = self._known.histories.get(poll.account_id, {})
            counts[PROFILE_CHANGES.name] = _count_states(
                (kind, state.state) for kind, states in history.items() for state in states.values()
            )
        return {
            name: counts[name]
            for name in SPEAKS_FOR[poll.endpoint]
            if name in self._tables and name in counts
        }

    def _write(self, table: str, row: Row) -> None:
        if table in self._tables:
            row["run_id"] = self._evidence.run_id
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
    ) -> bool:
        """Bring the token's profiles of one type up to date; returns whether any row was written."""
        listed = set()
        is_written = False
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
                is_written = True
        for key, known in content.profiles.items():
            if key[0] == profile_type and key not in listed and known["state"] != State.REMOVED:
                content.profiles[key] = row = _carried(known, observed_at=poll.response.polled_at)
                row |= {"state": State.REMOVED.value} | dict.fromkeys(CONDITION)
                self._write(PROFILES.name, row)
                is_written = True
        return is_written

    def _add_changes(
        self,
        poll: Poll,
        account_id: str,
        profile_type: str,
        profiles: list[Profile],
        previous_poll_at: datetime | None,
        *,
        is_sampled: bool,
    ) -> bool:
        """Write the changes; returns whether another sample at that instant outweighs any of them."""
        history = self._known.histories.setdefault(account_id, {}).setdefault(profile_type, {})
        detected = detect_changes(history, _states(profiles))
        changes = [each for each in detected if not (is_sampled and is_outweighed(each))]
        for change in changes:
            row = change_row(poll, account_id, profile_type, change, previous_poll_at)
            self._write(PROFILE_CHANGES.name, row)
        apply_changes(history, changes)
        if changes:
            # what other tokens of the account answered last is not the newest state any more
            self.changed_accounts.add(account_id)
            others = [key for key in self._evidence.tokens_of(account_id) if key != poll.token_key]
            self._evidence.forget_answers(others)
            self._evidence.forget_answers([poll.token_key], keep=(poll.token_key, poll.endpoint))
        return len(changes) < len(detected)

    def _add_calendars(self, poll: Poll, token_key: str, content: TokenContent) -> bool:
        """Bring the token's calendars up to date; returns whether any row was written."""
        assert poll.payload is not None
        profiles = poll.payload.samples.get(CALENDAR)
        if profiles is None or poll.endpoint != USERINFO.name:
            return False
        is_written = False
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
                is_written = True
        for calendar_id, known in content.calendars.items():
            if (
                calendar_id not in listed
                and known["removed_at"] is None
                and known["profile_id"] not in silent
            ):
                content.calendars[calendar_id] = row = _carried(known, observed_at=poll.response.polled_at)
                row["removed_at"] = poll.response.polled_at
                self._write(CALENDARS.name, row)
                is_written = True
        return is_written


def poll_row(poll: Poll, run_id: str, account_id: str | None, listed: Listed) -> Row:
    """The row of `polls`: what was asked, what came back, how many profiles it listed."""
    response = poll.response
    return {
        "poll_id": row_key(run_id, poll.token_key, poll.endpoint),
        "run_id": run_id,
        "token_key": poll.token_key,
        "account_id": account_id,
        "endpoint": poll.endpoint,
        "data_center": poll.data_center,
        "requested_at": response.requested_at,
        "polled_at": response.polled_at,
        "outcome": response.outcome.value,
        "http_status": response.http_status,
        "attempts": response.attempts,
        "refreshes": response.refreshes,
        "latency_ms": response.latency_ms,
        "message": response.message,
        "server_request_id": response.server_request_id,
        "profiles": listed.profiles,
        "disconnected": listed.disconnected,
        "conferencing_profiles": listed.conferencing_profiles,
        "conferencing_disconnected": listed.conferencing_disconnected,
    }


def _account_of(poll: Poll) -> str | None:
    return poll.payload.account_id if poll.payload is not None else None


def listed_in(payload: Payload | None) -> Listed:
    """How many profiles an answer lists; none where there is no answer."""
    counts: list[int | None] = []
    for profile_type in (CALENDAR, CONFERENCING):
        profiles = payload.samples.get(profile_type) if payload is not None else None
        counts += (
            [None, None]
            if profiles is None
            else [len(profiles), sum(not each.connected for each in profiles)]
        )
    return Listed(*counts)


def change_row(
    poll: Poll,
    account_id: str,
    profile_type: str,
    change: Change,
    previous_poll_at: datetime | None,
) -> Row:
    """The row of `profile_changes`. The change lies after `previous_poll_at`, at or before `observed_at`."""
    observed_at = poll.response.polled_at
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


def _content_row(poll: Poll, record: Record, **columns: Any) -> Row:
    return {
        **record.columns,
        **columns,
        "account_id": poll.account_id,
        "observed_at": poll.response.polled_at,
        "content_hash": record.content_hash,
        EXTRAS: record.extras,
    }


def _same_content(known: Row | None, row: Row) -> bool:
    return (
        known is not None
        and known["content_hash"] == row["content_hash"]
        and known["account_id"] == row["account_id"]
    )


def _carried(known: Row, observed_at: datetime) -> Row:
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


def _count_states(profiles: Iterable[tuple[str, str]]) -> tuple[int, int, int, int]:
    """Calendar profiles, of these disconnected, conferencing profiles, of these disconnected."""
    counts = {CALENDAR: [0, 0], CONFERENCING: [0, 0]}
    for profile_type, state in profiles:
        if state != State.REMOVED:
            counts[profile_type][0] += 1
            counts[profile_type][1] += state == State.DISCONNECTED
    (calendar, calendar_down), (conferencing, conferencing_down) = counts.values()
    return calendar, calendar_down, conferencing, conferencing_down
