"""Which token store the settings name, and its tokens as they are polled."""

from collections.abc import Sequence
from typing import Any, cast

from ..errors import ConfigurationError
from ..secret import Hidden, Secret
from ..settings import PollingSettings, checked_labels
from .base import OnRefresh, TokenStore, store_name
from .given_store import GivenStore
from .labels import DEFAULT_LABELS
from .rows import collect_tokens
from .token import StoredTokens, in_data_centers, without_refreshing

NO_STORE = (
    "no tokens: set tokens in .dlt/secrets.toml or tokens_file in .dlt/config.toml, section [sources.cronofy]"
)
NO_SQLALCHEMY = (
    "{} needs SQLAlchemy: install the extra sql of dlt-cronofy, or sqlalchemy,"
    " and the driver of your database"
)
NO_DATABASE = (
    "{} needs tokens_database, the SQLAlchemy URL of the database it runs in:"
    " set it in .dlt/secrets.toml, section [sources.cronofy]"
)


def stored_tokens(store: TokenStore, settings: PollingSettings) -> StoredTokens:
    """The tokens of a store that can be polled, each with a data center, and what its other rows are.

    Raises:
        ConfigurationError: the store, or most of its rows, cannot be used, or it lacks a column that is to be
            a label; names the place.
    """
    labels, found, name = settings.token_labels, store.read(), store_name(store)
    if found and not isinstance(found, StoredTokens):
        found = collect_tokens(name, "entry", enumerate(found, start=1), labels)
    stored = StoredTokens.of(found).with_labels(DEFAULT_LABELS if labels is None else labels)
    if stored.missing_labels and labels is not None and (stored or stored.not_connected):
        raise ConfigurationError(f"token_labels: {name} has no column {stored.missing_labels[0]}")
    tokens = in_data_centers(stored, settings.data_center)
    return tokens if settings.client is not None else without_refreshing(tokens, name)


def open_store(
    tokens: Any = None,
    tokens_file: str | None = None,
    tokens_query: str | None = None,
    tokens_database: str | Secret | None = None,
    tokens_update: str | None = None,
    on_refresh: OnRefresh | None = None,
    token_labels: str | Sequence[str] | None = None,
) -> TokenStore:
    """The token store that the settings of these names configure; nothing of it is read yet.

    `tokens` may be an iterable of rows or of plain access tokens, a callable that returns one, the JSON text
    of a list, or a store: an object with `read` and `save`. Where it is none, `on_refresh` is given every
    refreshed token.

    Raises:
        ConfigurationError: no store, several of them, half of one, or names that no label can have; says what
            to set and where.
    """
    rows, database = Hidden(tokens), Secret.of(tokens_database) if tokens_database else None
    tokens = tokens_database = None
    set_ones = [
        name
        for name, is_set in (
            ("tokens", rows.value is not None),
            ("tokens_file", tokens_file is not None),
            ("tokens_query", tokens_query is not None),
        )
        if is_set
    ]
    if len(set_ones) > 1:
        several = "two" if len(set_ones) == 2 else "three"
        raise ConfigurationError(
            f"{several} token stores are set: keep either {' or '.join(set_ones)} in [sources.cronofy]"
        )
    _check_query(tokens_query, database, tokens_update)
    if not set_ones:
        raise ConfigurationError(NO_STORE)
    labels = checked_labels(token_labels)
    is_store = all(callable(getattr(rows.value, method, None)) for method in ("read", "save"))
    if on_refresh is not None and (is_store or rows.value is None):
        raise ConfigurationError(
            "on_refresh goes with tokens given as a list or a callable: a store is written back to by itself"
        )
    if is_store:
        return cast("TokenStore", rows.value)
    # these two bring large libraries, so they are imported when they are used
    if tokens_query is not None and database is not None:
        try:
            from .sql_store import SqlStore
        except ImportError:
            raise ConfigurationError(NO_SQLALCHEMY.format("tokens_query")) from None
        return SqlStore(tokens_query, database, tokens_update, labels)
    if tokens_file is not None:
        from .file_store import FileStore

        return FileStore(tokens_file, labels)
    return GivenStore(rows.value, on_refresh, labels)


def _check_query(query: str | None, database: Secret | None, update: str | None) -> None:
    if query is not None and not database:
        raise ConfigurationError(NO_DATABASE.format("tokens_query"))
    for name, value in (("tokens_database", database), ("tokens_update", update)):
        if query is None and value:
            raise ConfigurationError(
                f"{name} needs tokens_query, the SQL that reads the tokens:"
                " set it in .dlt/config.toml, section [sources.cronofy]"
            )
