"""The hints of errors in the words of the command line: commands where :class:`~checkpoint_manager.errors.Hint` names calls."""

from __future__ import annotations

import re
import shlex
from contextvars import ContextVar

from checkpoint_manager.cli import NAME
from checkpoint_manager.errors import CheckpointError, Hint, ResultNotSavedError

HINTS: dict[Hint, str] = {
    Hint.ACCEPT_ROLLBACK: (
        "If you restored an older copy on purpose, run: {repair --accept-rollback}; otherwise restore the store from a backup"
    ),
    Hint.ACCEPT_KEYRING: ("If you replaced it on purpose, run: {repair --accept-rollback}; otherwise restore it from a backup"),
    Hint.COPY_OR_ACCEPT: (
        "If this is a copy, copy the other store instead: checkpoint-manager copy LOCATION --store OTHER, "
        "which makes a store of its own; "
        "if you restored an older copy on purpose, run: {repair --accept-rollback}; "
        "otherwise restore the store from a backup"
    ),
    Hint.GIVE_A_KEY: (
        "Name the key with --key, set CHECKPOINT_MANAGER_KEY_FILE or CHECKPOINT_MANAGER_PASSPHRASE, "
        "or restore the key file from your copy"
    ),
    Hint.GIVE_OR_DROP_SLOTS: (
        "Name their keys with --also SOURCE, or drop the slots with --drop SLOT and add them again afterwards"
    ),
    Hint.IMPORT_RENAMED: "Import it under another name with --rename",
    Hint.LOAD_ANOTHER: "See what else is affected with: {verify}, set it aside with: {repair}, or choose another version",
    Hint.PUT_IT_BACK: "Restore it from a backup, or choose another version",
    Hint.MOVE_TAG: "Choose another name, or move the tag with --force",
    Hint.REMOVE_TAG: "Remove tags first with: {tag --delete STAGE NAME}",
    Hint.OVERWRITE: "Choose another name, or give --overwrite",
    Hint.RESTORE_TAGS: (
        "Restore the tags of the stage from a backup; "
        "to go on without them, run: {repair}, and then: {repair --accept-rollback}"
    ),
    Hint.RESTORE_EARLIER: "Compute it again, or restore an earlier version from: {log STAGE}",
    Hint.SEE_HISTORY: "Choose a version from: {log STAGE}",
    Hint.REPAIR_OR_RESTORE: (
        "If another process saved over the damaged version, run: {repair}; otherwise restore the store from a backup"
    ),
    Hint.SEE_STAGES: "See the names with: {list}",
    Hint.SEE_TAGS: "See the tags with: {tag}, and the versions with: {log STAGE}",
    Hint.TAG_AGAIN: (
        "If you accepted a rollback, tag the version again with: {tag STAGE@VERSION NAME --force}; otherwise run: {verify}"
    ),
    Hint.VERIFY_AND_REPAIR: "See what is wrong with: {verify}, then run: {repair}",
    Hint.WAIT_FOR_RUN: "Wait until it is done, or give a longer --lock-timeout",
    Hint.WAIT_FOR_LOCK: "Wait until it is done, or give a longer --lock-timeout",
}
"""What stands in braces is a command of this program."""

_store = ContextVar("store", default="")
"""The option that names the store, if it was given on the command line. The requests of a dashboard each have their own."""


def name_store(location: str | None) -> None:
    """Let the commands in hints name this store; None: they find it without."""
    _store.set("" if location is None else f" --store {shlex.quote(location)}")


def command(words: str, stage: str | None = None) -> str:
    """Return a command of this program, as it can be typed; it names the store if that was given on the command line.

    Args:
        words: The command with its arguments; ``STAGE`` stands for the stage.
        stage: The stage, or None if it is not known.
    """
    named = words if stage is None else words.replace("STAGE", shlex.quote(stage))
    return f"{NAME} {named}{_store.get()}"


def sentence(hint: Hint, stage: str | None = None) -> str:
    """Return a hint for the command line; the commands in it name the stage, if it is known, and the store."""
    return re.sub(r"\{(.*?)\}", lambda found: command(found[1], stage), HINTS[hint])


def hint_of(error: CheckpointError) -> str:
    """Return the hint of an error for the command line; empty if there is nothing to advise."""
    if isinstance(error, ResultNotSavedError):  # its hint is about the result, which ends with this process
        return hint_of(error.__cause__) if isinstance(error.__cause__, CheckpointError) else ""
    return sentence(error.hint, error.stage) if isinstance(error.hint, Hint) else error.hint


def explain(error: CheckpointError) -> str:
    """Return the message and the hint of an error for the command line."""
    hint = hint_of(error)
    return f"{error.message}. {hint}" if hint else error.message
