"""The exit codes, which scripts may rely on, and the errors of the command line itself.

====  ==================================================================================================================
0     done; for a question: yes
1     for a question: no
2     the command line is not right, or a question can't be asked without a terminal
3     partly done: what is left is named
10    there is no store
11    another writer holds the lock
12    the key is missing or wrong
13    something is damaged, forged or rolled back
14    no such stage, version, value or key slot
15    declined at the question
16    refused because of what is there: a tag that is taken, a version that was saved meanwhile, a file that exists
20    the operating system refused
70    an error of this program: please report it
130   interrupted
====  ==================================================================================================================
"""

from __future__ import annotations

import errno
from enum import IntEnum

import click

from checkpoint_manager.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    KeyUnavailableError,
    LocationError,
    LockTimeoutError,
    PartlyRestoredError,
    PayloadError,
    ResultNotSavedError,
    RollbackError,
    StageNameError,
    StorageError,
    TagError,
    WrongKeyError,
)


class Exit(IntEnum):
    """An exit code."""

    DONE = 0
    NO = 1
    USAGE = 2
    PARTLY = 3
    NO_STORE = 10
    LOCKED = 11
    KEY = 12
    INTEGRITY = 13
    NOT_FOUND = 14
    DECLINED = 15
    CONFLICT = 16
    STORAGE = 20
    INTERNAL = 70
    INTERRUPTED = 130


class NoStoreError(CheckpointError):
    """There is no store where one is to be read."""


class DemonstrationFailedError(CheckpointError):
    """A demonstration did not do what it shows."""


class UsageError(click.UsageError):
    """The command line is not right; ``hint`` says what is."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownCommandError(click.UsageError):
    """There is no command of this name.

    Attributes:
        name: What was typed.
        known: The commands there are.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f'there is no command "{name}"')
        self.name = name
        self.known = known


class DeclinedError(Exception):
    """The user said no."""


_EXIT_OF: tuple[tuple[type[CheckpointError], Exit], ...] = (
    (NoStoreError, Exit.NO_STORE),
    (DemonstrationFailedError, Exit.INTERNAL),
    (PartlyRestoredError, Exit.PARTLY),
    (LockTimeoutError, Exit.LOCKED),
    (KeyUnavailableError, Exit.KEY),
    (WrongKeyError, Exit.KEY),
    (IntegrityError, Exit.INTEGRITY),
    (RollbackError, Exit.INTEGRITY),
    (FormatError, Exit.INTEGRITY),
    (CheckpointNotFoundError, Exit.NOT_FOUND),
    (StorageError, Exit.STORAGE),
    (ArgumentError, Exit.USAGE),
    (LocationError, Exit.USAGE),
    (PayloadError, Exit.USAGE),
    (StageNameError, Exit.USAGE),
    (TagError, Exit.USAGE),
)


def exit_of(error: CheckpointError) -> Exit:
    """Return the exit code of an error. One without a code of its own is a conflict with what is there."""
    if isinstance(error, ResultNotSavedError) and isinstance(error.__cause__, CheckpointError):
        error = error.__cause__
    if isinstance(error, TagError) and error.version is not None:  # the name is valid, but can't be given
        return Exit.CONFLICT
    if isinstance(error, StorageError) and error.errno == errno.EEXIST:
        return Exit.CONFLICT
    return next((code for kind, code in _EXIT_OF if isinstance(error, kind)), Exit.CONFLICT)
