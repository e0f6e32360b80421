"""What a caller gives to open a store: a passphrase, or a key file."""

from __future__ import annotations

import os
from typing import NoReturn, TypeAlias

from checkpoint_manager._named_tuple import NamedTuple


class Passphrase:
    """A passphrase that opens a store: ``CheckpointManager(key=Passphrase("…"))``. Nothing shows, copies or pickles its text.

    It is not a dataclass: :func:`dataclasses.asdict`, and encoders that know dataclasses, would give the text away.

    Attributes:
        text: The passphrase itself.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Passphrase(…)"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled.

        Raises:
            TypeError: Always. Where the store is opened, the passphrase has to be found again.
        """
        raise TypeError(
            "a Passphrase can't be copied or pickled: give the key in the environment or as a key file, "
            "or make the Passphrase where the store is opened"
        )


class KeyFile(NamedTuple):
    """A key file that opens a store: ``CheckpointManager(key=KeyFile("/path/to/key"))``."""

    path: str


Key: TypeAlias = Passphrase | KeyFile | os.PathLike[str] | bytes
"""A key for a store or a bundle: a passphrase, a key file (or its path, such as ``pathlib.Path``), or 32 bytes."""
