"""A session on one stage: what one statement reads of it is answered when it is asked for."""

from __future__ import annotations

from typing import Any

from checkpoint_manager.backends.local.session import LockSession

STAMP = "CASE WHEN length(stamp) <= 16 THEN stamp ELSE x'' END"
"""The stamp of a record, in a statement. A planted one may be longer."""
KEYRING = f"(SELECT {STAMP} FROM record WHERE stage = x'' AND name = 'keyring')"  # noqa: S608  # a constant
"""The stamp of the keyring, likewise."""
_LOOK_BYTES = 64 * 1024
"""How long a version may be that is read with the look at its stage."""
_LOOK = f"""SELECT {KEYRING} AS keyring,
    (SELECT {STAMP} FROM record WHERE stage = ?1 AND name = 'gaps') AS gaps,
    (SELECT max(number) FROM version WHERE stage = ?1 AND number BETWEEN 1 AND 999999999999) AS newest"""  # noqa: S608  # constants
_LOOK_AND_READ = f"""SELECT keyring, gaps, newest, CASE WHEN length(content) <= {_LOOK_BYTES} THEN content END
    FROM ({_LOOK}) LEFT JOIN version ON stage = ?1 AND number = newest"""  # noqa: S608  # likewise


class SqliteSession(LockSession):
    """A session that looks at its stage once. It releases a lock at its end.

    Args:
        stage: The stage, or None.
        lock: The lock of a caller that is going to write; None: the caller is going to read the newest version.

    Attributes:
        look: The statement that looks at the stage.
        answers: What the look has found, each once, until something is changed; None: it has not looked yet.
    """

    __slots__ = ("answers", "look", "stage")

    def __init__(self, stage: str | None, lock: object) -> None:
        super().__init__(lock)
        self.stage = stage
        self.look = _LOOK_AND_READ if lock is None else _LOOK
        self.answers: dict[str, Any] | None = None if stage is not None else {}

    def looked(self, keyring: bytes | None, gaps: bytes | None, newest: int | None, content: bytes | None = None) -> None:
        """Keep what the look has found."""
        self.answers = {"keyring": keyring, "gaps": gaps, "newest": newest or 0, "content": (newest, content)}
