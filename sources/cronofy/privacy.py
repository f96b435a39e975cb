"""Privacy: what becomes of e-mail addresses, names and relink URLs before they are rows. Pure.

`keep` leaves them as they are. `hash` stores a keyed digest: the same text is the same digest in every
field, so tables still join, also with a digest that the user computes of data of their own. `drop` stores
null.

A field of a personal name is protected whatever it holds. Elsewhere a text is protected as a whole if there
is an e-mail address in it. In a field nobody knows yet it is also protected if there is a link in it, which
may let anybody who opens it act for the user, or one of the answer's personal values: a profile's name may
well turn up in a field that the API adds tomorrow.
"""

import hmac
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from .errors import ConfigurationError
from .secret import Secret
from .texts import clean_text

MIN_KEY_LENGTH = 16
PREFIX = "hmac:"
PROTECTED = re.compile(re.escape(PREFIX) + "[0-9a-f]{64}")

PERSONAL_COLUMNS = frozenset(
    ("email", "name", "profile_name", "calendar_name", "profile_relink_url", "graph_api_migration_url")
)
# the same in whatever spelling: the letters alone
PERSONAL_NAMES = frozenset(name.replace("_", "") for name in PERSONAL_COLUMNS)

# An at sign between other characters, also as URLs and other scripts write it.
ADDRESS = re.compile(r"[^\s@](?:[@\uff20\ufe6b]|%(?:25)*40)[^\s@]")
# A link, also one without a scheme or percent-encoded; and what the name of a field for one ends in.
LINK = re.compile(r"[a-z][a-z0-9+.-]*(?::|%3a)(?:/|%2f){2}|^//|\bwww\.|\bmailto:", re.IGNORECASE)
LINK_NAMES = ("url", "urls", "uri", "uris", "link", "links", "href")
# what frames.py puts around a field's name where it makes a column of it
COLUMN_MARKS = re.compile(r"^api_|__v_[a-z]+$")
# A key that may be a field's name is no person's, even if somebody's calendar is called "color".
FIELD_NAME = re.compile(r"[A-Za-z0-9_.-]+")
# shorter values stand in many a longer text by chance; two Chinese characters have six bytes
MIN_CONTAINED_BYTES = 3

# They tell rows apart, and the token's key is the user's own.
KEY_COLUMNS = frozenset(("token_key", "account_id", "profile_id", "calendar_id", "run_id", "content_hash"))

Fields = dict[str, Any]


class Mode(StrEnum):
    """What becomes of personal data."""

    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class PersonalData:
    """The mode, and the key that `hash` needs."""

    mode: Mode = Mode.KEEP
    key: Secret | None = None

    @classmethod
    def of(cls, mode: str, key: Secret | None) -> "PersonalData":
        """Check what is configured.

        Raises:
            ConfigurationError: an unknown mode, or no usable key for `hash`.
        """
        try:
            chosen = Mode(str(mode).strip().lower())
        except ValueError:
            modes = ", ".join(Mode)
            raise ConfigurationError(
                f"personal_data in [sources.cronofy] must be one of {modes}, not {mode!r}"
            ) from None
        if chosen is not Mode.HASH:
            return cls(chosen)
        if key is None or len(key.reveal()) < MIN_KEY_LENGTH:
            raise ConfigurationError(
                f"personal_data = hash needs personal_data_key, at least {MIN_KEY_LENGTH} characters:"
                " set it in .dlt/secrets.toml [sources.cronofy] or as SOURCES__CRONOFY__PERSONAL_DATA_KEY"
            )
        return cls(chosen, key)

    @property
    def kept(self) -> bool:
        """Whether there is nothing to do."""
        return self.mode is Mode.KEEP

    def protect(self, text: str) -> str | None:
        """What is stored for a personal text."""
        if self.mode is Mode.KEEP:
            return text
        if self.mode is Mode.DROP:
            return None
        assert self.key is not None
        return PREFIX + hmac.digest(self.key.reveal().encode(), text.encode(), "sha256").hex()

    def protect_stored(self, text: str) -> str | None:
        """The same for a text from the warehouse: a digest, under whatever key, is not digested again."""
        if self.mode is Mode.HASH and PROTECTED.fullmatch(text):
            return text
        return self.protect(text)


KEEP = PersonalData()


