"""Databases of somebody's application."""

from typing import Any

from sqlalchemy import NullPool, create_engine

from dlt_cronofy.source.tokens.sql_database import open_engine


class Database:
    """A database of somebody's application."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = create_engine(open_engine(url).url, poolclass=NullPool)

    def run(self, *statements: str) -> None:
        with self._engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]
