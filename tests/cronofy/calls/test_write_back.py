"""Writing back: everybody waits until the store has it, and those who wait together are written together."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from sources.cronofy.calls.write_back import WriteBack
from sources.cronofy.secret import Secret
from sources.cronofy.stores import Renewal, StoreError
from sources.cronofy.tokens import Token
from tests.cronofy.bodies import token


def renewal(number: int) -> Renewal:
    return Renewal(token(f"k{number}"), Secret(f"at-{number}"), Secret(f"rt-{number}"))


class SlowStore:
    """Takes its time, and fails or finds conflicts as it is told."""

    name = "slow"
    folder: Path | None = None

    def __init__(self, conflicts: Sequence[Renewal] = (), failures: int = 0) -> None:
        self.writes: list[int] = []
        self.may_go_on = threading.Event()
        self._conflicts = conflicts
        self._failures = failures

    def read(self) -> list[Token]:
        return []

    def why_not_saved(self) -> str | None:
        return None

    def current(self, token: Token) -> Token | None:
        return None

    def save(self, renewals: Sequence[Renewal]) -> list[Renewal]:
        self.may_go_on.wait(10)
        self.writes.append(len(renewals))
        if self._failures:
            self._failures -= 1
            raise StoreError("the disk is full")
        return [each for each in renewals if each in self._conflicts]


async def save_all(store: SlowStore, numbers: Sequence[int]) -> tuple[WriteBack, list[bool | BaseException]]:
    write_back = WriteBack(store)
    saving = [asyncio.create_task(write_back.save(renewal(number))) for number in numbers]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in saving)
    store.may_go_on.set()
    return write_back, await asyncio.gather(*saving, return_exceptions=True)


def test_those_who_wait_are_written_together() -> None:
    store = SlowStore()
    _, saved = asyncio.run(save_all(store, range(50)))
    assert saved == [True] * 50
    assert sum(store.writes) == 50
    assert len(store.writes) <= 2


def test_a_conflict_is_told_to_whom_it_concerns() -> None:
    _, saved = asyncio.run(save_all(SlowStore(conflicts=[renewal(1)]), range(3)))
    assert saved == [True, False, True]


@pytest.mark.parametrize(("failures", "lost"), [(1, []), (2, ["k0", "k1", "k2"])])
def test_what_could_not_be_written_is_tried_once_more(failures: int, lost: list[str]) -> None:
    write_back, saved = asyncio.run(save_all(SlowStore(failures=failures), range(3)))
    assert all(isinstance(each, StoreError) for each in saved)
    assert [each.token.key for each in write_back.try_again()] == lost
    assert write_back.unsaved == []
