"""A simulated population and everything that happens to it: the truth that the sandbox answers from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from .bodies import Body, build_body
from .links import DAY
from .population import Plan, draw_accounts, draw_tokens, draw_waves
from .profiles import Span
from .providers import ProfileType
from .records import Account, Change, Endpoint, SandboxToken, State, Wave
from .token_files import write_token_file


@dataclass(frozen=True)
class World:
    """Accounts, tokens and mass events from `start` until `end`.

    Before `start` everything stands as at `start`, from `end` on as it did just before.

    Example:
        >>> world = build_world(accounts=200, seed=7, start=datetime(2025, 3, 1, tzinfo=UTC), days=60)
        >>> status, body = world.body("userinfo", "user_1001", world.start)
    """

    seed: int
    start: datetime
    end: datetime
    accounts: Sequence[Account]
    tokens: Sequence[SandboxToken]
    waves: Sequence[Wave]

    def __repr__(self) -> str:
        span = f"{self.start:%Y-%m-%d}..{self.end:%Y-%m-%d}"
        return f"World(seed={self.seed}, accounts={len(self.accounts)}, {span})"

    @cached_property
    def _accounts_by_id(self) -> dict[str, Account]:
        return {account.account_id: account for account in self.accounts}

    @cached_property
    def _tokens_by_key(self) -> dict[str, SandboxToken]:
        return {token.key: token for token in self.tokens}

    def account(self, account_id: str) -> Account:
        """Returns one account; raises KeyError if there is none of that id."""
        return self._accounts_by_id[account_id]

    def token(self, key: str) -> SandboxToken:
        """Returns one token; raises KeyError if there is none of that key."""
        return self._tokens_by_key[key]

    def status(self, endpoint: Endpoint, token: SandboxToken, at: datetime) -> int:
        """Returns the HTTP status that the timeline alone leads to: 200, 401 or 403.

        A service account gets 403 from `profiles`: the API does not document an answer there.
        """
        if token.is_revoked(at):
            return 401
        if endpoint in token.forbidden:
            return 403
        if endpoint == "profiles" and self.account(token.account_id).type == "service_account":
            return 403
        return 200

    def body(self, endpoint: Endpoint, token: SandboxToken | str, at: datetime) -> tuple[int, Body]:
        """Returns status and body of an answer at `at`, faults, limits and expiry aside.

        Args:
            endpoint: `userinfo`, `account` or `profiles`.
            token: a token, or its key.
            at: the instant to answer for.

        Returns:
            (200, body), or (401, {}) or (403, {}): error answers carry no body.
        """
        holder = self.token(token) if isinstance(token, str) else token
        status = self.status(endpoint, holder, at)
        if status != 200:
            return status, {}
        return status, build_body(endpoint, self.account(holder.account_id), holder.scope, at)

    def truth(self, account_id: str) -> tuple[Change, ...]:
        """Returns every change of state of the account's profiles in order of time.

        Profiles listed at `start` have their first change there; one linked later has it when it is linked.
        Renamings, calendars and the initial sync are no changes of state.
        """
        changes: list[Change] = []
        for profile in self.account(account_id).profiles:
            state: State = "removed"
            for at, value in zip(profile.history.times, profile.history.values, strict=True):
                if value.state != state:
                    state = value.state
                    changes.append(Change(at, profile.provider.profile_type, profile.profile_id, state))
        return tuple(sorted(changes, key=lambda change: (change.at, change.profile_type, change.profile_id)))

    def states(self, account_id: str, at: datetime) -> dict[tuple[ProfileType, str], State]:
        """Returns {(profile_type, profile_id): state} at `at`, `removed` for profiles that are not listed."""
        return {
            (profile.provider.profile_type, profile.profile_id): profile.history.at(at).state
            for profile in self.account(account_id).profiles
        }

    def write_tokens(self, path: str | Path) -> Path:
        """Writes the token file and returns its path.

        Args:
            path: `.jsonl` for JSON Lines, `.parquet` for Parquet, anything else for CSV with a header. The
                columns are key, access_token, refresh_token (empty or null where there is none), data_center.
        """
        return write_token_file(Path(path), self.tokens)


def build_world(*, accounts: int = 200, seed: int = 7, start: datetime, days: float = 60) -> World:
    """Draws a world. Equal arguments give equal worlds, on every machine.

    Args:
        accounts: how many accounts; from 10 on every kind of account and token occurs.
        seed: which world.
        start: where the history begins; must carry a time zone, seconds and below are kept.
        days: how much history.

    Raises:
        ValueError: `start` carries no time zone, or `accounts` or `days` is not positive.
    """
    if start.tzinfo is None:
        raise ValueError("the start needs a time zone")
    if accounts < 1 or days <= 0:
        raise ValueError("a world needs at least one account and some time")
    plan = Plan(accounts, seed, Span(start.astimezone(UTC), days * DAY))
    waves = draw_waves(plan)
    drawn = draw_accounts(plan, waves)
    return World(seed, plan.span.start, plan.span.end, drawn, draw_tokens(plan, drawn), waves)
