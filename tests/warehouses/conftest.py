"""DuckLakes whose catalog is in SQLite, DuckDB and PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import credentials, postgres_database

CATALOGS = ("sqlite", "duckdb", "postgres")


@contextmanager
def catalog(kind: str, folder: Path) -> Iterator[str]:
    """Where a catalog of that kind is, as dlt takes it; gone at the end."""
    if kind != "postgres":
        yield f"{kind}:///{folder / 'lake'}.{kind}"
        return
    with postgres_database() as uri:
        yield credentials(uri)
