"""What the token store says of its tokens, held against their rows of `token_status`. Pure.

The store owns some columns of a row: whose token it is, its data center and labels, whether there is a token,
and since when the store lacks it. Everything else in the row is evidence of polls, and none of it is read or
written here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """

    changed: list[StoreRow] = field(default_factory=list)
    label_names: Sequence[str] = ()
    left: int = 0
    held_back: int = 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All of them, with all columns that the store owns, by name."""
        return [row for chunk in self.chunks(len(self.changed) or 1) for row in chunk]

    def chunks(self, size: int) -> Iterator[list[dict[str, Any]]]:
        """The same, so many at a time."""
        names = store_columns(self.label_names)
        for start in range(0, len(self.changed), size):
            part = self.changed[start : start + size]
            yield [dict(zip(names, (*row[:OWN], *row.labels), strict=True)) for row in part]


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
    entries = {each.key: each for each in (*stored.not_connected, *stored)}
    unusable = {row.key for row in stored.unusable}
    without_key = sum(row.key is None for row in stored.unusable)
    update = _updates(application, label_picker(stored.label_names, label_names))
    changes: list[StoreRow] = []
    missing: list[StoreRow] = []
    known: set[str] = set()
    ours = 0
    for values in rows:
        row = StoreRow._make((*values[:OWN], tuple(values[OWN:])))
        known.add(row.token_key)
        is_ours = row.left_at is None and row.application in (None, application)
        ours += is_ours
        if row.token_key in entries or row.token_key in unusable:
            updated = update(row, entries.get(row.token_key))
            changes += [updated] if updated != row else []
        elif is_ours:
            missing.append(row)
    changes += (update(StoreRow(key), entry) for key, entry in entries.items() if key not in known)
    is_mass = ours >= MANY_ROWS and len(missing) * ONE_IN >= ours
    is_doubtful = is_mass or len(missing) <= without_key
    leaving = [] if is_doubtful and not confirm else missing
    changes += (row._replace(application=application, left_at=now) for row in leaving)
    return StoreChanges(changes, label_names, len(leaving), len(missing) - len(leaving))


def _updates(
    application: str, pick_labels: Callable[[Labels], Labels]
) -> Callable[[StoreRow, Token | None], StoreRow]:
    """A function that returns what the row of a key must be that the store has; None: it cannot be used."""

    def update(row: StoreRow, entry: Token | None) -> StoreRow:
        has_token = entry is not None and entry.is_connected
        # Two applications with the same key look like one, and so does one that has a new name: the row
        # goes to the one that loaded last.
        is_anothers = row.application not in (None, application) and row.left_at is None
        if is_anothers and not has_token:
            return row  # who has no token here has one there
        if entry is None:
            return row._replace(application=application, left_at=None)
        data_center = entry.data_center or row.data_center
        return StoreRow(row.token_key, application, data_center, has_token, None, pick_labels(entry.labels))

    return update
