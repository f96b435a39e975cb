"""Worlds written down as a few lines, for cases that are meant to be read.

One line is one poll: hours since `MIDNIGHT`, token, outcome and what was listed. A token `ann` or `ann/phone`
belongs to the account `ann`; its endpoint, unless it is userinfo, follows a colon. `a+ b-` lists calendar
profile a as connected and b as disconnected, `-` stands for an empty list, and conferencing profiles follow a
bar. A body without any list has nothing after its outcome.

    0   ann        ok            a+ b-
    6   ann/phone  ok            a- b- | c+
    12  ann        server_error
    18  ann        ok            -
"""

from datetime import UTC, datetime, timedelta

from tests.pipelines.views.worlds import Poll, World

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def history(text: str) -> World:
    """The world of some lines."""
    lines = [line.split(maxsplit=3) for line in text.strip().splitlines()]
    return World([_poll(number, line) for number, line in enumerate(lines)], mixing_seed=7)


def at(hours: float) -> datetime:
    """The instant some hours after `MIDNIGHT`."""
    return MIDNIGHT + timedelta(hours=hours)


def _poll(number: int, line: list[str]) -> Poll:
    hours, token_key, outcome, *rest = line
    calendars, _, conferencing = rest[0].partition("|") if rest else ("", "", "")
    token, _, endpoint = token_key.partition(":")
    return Poll(
        number=number,
        polled_at=at(float(hours)),
        token_key=token,
        account_id=token.partition("/")[0],
        endpoint=endpoint or "userinfo",
        outcome=outcome,
        listings={"calendar": _listing(calendars), "conferencing": _listing(conferencing)},
    )


def _listing(text: str) -> dict[str, bool] | None:
    words = text.split()
    if not words:
        return None
    return {word[0]: word[1] == "+" for word in words if word != "-"}
