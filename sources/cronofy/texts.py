"""Texts as every warehouse can store them. Pure."""


def clean_text(value: str) -> str:
    """The text with NUL, which PostgreSQL cannot store, as U+FFFD."""
    return value.replace("\x00", "\ufffd") if "\x00" in value else value
