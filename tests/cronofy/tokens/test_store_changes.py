"""What the store says of its tokens, held against `token_status`: what changes, who left, who is back."""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.tables import TOKEN_STATUS
from dlt_cronofy.source.tokens.store_changes import StoreChanges, compare_store, store_columns
from dlt_cronofy.source.tokens.token import StoredTokens, Token, UnusableRow

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
BEFORE = NOW - timedelta(days=3)
OURS, THEIRS = "ours", "theirs"
NAMES = ("customer", "plan")
COLUMNS = store_columns(NAMES)
Row = tuple[Any, ...]


def token(key: str, customer: str | None = None, data_center: str = "us") -> Token:
    return Token(key, Secret("at"), data_center=data_center, labels=(customer,))


def stored(*entries: Token | UnusableRow) -> StoredTokens:
    return StoredTokens(
        [each for each in entries if isinstance(each, Token) and each.is_connected],
        [each for each in entries if isinstance(each, UnusableRow)],
        [each for each in entries if isinstance(each, Token) and not each.is_connected],
        label_names=("customer",),
    )


def row(
    key: str,
    *,
    application: str | None = OURS,
    data_center: str | None = "us",
    has_token: bool | None = True,
    left_at: datetime | None = None,
    customer: str | None = None,
    plan: str | None = None,
) -> Row:
    return (key, application, data_center, has_token, left_at, customer, plan)


def compare(store: StoredTokens, rows: Iterable[Sequence[Any]], *, confirm: bool = False) -> StoreChanges:
    return compare_store(store, rows, OURS, NAMES, NOW, confirm=confirm)


def after(rows: Iterable[Row], changes: StoreChanges) -> list[Row]:
    """The table once the changes are written."""
    by_key = {each[0]: each for each in rows}
    return list((by_key | {each["token_key"]: tuple(each.values()) for each in changes.rows}).values())


def test_the_columns_are_those_of_the_table() -> None:
    assert set(store_columns(["customer"])) <= set(TOKEN_STATUS.schema.names)
    changes = compare(stored(token("a", "Ada")), [])
    assert [list(each) for each in changes.rows] == [list(COLUMNS)]


