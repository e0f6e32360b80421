"""``key``: the slots that open the store, and the change of its key."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager.cli import key_options as keysource
from checkpoint_manager.cli.options import Access, confirm, store_options, yes_option
from checkpoint_manager.cli.output import say, show_time, write_json, write_line, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.models import KeyFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checkpoint_manager.models import Passphrase, Progress

_PATH = click.Path(path_type=Path)


@click.group()
def key() -> None:
    """See and change what opens the store: key files and passphrases, each in a slot of its own."""


@key.command("list")
@store_options
def list_slots(access: Access) -> None:
    """List the key slots; nothing in them is secret.

    \b
    Example:
      checkpoint-manager key list
    """
    slots = access.open().keys.list()
    if access.as_json:
        write_json("key list", {"slots": [asdict(slot) for slot in slots]})
        return
    rows = [(s.slot, s.kind, s.label, show_time(s.created_at), "opened with it" if s.current else "") for s in slots]
    write_table(("SLOT", "KIND", "LABEL", "ADDED", "NOTE"), rows)


@key.command("add")
@click.option("--new-key-file", type=_PATH, help="Let this key file open the store; it is made if it does not exist.")
@click.option("--new-passphrase-file", type=_PATH, help="Let the passphrase in this file open the store.")
@click.option("--new-passphrase-command", metavar="COMMAND", help="Let the passphrase that this command prints open it.")
@click.option("--new-passphrase-fd", type=int, metavar="N", help="Let the next line of descriptor N open the store.")
@click.option("--new-passphrase", is_flag=True, help="Let a passphrase typed at a prompt open the store.")
@click.option("--label", default="", help="What to call the slot. Visible to whoever can read the directory.")
@store_options
def add(access: Access, *, label: str, **new: Any) -> None:  # noqa: ANN401  # each option's own type
    """Let another key file or passphrase open the store.

    \b
    Examples:
      checkpoint-manager key add --new-key-file backup.key --label backup
      checkpoint-manager key add --new-passphrase
    """
    given = keysource.only_given(new)
    if len(given) != 1:
        raise click.UsageError(f"give exactly one of {', '.join(map(keysource.option_of, new))}")
    cm = access.open()
    ((name, value),) = given.items()
    slot = cm.keys.add(_NEW[name](value), label=label)
    if access.as_json:
        write_json("key add", {"slot": asdict(slot)})
    else:
        write_line(slot.slot)


def _key_file(path: Path) -> KeyFile:
    from checkpoint_manager._store.key_sources import create_key_file  # noqa: PLC0415  # --help does not wait for it

    if not path.exists():
        create_key_file(path)
        say(f"made the key file {path}: keep it in a safe place, apart from the store")
    return KeyFile(str(path))


_NEW: dict[str, Callable[[Any], KeyFile | Passphrase]] = {
    "new_key_file": _key_file,
    "new_passphrase_file": keysource.from_file,
    "new_passphrase_command": lambda command: keysource.from_command(command, "--new-passphrase-command"),
    "new_passphrase_fd": keysource.from_descriptor,
    "new_passphrase": lambda _: keysource.from_prompt("New passphrase", twice=True),
}


@key.command("remove")
@click.argument("slot")
@yes_option
@store_options
def remove(access: Access, slot: str, *, yes: bool) -> None:
    """Remove a SLOT. To shut out someone who has a copy of the directory, rotate the key as well.

    \b
    Example:
      checkpoint-manager key remove 1f0c22ab
    """
    cm = access.open()
    confirm(f"Remove key slot {slot}? What it holds will not open the store any more.", yes=yes)
    cm.keys.remove(slot)
    if access.as_json:
        write_json("key remove", {"slot": slot})
    else:
        write_line(slot)


@key.command("rotate")
@click.option("--also-key-file", type=_PATH, multiple=True, help="A further key file that keeps its slot.")
@click.option("--also-passphrase-file", type=_PATH, multiple=True, help="A further passphrase, in a file, that keeps its slot.")
@click.option("--also-passphrase-command", multiple=True, metavar="COMMAND", help="One that a command prints.")
@click.option("--also-passphrase-fd", type=int, multiple=True, metavar="N", help="The next line of descriptor N.")
@click.option("--also-passphrase", count=True, help="One typed at a prompt; give it once for each.")
@click.option("--drop", multiple=True, metavar="SLOT", help="A slot to give up.")
@yes_option
@store_options
def rotate(access: Access, *, drop: tuple[str, ...], yes: bool, **also: Any) -> None:  # noqa: ANN401  # each option's own type
    """Exchange the store's key and encrypt every version anew. Killed, it goes on when run again; writers need not stop.

    \b
    Examples:
      checkpoint-manager key rotate
      checkpoint-manager key rotate --also-passphrase-file alice.txt --drop 1f0c22ab
    """
    cm = access.open()
    secrets = _also(**also)
    if drop:
        confirm(f"Give up the key slots {', '.join(drop)}?", yes=yes)
    versions = 0

    with progress_of("encrypting anew") as step:

        def count(progress: Progress) -> None:
            nonlocal versions
            versions = progress.done
            step(progress)

        cm.keys.rotate(also=secrets, drop=drop, progress=count)
    if access.as_json:
        write_json("key rotate", {"versions": versions})
    else:
        write_line(f"{versions} versions are sealed under a new key")


def _also(
    also_key_file: Sequence[Path],
    also_passphrase_file: Sequence[Path],
    also_passphrase_command: Sequence[str],
    also_passphrase_fd: Sequence[int],
    also_passphrase: int,
) -> list[KeyFile | Passphrase]:
    return [
        *(KeyFile(str(path)) for path in also_key_file),
        *map(keysource.from_file, also_passphrase_file),
        *(keysource.from_command(command, "--also-passphrase-command") for command in also_passphrase_command),
        *map(keysource.from_descriptor, also_passphrase_fd),
        *(keysource.from_prompt("Further passphrase") for _ in range(also_passphrase)),
    ]