class Protection:
    """Protects the fields of one answer, or of all that is stored of one token."""

    def __init__(self, protect: Callable[[str], str | None], records: Iterable[Fields] = ()) -> None:
        """Take note of the personal values of all records.

        Args:
            protect: `PersonalData.protect` for answers, `protect_stored` for rows of the warehouse.
            records: fields that belong together; what is personal in one is looked for in all.
        """
        self._protect = protect
        self._values = {clean_text(text) for fields in records for text in _personal_texts(fields)}
        self._values = {text for text in self._values if text and not PROTECTED.fullmatch(text)}
        self._longer_values = [text for text in self._values if len(text.encode()) >= MIN_CONTAINED_BYTES]
        self._judged: dict[str, bool] = {}

    def columns(self, columns: Fields) -> Fields:
        """Documented columns. They hold what their name says, so no names are looked for in the others."""
        protected = {name: self._column(name, value) for name, value in columns.items()}
        return {name: value for name, value in protected.items() if value is not None}

    def extras(self, extras: Fields) -> Fields:
        """Fields that have no column yet, by path."""
        return {path: value for path, value in self._object(extras).items() if value is not None}

    def row(self, row: Fields, documented: Container[str]) -> Fields:
        """A row read from the warehouse; without its content hash if there was anything to protect."""
        protected = {
            name: value
            if name in KEY_COLUMNS or name.startswith("_dlt")
            else self._column(name, value)
            if name in documented
            else self._stored(name, value)
            for name, value in row.items()
        }
        # a digest without a key, of an address say, can be guessed
        return protected | {"content_hash": None} if protected != row else row

    def _column(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and (name in PERSONAL_COLUMNS or ADDRESS.search(value)):
            return self._protect(value)
        return value

    def _stored(self, name: str, value: Any) -> Any:
        """A column that frames.py made: objects and lists are JSON text in it."""
        if _is_personal_field(name):
            return self._whole(value)
        if isinstance(value, str) and value.startswith(("{", "[")):
            try:
                document = orjson.loads(value)
            except orjson.JSONDecodeError:
                return self._anything(value)
            protected = self._anything(document)
            return value if protected == document else orjson.dumps(protected).decode()
        return self._anything(value)

    def _anything(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._protect(clean_text(value)) if self._is_personal(value) else value
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return [self._anything(each) for each in value]
        return value

    def _object(self, fields: Fields) -> Fields:
        """Keys may be personal too; without its key a value says nothing, so it is dropped with it."""
        protected = {}
        for key, value in fields.items():
            name = self._protect(clean_text(key)) if self._is_personal_key(key) else key
            if name is not None:
                protected[name] = self._whole(value) if _is_personal_field(key) else self._anything(value)
        return protected

    def _whole(self, value: Any) -> Any:
        """A personal field of any type: its text, or its JSON text."""
        if value is None or value == "":
            return value
        if isinstance(value, str):
            return self._protect(clean_text(value))
        return self._protect(orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode())

    def _is_personal(self, text: str) -> bool:
        # an answer may say the same a thousand times
        judged = self._judged.get(text)
        if judged is None:
            clean = clean_text(text)
            judged = self._judged[text] = bool(
                clean in self._values
                or ADDRESS.search(clean)
                or LINK.search(clean)
                or PROTECTED.fullmatch(clean)
                or any(value in clean for value in self._longer_values)
            )
        return judged

    def _is_personal_key(self, key: str) -> bool:
        if FIELD_NAME.fullmatch(key):
            return key in self._values or key.rpartition("__")[2] in self._values
        return self._is_personal(key)


def _is_personal_field(path: str) -> bool:
    """Whether a path, a key or a column ends in a personal name, spelled `profile_name` or `profileName`."""
    if path in PERSONAL_COLUMNS:
        return True
    last = re.split(r"__|\.", COLUMN_MARKS.sub("", path))[-1]
    letters = re.sub("[^a-z]", "", last.lower())
    return letters in PERSONAL_NAMES or letters.endswith(LINK_NAMES)


def _personal_texts(value: Any, *, personal: bool = False) -> Iterator[str]:
    """The texts in personal fields, at every depth."""
    if isinstance(value, str):
        if personal:
            yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _personal_texts(each, personal=personal or _is_personal_field(key))
    elif isinstance(value, list):
        for each in value:
            yield from _personal_texts(each, personal=personal)
