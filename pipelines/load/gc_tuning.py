"""Garbage collection, less of it in commands and while polls are taken in.

Polls are many small objects that are all kept for a while and refer to nothing in circles. Python's collector
looks through them again and again, with all that was imported, and finds nothing: a third of the time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# looks for young garbage after that many new objects (700 by default), for older after so many times that
THRESHOLDS = (50_000, 20, 50)


@contextmanager
def rare_collection() -> Iterator[None]:
    """Collect rarely, and leave out what was there before; afterwards as it was."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
