"""The contract of a backend that can also find versions by chosen fields, such as a database with columns for them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.backends.base import Backend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from checkpoint_manager.backends.base import Fields, MakePieces, Session


class ColumnsChangedError(Exception):
    """Raised by a searchable backend: its columns are not those that the caller knows. Nothing was changed."""


class Conditions(NamedTuple):
    """What versions are searched for by.

    Attributes:
        serial: The choice of columns that is known. What was stored under an earlier one may meet the conditions, whatever its
            columns hold.
        stage_prefix: What the stage's name begins with.
        equal: The value of each column that is compared.
        since: The lowest value of the column ``created_at``; None: any.
    """

    serial: int
    stage_prefix: str
    equal: Mapping[str, str]
    since: datetime | None


class Searchable(Backend):
    """A backend that can keep chosen fields of each version in columns of their own, in the clear, and find versions by them.

    What it finds are candidates. Its administrator can change the columns, so the caller compares each candidate with what is
    sealed in it.
    """

    @abstractmethod
    def append(
        self,
        stage: str,
        version: int,
        make_pieces: MakePieces,
        *,
        session: Session | None = None,
        fields: Fields | None = None,
    ) -> None:
        """Write a version with these fields; otherwise as :meth:`Backend.append`. The same holds for ``append_together``.

        Raises:
            ColumnsChangedError: There is no such column.
        """

    @abstractmethod
    def set_columns(self, names: Iterable[str]) -> None:
        """Make a column, with an index, for each of these fields, and remove all others with what they hold.

        Raises:
            LocationError: The place can't hold every text.
            StorageError: This user may not do that, or something else depends on a column that is to go.
        """

    @abstractmethod
    def fill(self, stage: str, fields: Mapping[int, Fields]) -> None:
        """Write the fields of versions that are there; errors as in :meth:`append`."""

    @abstractmethod
    def search(self, conditions: Conditions) -> Iterator[tuple[str, int]]:
        """Yield the stage and the number of each candidate, by stage, and newest first within one.

        Raises:
            ColumnsChangedError: A column of the conditions does not exist. It is raised at the first step.
        """

    @abstractmethod
    def unfilled(self, serial: int) -> Iterator[tuple[str, int]]:
        """Yield, likewise, the versions that were stored under an earlier choice of columns, or under none."""
