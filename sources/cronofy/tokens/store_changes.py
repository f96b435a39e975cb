"""What the token store says of its tokens, held against their rows of `token_status`. Pure.

The store owns some columns of a row: whose token it is, its data center and labels, whether there is a token,
and since when the store lacks it. Everything else in the row is evidence of polls, and none of it is read or
written here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from .labels import Labels, label_picker
from .token import StoredTokens, Token

# where so many rows or more would leave, and of all rows one in so many: the store was read by half, or it is
# the wrong one
MANY_ROWS = 20
ONE_IN = 5


class StoreRow(NamedTuple):
    """The columns of one row of `token_status` that the store owns; null where it is not known yet."""

    token_key: str
    application: str | None = None
    data_center: str | None = None
    has_token: bool | None = None
    left_at: datetime | None = None
    labels: Labels = ()

    def as_dict(self, label_names: Sequence[str]) -> dict[str, Any]:
        """The values by column."""
        return dict(zip(store_columns(label_names), (*self[:OWN], *self.labels), strict=True))


# the columns before those of the labels
OWN = len(StoreRow._fields) - 1


@dataclass(frozen=True)
class StoreChanges:
    """How rows of `token_status` must change to say what the store says.

    Attributes:
        changed: those that change, each token once, as they must be.
        label_names: the columns of their labels.
        left: tokens that the store lacks from now on.
        held_back: tokens that it lacks and that have not left all the same: they are too many to leave at
            once, or may be in rows of the store that cannot be read.
        returned: tokens that had left, and that it has again.
    """

    changed: list[StoreRow] = field(default_factory=list)
    label_names: Sequence[str] = ()
    left: int = 0
    held_back: int = 0
    returned: int = 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All of them, with all columns that the store owns, by name."""
        return [row for chunk in self.chunks(len(self.changed) or 1) for row in chunk]

    def chunks(self, size: int) -> Iterator[list[dict[str, Any]]]:
        """The same, so many at a time."""
        for start in range(0, len(self.changed), size):
            yield [row.as_dict(self.label_names) for row in self.changed[start : start + size]]


NO_CHANGES = StoreChanges()


def store_columns(label_names: Iterable[str]) -> tuple[str, ...]:
    """The columns that the store owns, in the order in which `compare_store` takes their values."""
    return (*StoreRow._fields[:OWN], *label_names)


def compare_store(
    stored: StoredTokens,
    rows: Iterable[Sequence[Any]],
    application: str,
    label_names: Sequence[str],
    now: datetime,
    *,
    confirm: bool = False,
) -> StoreChanges:
    """What must change in `token_status` after the store was read.

    A token leaves when its own application's store lacks it. Where a fifth or more of 20 or more would leave
    at once, none does. Nor does any where no more are missing than the store has rows without a key that can
    be read: it may be in one of these.

    Args:
        stored: the tokens, each with its data center, and what the other rows of the store are.
        rows: all of `token_status`, in any order, with the columns of `store_columns`.
        application: whose store it is.
        label_names: the labels that `token_status` has columns for; one that the store lacks is null.
        now: when the store was read.
        confirm: whether all that are missing leave, however many they are.
    """
    store = _Store(stored, application, label_names)
    changes: list[StoreRow] = []
    missing: list[StoreRow] = []
    known: set[str] = set()
    ours = returned = 0
    for values in rows:
        row = StoreRow._make((*values[:OWN], tuple(values[OWN:])))
        known.add(row.token_key)
        is_ours = row.left_at is None and row.application in (None, application)
        ours += is_ours
        if store.has(row.token_key):
            returned += row.left_at is not None
            updated = store.updated(row)
            if updated != row:
                changes.append(updated)
        elif is_ours:
            missing.append(row)
    changes += (store.updated(StoreRow(key)) for key in store.entries if key not in known)
    is_doubtful = _is_mass(len(missing), ours) or len(missing) <= store.rows_without_key
    leaving = [] if is_doubtful and not confirm else missing
    changes += (row._replace(application=application, left_at=now) for row in leaving)
    return StoreChanges(
        changes,
        label_names,
        left=len(leaving),
        held_back=len(missing) - len(leaving),
        returned=returned,
    )


def _is_mass(missing: int, rows: int) -> bool:
    return rows >= MANY_ROWS and missing * ONE_IN >= rows


class _Store:
    """What the store says of each key.

    Attributes:
        entries: its tokens, and its users without one, by key.
        rows_without_key: how many of its rows could be anybody's.
    """

    def __init__(self, stored: StoredTokens, application: str, label_names: Sequence[str]) -> None:
        self.entries: dict[str, Token] = {each.key: each for each in (*stored.not_connected, *stored)}
        self.rows_without_key = sum(row.key is None for row in stored.unusable)
        self._unusable = {row.key for row in stored.unusable}
        self._application = application
        self._labels = label_picker(stored.label_names, label_names)

    def has(self, key: str) -> bool:
        """Whether it has such a row, one that cannot be used as well."""
        return key in self.entries or key in self._unusable

    def updated(self, row: StoreRow) -> StoreRow:
        """What the row of a key that the store has must be."""
        found = self.entries.get(row.token_key)
        has_token = found is not None and found.is_connected
        # Two applications with the same key look like one, and so does one that has a new name: the row
        # goes to the one that loaded last.
        is_anothers = row.application not in (None, self._application) and row.left_at is None
        if is_anothers and not has_token:
            return row  # who has no token here has one there
        application = self._application
        if found is None:
            # it cannot be used, so nothing more is known of it
            return row._replace(application=application, left_at=None)
        data_center = found.data_center or row.data_center
        return StoreRow(row.token_key, application, data_center, has_token, None, self._labels(found.labels))
