"""``has STAGE`` in its plain form, without click: to load that and its options takes longer than to find the answer.

A script asks before each of its steps: ``checkpoint-manager has train || python train.py``. It is answered here only if

* the words are ``has STAGE``, with or without ``--store DIRECTORY`` and ``--key file:PATH``,
* the environment sets no passphrase, and does not ask for completions, and
* there is nothing to say: the store opens and has an answer, without an error or a warning.

For everything else, :func:`answer` returns None, and the command begins again in the ordinary way, :mod:`.app`: that alone
knows all options, the messages and their exit codes.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from checkpoint_manager.cli import COMPLETION, DEFAULT_STORE, NAME
from checkpoint_manager.cli.interrupts import held_back

if TYPE_CHECKING:
    from collections.abc import Sequence

_DONE, _NO = 0, 1  # as in exit_codes, which loads click
_STORE = "CHECKPOINT_MANAGER_STORE"
_KEY_FILE = "CHECKPOINT_MANAGER_KEY_FILE"
_OTHER_KEYS = "CHECKPOINT_MANAGER_PASSPHRASE"
"""The beginning of the names of the other variables that give a key."""


def answer(words: Sequence[str]) -> int | None:
    """Return the exit code for the words after the program's name; None: ask in the ordinary way."""
    asked = _plain(words)
    if asked is None:
        return None
    stage, store, key_file = asked
    gc.disable()  # nothing that is loaded is garbage, and the answer leaves little
    try:
        with held_back():
            from checkpoint_manager.cli.quiet_look import is_done  # noqa: PLC0415  # loads the cryptography
        done = is_done(store, key_file, stage)
    except Exception:  # noqa: BLE001  # whatever it is, the ordinary way meets it again, and says it
        return None
    except KeyboardInterrupt as interruption:
        with held_back():
            from checkpoint_manager.cli import failure  # noqa: PLC0415  # loads click

        return failure.tell(interruption, NAME, words)
    finally:
        gc.enable()
    return None if done is None else _DONE if done else _NO


def _plain(words: Sequence[str]) -> tuple[str, str, str | None] | None:
    """Return the stage, the store and the key file that plain words name; None: they are not plain."""
    if words[:1] != ["has"] or any(name.startswith((_OTHER_KEYS, COMPLETION)) for name in os.environ):
        return None
    options: dict[str, str] = {}
    stages = []
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            stages.append(word)
            continue
        name, sign, value = word.partition("=")
        value = value if sign else next(rest, "")
        if name not in {"--store", "--key"} or name in options or not value or value.startswith("-"):
            return None
        options[name] = value
    kind, _, key_file = options.get("--key", "file:").partition(":")
    if len(stages) != 1 or kind != "file" or ("--key" in options and (not key_file or _KEY_FILE in os.environ)):
        return None
    return stages[0], options.get("--store") or os.environ.get(_STORE) or DEFAULT_STORE, key_file or None
