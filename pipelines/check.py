"""Checking: does each data center accept one of its tokens?"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from sources.cronofy.budget import RequestBudget
from sources.cronofy.client import Answer, CronofyClient, open_http
from sources.cronofy.clock import SystemClock
from sources.cronofy.settings import USERINFO, PollingSettings
from sources.cronofy.tokens import Token

Checked = tuple[str, str, Answer]


def check_calls(settings: PollingSettings, tokens: Sequence[Token]) -> list[Checked]:
    """One call per data center, with the first token of each: data center, host, answer."""
    first: dict[str, Token] = {}
    for token in tokens:
        first.setdefault(token.data_center or settings.data_center, token)
    return asyncio.run(_check(settings, first))


async def _check(settings: PollingSettings, tokens: dict[str, Token]) -> list[Checked]:
    clock = SystemClock()
    budget = RequestBudget(clock, settings.requests_per_second, settings.requests_per_minute)
    async with open_http() as http:
        # one attempt each: a check says how it is now
        client = CronofyClient(http, replace(settings, max_attempts=1), budget, clock)
        checked = []
        for data_center, token in tokens.items():
            answer = await client.read(USERINFO, token)
            assert answer is not None  # only a deadline leaves a read without an answer
            checked.append((data_center, settings.host(data_center), answer))
        return checked
