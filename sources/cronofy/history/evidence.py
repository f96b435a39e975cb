"""Evidence: when each token was polled and each account sampled, brought up to date poll by poll. Pure.

The rows of `token_status` and `coverage` that a batch of polls touches are read, changed here, and written by
the package that carries the polls. A poll older than what is known of its token or account is late: it
changes nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..records import Outcome
from ..settings import ACCOUNT, PROFILES, USERINFO
from ..tables import COVERAGE, TOKEN_STATUS, Row

# account_id, profile_type
Stream = tuple[str, str]

# the endpoint that a token is judged by: the first of these that was ever polled
PREFERENCE = (USERINFO, ACCOUNT, PROFILES)
# the endpoints whose newest polls are kept beside those of the one a token is judged by
KEPT_APART = (ACCOUNT, PROFILES)
DIGESTS = tuple(f"{endpoint}_digest" for endpoint in PREFERENCE)


def new_status(token_key: str) -> Row:
    """The row of a token of which nothing is known."""
    return dict.fromkeys(TOKEN_STATUS.names) | {
        "token_key": token_key,
        "has_token": True,
        "consecutive_failures": 0,
    }


@dataclass
class Evidence:
    """The rows of `token_status` and `coverage` that a batch of polls may touch.

    Attributes:
        run_id: of the load that changes them.
        hold: samples no further apart than that are one span.
        statuses: by token_key; a token without a row is a new one.
        spans: the newest span of each stream of samples.
    """

    run_id: str
    hold: timedelta
    statuses: dict[str, Row] = field(default_factory=dict)
    spans: dict[Stream, Row] = field(default_factory=dict)
    _changed_tokens: set[str] = field(default_factory=set)
    _changed_spans: dict[tuple[str, str, datetime], Row] = field(default_factory=dict)
    _before: dict[Stream, datetime | None] = field(default_factory=dict)
    _tokens_of: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def know(self, statuses: Mapping[str, Row]) -> None:
        """Take in rows of `token_status` that are not at hand yet."""
        for token_key, status in statuses.items():
            self.statuses[token_key] = status
            self._tokens_of[status["account_id"]].add(token_key)

    def status(self, token_key: str) -> Row:
        """The row of a token as it is now."""
        found = self.statuses.get(token_key)
        if found is None:
            found = self.statuses[token_key] = new_status(token_key)
        return found

    def is_late(self, token_key: str, endpoint: str, at: datetime, streams: Iterable[Stream]) -> bool:
        """Whether a newer poll of the token's endpoint is known, or a newer sample of one of the streams."""
        newest = _newest(self.status(token_key), endpoint)
        if newest is not None and at < newest:
            return True
        return any(span["last_sample_at"] > at for stream in streams if (span := self.spans.get(stream)))

    def add_poll(
        self, token_key: str, endpoint: str, at: datetime, outcome: Outcome, account_id: str | None
    ) -> None:
        """Take in a poll that is not late.

        Args:
            token_key: of which token.
            endpoint: what was read.
            at: when the answer came, UTC.
            outcome: how it ended.
            account_id: whose it is, where that is known.
        """
        status = self.status(token_key)
        if outcome is Outcome.SKIPPED:
            # no attempt; it shows which endpoint would be read
            if status["last_polled_at"] is None and _is_preferred(endpoint, status["endpoint"]):
                self._change(status, endpoint=endpoint)
            return
        is_ok = outcome is Outcome.OK
        # a poll of another endpoint may be newer
        if account_id is not None and (status["account_id"] is None or at >= _newest_attempt(status, at)):
            status["account_id"] = account_id
            self._tokens_of[account_id].add(token_key)
        if endpoint in KEPT_APART:
            status[f"{endpoint}_polled_at"] = at
            if is_ok:
                status[f"{endpoint}_ok_at"] = at
        if status["last_polled_at"] is None or _is_preferred(endpoint, status["endpoint"]):
            status |= dict.fromkeys(("last_polled_at", "last_ok_at", "last_outcome", "failing_since"))
            status |= {"endpoint": endpoint, "consecutive_failures": 0}
        if status["endpoint"] == endpoint:
            _judge(status, at, outcome)
        self._change(status)

    def is_sampled_at(self, stream: Stream, at: datetime) -> bool:
        """Whether the newest sample of the stream is of that instant."""
        span = self.spans.get(stream)
        return span is not None and span["last_sample_at"] == at

    def add_sample(self, stream: Stream, at: datetime) -> datetime | None:
        """Take in a sample that is not late; returns when the one before it was, None if it is the first."""
        span = self.spans.get(stream)
        if span is not None and span["last_sample_at"] == at:
            # of two samples at one instant each has the same one before it
            return self._before.get(stream, at)
        if span is not None and at - span["last_sample_at"] <= self.hold:
            before: datetime | None = span["last_sample_at"]
            span |= {"last_sample_at": at, "samples": (span["samples"] or 0) + 1, "run_id": self.run_id}
        else:
            before = None if span is None else span["last_sample_at"]
            self.spans[stream] = span = dict.fromkeys(COVERAGE.names) | {
                "account_id": stream[0],
                "profile_type": stream[1],
                "first_sample_at": at,
                "last_sample_at": at,
                "samples": 1,
                "run_id": self.run_id,
            }
        self._before[stream] = before
        self._changed_spans[(*stream, span["first_sample_at"])] = span
        return before

    def set_store_columns(self, rows: Iterable[Row]) -> None:
        """Take over what the token store says of its tokens.

        Args:
            rows: each with its token_key and the columns that change.
        """
        for row in rows:
            self._change(self.status(row["token_key"]), **row)

    def know_answer(self, token_key: str, endpoint: str, known: str | None) -> None:
        """Keep what recognizes the same answer of the endpoint; None where it is not to be relied on."""
        self._change(self.status(token_key), **{f"{endpoint}_digest": known})

    def forget_answers(self, token_keys: Collection[str], keep: tuple[str, str] | None = None) -> None:
        """Have the next answers of these tokens read whatever they say; `keep` is a token's endpoint."""
        for token_key in token_keys:
            status = self.status(token_key)
            for endpoint, digest in zip(PREFERENCE, DIGESTS, strict=True):
                if status[digest] is not None and (token_key, endpoint) != keep:
                    self._change(status, **{digest: None})

    def tokens_of(self, account_id: str) -> list[str]:
        """The tokens at hand that belong to that account."""
        return sorted(self._tokens_of[account_id])

    def changed_statuses(self) -> list[Row]:
        """The rows of `token_status` to be written."""
        return [self.statuses[key] for key in sorted(self._changed_tokens)]

    def changed_spans(self) -> list[Row]:
        """The rows of `coverage` to be written."""
        return list(self._changed_spans.values())

    def _change(self, status: Row, **values: Any) -> None:
        status |= values
        status["run_id"] = self.run_id
        self._changed_tokens.add(status["token_key"])


