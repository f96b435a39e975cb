"""Secret: a string that shows itself only where it is revealed."""

import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tokens.token import Token

SECRET = "hunter2-is-secret"


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "{!r:>40}".format, "%s".__mod__, lambda s: f"{Token('k', s, s)}"]
)
def test_a_secret_does_not_show_itself(show: Callable[[Any], str]) -> None:
    assert SECRET not in show(Secret(SECRET))


def test_a_secret_is_neither_pickled_nor_shown_in_a_traceback() -> None:
    secret = Secret(SECRET)
    with pytest.raises(TypeError, match="not pickled") as error:
        pickle.dumps(secret)
    assert SECRET not in "".join(
        traceback.TracebackException.from_exception(error.value, capture_locals=True).format()
    )


def test_secrets_are_equal_by_value() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"
