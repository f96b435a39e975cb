from typing import Any

import pytest

from dlt_cronofy.sandbox.faults import Fault, Faults


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        (Fault("reset"), True),
        (Fault("reset", endpoint="userinfo"), True),
        (Fault("reset", endpoint="account"), False),
        (Fault("reset", token_key="user_1"), True),
        (Fault("reset", token_key="user_2"), False),
        (Fault("reset", token_key="user_1", endpoint="account"), False),
        (Fault("reset", probability=0), False),
    ],
)
def test_a_fault_hits_what_it_is_meant_for(fault: Fault, hit: bool) -> None:
    faults = Faults()
    faults.add(fault)
    assert faults.choose("userinfo", "user_1") == (fault if hit else None)


def test_a_counted_fault_is_spent() -> None:
    faults = Faults()
    faults.add("status", status=503, count=2)
    outcomes = [faults.choose("userinfo", None) for _ in range(3)]
    assert outcomes == [Fault("status", status=503, count=2), Fault("status", status=503, count=1), None]
    assert len(faults) == 0


def test_the_oldest_of_several_hits_and_the_next_takes_over() -> None:
    faults = Faults()
    first, second = faults.add("reset", count=1), faults.add("html")
    assert list(faults.list()) == [first, second]
    assert [getattr(faults.choose("userinfo", None), "kind", None) for _ in range(2)] == ["reset", "html"]
    assert list(faults.list()) == [second]
    faults.clear()
    assert faults.choose("userinfo", None) is None


def test_probability_is_a_share_and_repeatable() -> None:
    def draw() -> list[bool]:
        faults = Faults(seed=5)
        faults.add("empty", probability=0.2)
        return [faults.choose("userinfo", None) is not None for _ in range(1000)]

    assert 150 < sum(draw()) < 250
    assert draw() == draw()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "make no fault: .*kind"),
        ({"kind": "explode"}, "unknown kind"),
        ({"kind": "reset", "colour": "red"}, "make no fault: .*colour"),
        ({"kind": "reset", "endpoint": "events"}, "unknown endpoint"),
        ({"kind": "reset", "probability": 2}, "between 0 and 1"),
        ({"kind": "reset", "probability": "often"}, "make no fault"),
        ({"kind": "reset", "count": 0}, "at least 1"),
        ({"kind": "reset", "count": "3"}, "make no fault"),
        ({"kind": "hang", "seconds": -1}, "not negative"),
        ({"kind": "hang", "seconds": "long"}, "make no fault"),
        ({"kind": "status", "status": 99}, "between 200"),
        ({"kind": "status", "status": 204, "body": "x"}, "no body"),
        ({"kind": "redirect"}, "needs a url"),
    ],
)
def test_refuses_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault.parse(fields)
