"""The values of the public interface: immutable, and free of I/O.

What programs write as JSON is a dataclass; the others are named tuples, which are made five times faster at import.
"""

from __future__ import annotations

import itertools
import typing
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Literal, NoReturn, TypeAlias, TypeVar

from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._text import printable
from checkpoint_manager.errors import AttachmentNotFoundError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from checkpoint_manager.attachment_info import AttachmentInfo

T = TypeVar("T")
_MOST_NAMED = 20

Buffer: TypeAlias = bytes | bytearray | memoryview

Status: TypeAlias = Literal["completed", "progress", "failed", "cleared"]
"""The state that a version records for its stage. Only ``completed`` makes ``has_checkpoint`` true."""

Durability: TypeAlias = Literal["full", "relaxed"]
"""``full`` syncs each save to the medium; ``relaxed`` leaves that to the operating system."""

OnRollback: TypeAlias = Literal["raise", "warn"]
"""What to do when the store is older than what this user has seen of it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote a version, and where. It is stored encrypted with the version."""

    user: str
    host: str
    pid: int
    python: str
    library: str


class Reason(NamedTuple):
    """Why a tag was given or removed, or versions were deleted, in the user's words. It is sealed with the stage's tags.

    Attributes:
        at: When, by the clock of the host where it was done.
        action: ``tagged``, ``untagged`` or ``deleted``.
        tag: The tag; empty if versions were deleted.
        first: The number of the version that was tagged or untagged, or the lowest number of those that were deleted.
        last: The highest number of those that were deleted; otherwise as ``first``.
        versions: How many versions it concerns.
        by: The user and the host, as the process reported them.
        text: The reason.
    """

    at: datetime
    action: Literal["tagged", "untagged", "deleted"]
    tag: str
    first: int
    last: int
    versions: int
    by: str
    text: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one stage, without its data.

    Attributes:
        stage: The stage's name.
        number: 1, 2, 3, … within the stage, never used twice.
        status: ``completed``, ``progress``, ``failed`` or ``cleared``. In a history also ``damaged`` (it does not open, is
            forged, or is of another history), ``unreadable`` (the operating system does not let it be read) and ``missing`` (it
            is gone without a record of its deletion); of these three, all other fields are unknown.
        created_at: When it was written by the clock of the writing host, aware, in UTC; None if unknown.
        metadata: The ``metadata=`` of the save.
        origin: Who wrote it, and where, as the writing process reported; None if unknown.
        size: The length of the data as it is encoded, with its arrays, in bytes; None if unknown.
        restored_from: The number of the version that this one is a copy of, or None.
        attachments: What is attached to it, in the order in which it was given.
        arrays_size: How many bytes of ``size`` are arrays, frames and tensors that are stored beside the data.
    """

    stage: str
    number: int
    status: Status | Literal["damaged", "unreadable", "missing"]
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    size: int | None = None
    restored_from: int | None = None
    attachments: tuple[AttachmentInfo, ...] = ()
    arrays_size: int = 0

    @property
    def total_size(self) -> int | None:
        """The length of the data and of all attachments in bytes; None if unknown."""
        return None if self.size is None else self.size + sum(each.size for each in self.attachments)


class Attachment(ABC):
    """An attachment of a version that was loaded. Its content is read when it is asked for, 16 MiB at a time.

    Attributes:
        name: Its name.
        kind: What :meth:`load` returns: for ``bytes`` and ``file`` the content, for ``numpy`` an array, for
            ``pandas`` and ``polars`` a frame, for ``torch`` a tensor.
        size: The length of its content in bytes.
        detail: What it is, for people.
    """

    __slots__ = ("detail", "kind", "name", "size")

    def __init__(self, name: str, kind: str, size: int, detail: str) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self.detail = detail

    def __repr__(self) -> str:
        return f"Attachment(name={self.name!r}, kind={self.kind!r}, size={self.size}, detail={self.detail!r})"

    @abstractmethod
    def load(self) -> Any:  # noqa: ANN401  # what it is depends on its kind
        """Return the content as what was attached: an array for an array, bytes for bytes and files.

        What is encrypted can't be mapped into memory: an array is decrypted straight into its own memory, and takes no more
        than that and 16 MiB. For a part of a large content, :meth:`open` it and seek.

        Raises:
            CheckpointNotFoundError: Its version was deleted meanwhile.
            IntegrityError: It is missing, damaged or forged.
            FormatError: Its kind is not known to this version of the library.
            CheckpointError: It needs a package that is not installed.
        """

    @abstractmethod
    def read(self) -> bytes:
        """Return the whole content as bytes; errors as in :meth:`load`."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Return a binary file that reads the content and can seek; reading raises as :meth:`load` does."""

    @abstractmethod
    def save_to(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the content to a file, which appears whole, durably, and with mode 0600.

        Args:
            path: The file.
            overwrite: Replace a file that is there.

        Raises:
            CheckpointNotFoundError: The version was deleted meanwhile.
            IntegrityError: The content is missing, damaged or forged. Nothing was written.
            StorageError: The file exists already, or the operating system refused.
        """


class Attachments(dict[str, Attachment]):
    """The attachments of a version by name, in the order in which they were given.

    Args:
        version: The version.
        found: Its attachments.
    """

    __slots__ = ("_version",)

    def __init__(self, version: Version, found: Mapping[str, Attachment]) -> None:
        super().__init__(found)
        self._version = version

    def __missing__(self, name: object) -> NoReturn:
        """Refuse a name that none of them has.

        Raises:
            AttachmentNotFoundError: Always. It says which names there are.
        """
        where = f"version {self._version.number} of stage {printable(self._version.stage)}"
        there = ", ".join(map(printable, itertools.islice(self, _MOST_NAMED)))
        more = f" and {len(self) - _MOST_NAMED} more" if len(self) > _MOST_NAMED else ""
        hint = f"Choose one that it has: {there}{more}" if there else "Choose another version: this one has none"
        message, stage = f"{where} has no attachment {printable(str(name))}", self._version.stage
        raise AttachmentNotFoundError(message, hint=hint, stage=stage, version=self._version.number)


class Checkpoint(NamedTuple):
    """A version with its data, and its attachments by name."""

    version: Version
    data: Any
    attachments: Mapping[str, Attachment]


class Codec(typing.NamedTuple, Generic[T]):
    """How values of a type that the library does not know are saved and loaded: ``CheckpointManager(codecs=[Codec(…)])``.

    ::

        Codec(Point, "point", lambda point: (point.x, point.y), lambda pair: Point(*pair))

    Attributes:
        type: Values of exactly this type are saved with the codec; those of a subclass are not.
        name: It is saved with the value, and finds the codec when the value is loaded: keep it, whatever becomes of the class.
        encode: Turns a value into one that can be saved.
        decode: Turns that back into the value.
    """

    type: type[T]
    name: str
    encode: Callable[[T], object]
    decode: Callable[[Any], T]
