"""Errors a person can act on."""


class ConfigurationError(ValueError):
    """Configuration or a token store is unusable; the one-line message says what to set and where.

    Messages never quote a token or a secret.
    """


class UnreachableError(ConfigurationError):
    """What the configuration names does not answer now; it may later, without a change of anything."""


class BadPayload(ValueError):  # noqa: N818 - named after the outcome it becomes
    """A body that is not of the documented shape; the message names the place, never its content."""
