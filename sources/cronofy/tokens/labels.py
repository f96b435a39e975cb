"""Labels: columns of the token store, such as the customer, that are kept in `token_status`.

Nothing else of a row is kept, and no label is ever logged.
"""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from ..settings import CUSTOMER
from ..texts import clean_text
from .expiry import is_missing, plain

# what is kept where the setting `token_labels` says nothing, if the store has it
DEFAULT_LABELS = (CUSTOMER,)
LONGEST_LABEL = 1000
# a float is exact up to here, so two larger numbers could be one; and no number this long names anything
LARGEST_EXACT, LONGEST_NUMBER = 2**53, 10**100

Labels = tuple[str | None, ...]


class LabelReader:
    """Reads the labels of the rows of one store: one value for each that is wanted, null where it has none.

    Attributes:
        wanted: names of the labels, in lower case.
    """

    def __init__(self, wanted: Sequence[str] | None = None) -> None:
        """The names of the labels; None for the default."""
        self.wanted = DEFAULT_LABELS if wanted is None else tuple(wanted)
        self._found: set[str] = set()
        self._shared: dict[Labels, Labels] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """The labels that no row read so far has a column for."""
        return tuple(name for name in self.wanted if name not in self._found)

    def read(self, row: Mapping[Any, Any]) -> Labels:
        """The labels of a table, whose columns may be in any case."""
        if not self.wanted:
            return ()
        texts = [name for name in row if isinstance(name, str)]
        # the name as it is written wins over one that differs in case
        columns = {name.strip().lower(): name for name in reversed(texts)} | {name: name for name in texts}
        self._found.update(columns.keys() & self.wanted)
        return self._share(
            label_text(row[columns[name]]) if name in columns else None for name in self.wanted
        )

    def take(self, labels: Sequence[Any]) -> Labels:
        """The labels of a token that has them already; null unless there is one for each that is wanted."""
        if not labels or len(labels) != len(self.wanted):
            return self._share([None] * len(self.wanted))
        self._found.update(self.wanted)
        return self._share(map(label_text, labels))

    def _share(self, values: Iterable[str | None]) -> Labels:
        labels = tuple(values)
        # one object for all tokens of a customer: there may be very many
        return self._shared.setdefault(labels, labels)


def label_picker(names: Sequence[str], wanted: Sequence[str]) -> Callable[[Labels], Labels]:
    """A function that takes labels of these names and returns those wanted; null where there is none."""
    at = [names.index(name) if name in names else None for name in wanted]

    def pick(labels: Labels) -> Labels:
        return tuple(None if index is None or index >= len(labels) else labels[index] for index in at)

    return pick


def label_text(value: Any) -> str | None:
    """A value of the store as the text of a label; None where it is empty, or nothing that is plain text."""
    text = value if isinstance(value, str) else _plain_text(plain(value))
    if text is None or not text.strip():
        return None
    text = clean_text(str.__str__(text[:LONGEST_LABEL]))
    if not text.isascii():
        # half a surrogate pair is no text in UTF-8
        text = text.encode("utf-8", "replace").decode("utf-8")
    return sys.intern(text)


def _plain_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal)):
        with suppress(ArithmeticError, ValueError):  # too many digits, or a NaN that signals
            # a whole one without a point, which pandas gives it
            return whole_number(value) or (str(value) if math.isfinite(value) else None)
        return None
    if isinstance(value, (date, time)):
        return None if is_missing(value) else value.isoformat()
    return str(value) if isinstance(value, UUID) else None


def whole_number(value: Any) -> str | None:
    """A whole number of any type as text; None where it is none, or not exact."""
    try:
        is_number = isinstance(value, (int, float, Decimal)) and type(value) is not bool
        limit = LARGEST_EXACT if isinstance(value, float) else LONGEST_NUMBER
        is_whole = is_number and abs(value) <= limit and value == int(value)
        return str(int(value)) if is_whole else None
    except (ArithmeticError, ValueError):  # not finite, or a NaN that signals
        return None
