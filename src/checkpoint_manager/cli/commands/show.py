"""``show``: the data of a version."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import version_fields, write_data, write_json
from checkpoint_manager.cli.pointer import steps_of, value_at
from checkpoint_manager.cli.selector import Selector, at_option, stage_names
from checkpoint_manager.errors import AttachmentNotFoundError

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.models import Attachment, Checkpoint

_COPY_BYTES = 256 * 1024


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="STAGE[@VERSION]")
@at_option
@click.option("--meta", is_flag=True, help="Print the version's metadata instead of its data.")
@click.option("--path", "pointer", metavar="POINTER", help="Only the value at this JSON pointer, such as /rows/0/name.")
@click.option(
    "--attachment",
    metavar="NAME",
    help="Print the content of this attachment, or of the array, frame or tensor in the data at this JSON pointer; "
    "redirect it to a file.",
)
@store_options
def show(
    access: Access, selector: str, at: datetime | None, *, meta: bool, pointer: str | None, attachment: str | None
) -> None:
    """Print the data of a STAGE as JSON: its newest version, or the one named by number, `latest`, `prev` or a tag.

    A value that JSON does not have is an object with one key, such as {"!datetime": "2026-11-23T10:00:00"}.

    \b
    Examples:
      checkpoint-manager show train
      checkpoint-manager show train@3 --meta
      checkpoint-manager show train --at 2026-11-20T14:00
      checkpoint-manager show train --path /epoch
      checkpoint-manager show train --attachment weights > weights.npy
      checkpoint-manager show train --attachment /layers/0 > layer.npy
    """
    steps_of(pointer or "")  # fails before a passphrase is asked for
    if attachment is not None and (meta or pointer is not None or access.as_json):
        message = "--attachment prints bytes, and can't be combined with --meta, --path or --json"
        raise UsageError(message, hint="Leave these out")
    cm = access.open()
    chosen = Selector.find(cm, selector, at)
    checkpoint = cm.get_json(chosen.stage, chosen.version)
    if attachment is not None:
        _write_attachment(checkpoint, attachment)
        return
    fields = version_fields(checkpoint.version)
    if meta:
        fields["attachments"] = [_what_is_known_of(each) for each in checkpoint.attachments.values()]
    what = fields if meta else checkpoint.data
    if pointer is not None:
        of = f"{'what is known of ' if meta else ''}{printable(checkpoint.version.stage)}@{checkpoint.version.number}"
        what = value_at(what, pointer, of)
    if not access.as_json:
        write_data(what)
    elif pointer is not None:
        write_json("show", {"version": fields, "path": pointer, "value": what})
    else:
        write_json("show", {"version": fields} if meta else {"version": fields, "data": what})


def _what_is_known_of(attachment: Attachment) -> dict[str, object]:
    return {"name": attachment.name, "kind": attachment.kind, "size": attachment.size, "detail": attachment.detail}


def _write_attachment(checkpoint: Checkpoint, name: str) -> None:
    try:
        found = checkpoint.attachments[name]
    except AttachmentNotFoundError as error:
        if checkpoint.attachments:
            see = command(f"show STAGE@{checkpoint.version.number} --meta", checkpoint.version.stage)
            error.hint += f", and see what they are with: {see}"
        raise
    if sys.stdout.isatty():
        raise UsageError("an attachment is not printed at a terminal", hint="Write it to a file: add > FILE")
    with found.open() as file:
        shutil.copyfileobj(file, sys.stdout.buffer, _COPY_BYTES)