GONE = row("a", left_at=BEFORE)
UNUSABLE = UnusableRow("tokens, entry 1", "unknown data_center", "a")
# what the store says of a, its row before, and what that must be; None where it stays
CASES: dict[str, tuple[Token | UnusableRow, Row | None, Row | None]] = {
    "a new token": (token("a", "Ada"), None, row("a", customer="Ada")),
    "a new user": (Token("a", labels=("Ada",)), None,
                   row("a", data_center=None, has_token=False, customer="Ada")),
    "nothing new": (token("a", "Ada"), row("a", customer="Ada"), None),
    "nothing new of a user": (Token("a", labels=(None,)), row("a", data_center=None, has_token=False), None),
    "another label": (token("a", "Eve"), row("a", customer="Ada"), row("a", customer="Eve")),
    "no label any more": (token("a"), row("a", customer="Ada"), row("a")),
    "a label that the store lacks": (token("a"), row("a", plan="gold"), row("a")),
    "another data center": (token("a", data_center="de"), row("a"), row("a", data_center="de")),
    "of polls only": (token("a"), ("a", None, None, None, None, None, None), row("a")),
    "of an older release": (token("a", "Ada"), row("a", application=None), row("a", customer="Ada")),
    "has connected": (token("a"), row("a", has_token=False, data_center=None), row("a")),
    "has no token any more": (Token("a"), row("a"), row("a", has_token=False)),
    "is back": (token("a"), GONE, row("a")),
    "is back without a token": (Token("a"), GONE, row("a", has_token=False)),
    "is back and cannot be used": (UNUSABLE, row("a", left_at=BEFORE, plan="x"), row("a", plan="x")),
    "cannot be used": (UNUSABLE, row("a", customer="Ada"), None),
    "never could be used": (UNUSABLE, None, None),
    "another application's": (token("a", "Ada"), row("a", application=THEIRS), row("a", customer="Ada")),
    "another application's, no token here": (Token("a"), row("a", application=THEIRS), None),
    "another application's, of no use here": (UNUSABLE, row("a", application=THEIRS), None),
    "left another application": (token("a"), row("a", application=THEIRS, left_at=BEFORE), row("a")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_row_must_be(case: str) -> None:
    found, before, expected = CASES[case]
    rows = [] if before is None else [before]
    changes = compare(stored(found), rows)
    assert changes.rows == ([] if expected is None else [dict(zip(COLUMNS, expected, strict=True))])
    assert (changes.left, changes.held_back) == (0, 0)


def test_a_token_leaves_its_own_application_once() -> None:
    kept = [row("a"), row("theirs", application=THEIRS), row("gone", left_at=BEFORE)]
    rows = [*kept, row("b", customer="Ada"), row("c", application=None, has_token=False)]
    changes = compare(stored(token("a")), rows)
    assert (changes.left, changes.held_back) == (2, 0)
    assert sorted(after(rows, changes)) == sorted(
        [
            *kept,
            row("b", customer="Ada", left_at=NOW),
            row("c", has_token=False, left_at=NOW),
        ]
    )


@pytest.mark.parametrize(
    ("present", "missing", "left"),
    [(80, 20, 0), (81, 19, 19), (16, 4, 0), (15, 4, 4), (0, 19, 19), (0, 20, 0), (17, 3, 3)],
)
def test_many_do_not_leave_at_once_unless_it_is_confirmed(present: int, missing: int, left: int) -> None:
    tokens = [token(f"here {number}") for number in range(present)]
    gone = [row(f"gone {number}") for number in range(missing)]
    # neither those of another application nor those that left before are counted
    others = [row(f"x {number}", application=THEIRS) for number in range(99)] + [
        row("y", left_at=BEFORE)
    ] * 99
    rows = [row(each.key) for each in tokens] + gone + others
    changes = compare(stored(*tokens), rows)
    assert (changes.left, changes.held_back) == (left, missing - left)
    assert {each["token_key"] for each in changes.rows} == ({each[0] for each in gone} if left else set())
    confirmed = compare(stored(*tokens), rows, confirm=True)
    assert (confirmed.left, confirmed.held_back, len(confirmed.rows)) == (missing, 0, missing)


def test_what_else_changed_is_written_where_many_are_held_back() -> None:
    rows = [row("a"), row("b", left_at=BEFORE), *(row(f"gone {number}") for number in range(30))]
    changes = compare(stored(token("a", "Ada"), token("b"), token("new")), rows)
    assert {each["token_key"] for each in changes.rows} == {"a", "b", "new"}
    assert changes.held_back == 30


@pytest.mark.parametrize(("missing", "left"), [(1, 0), (2, 0), (3, 3)])
def test_a_token_may_be_in_a_row_whose_key_cannot_be_read(missing: int, left: int) -> None:
    tokens = [token(f"here {number}") for number in range(30)]
    broken = [UnusableRow(f"t.csv, line {number}", "a quotation mark is not closed") for number in (3, 4)]
    rows = [row(each.key) for each in tokens] + [row(f"gone {number}") for number in range(missing)]
    changes = compare(stored(*tokens, *broken), rows)
    assert (changes.left, changes.held_back) == (left, missing - left)


keys = st.sampled_from([f"k{number}" for number in range(40)])
texts = st.sampled_from(["Ada", "Eve", None])
entries = st.one_of(
    st.builds(
        lambda customer, dc: lambda key: token(key, customer, dc), texts, st.sampled_from(["us", "de"])
    ),
    st.builds(lambda customer: lambda key: Token(key, labels=(customer,)), texts),
    st.just(lambda key: UnusableRow("", "", key)),
    st.just(lambda key: UnusableRow("", "")),
)
stores = st.dictionaries(keys, entries).map(lambda found: stored(*(make(key) for key, make in found.items())))
row_values = st.tuples(
    st.sampled_from([OURS, OURS, THEIRS, None]),
    st.sampled_from(["us", "de", None]),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, None, BEFORE]),
    texts,
    texts,
)
some_rows = st.dictionaries(keys, row_values).map(
    lambda found: [(key, *values) for key, values in found.items()]
)


def by_key(rows: Iterable[Row]) -> Mapping[str, Row]:
    return {each[0]: each for each in rows}


@given(stores, some_rows, st.booleans(), st.randoms())
def test_whatever_the_store_says(
    store: StoredTokens,
    rows: list[Row],
    confirm: bool,
    order: random.Random,
) -> None:
    changes = compare(store, rows, confirm=confirm)
    written = [each["token_key"] for each in changes.rows]
    assert len(written) == len(set(written))
    before, now = by_key(rows), by_key(after(rows, changes))
    assert all(before.get(key) != now[key] for key in written)

    # nobody whom the store has is left, and the tokens are as it says
    said = store.keys | {each.key for each in store.not_connected}
    for key in said & now.keys():
        assert now[key][4] is None
    for each in store:
        _, application, data_center, has_token, _, customer, plan = now[each.key]
        assert (data_center, has_token, customer, plan) == (each.data_center, True, each.labels[0], None)
        assert application in (OURS, THEIRS)

    # who is missing has left or is held back; those of others are as they were
    missing = {key for key in before if key not in said}
    ours = {key for key in missing if before[key][1] in (OURS, None) and before[key][4] is None}
    assert changes.left + changes.held_back == len(ours)
    assert {key for key in ours if now[key][4] == NOW} == (ours if changes.left else set())
    assert all(now[key] == before[key] for key in missing - ours)
    assert not (confirm and changes.held_back)

    # once written nothing more is to be done, and the order of rows means nothing; who was held back may
    # leave when new tokens are in the table as well
    again = compare(store, now.values(), confirm=confirm)
    assert {each["token_key"] for each in again.rows} <= (ours if changes.held_back else set())
    assert again.left + again.held_back == changes.held_back
    shuffled = order.sample(rows, len(rows))
    assert by_key(after(rows, compare(store, shuffled, confirm=confirm))) == now
