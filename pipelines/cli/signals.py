"""Signals: Ctrl-C and SIGTERM end a load early and well, not in the middle of something."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import TypeVar

logger = logging.getLogger("dlt_cronofy")

T = TypeVar("T")
STOPPING = (signal.SIGINT, signal.SIGTERM)


def run_interruptibly(work: Callable[[], T], stop: Callable[[str], None]) -> T:
    """Do the work in a thread; the first signal asks it to stop, a second one ends the process at once.

    In the main thread dlt would take the signals over while it loads, and break the load off. `stop` is
    called with the name of the signal and must return soon.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    seen: list[int] = []
    done: Future[T] = Future()

    def handle(number: int, _: FrameType | None) -> None:
        seen.append(number)
        name = signal.Signals(number).name
        if len(seen) > 1:
            logger.error("%s again: ended at once; the next load finishes what this one had polled", name)
            os._exit(128 + number)
        logger.warning("%s: no more calls; what was polled is loaded. Once more ends it at once", name)
        stop(name)

    def settle() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            done.set_exception(error)

    before = {number: signal.signal(number, handle) for number in STOPPING}
    threading.Thread(target=settle, name="load", daemon=True).start()
    try:
        return done.result()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
