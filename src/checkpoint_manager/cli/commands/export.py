"""``export``: write histories into an encrypted bundle."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from checkpoint_manager.cli.bundle import (
    STREAM,
    bundle_fields,
    bundle_key,
    bundle_summary,
    key_file_option,
    passphrase_file_option,
)
from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import say, write_json, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.cli.selector import stage_names
from checkpoint_manager.errors import CheckpointError, StorageError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager.models import BundleSummary


@click.command("export")
@click.argument("stages", nargs=-1, metavar="[STAGE]...", shell_complete=stage_names)
@click.argument("file")
@key_file_option
@passphrase_file_option
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@store_options
def export(
    access: Access,
    stages: tuple[str, ...],
    file: str,
    bundle_key_file: Path | None,
    bundle_passphrase_file: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Write the histories of STAGEs, or of all, into FILE: one encrypted bundle for another store. "-" is stdout.

    The bundle has a key of its own, not the store's: a passphrase, asked for, or a key file, made if it does not exist.

    \b
    Examples:
      checkpoint-manager export history.bundle --bundle-key-file bundle.key
      checkpoint-manager export train train.bundle --bundle-passphrase-file secret.txt
    """
    _check_output(access, file)
    cm = access.open()
    if not stages and file in cm.stages():
        raise click.UsageError(
            f"{display(file)} is a stage: name the file behind it, or write ./{display(file)} if that is the file"
        )
    if not overwrite and file != STREAM and os.path.lexists(file):
        raise click.UsageError(f"{display(file)} exists already: choose another name, or give --overwrite")
    key = bundle_key(bundle_key_file, bundle_passphrase_file, new=True)
    with progress_of("exporting") as step:
        bundle = _piped(lambda: cm.export_bundle(_output(file), stages or None, key=key, overwrite=overwrite, progress=step))
    if access.as_json:
        write_json("export", {"file": file, **bundle_fields(bundle, "stage", "versions", "newest", "tags")})
        return
    if file != STREAM:
        write_table(("STAGE", "VERSIONS", "NEWEST"), [(s.stage, str(s.versions), str(s.newest)) for s in bundle.stages])
    say(bundle_summary(bundle, f"{bundle.versions} versions"))


def _check_output(access: Access, file: str) -> None:
    if file == STREAM and access.as_json:
        raise click.UsageError("--json needs stdout for itself: write the bundle to a file")
    if file == STREAM and sys.stdout.isatty():
        raise click.UsageError("a bundle is no text for a terminal: name a file, or send stdout somewhere else")


def _output(file: str) -> str | BinaryIO:
    return sys.stdout.buffer if file == STREAM else file


def _piped(act: Callable[[], BundleSummary]) -> BundleSummary:
    try:
        return act()
    except StorageError as error:
        if error.errno != errno.EPIPE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
    # Not as an OSError: click would take that for a reader who has read enough.
    raise CheckpointError("whoever read the bundle went away before its end: what came there is no bundle, export it again")
