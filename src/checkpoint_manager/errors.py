"""Every error this library raises on purpose, and nothing else.

::

    CheckpointError
    ├── ArgumentError             (TypeError) (ValueError)  an argument is not what is expected
    ├── CheckpointNotFoundError   (LookupError)   the stage or version does not exist, or the stage is cleared
    │   └── AttachmentNotFoundError (KeyError)    the version has no attachment of this name
    ├── VersionConflictError                      the newest version is not the expected one
    ├── PartlyRestoredError                       a restore of several stages failed, and could not be taken back as a whole
    ├── PayloadError              (ValueError)    the data would not load as it was saved
    ├── StageNameError            (ValueError)    the stage name is not valid
    ├── TagError                  (ValueError)    the tag is not valid, or names another version already
    ├── FingerprintError          (TypeError)     an argument of a stage can't be compared with the one of an earlier run
    ├── ResultNotSavedError                       a stage ran but its result could not be saved: the error carries it
    ├── LockTimeoutError          (TimeoutError)  another writer holds the lock
    ├── LocationError             (ValueError)    the location is not valid, or its backend lacks what was asked for
    ├── KeyUnavailableError                       no key was found, or more than one source names one
    ├── WrongKeyError                             the key opens none of the store's key slots
    ├── IntegrityError                            a file is damaged, forged or misplaced
    ├── RollbackError                             the store is older than what this user has seen of it
    ├── FormatError               (ValueError)    a file has a format that this version does not read
    └── StorageError              (OSError)       the operating system refused; carries ``errno`` and ``filename``

Each error has a ``message``, which says what happened and where, and a ``hint``, which says what to do next; ``str(error)``
joins the two. Messages, hints and causes never contain data, a passphrase or a key. The one attribute with data is
``ResultNotSavedError.result``. All errors survive pickling, so that they can cross process boundaries.
"""

from __future__ import annotations

from enum import StrEnum

from checkpoint_manager._text import escaped

__all__ = [
    "ArgumentError",
    "AttachmentNotFoundError",
    "CheckpointError",
    "CheckpointNotFoundError",
    "FingerprintError",
    "FormatError",
    "IntegrityError",
    "KeyUnavailableError",
    "LocationError",
    "LockTimeoutError",
    "PartlyRestoredError",
    "PayloadError",
    "ResultNotSavedError",
    "RollbackError",
    "StageNameError",
    "StorageError",
    "TagError",
    "VersionConflictError",
    "WrongKeyError",
]


class Hint(StrEnum):
    """Hints that differ between Python and the command line: a call in one, a command in the other.

    The value is the hint for Python. :mod:`checkpoint_manager.cli.hints` holds the command line's text for each member. A hint
    that reads the same in both is plain text and not listed here.
    """

    ACCEPT_ROLLBACK = (
        "If you restored an older copy on purpose, call accept_rollback(); otherwise restore the store from a backup"
    )
    ACCEPT_KEYRING = (
        'If you replaced it on purpose, open the store with on_rollback="warn" and call accept_rollback(); '
        "otherwise restore it from a backup"
    )
    COPY_OR_ACCEPT = (
        "If this is a copy, call copy_to() of the other store instead, which makes a store of its own; "
        "if you restored an older copy on purpose, call accept_rollback(); otherwise restore the store from a backup"
    )
    GIVE_A_KEY = (
        "Pass key=, set CHECKPOINT_MANAGER_KEY_FILE or CHECKPOINT_MANAGER_PASSPHRASE, or restore the key file from your copy"
    )
    GIVE_OR_DROP_SLOTS = "Pass their keys with also=, or drop the slots with drop= and add them again afterwards"
    IMPORT_RENAMED = "Import it under another name with rename="
    MOVE_TAG = "Choose another name, or move the tag with force=True"
    REMOVE_TAG = "Remove tags with untag() first"
    RESTORE_TAGS = (
        "Restore the tags of the stage from a backup; to go on without them, call repair() and then accept_rollback()"
    )
    RESTORE_EARLIER = "Compute it again, or restore an earlier version from history()"
    SEE_HISTORY = "Choose a version from history()"
    LOAD_ANOTHER = "Load another version, or call verify() to see what else is affected and repair() to set it aside"
    PUT_IT_BACK = "Restore it from a backup, or load another version"
    REPAIR_OR_RESTORE = (
        "If another process saved over the damaged version, call repair(), which sets it aside; "
        "otherwise restore the store from a backup"
    )
    SEE_STAGES = "See stages() for the names"
    OVERWRITE = "Choose another name, or pass overwrite=True"
    SEE_TAGS = "See tags() for its tags and history() for its versions"
    TAG_AGAIN = "If you accepted a rollback, tag the version again with force=True; otherwise call verify()"
    VERIFY_AND_REPAIR = "Call verify() to see what is wrong, then repair()"
    WAIT_FOR_LOCK = "Wait until it is done, or pass a longer lock_timeout"
    WAIT_FOR_RUN = "Wait until it is done, or pass a longer wait="


