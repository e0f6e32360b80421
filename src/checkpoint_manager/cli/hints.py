"""The hints of errors in the words of the command line: commands where :class:`~checkpoint_manager.errors.Hint` names calls."""

from __future__ import annotations

from checkpoint_manager.errors import CheckpointError, Hint, ResultNotSavedError

HINTS: dict[Hint, str] = {
    Hint.ACCEPT_ROLLBACK: (
        "If you restored an older copy on purpose, run: checkpoint-manager repair --accept-rollback; "
        "otherwise restore the store from a backup"
    ),
    Hint.ACCEPT_KEYRING: (
        "If you replaced it on purpose, run: checkpoint-manager repair --accept-rollback; otherwise restore it from a backup"
    ),
    Hint.COPY_OR_ACCEPT: (
        "If it is a copy, make one with: checkpoint-manager copy DIRECTORY instead, which makes a store of its own; if you "
        "restored an older copy on purpose, run: checkpoint-manager repair --accept-rollback; "
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
    Hint.LOAD_ANOTHER: (
        "Choose another version, or see what else is affected with: checkpoint-manager verify, "
        "then set it aside with: checkpoint-manager repair"
    ),
    Hint.PUT_IT_BACK: "Restore it from a backup, or choose another version",
    Hint.MOVE_TAG: "Choose another name, or move the tag with --force",
    Hint.REMOVE_TAG: "Remove tags first with: checkpoint-manager tag --delete STAGE NAME",
    Hint.OVERWRITE: "Choose another name, or give --overwrite",
    Hint.RESTORE_EARLIER: "Compute it again, or restore an earlier version from: checkpoint-manager log",
    Hint.SEE_HISTORY: "Choose a version from: checkpoint-manager log",
    Hint.REPAIR_OR_RESTORE: (
        "If another process saved over the damaged version, run: checkpoint-manager repair; "
        "otherwise restore the store from a backup"
    ),
    Hint.SEE_STAGES: "See the names with: checkpoint-manager list",
    Hint.SEE_TAGS: "See the tags with: checkpoint-manager tag, and the versions with: checkpoint-manager log",
    Hint.VERIFY_AND_REPAIR: "See what is wrong with: checkpoint-manager verify, then run: checkpoint-manager repair",
    Hint.WAIT_FOR_RUN: "Wait until it is done, or give a longer --lock-timeout",
    Hint.WAIT_FOR_LOCK: "Wait until it is done, or give a longer --lock-timeout",
}


def hint_of(error: CheckpointError) -> str:
    """Return the hint of an error for the command line; empty if there is nothing to advise."""
    if isinstance(error, ResultNotSavedError):  # its hint is about the result, which ends with this process
        return hint_of(error.__cause__) if isinstance(error.__cause__, CheckpointError) else ""
    return HINTS[error.hint] if isinstance(error.hint, Hint) else error.hint


def explain(error: CheckpointError) -> str:
    """Return the message and the hint of an error for the command line."""
    hint = hint_of(error)
    return f"{error.message}. {hint}" if hint else error.message
