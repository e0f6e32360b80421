"""``key``: the slots that open the store, and the rotation of its key."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.group import Commands
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.key_options import SOURCE, Source
from checkpoint_manager.cli.options import confirm, store_options, yes_option
from checkpoint_manager.cli.output import say, show_time, write_json, write_line, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.errors import KeyUnavailableError

if TYPE_CHECKING:
    from checkpoint_manager import Progress
    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.keys import KeySlot


@click.group(cls=Commands)
def key() -> None:
    """See and change what opens the store: key files and passphrases, each in a slot of its own."""


@key.command("list", short_help="List the key slots.")
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


@key.command("add", short_help="Let a further key open the store.")
@click.argument("source", type=SOURCE)
@click.option("--create", is_flag=True, help="Make the key file that SOURCE names, if it does not exist.")
@click.option("--label", default="", help="A name for the slot. Visible to everyone who can read the directory.")
@store_options
def add(access: Access, source: Source, label: str, *, create: bool) -> None:
    """Let a further key open the store: the one that SOURCE names, as for --key.

    \b
    Examples:
      checkpoint-manager key add file:backup.key --create --label backup
      checkpoint-manager key add prompt
    """
    if create and source.kind != "file":
        raise UsageError(
            "--create makes a key file, and SOURCE names a passphrase", hint="Write file:PATH, or leave out --create"
        )
    cm = access.open()
    if label and any(each.label == label for each in cm.keys.list()):
        say(f"warning: another key slot has the label {printable(label)}: to remove one of them, name it by its id")
    if source.kind == "file" and not create and not os.path.lexists(os.path.expanduser(source.value)):
        message = f"there is no key file {printable(source.value)}"
        raise KeyUnavailableError(message, hint="Check the path, or make a new key file there with --create")
    from checkpoint_manager._format.keyring import check_label  # noqa: PLC0415  # --help does without cryptography

    check_label(label)  # before a key file is made, or a passphrase is asked for
    made = "keep it in a safe place, apart from the store"
    new = create or source.kind == "prompt"
    slot = cm.keys.add(access.read_key(source, "New passphrase", new=new, created=made), label=label)
    if access.as_json:
        write_json("key add", {"slot": asdict(slot)})
        return
    say(f"key slot added: {_described(slot)}")
    write_line(slot.slot)


@key.command("remove", short_help="Remove a key slot.")
@click.argument("slot")
@yes_option
@store_options
def remove(access: Access, slot: str, *, yes: bool) -> None:
    """Remove a SLOT, named by its id or its label: its key file or passphrase does not open the store any more.

    Whoever has opened the store with it may have kept the store's key, and can read on, later versions included, until you run
    `key rotate`.

    \b
    Examples:
      checkpoint-manager key remove 1f0c22ab
      checkpoint-manager key remove alice
    """
    keys = access.open().keys
    chosen = keys.find(slot)
    say(f"To be removed: {_described(chosen)}")
    say("Whoever has opened the store with this slot may have kept the store's key,")
    say(f"and can read on until the key is replaced: {command('key rotate')}")
    confirm("Remove this key slot?", yes=yes, hint=_see_slots())
    removed = keys.remove(chosen.slot)
    if access.as_json:
        write_json("key remove", {"slot": removed})
        return
    say(f"key slot removed: {_described(chosen)}")
    write_line(removed)


@key.command("rotate", short_help="Replace the store's key.")
@click.option("--also", type=SOURCE, multiple=True, metavar="SOURCE", help="A further key that keeps its slot, as for --key.")
@click.option("--drop", multiple=True, metavar="SLOT", help="A slot to give up, by its id or its label.")
@yes_option
@store_options
def rotate(access: Access, *, also: tuple[Source, ...], drop: tuple[str, ...], yes: bool) -> None:
    """Replace the store's key, and encrypt every version under the new one. Writers need not stop; if killed, run it again.

    Every slot is kept, with --also, or given up, with --drop, which is asked about: without it, nobody loses access. The holder
    of a dropped slot can read no later version, but keeps what was read before, and what they wrote stays in the store.

    \b
    Examples:
      checkpoint-manager key rotate
      checkpoint-manager key rotate --also passphrase-file:alice.txt --drop 1f0c22ab
    """
    cm = access.open()
    keys = [access.read_key(source, "Further passphrase") for source in also]
    if drop:
        dropped = ", ".join(_described(cm.keys.find(each)) for each in drop)
        say(f"To be given up: {dropped}")
        say("Their holders can read no later version. They keep what they have read, and what they have written stays.")
        confirm("Replace the key without these slots?", yes=yes, hint=_see_slots())
    versions = 0

    with progress_of("encrypting again") as step:

        def count(progress: Progress) -> None:
            nonlocal versions
            versions = progress.done
            step(progress)

        cm.keys.rotate(also=keys, drop=drop, progress=count)
    if access.as_json:
        write_json("key rotate", {"versions": versions})
    else:
        write_line(f"{counted(versions, 'version')} sealed under a new key")


def _described(slot: KeySlot) -> str:
    label = f", {printable(slot.label)}" if slot.label else ""
    return f"{slot.slot} ({slot.kind}{label})"


def _see_slots() -> str:
    return f"Give --yes, or see the slots with: {command('key list')}"
