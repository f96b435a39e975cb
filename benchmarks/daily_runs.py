"""A year of daily runs, made by change capture itself: the rows that loads append to the two logs.

Keys, ids and links are as long and as random as Cronofy's are. Changes are far more frequent than in life, so
that there are enough of them to be measured.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa

from dlt_cronofy.source.history.arrow import to_arrow, with_load_id
from dlt_cronofy.source.history.capture import Capture, KnownRows
from dlt_cronofy.source.history.evidence import Evidence
from dlt_cronofy.source.history.parse import CALENDAR, CONFERENCING
from dlt_cronofy.source.history.runs import RunCounts
from dlt_cronofy.source.records import Outcome, Payload, Poll, Profile, Record, Response
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import USERINFO
from dlt_cronofy.source.tables import POLLS, PROFILE_CHANGES, TABLES
from dlt_cronofy.source.tokens.token import Token

LOGS = (POLLS.name, PROFILE_CHANGES.name)
START = datetime(2025, 1, 1, 6, tzinfo=UTC)
HOLD = timedelta(hours=24)
BETWEEN_POLLS = timedelta(milliseconds=150)
PROFILES_EACH = 2
# chances of one profile or poll in one run
BREAKS, IS_RELINKED, FAILS = 0.01, 0.3, 0.02
SERVICES = (("google", "gsuite"), ("google", "google"), ("exchange", "office365"), ("apple", "icloud"))
STATUSES = {Outcome.OK: 200, Outcome.TOKEN_REJECTED: 401, Outcome.SERVER_ERROR: 503}

# table → the rows of one run
Logs = dict[str, pa.Table]


@dataclass
class Account:
    """One token and what its polls show."""

    token: Token
    account_id: str
    profiles: list[Profile]


@dataclass
class DailyRuns:
    """Runs a day apart, one poll a token each, in the order of the token store."""

    tokens: int
    runs: int
    _chance: Random = field(default_factory=lambda: Random(7))

    def logs(self) -> Iterator[Logs]:
        """Run by run."""
        known = KnownRows()
        accounts = [self._account(number) for number in range(self.tokens)]
        for day in range(self.runs):
            began_at = START + timedelta(days=day)
            evidence = Evidence(f"{began_at:%Y%m%dT%H%M%SZ}-{self._hex(8)}", HOLD)
            capture = Capture(known, evidence, RunCounts(), set(LOGS), lambda poll: poll)
            for number, account in enumerate(accounts):
                self._live(account)
                capture.add(self._poll(account, began_at + number * BETWEEN_POLLS))
            load_id = f"{began_at.timestamp() + self._chance.random():.7f}"
            # nothing has a field without a column, so no name is made
            yield {
                name: with_load_id(to_arrow(TABLES[name], capture.rows[name], {}, str), load_id)
                for name in LOGS
            }

    def _account(self, number: int) -> Account:
        token = Token(f"user_{100_000 + number}", Secret(secrets.token_hex(16)), None, "us")
        profiles = []
        for _ in range(PROFILES_EACH):
            provider, service = self._chance.choice(SERVICES)
            columns = {
                "provider_name": provider,
                "provider_service": service,
                "profile_name": f"{self._hex(self._chance.randrange(6, 18))}@example.com",
                "profile_initial_sync_required": False,
            }
            profiles.append(Profile(CALENDAR, f"pro_{self._hex(24)}", True, Record(columns, {})))
        return Account(token, f"acc_{self._hex(24)}", profiles)

    def _live(self, account: Account) -> None:
        """A night passes: what is connected may break, what is broken may be relinked."""
        for profile in account.profiles:
            if self._chance.random() < (BREAKS if profile.connected else IS_RELINKED):
                profile.connected = not profile.connected
                link = None if profile.connected else f"https://app.cronofy.com/relink/{self._hex(64)}"
                columns = profile.record.columns | {"profile_relink_url": link}
                profile.record = replace(profile.record, columns=columns)

    def _poll(self, account: Account, requested_at: datetime) -> Poll:
        outcome = Outcome.OK
        if self._chance.random() < FAILS:
            outcome = self._chance.choice((Outcome.TOKEN_REJECTED, Outcome.SERVER_ERROR))
        took = timedelta(microseconds=self._chance.randrange(60_000, 400_000))
        payload = None
        if outcome is Outcome.OK:
            samples = {CALENDAR: account.profiles, CONFERENCING: []}
            payload = Payload(account.account_id, None, samples)
        milliseconds = took // timedelta(milliseconds=1)
        response = Response(outcome, requested_at, requested_at + took, milliseconds, STATUSES[outcome])
        return Poll(
            account.token.key, account.token.data_center, USERINFO, response, account.account_id, payload
        )

    def _hex(self, digits: int) -> str:
        return f"{self._chance.getrandbits(4 * digits):0{digits}x}"
