"""Garbage collection is left as it was found."""

import gc
from contextlib import suppress

import pytest

from dlt_cronofy.load.gc_tuning import THRESHOLDS, rare_collection


@pytest.mark.parametrize("fails", [False, True])
def test_collection_is_rare_for_a_while(fails: bool) -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with suppress(ValueError), rare_collection():
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > frozen
        if fails:
            raise ValueError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
