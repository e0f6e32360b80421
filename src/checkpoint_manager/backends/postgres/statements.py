"""Statements for a store in PostgreSQL, which are run again while its server does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from checkpoint_manager.backends.base import UnknownOutcomeError
from checkpoint_manager.backends.postgres import schema as tables
from checkpoint_manager.backends.postgres.connections import NO_TABLES, Connections, Patience, is_passing
from checkpoint_manager.backends.postgres.errors import translated
from checkpoint_manager.backends.postgres.lock_keys import Kind, key_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import LiteralString

    from checkpoint_manager.backends.postgres.connections import Link
    from checkpoint_manager.backends.postgres.place import Place

T = TypeVar("T")


class Statements:
    """The statements of one backend.

    Args:
        place: Where the store is.
        patience: The backend's.

    Attributes:
        location: Its URL.
        schema: The name of its schema.
        quoted: The same, quoted for a statement.
        connections: Its connections, with its patience.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self.location = place.location
        self.schema = place.schema
        self.quoted = tables.quoted(place.schema)
        self.connections = Connections(place, key_of(Kind.STORE, place.schema, "member"), patience)

    def run(self, action: str, work: Callable[[Link], T], stage: str | None = None, *, once: bool = False) -> T:
        """Return what ``work`` returns, tried again while the server does not answer.

        Args:
            action: What is being done, for messages.
            work: Does it; called once for each attempt.
            stage: The stage, for messages.
            once: What was begun is not tried again: an UnknownOutcomeError is raised.
        """
        patience = Patience(self.connections.patience)
        has_looked_again = False
        while True:
            has_begun = False
            use = self.connections.use()
            try:
                with use as link:
                    has_begun = True
                    return work(link)
            except psycopg.Error as error:
                failure = error
            except BaseException:
                use.abandon()
                raise
            if has_begun and once and is_passing(failure):
                raise UnknownOutcomeError from failure
            if failure.sqlstate in NO_TABLES and has_begun and not has_looked_again and self.connections.forget_tables():
                has_looked_again = True
                continue
            if not (is_passing(failure) and self.connections.is_proven and patience.pause()):
                raise translated(failure, action, self.location, stage) from (failure if has_begun else None)

    def rows(self, action: str, query: LiteralString, parameters: tuple[object, ...] = (), stage: str | None = None) -> Any:  # noqa: ANN401  # of any types
        """Return the rows of a query; none if there are no tables."""

        def work(link: Link) -> list[tuple[Any, ...]]:
            if not self.connections.finds_tables(link):
                return []
            return link.connection.execute(query, parameters, binary=True).fetchall()

        return self.run(action, work, stage)

    def change(self, action: str, statement: LiteralString, parameters: tuple[object, ...], stage: str | None = None) -> int:
        """Run a statement that may be run twice, and return how many rows it changed."""

        def work(link: Link) -> int:
            self.make_tables(link)
            return link.connection.execute(statement, parameters).rowcount

        return self.run(action, work, stage)

    def make_tables(self, link: Link) -> None:
        """Make the tables if they are not there."""
        self.connections.migrate(link, key_of(Kind.STORE, self.schema, "migration"))
