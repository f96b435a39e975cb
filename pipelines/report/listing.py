"""Rows for people: the tables of the notebook."""

import pandas as pd

from dlt_cronofy.formatting import digest_shortened, provider_name, reason_name

# what a phone shows without scrolling sideways, and ids, which few people look at
FIRST = ("email", "reason", "provider", "days", "seconds")
LAST = ("account_id", "profile_type", "profile_id", "token_key", "token_keys")
# what a column is called, where people say something else
TITLES = {"reason": "to do", "url": "link", "since_known": "worked before", "seconds": "days"}


def listed(rows: pd.DataFrame, people: pd.DataFrame | None = None) -> pd.DataFrame:
    """The same rows in people's words; times to the minute, so that they still sort.

    Args:
        rows: what a function of `figures` returns.
        people: customer, email and name by account_id, which are put in front of the rows.
    """
    shown = rows if people is None else people.merge(rows, on="account_id", how="right")
    shown = shown.assign(**{str(name): _worded(shown[name]) for name in shown.columns})
    # a column without any value says nothing
    shown = shown.dropna(axis="columns", how="all") if len(shown) else shown
    middle = [str(name) for name in shown.columns if name not in (*FIRST, *LAST)]
    names = [name for name in (*FIRST, *middle, *LAST) if name in shown.columns]
    return shown[names].rename(columns={name: _title(name) for name in names})


def as_html(rows: pd.DataFrame) -> str:
    """All rows as a plain table, nothing left out."""
    with pd.option_context("display.max_colwidth", None):
        return rows.to_html(index=False, na_rep="", border=0, max_rows=None, render_links=False)


def _title(name: str) -> str:
    plain = name.removesuffix("_at").removesuffix("_30d")
    return TITLES.get(name, plain.replace("_", " "))


def _worded(column: "pd.Series") -> "pd.Series":
    name = str(column.name)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _or_nothing(column.dt.strftime("%Y-%m-%d %H:%M"))
    if name == "seconds":
        return (column / 86_400).round(1)
    if name == "days":
        return column.round(1)
    if name == "provider":
        return _or_nothing(column.map(provider_name, na_action="ignore"))
    if name == "reason":
        return column.map(reason_name)
    if name == "since_known":
        return column.map({True: "yes", False: "not seen"})
    if name in ("email", "name", "profile_name"):
        return _or_nothing(column.map(digest_shortened, na_action="ignore"))
    return _or_nothing(column) if column.dtype == object else column


def _or_nothing(column: "pd.Series") -> "pd.Series":
    """A text for every value, unless there is none at all."""
    return column.fillna("") if column.notna().any() else column