def newest_ok(status: Row, endpoint: str) -> datetime | None:
    """The newest ok poll of a token's endpoint that is known."""
    return _instant(status, endpoint, "ok_at")


def _newest(status: Row, endpoint: str) -> datetime | None:
    return _instant(status, endpoint, "polled_at")


def _instant(status: Row, endpoint: str, what: str) -> datetime | None:
    found: datetime | None = None
    if status["endpoint"] == endpoint:
        found = status[f"last_{what}"]
    elif endpoint in KEPT_APART:
        found = status[f"{endpoint}_{what}"]
    return found


def _newest_attempt(status: Row, default: datetime) -> datetime:
    """The newest attempt at any endpoint that is known."""
    columns = ("last_polled_at", *(f"{endpoint}_polled_at" for endpoint in KEPT_APART))
    return max((at for column in columns if (at := status[column]) is not None), default=default)


def _judge(status: Row, at: datetime, outcome: Outcome) -> None:
    """Take in a poll of the endpoint that the token is judged by."""
    is_again = status["last_polled_at"] == at  # at one instant an ok poll wins
    if outcome is Outcome.OK:
        status |= {"last_ok_at": at, "last_outcome": outcome.value}
        status |= {"failing_since": None, "consecutive_failures": 0}
    elif not (is_again and status["last_ok_at"] == at):
        worst = min(outcome.value, status["last_outcome"]) if is_again else outcome.value
        status |= {"last_outcome": worst, "failing_since": status["failing_since"] or at}
        status["consecutive_failures"] = (status["consecutive_failures"] or 0) + 1
    status["last_polled_at"] = at


def _is_preferred(endpoint: str, to: str | None) -> bool:
    # an earlier release polled other endpoints as well
    return to is None or _rank(endpoint) < _rank(to)


def _rank(endpoint: str) -> int:
    return PREFERENCE.index(endpoint) if endpoint in PREFERENCE else len(PREFERENCE)
