"""Canaries: secrets that are easily recognized, and the search for them in whatever form they got out."""

import base64
import gzip
import html
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import duckdb
import pyarrow as pa
import pyarrow.parquet

ACCESS, REFRESH = 'canary/ACCESS"+token{}==', 'canary/REFRESH"+token{}=='
NEW_ACCESS, NEW_REFRESH = 'canary/ISSUED"+access{}==', 'canary/ISSUED"+refresh{}=='
CLIENT_SECRET = 'canary/CLIENT"+secret=='
PERSONAL_KEY = 'canary/PERSONAL"+key=='
PASSWORD = 'canary/DATABASE"+password=='
RELINK = "https://app.cronofy.com/canary/RELINK+url/{}"
# what all canaries of a kind share is what is searched for
SECRETS = {
    "access token": 'canary/ACCESS"+token',
    "refresh token": 'canary/REFRESH"+token',
    "new access token": 'canary/ISSUED"+access',
    "new refresh token": 'canary/ISSUED"+refresh',
    "client_secret": 'canary/CLIENT"+secret',
    "personal_data_key": 'canary/PERSONAL"+key',
    "tokens_database password": 'canary/DATABASE"+password',
    "relink URL": "canary/RELINK+url",
}
RELINK_URL = frozenset({"relink URL"})
RELINK_TABLES = ("profiles", "profile_changes")

BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
MAX_UNFOLDED_BYTES = 4 * 1024 * 1024


def forms_of(secret: str) -> dict[str, set[bytes]]:
    """What a secret looks like when it got out, by form."""
    raw = secret.encode()
    once = json.dumps(secret)[1:-1]
    forms = {
        "plain": {raw},
        "JSON": {once.encode(), once.replace("/", "\\/").encode(), once.replace("\\", "\\\\").encode()},
        "JSON in JSON": {
            json.dumps(once)[1:-1].encode(),
            json.dumps(once.replace("/", "\\/"))[1:-1].encode(),
        },
        "URL": {quote(secret, safe="").encode(), quote(secret).encode(), quote_plus(secret).encode()},
        "HTML": {html.escape(secret).encode()},
        "hex": {raw.hex().encode(), raw.hex().upper().encode()},
        "base64": set(),
    }
    for shift in range(3):  # wherever in a longer text it stood; the edges depend on the neighbors
        encoded = base64.b64encode(b"\0" * shift + raw)[4:-4]
        forms["base64"] |= {encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")}
    return forms


PATTERNS = {name: forms_of(secret) for name, secret in SECRETS.items()}
FORMS = tuple(PATTERNS["access token"])


def leaks(content: bytes) -> set[tuple[str, str]]:
    """The secrets in the content, each with its form."""
    return {
        (name, form)
        for name, forms in PATTERNS.items()
        for form, patterns in forms.items()
        if any(pattern in content for pattern in patterns)
    }


def unfolded(content: bytes) -> Iterator[bytes]:
    """The content, and what is compressed in it, as dlt keeps its state."""
    yield content
    if len(content) > MAX_UNFOLDED_BYTES:
        return
    for match in BASE64.finditer(content):
        try:
            yield zlib.decompress(base64.b64decode(match.group()))
        except (ValueError, zlib.error):
            continue


def unpacked(path: Path) -> bytes:
    """The bytes of a file, gzipped or not."""
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def file_contents(path: Path) -> Iterator[bytes]:
    """All that a file holds, in whatever it is packed."""
    content = unpacked(path)
    if content[:4] == b"PAR1":
        yield content
        with suppress(pa.ArrowException, OSError):  # its writer was killed
            yield str(pyarrow.parquet.read_table(path).to_pydict()).encode()
        return
    yield from unfolded(content)


def stored_values(database: Path) -> Iterator[tuple[str, bytes]]:
    """Every value of every table of a DuckDB file, and every view's definition, by name."""
    with closing(duckdb.connect(str(database), read_only=True)) as connection:
        for (definition,) in connection.execute(
            "SELECT sql FROM duckdb_views() WHERE NOT internal"
        ).fetchall():
            yield "views", str(definition).encode()
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        ).fetchall()
        for schema, table in tables:
            for row in connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall():
                for value in row:
                    yield from ((table, part) for part in unfolded(str(value).encode()))


def holds_relink_urls(path: Path) -> bool:
    """Whether the file is rows of a table that may hold relink URLs, or the warehouse itself."""
    rows = path.name.startswith(tuple(f"{table}." for table in RELINK_TABLES)) and "_jobs" in str(path.parent)
    extracted = "extracted" in path.parts and path.name.startswith(
        tuple(f"{table}." for table in RELINK_TABLES)
    )
    return rows or extracted or path.suffix == ".duckdb" or path.name.endswith(".duckdb.wal")


@dataclass
class Search:
    """What was searched so far, and what was found.

    Attributes:
        sizes: bytes searched, by scene and kind of place.
        places: how many outputs, files and tables.
        hits: by scene, kind of place and name.
    """

    sizes: Counter[tuple[str, str]] = field(default_factory=Counter)
    places: int = 0
    hits: dict[tuple[str, str, str], set[tuple[str, str]]] = field(default_factory=dict)

    def look(
        self,
        scene: str,
        kind: str,
        name: str,
        contents: Iterable[bytes],
        allowed: frozenset[str] = frozenset(),
    ) -> None:
        """Search one output, file or table.

        Args:
            allowed: secrets that may be there.
        """
        self.places += 1
        for content in contents:
            self.sizes[scene, kind] += len(content)
            found = {(secret, form) for secret, form in leaks(content) if secret not in allowed}
            if found:
                self.hits.setdefault((scene, kind, name), set()).update(found)

    def look_below(self, scene: str, directory: Path, stores: frozenset[str]) -> None:
        """Search all files below a directory but the token stores, and the tables of the warehouses."""
        for path in sorted(each for each in directory.rglob("*") if each.is_file()):
            if path.name in stores:
                continue
            allowed = RELINK_URL if holds_relink_urls(path) else frozenset()
            kind = "warehouse file" if path.suffix == ".duckdb" else "working files"
            self.look(scene, kind, str(path.relative_to(directory)), file_contents(path), allowed)
        for database in sorted(directory.glob("*.duckdb")):
            tables: dict[str, list[bytes]] = {}
            for table, value in stored_values(database):
                tables.setdefault(table, []).append(value)
            for table, values in tables.items():
                allowed = RELINK_URL if table in RELINK_TABLES else frozenset()
                self.look(scene, "tables", table, [b"\n".join(values)], allowed)

    def hits_in(self, scene: str, kind: str) -> int:
        """Places with something in them that should not be there."""
        return sum(each[:2] == (scene, kind) for each in self.hits)

    def summary(self) -> str:
        """The last line."""
        return (
            f"searched {self.sizes.total():,} bytes in {self.places:,} places"
            f" for {len(SECRETS)} secrets in {len(FORMS)} forms: {len(self.hits)} hits"
        )
