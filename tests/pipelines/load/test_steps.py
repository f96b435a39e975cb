"""Which polls are one package."""

from types import SimpleNamespace
from typing import Any, cast

from dlt_cronofy.load.steps import Loading


def test_a_package_waits_for_none_that_is_slow() -> None:
    anything = cast("Any", None)
    loading = Loading(anything, anything, {}, anything, package_polls=3)
    one, two, three, four, slow, slower = (cast("Any", SimpleNamespace(body_bytes=1)) for _ in range(6))
    taken = iter([[one, two], [three], [four], [], [slow], [slower], None])
    packages = list(iter(lambda: loading._take_package(lambda: next(taken)), []))
    assert packages == [[one, two, three], [four], [slow, slower]]
