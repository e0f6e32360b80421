"""``export``: write histories into an encrypted bundle."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from checkpoint_manager._operations.bundle_file import check_target
from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.bundle import STREAM, bundle_fields, bundle_key_option, bundle_summary, key_of_bundle
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import discard_the_rest, say, write_json, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.cli.selector import stage_names
from checkpoint_manager.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.cli.key_options import Source
    from checkpoint_manager.reports import BundleSummary


@click.command("export")
@click.argument("stages", nargs=-1, metavar="[STAGE]...", shell_complete=stage_names)
@click.argument("file")
@bundle_key_option
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@store_options
def export(access: Access, stages: tuple[str, ...], file: str, bundle_key: Source | None, *, overwrite: bool) -> None:
    """Write the histories of STAGEs, or of all, into FILE: one encrypted bundle for another store. "-" is stdout.

    The bundle has a key of its own, not the store's: a passphrase, or a key file, which is made if it does not exist.

    \b
    Examples:
      checkpoint-manager export history.bundle --bundle-key file:bundle.key
      checkpoint-manager export train train.bundle --bundle-key passphrase-file:secret.txt
    """
    _check_output(access, file)
    access.check_there()
    if file != STREAM:
        check_target(file, overwrite=overwrite)
    cm = access.open()
    if not stages and file in cm.stages():
        raise UsageError(
            f"{printable(file)} is a stage, and FILE is missing",
            hint=f"Name the file after it, or write ./{printable(file)} if that is the file",
        )
    for stage in stages:
        cm.get_version(stage)  # raises if there is no such stage, before the bundle's passphrase is asked for
    key = key_of_bundle(access, bundle_key, new=True)
    with progress_of("exporting") as step:
        bundle = _piped(lambda: cm.export_bundle(_output(file), stages or None, key=key, overwrite=overwrite, progress=step))
    if access.as_json:
        write_json("export", {"file": file, **bundle_fields(bundle, "stage", "versions", "newest", "tags")})
        return
    if file != STREAM:
        write_table(("STAGE", "VERSIONS", "NEWEST"), [(s.stage, str(s.versions), str(s.newest)) for s in bundle.stages])
    say(bundle_summary(bundle, counted(bundle.versions, "version")))


def _check_output(access: Access, file: str) -> None:
    if file == STREAM and access.as_json:
        raise UsageError("--json needs stdout for itself", hint="Write the bundle to a file")
    if file == STREAM and sys.stdout.isatty():
        raise UsageError("a bundle is not text for a terminal", hint="Name a file, or send stdout to one")


def _output(file: str) -> str | BinaryIO:
    return sys.stdout.buffer if file == STREAM else file


def _piped(act: Callable[[], BundleSummary]) -> BundleSummary:
    """Export, and refuse a reader that went away: for it, unlike for one that has read enough, the bundle is not complete."""
    try:
        return act()
    except StorageError as error:
        if error.errno != errno.EPIPE:
            raise
    discard_the_rest()
    message = "the reader of the bundle went away before its end"
    raise StorageError(message, hint="Export it again: what arrived is incomplete", errno=errno.EPIPE)
