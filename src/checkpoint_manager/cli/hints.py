"""The next step after an error, as a command: what :class:`~checkpoint_manager.errors.Hint` says for a program as a call."""

from __future__ import annotations

from checkpoint_manager.errors import CheckpointError, Hint, ResultNotSavedError

HINTS: dict[Hint, str] = {
    Hint.ACCEPT_ROLLBACK: (
        "If you put an older copy back on purpose, run: checkpoint-manager repair --accept-rollback. "
        "If not, restore it from a backup"
    ),
    Hint.ACCEPT_KEYRING: (
        "If you put it there on purpose, run: checkpoint-manager repair --accept-rollback. If not, restore it from a backup"
    ),
    Hint.GIVE_A_KEY: (
        "Name the key with --key, set CHECKPOINT_MANAGER_KEY_FILE or CHECKPOINT_MANAGER_PASSPHRASE, or put the key file back "
        "from your copy"
    ),
    Hint.GIVE_OR_DROP_SLOTS: (
        "Name their keys with --also SOURCE, or give the slots up with --drop SLOT and add them again afterwards"
    ),
    Hint.IMPORT_RENAMED: "Import it under another name with --rename",
    Hint.LOAD_ANOTHER: (
        "Choose another version, or see what else is affected with: checkpoint-manager verify, "
        "then set it aside with: checkpoint-manager repair"
    ),
    Hint.PUT_IT_BACK: "Put it back from a backup, or choose another version",
    Hint.MOVE_TAG: "Choose another name, or move the tag with --force",
    Hint.REMOVE_TAG: "Remove a tag first: checkpoint-manager tag --delete STAGE NAME",
    Hint.OVERWRITE: "Choose another name, or give --overwrite",
    Hint.UNTAG_FIRST: "Remove the tag first: checkpoint-manager tag --delete STAGE NAME",
    Hint.RESTORE_EARLIER: "Compute it again, or restore an earlier version from: checkpoint-manager log",
    Hint.SEE_HISTORY: "Choose a version from: checkpoint-manager log",
    Hint.SEE_STAGES: "See the names with: checkpoint-manager list",
    Hint.SEE_TAGS: "See the tags with: checkpoint-manager tag, and the versions with: checkpoint-manager log",
    Hint.VERIFY_AND_REPAIR: "See what is wrong with: checkpoint-manager verify, then run: checkpoint-manager repair",
    Hint.WAIT_FOR_LOCK: "Wait until it is done, or give a longer --lock-timeout",
}


def hint_of(error: CheckpointError) -> str:
    """Return what to do next about an error, in the words of the command line; empty if there is nothing to do."""
    if isinstance(error, ResultNotSavedError):  # the result is lost with this process; the cause says what to do
        return hint_of(error.__cause__) if isinstance(error.__cause__, CheckpointError) else ""
    return HINTS[error.hint] if isinstance(error.hint, Hint) else error.hint


def explain(error: CheckpointError) -> str:
    """Return the message and the hint of an error, in the words of the command line."""
    hint = hint_of(error)
    return f"{error.message}. {hint}" if hint else error.message
