"""Writing back: everybody waits until the store has it, and those who wait together are written together."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens import write_back
from dlt_cronofy.source.tokens.base import Renewal, StoreError
from dlt_cronofy.source.tokens.token import Token
from dlt_cronofy.source.tokens.write_back import WriteBack

SECRET = "hunter2-is-secret"


def renewal(number: int) -> Renewal:
    token = Token(f"k{number}", Secret(f"at-{number}"), Secret(f"used-{number}"))
    new = f"rt-{number}-of-thirty-two-characters"
    return Renewal(token, Secret(f"new-at-{number}"), Secret(new))


def refuse(_: object) -> None:
    raise StoreError("the disk is full")


class SlowStore:
    """Takes its time, and does with every renewal what it is told to; the used refresh tokens are in it."""

    name = "slow"
    folder: Path | None = None

    def __init__(self, act: Callable[[Renewal], object] = lambda _: None, failures: int = 0) -> None:
        self.writes: list[int] = []
        self.may_go_on = threading.Event()
        self.held = {f"used-{number}" for number in range(50)}
        self.can_be_read = True
        self._act = act
        self.failures = failures

    def read(self) -> list[Token]:
        if not self.can_be_read:
            raise OSError(SECRET)
        return [Token(each, Secret("at"), Secret(each)) for each in sorted(self.held)]

    def why_not_saved(self) -> str | None:
        return None

    def current(self, token: Token) -> Token | None:
        return None

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        self.may_go_on.wait(10)
        self.writes.append(len(renewals))
        if self.failures:
            self.failures -= 1
            raise StoreError("the disk is full")
        return [each for each in renewals if self._act(each)]


async def save_all(store: SlowStore, numbers: Sequence[int]) -> tuple[WriteBack, list[bool | BaseException]]:
    writing = WriteBack(store)
    saving = [asyncio.create_task(writing.save(renewal(number))) for number in numbers]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in saving)
    assert len(writing.unsaved) == len(numbers)
    store.may_go_on.set()
    return writing, await asyncio.gather(*saving, return_exceptions=True)


def unsaved(writing: WriteBack) -> list[str]:
    return [each.token.key for each in writing.unsaved]


def test_those_who_wait_are_written_together() -> None:
    store = SlowStore()
    writing, saved = asyncio.run(save_all(store, range(50)))
    assert saved == [True] * 50
    assert sum(store.writes) == 50
    assert len(store.writes) <= 2
    assert not writing.has_failed
    assert writing.unsaved == []


@pytest.mark.parametrize(
    ("held", "can_be_read", "outcome"),
    [
        # somebody else changed it
        (set(), True, "False"),
        # a write that seemed to fail had arrived
        ({renewal(1).refresh_token.reveal()}, True, "True"),
        # a policy, a rule or a trigger took the write and did nothing
        ({"used-1"}, True, "slow cannot be written: it keeps the used refresh token"),
        (set(), False, "slow cannot be written: it was changed, and cannot be read"),
        # a column that cuts off what is too long for it
        (
            {renewal(1).refresh_token.reveal()[:20]},
            True,
            "slow cannot be written: it cuts the new refresh token off",
        ),
    ],
)
def test_a_row_that_was_not_written_was_changed_or_refused(
    held: set[str], can_be_read: bool, outcome: str
) -> None:
    store = SlowStore(lambda each: each.token.key == "k1")
    store.held, store.can_be_read = held, can_be_read
    writing, (first, second, third) = asyncio.run(save_all(store, range(3)))
    assert (first, third) == (True, True)
    assert str(second) == outcome
    assert writing.has_failed is isinstance(second, StoreError)
    assert unsaved(writing) == (["k1"] if writing.has_failed else [])


@pytest.mark.parametrize(
    ("failures", "refused", "lost"),
    [
        (1, [], []),
        (2, ["k0"], []),
        (4, ["k0", "k1", "k2"], []),
        (5, ["k0", "k1", "k2"], []),
        (6, ["k0", "k1", "k2"], ["k0"]),
        (8, ["k0", "k1", "k2"], ["k0", "k1", "k2"]),
    ],
)
def test_what_could_not_be_written_is_tried_one_by_one_and_again_in_the_end(
    failures: int, refused: list[str], lost: list[str]
) -> None:
    writing, saved = asyncio.run(save_all(SlowStore(failures=failures), range(3)))
    assert [f"k{n}" for n, each in enumerate(saved) if isinstance(each, StoreError)] == refused
    assert writing.has_failed
    assert unsaved(writing) == refused
    written = [each.token.key for each, _ in writing.try_again()]
    assert unsaved(writing) == lost
    assert written == [key for key in refused if key not in lost]


def test_one_that_cannot_be_written_does_not_take_the_others_with_it() -> None:
    store = SlowStore(lambda each: refuse(each) if each.token.key == "k1" else None)
    writing, saved = asyncio.run(save_all(store, range(4)))
    assert [isinstance(each, StoreError) for each in saved] == [False, True, False, False]
    assert unsaved(writing) == ["k1"]
    assert writing.has_failed


def test_one_by_one_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes half a minute to refuse does not hold up a run for an hour."""
    monkeypatch.setattr(write_back, "ONE_BY_ONE_SECONDS", -1.0)
    store = SlowStore(refuse)
    writing, saved = asyncio.run(save_all(store, range(5)))
    assert all(isinstance(each, StoreError) for each in saved)
    assert len(unsaved(writing)) == 5
    assert store.writes == [5]


@pytest.mark.parametrize("error", [LookupError(SECRET), SystemExit(SECRET), asyncio.CancelledError(SECRET)])
def test_whatever_a_store_raises_is_a_failed_write(error: BaseException) -> None:
    def raises(_: Renewal) -> None:
        raise error

    writing, saved = asyncio.run(save_all(SlowStore(raises), range(2)))
    assert {str(each) for each in saved} == {f"slow cannot be written: {type(error).__name__}"}
    assert unsaved(writing) == ["k0", "k1"]


def test_a_fault_of_ours_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise LookupError(SECRET)

    monkeypatch.setattr(WriteBack, "_judged", fail)
    writing, saved = asyncio.run(save_all(SlowStore(lambda _: True), range(2)))
    assert {str(each) for each in saved} == {"slow cannot be written: LookupError"}
    assert unsaved(writing) == ["k0", "k1"]


@pytest.mark.parametrize(("returned", "is_saved"), [(None, True), ((), True), (True, False), (7, False)])
def test_a_store_may_return_nothing_but_no_nonsense(returned: object, is_saved: bool) -> None:
    store = SlowStore()
    store.save = lambda _: returned  # type: ignore[method-assign,assignment,return-value]

    async def save() -> object:
        return (await asyncio.gather(WriteBack(store).save(renewal(1)), return_exceptions=True))[0]

    outcome = asyncio.run(save())
    assert outcome is True if is_saved else str(outcome) == "slow cannot be written: TypeError"
