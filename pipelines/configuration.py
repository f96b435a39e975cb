"""Configuration: what dlt's configuration says of the source, checked."""

import dlt
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.resolve import resolve_configuration

from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.settings import CONFIG_SECTIONS, CronofyConfiguration, PollingSettings, revealed
from dlt_cronofy.source.tokens.base import TokenStore
from dlt_cronofy.source.tokens.store import open_store, stored_tokens
from dlt_cronofy.source.tokens.token import StoredTokens

from .warehouse.failures import error_chain
from .warehouse.pipeline import open_pipeline


def read_settings() -> tuple[CronofyConfiguration, PollingSettings]:
    """The configured section `sources.cronofy`, checked.

    Raises:
        ConfigurationError: a value is missing, of the wrong type or out of range.
    """
    try:
        configuration = resolve_configuration(CronofyConfiguration(), sections=CONFIG_SECTIONS)
    except (ConfigurationException, ValueError) as error:
        message = str(error).strip().splitlines()[0]
        raise ConfigurationError(
            f"[{'.'.join(CONFIG_SECTIONS)}] cannot be read: {message}{_place(error)}"
        ) from None
    return configuration, PollingSettings.of(configuration)


def _place(error: BaseException) -> str:
    """Where a TOML file breaks off, without the text there, which may be a secret."""
    for cause in error_chain(error):
        line, column = getattr(cause, "line", None), getattr(cause, "col", None)
        if isinstance(line, int) and isinstance(column, int):
            return f" line {line}, column {column}"
    return ""


def open_both(
    destination: str | None, dataset: str | None
) -> tuple[dlt.Pipeline, PollingSettings, TokenStore, StoredTokens]:
    """The warehouse, the settings, and the configured token store with its tokens.

    The warehouse comes before the store: no token is read for one that will not do.

    Raises:
        ConfigurationError: something is missing or cannot be used.
    """
    configuration, settings = read_settings()
    pipeline = open_pipeline(destination, dataset)
    store = configured_store(configuration)
    return pipeline, settings, store, stored_tokens(store, settings)


def configured_store(configuration: CronofyConfiguration) -> TokenStore:
    """The configured token store.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    names = ("tokens", "tokens_file", "tokens_query", "tokens_update")
    # an empty environment variable sets nothing
    given = {name: getattr(configuration, name) or None for name in names}
    # the database may be there for due_query alone
    is_for_tokens = given["tokens_query"] or not configuration.due_query
    return open_store(
        **given,
        tokens_database=revealed(configuration.tokens_database) if is_for_tokens else None,
        token_labels=configuration.token_labels,
    )
