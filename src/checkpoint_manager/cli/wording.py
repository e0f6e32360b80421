"""The library's errors in the words of the command line: what to do next is a command here, and not a method."""

from __future__ import annotations

import re

_COMMANDS = {
    'open the store with on_rollback="warn" and call accept_rollback()': 'run "checkpoint-manager repair --accept-rollback"',
    "call accept_rollback()": 'run "checkpoint-manager repair --accept-rollback"',
    "from history()": 'from "checkpoint-manager log"',
    "see history()": 'see "checkpoint-manager log"',
    "and history()": 'and "checkpoint-manager log"',
    "what history() is to show": 'what "checkpoint-manager log" is to show',
    "in stages()": 'in "checkpoint-manager list"',
    "see tags()": 'see "checkpoint-manager tag"',
    "with untag()": 'with "checkpoint-manager tag --delete"',
    "with force=True": "with --force",
    "with rename=": "with --into",
    "pass overwrite=True": "give --overwrite",
    "a longer lock_timeout": "a longer --lock-timeout",
    "Pass key=": "Pass --key-file or --passphrase-file",
    "with key=": "with --key-file",
    "the argument key=": "the key given on the command line",
}
_ANY = re.compile("|".join(map(re.escape, _COMMANDS)))


def for_the_command_line(message: str) -> str:
    """Return a message of the library with its calls and arguments replaced by what does the same on the command line."""
    return _ANY.sub(lambda match: _COMMANDS[match[0]], message)