class CheckpointError(Exception):
    """The base class of all errors of this library.

    Args:
        message: What happened, and where: a clause without a full stop.
        hint: What to do next: an instruction without a full stop; a :class:`Hint` if it differs on the command line.
        stage: The stage concerned.
        version: The number of the version concerned.

    Attributes:
        message: What happened, and where.
        hint: What to do next; empty if there is nothing to advise.
        stage: The stage concerned, or None.
        version: The number of the version concerned, or None.
    """

    def __init__(self, message: str, *, hint: str = "", stage: str | None = None, version: int | None = None) -> None:
        super().__init__(escaped(message))
        self.hint = escaped(hint)
        self.stage = stage
        self.version = version

    @property
    def message(self) -> str:
        """What happened, and where."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        """Return the message and the hint, as one line."""
        return f"{self.message}. {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by message and attributes: the default would call ``__init__`` without the keyword arguments."""
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(kind: type[CheckpointError], args: tuple[object, ...], attributes: dict[str, object]) -> CheckpointError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ArgumentError(CheckpointError, TypeError, ValueError):
    """An argument is not of the type, or not in the range, that is expected; nothing was done.

    Attributes:
        argument: The name of the argument; empty if the error is about several.
    """

    def __init__(self, message: str, *, hint: str = "", argument: str = "") -> None:
        super().__init__(message, hint=hint)
        self.argument = argument


class CheckpointNotFoundError(CheckpointError, LookupError):
    """The stage or version does not exist, was deleted, or the stage is cleared.

    Its ``version`` is None if there never was such a stage, and the number of the delete marker if it was deleted as a whole.
    """


class AttachmentNotFoundError(CheckpointNotFoundError, KeyError):
    """The version has no attachment of this name."""


class VersionConflictError(CheckpointError):
    """The newest version of the stage, or the one that a tag names, is not the one the caller expected; nothing was written.

    Attributes:
        expected: The version number the caller named.
        actual: The number of the newest version, or of the one that the tag names; 0 if there is none.
    """

    def __init__(self, message: str, *, hint: str = "", stage: str | None = None, expected: int = 0, actual: int = 0) -> None:
        super().__init__(message, hint=hint, stage=stage, version=actual)
        self.expected = expected
        self.actual = actual


class PartlyRestoredError(CheckpointError):
    """A restore of several stages failed; what was restored by then could not all be taken back. The cause says why it failed.

    Attributes:
        left: The stages that are restored, or may be: the location of the store, and the stage.
    """

    def __init__(self, message: str, *, hint: str = "", left: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.left = left


class PayloadError(CheckpointError, ValueError):
    """The data can't be stored such that it loads as it was saved; nothing was written.

    Attributes:
        path: The JSON path of the first value at fault, such as ``$.model.weights[3]``.
        paths: The paths of all values at fault, up to ten.
    """

    def __init__(
        self, message: str, *, hint: str = "", path: str = "$", paths: tuple[str, ...] = (), stage: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, stage=stage)
        self.path = path
        self.paths = paths or (path,)


class StageNameError(CheckpointError, ValueError):
    """The stage name is empty, too long, or not text."""


class TagError(CheckpointError, ValueError):
    """The tag is not a valid name, or can't be given; nothing was changed.

    Its ``version`` is None if the name is not valid, the version that has the tag if it is taken, and otherwise the version to
    be tagged.
    """


class FingerprintError(CheckpointError, TypeError):
    """An argument of a stage can't be compared with the one of an earlier run; the stage did not run."""


class ResultNotSavedError(CheckpointError):
    """A stage's function ran, but its result could not be saved; the cause says why.

    Attributes:
        result: What the function returned, so that the caller can save it elsewhere. Never part of the message.
    """

    def __init__(self, message: str, *, hint: str = "", stage: str | None = None, result: object = None) -> None:
        super().__init__(message, hint=hint, stage=stage)
        self.result = result


class LockTimeoutError(CheckpointError, TimeoutError):
    """Another writer held the stage's lock for longer than ``lock_timeout``.

    Attributes:
        holder: The holder as far as the system knows it, such as ``process 4711``, or None.
    """

    def __init__(self, message: str, *, hint: str = "", stage: str | None = None, holder: str | None = None) -> None:
        super().__init__(message, hint=hint, stage=stage)
        self.holder = holder


class LocationError(CheckpointError, ValueError):
    """The location is not valid, its backend is unknown, or lacks what was asked for; nothing was opened."""


class KeyUnavailableError(CheckpointError):
    """No key was found, or more than one source names one."""


class WrongKeyError(CheckpointError):
    """The key or passphrase given opens none of the store's key slots."""


class IntegrityError(CheckpointError):
    """A stored file is damaged, forged, missing, or belongs elsewhere.

    Attributes:
        is_newer: By its first line, a newer version of the library wrote it. Anyone can write such a line.
    """

    is_newer = False


class RollbackError(CheckpointError):
    """The store is older than what this user has seen of it, or is another store."""


class FormatError(CheckpointError, ValueError):
    """A file has a format that this version of the library does not read."""


class StorageError(CheckpointError, OSError):
    """The operating system refused an operation; ``errno`` and ``filename`` say which and where."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        errno: int | None = None,
        filename: str | None = None,
        stage: str | None = None,
        version: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint, stage=stage, version=version)
        self.errno = errno
        self.filename = filename

    def __reduce__(self) -> tuple[object, ...]:
        """Carry ``errno`` and ``filename`` along: OSError keeps them outside ``__dict__``."""
        attributes = {**self.__dict__, "errno": self.errno, "filename": self.filename}
        return (_rebuild_storage_error, (type(self), self.args, attributes))


def _rebuild_storage_error(kind: type[StorageError], args: tuple[object, ...], attributes: dict[str, object]) -> StorageError:
    error = kind.__new__(kind, *args)
    error.args = args
    for name, value in attributes.items():
        setattr(error, name, value)
    return error
