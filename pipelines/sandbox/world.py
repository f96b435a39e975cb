"""A simulated population and everything that happens to it: the truth that the sandbox answers from."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from .bodies import build_body
from .history import DAY, Span
from .population import Population
from .records import Account, AccountType, Body, Endpoint, Invited, SandboxToken, Wave

TOKEN_COLUMNS = ("key", "access_token", "refresh_token", "data_center", "customer")
# the endpoint that a kind of account does not have
LACKING: dict[AccountType, Endpoint] = {"service_account": "profiles", "application_calendar": "account"}


@dataclass(frozen=True)
class World:
    """Accounts, tokens, users who have not connected yet, and mass events from `start` until `end`.

    Before `start` everything stands as at `start`, from `end` on as it did just before.

    Example:
        >>> world = build_world(accounts=200, seed=7, start=datetime(2025, 3, 1, tzinfo=UTC), days=60)
        >>> status, body = world.body("userinfo", world.tokens[0], world.start)
    """

    seed: int
    start: datetime
    end: datetime
    accounts: Sequence[Account] = field(repr=False)
    tokens: Sequence[SandboxToken] = field(repr=False)
    invited: Sequence[Invited] = field(repr=False)
    waves: Sequence[Wave] = field(repr=False)

    @cached_property
    def _accounts_by_id(self) -> dict[str, Account]:
        return {account.account_id: account for account in self.accounts}

    def account(self, account_id: str) -> Account:
        """Returns one account; raises KeyError if there is none of that id."""
        return self._accounts_by_id[account_id]

    def body(self, endpoint: Endpoint, token: SandboxToken, at: datetime) -> tuple[int, Body]:
        """Returns the answer at `at` for a token, faults, limits and expiry aside.

        It is (200, body), or (401, {}) or (403, {}): error answers carry no body. A service account gets 403
        from `profiles`, where the API does not document an answer; an application calendar from `account`.
        """
        account = self.account(token.account_id)
        if token.is_revoked(at):
            return 401, {}
        if endpoint in token.forbidden or LACKING.get(account.type) == endpoint:
            return 403, {}
        return 200, build_body(endpoint, account, token.scope, at)

    def write_tokens(self, path: str | Path, at: datetime | None = None) -> Path:
        """Writes the token file, as it is at `at` or at the start, and returns its path."""
        at = at or self.start
        held = [token for token in self.tokens if token.left_at is None or at < token.left_at]
        return write_token_file(Path(path), [*held, *self.invited])


def build_world(*, accounts: int = 200, seed: int = 7, start: datetime, days: float = 60) -> World:
    """Draws a world. Equal arguments give equal worlds, on every machine.

    From 10 accounts on every kind of account and token occurs. Raises ValueError if `start` carries no time
    zone, or `accounts` or `days` is not positive.
    """
    if start.tzinfo is None:
        raise ValueError("the start needs a time zone")
    if accounts < 1 or days <= 0:
        raise ValueError("a world needs at least one account and some time")
    span = Span(start.astimezone(UTC), days * DAY)
    population = Population(accounts, seed, span)
    drawn = population.draw_accounts()
    tokens = population.draw_tokens(drawn)
    invited = population.draw_invited(tokens)
    return World(seed, span.start, span.end, drawn, tokens, invited, population.waves)


def write_token_file(path: Path, tokens: Sequence[SandboxToken | Invited]) -> Path:
    """Writes `tokens` to `path` as Parquet, JSON Lines or CSV, by suffix, and returns `path`."""
    rows = [{column: getattr(token, column, None) for column in TOKEN_COLUMNS} for token in tokens]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(column, pa.string()) for column in TOKEN_COLUMNS])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, TOKEN_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return path
