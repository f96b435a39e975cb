"""Secret: the one type that tokens, client secrets and keys live in."""

from typing import Any, NoReturn


class Secret:
    """A string that does not show itself: not in repr, str, format, a traceback with locals or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def of(cls, value: "str | Secret") -> "Secret":
        """The value as a secret, which it may be already."""
        return value if isinstance(value, Secret) else cls(value)

    def reveal(self) -> str:
        """The value itself, for the one place that sends or stores it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: pass the token key and read the store again")


class Hidden:
    """Anything that may hold secrets in plain: a traceback with locals shows no part of it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> NoReturn:
        raise TypeError("what is hidden is not pickled")
