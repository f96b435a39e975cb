"""Faults that the server commits on request."""

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from random import Random
from typing import Any, Literal, get_args

FaultKind = Literal[
    "status", "body", "reset", "truncated", "html", "wrong_shape", "empty", "redirect", "hang", "drip"
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
FAULTY_ENDPOINTS = ("userinfo", "account", "profiles", "token", "revoke")


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, and when.

    Attributes:
        kind: `status` answers `status` with `body`; `body` is a 200 with `body`; `reset` closes the
            connection, with `partial` after part of the answer; `truncated` is a complete answer whose JSON
            breaks off; `html` a 200 with a web page; `wrong_shape` a 200 with JSON of no known shape; `empty`
            a 200 without a body; `redirect` a 302 to `url`; `hang` is silent for `seconds` and then closes
            the connection; `drip` spreads the right answer over `seconds`.
        probability: of hitting a request that matches.
        token_key: hits this token alone; None for all.
        endpoint: `userinfo`, `account`, `profiles`, `token` or `revoke`; None for all.
        count: hits this many requests and is then spent; None for ever.
        status: what `status` answers.
        retry_after: Retry-After header of `status`: seconds or an HTTP date.
        body: text that `status` and `body` answer.
        seconds: how long `hang` and `drip` take.
        url: where `redirect` points.
        partial: see `reset`.

    Raises:
        ValueError: a field is out of its range.
    """

    kind: FaultKind
    probability: float = 1.0
    token_key: str | None = None
    endpoint: str | None = None
    count: int | None = None
    status: int = 500
    retry_after: float | str | None = None
    body: str = ""
    seconds: float = 30.0
    url: str | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        problems = (
            (self.kind not in KINDS, f"unknown kind of fault {self.kind!r}; known: {', '.join(KINDS)}"),
            (
                self.endpoint not in (None, *FAULTY_ENDPOINTS),
                f"unknown endpoint {self.endpoint!r}; known: {', '.join(FAULTY_ENDPOINTS)}",
            ),
            (not 0 <= self.probability <= 1, "probability lies between 0 and 1"),
            (self.count is not None and self.count < 1, "count is at least 1"),
            (not 200 <= self.status <= 599, "status lies between 200 and 599"),
            (self.status in {204, 304} and self.body != "", f"a {self.status} carries no body"),
            (self.seconds < 0, "seconds are not negative"),
            (self.kind == "redirect" and not self.url, "a redirect needs a url"),
        )
        for is_wrong, message in problems:
            if is_wrong:
                raise ValueError(message)

    @classmethod
    def parse(cls, fields_by_name: Mapping[str, Any]) -> "Fault":
        """Builds a fault from the JSON object of a control request.

        Raises:
            ValueError: a field is missing, unknown or out of its range.
        """
        unknown = set(fields_by_name) - {each.name for each in fields(cls)}
        if unknown or "kind" not in fields_by_name:
            raise ValueError(f"unknown field {min(unknown)!r}" if unknown else "a fault needs a kind")
        try:
            return cls(**fields_by_name)
        except TypeError as error:
            raise ValueError(f"a field has the wrong type: {error}") from error

    def matches(self, endpoint: str, token_key: str | None) -> bool:
        """Returns whether a request is among those the fault is meant for."""
        return self.endpoint in (None, endpoint) and self.token_key in (None, token_key)


class Faults:
    """The faults in force. Safe to change while the server runs.

    Args:
        seed: feeds the draws for faults with a probability below 1.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._rng = Random(seed)  # noqa: S311 - a simulation, no secrets
        self._numbers = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self._left: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, fault: Fault | FaultKind, **settings: Any) -> int:
        """Puts a fault in force and returns its number. Of several that match, the oldest hits.

        Args:
            fault: a fault, or its kind with the other fields as `settings`.
            **settings: fields of `Fault`.

        Raises:
            ValueError: a field is unknown or out of its range.
        """
        added = fault if isinstance(fault, Fault) else Fault.parse({"kind": fault, **settings})
        with self._lock:
            number = next(self._numbers)
            self._faults[number] = added
            if added.count is not None:
                self._left[number] = added.count
            return number

    def remove(self, number: int) -> None:
        """Lifts one fault; a number that is not in force is fine."""
        with self._lock:
            self._faults.pop(number, None)
            self._left.pop(number, None)

    def clear(self) -> None:
        """Lifts every fault."""
        with self._lock:
            self._faults.clear()
            self._left.clear()

    def list(self) -> dict[int, Fault]:
        """Returns the faults in force by number."""
        with self._lock:
            return dict(self._faults)

    def choose(self, endpoint: str, token_key: str | None) -> Fault | None:
        """Returns the fault that hits a request, counting it; None if it is spared."""
        with self._lock:
            for number, fault in self._faults.items():
                if fault.matches(endpoint, token_key) and self._rng.random() < fault.probability:
                    self._count_down(number)
                    return fault
        return None

    def _count_down(self, number: int) -> None:
        if number not in self._left:
            return
        self._left[number] -= 1
        if self._left[number] <= 0:
            del self._faults[number], self._left[number]
