"""The hints of errors in the words of pages: where to click, or else which command to run on the host of the store."""

from __future__ import annotations

import re
import shlex

from checkpoint_manager._text import escaped
from checkpoint_manager.errors import CheckpointError, Hint

HINTS: dict[Hint, str] = {
    Hint.ACCEPT_ROLLBACK: (
        "If you restored an older copy on purpose, run: {repair --accept-rollback}; otherwise restore the store from a backup"
    ),
    Hint.ACCEPT_KEYRING: "If you replaced it on purpose, run: {repair --accept-rollback}; otherwise restore it from a backup",
    Hint.COPY_OR_ACCEPT: (
        "If this is a copy, copy the other store with the command copy instead, which makes a store of its own; "
        "if you restored an older copy on purpose, run: {repair --accept-rollback}; "
        "otherwise restore the store from a backup"
    ),
    Hint.GIVE_A_KEY: (
        "Start the dashboard again with the key: name it with --key, "
        "set CHECKPOINT_MANAGER_KEY_FILE or CHECKPOINT_MANAGER_PASSPHRASE, or restore the key file from your copy"
    ),
    Hint.GIVE_OR_DROP_SLOTS: "Run: {key rotate --also SOURCE}, with the keys of the other slots",
    Hint.IMPORT_RENAMED: "Import it under another name",
    Hint.LOAD_ANOTHER: (
        "Choose another version. To see what else is affected, verify the store on its page Health; "
        "to set the damaged version aside, run: {repair}"
    ),
    Hint.MOVE_TAG: "Choose another name, or remove the tag on the page of the version that has it",
    Hint.OVERWRITE: "Choose another name",
    Hint.PUT_IT_BACK: "Restore it from a backup, or choose another version",
    Hint.REMOVE_TAG: "Remove its tags first, on the page of the version",
    Hint.REPAIR_OR_RESTORE: (
        "If another process saved over the damaged version, run: {repair}; otherwise restore the store from a backup"
    ),
    Hint.RESTORE_EARLIER: "Run the stage again, or restore an earlier version on its page",
    Hint.RESTORE_TAGS: (
        "Restore the tags of the stage from a backup; "
        "to go on without them, run: {repair}, and then: {repair --accept-rollback}"
    ),
    Hint.SEE_HISTORY: "Choose a version on the page of the stage",
    Hint.SEE_STAGES: "Choose a stage on the page of the store",
    Hint.SEE_TAGS: "Choose a tag or a version on the page of the stage",
    Hint.TAG_AGAIN: (
        "If you accepted a rollback, tag the version again on its page; otherwise verify the store on its page Health"
    ),
    Hint.VERIFY_AND_REPAIR: "Verify the store on its page Health to see what is wrong, then run: {repair}",
    Hint.WAIT_FOR_LOCK: "Wait until it is done, and try again",
    Hint.WAIT_FOR_RUN: "Wait until it is done, and try again",
}
"""What stands in braces is a command of ``checkpoint-manager``."""


def command(words: str, store: str) -> str:
    """Return a command of ``checkpoint-manager`` for a store, as it can be typed."""
    return f"checkpoint-manager {words} --store {shlex.quote(store)}"


def hint_of(error: CheckpointError, store: str) -> str:
    """Return the hint of an error for a page; empty if there is nothing to advise.

    Args:
        error: The error.
        store: The location of the store, as commands name it.
    """
    if not isinstance(error.hint, Hint):
        return error.hint
    return escaped(re.sub(r"\{(.*?)\}", lambda found: command(found[1], store), HINTS[error.hint]))
