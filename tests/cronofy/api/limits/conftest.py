"""What the tests of the limits share."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dlt_cronofy.source.api.limits.rate_limiter import RateLimiter


@asynccontextmanager
async def slot(limiter: RateLimiter, deadline: float = math.inf) -> AsyncIterator[float]:
    """One call: from its permission to its answer."""
    started = await limiter.enter(deadline)
    try:
        yield started
    finally:
        limiter.leave(started)
