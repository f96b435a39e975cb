"""Loads who is connected through Cronofy, and keeps the history that Cronofy's identity API does not have."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .resources import cronofy_source

SOURCE_NAME = "cronofy"

__all__ = ["SOURCE_NAME", "cronofy_source"]


def __getattr__(name: str) -> Any:
    """The source, imported with all it needs when it is asked for: what only reads a warehouse needs none."""
    if name != "cronofy_source":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .resources import cronofy_source

    return cronofy_source
