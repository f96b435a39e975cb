import pytest

from dlt_cronofy.sandbox import Limits
from dlt_cronofy.sandbox.traffic import RateLimiter


class Stopwatch:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_admits_so_many_in_any_second() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(Limits(per_second=3, per_minute=100), watch)
    assert [limiter.admit() for _ in range(3)] == [0, 0, 0]
    watch.seconds += 0.4
    assert limiter.admit() == pytest.approx(0.6)
    watch.seconds += 0.6
    assert limiter.admit() == 0


def test_admits_so_many_in_any_minute() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(Limits(per_second=50, per_minute=5), watch)
    for _ in range(5):
        assert limiter.admit() == 0
        watch.seconds += 2
    assert limiter.admit() == pytest.approx(50)
    watch.seconds += 50
    assert limiter.admit() == 0
    assert limiter.admit() == pytest.approx(2)


def test_refused_requests_do_not_count() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(Limits(per_second=1, per_minute=100), watch)
    assert limiter.admit() == 0
    for _ in range(10):
        watch.seconds += 0.09
        assert limiter.admit() > 0
    watch.seconds += 0.2
    assert limiter.admit() == 0


def test_the_defaults_are_the_documented_ones() -> None:
    assert (Limits().per_second, Limits().per_minute) == (50, 500)


def test_no_limits() -> None:
    limiter = RateLimiter(None)
    assert not any(limiter.admit() for _ in range(2000))
