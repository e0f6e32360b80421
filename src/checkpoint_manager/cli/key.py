"""``key``: the slots that open the store, and the change of its key."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli.options import Access, ask_passphrase, confirm, read_passphrase, store_options, yes_option
from checkpoint_manager.cli.output import say, show_time, write_json, write_line, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.model import KeyFile, Passphrase

if TYPE_CHECKING:
    from checkpoint_manager.model import RotationProgress

_PATH = click.Path(path_type=Path)


@click.group()
def key() -> None:
    """See and change what opens the store: key files and passphrases, each in a slot of its own."""


@key.command("list")
@store_options
def list_slots(access: Access) -> None:
    r"""List the key slots; nothing in them is secret.

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
@click.option("--new-passphrase", is_flag=True, help="Let a passphrase typed at a prompt open the store.")
@click.option("--label", default="", help="What to call the slot. Visible to whoever can read the directory.")
@store_options
def add(
    access: Access, new_key_file: Path | None, new_passphrase_file: Path | None, *, new_passphrase: bool, label: str
) -> None:
    r"""Let another key file or passphrase open the store.

    \b
    Examples:
      checkpoint-manager key add --new-key-file backup.key --label backup
      checkpoint-manager key add --new-passphrase
    """
    if sum((new_key_file is not None, new_passphrase_file is not None, new_passphrase)) != 1:
        raise click.UsageError("give exactly one of --new-key-file, --new-passphrase-file and --new-passphrase")
    cm = access.open()
    secret: KeyFile | Passphrase
    if new_key_file is not None:
        secret = _key_file(new_key_file)
    elif new_passphrase_file is not None:
        secret = read_passphrase(new_passphrase_file)
    else:
        secret = ask_passphrase("New passphrase", twice=True)
    slot = cm.keys.add(secret, label=label)
    if access.as_json:
        write_json("key add", {"slot": asdict(slot)})
    else:
        write_line(slot.slot)


def _key_file(path: Path) -> KeyFile:
    from checkpoint_manager.store.secrets import create_key_file  # noqa: PLC0415  # --help does not wait for it

    if not path.exists():
        create_key_file(path)
        say(f"made the key file {path}: keep it in a safe place, apart from the store")
    return KeyFile(str(path))


@key.command("remove")
@click.argument("slot")
@yes_option
@store_options
def remove(access: Access, slot: str, *, yes: bool) -> None:
    r"""Remove a SLOT. To shut out someone who has a copy of the directory, rotate the key as well.

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
@click.option("--also-passphrase-file", type=_PATH, multiple=True, help="A further passphrase that keeps its slot.")
@click.option("--drop", multiple=True, metavar="SLOT", help="A slot to give up.")
@yes_option
@store_options
def rotate(
    access: Access,
    also_key_file: tuple[Path, ...],
    also_passphrase_file: tuple[Path, ...],
    drop: tuple[str, ...],
    *,
    yes: bool,
) -> None:
    r"""Exchange the store's key and encrypt every version anew. Killed, it goes on when run again; writers need not stop.

    \b
    Examples:
      checkpoint-manager key rotate
      checkpoint-manager key rotate --also-passphrase-file alice.txt --drop 1f0c22ab
    """
    cm = access.open()
    if drop:
        confirm(f"Give up the key slots {', '.join(drop)}?", yes=yes)
    also: list[KeyFile | Passphrase] = [KeyFile(str(path)) for path in also_key_file]
    also += map(read_passphrase, also_passphrase_file)
    versions = 0

    with progress_of("encrypting anew") as step:

        def count(progress: RotationProgress) -> None:
            nonlocal versions
            versions = progress.done
            step(progress.done, progress.total)

        cm.keys.rotate(also=also, drop=drop, progress=count)
    if access.as_json:
        write_json("key rotate", {"versions": versions})
    else:
        write_line(f"{versions} versions are sealed under a new key")
