"""``import``: add the histories of a bundle to a store."""

from __future__ import annotations

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
from checkpoint_manager.cli.options import Access, dry_run_option, store_options
from checkpoint_manager.cli.output import say, write_json, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from pathlib import Path


@click.command("import")
@click.argument("file")
@key_file_option
@passphrase_file_option
@click.option("--into", nargs=2, multiple=True, metavar="STAGE NAME", help="Import a stage of the bundle under another name.")
@dry_run_option
@store_options
def import_(
    access: Access,
    file: str,
    bundle_key_file: Path | None,
    bundle_passphrase_file: Path | None,
    into: tuple[tuple[str, str], ...],
    *,
    dry_run: bool,
) -> None:
    """Add to the store what a bundle holds and the store has not. It is verified to its end first. "-" is stdin.

    Numbers, times, metadata and tags stay as they were. A stage that is there gets the newer versions, if it is one history;
    else give it another name with --into. A tag that names another version here stays. Interrupted, run it again.

    \b
    Examples:
      checkpoint-manager import history.bundle --bundle-key-file bundle.key --dry-run
      checkpoint-manager import train.bundle --bundle-passphrase-file secret.txt --into train train-of-alice
    """
    cm = access.open()
    if len({stage for stage, _ in into}) != len(into):
        raise click.UsageError("--into names a stage twice")
    key = bundle_key(bundle_key_file, bundle_passphrase_file, new=False)
    with progress_of("importing") as step:
        source: str | BinaryIO = sys.stdin.buffer if file == STREAM else file
        bundle = cm.import_bundle(source, key=key, rename=dict(into), dry_run=dry_run, progress=step)
    if access.as_json:
        fields = bundle_fields(bundle, "stage", "versions", "newest", "added", "tags", "tags_kept")
        write_json("import", {"dry_run": dry_run, "file": file, **fields, "added": bundle.added})
        return
    rows = [(s.stage, str(s.added), str(s.versions), str(s.newest)) for s in bundle.stages]
    write_table(("STAGE", "ADDED", "VERSIONS", "NEWEST"), rows)
    for stage in bundle.stages:
        if stage.tags_kept:
            names = ", ".join(stage.tags_kept)
            say(f"stage {display(stage.stage)}: another version has the tag here and keeps it: {names}; tag --force moves one")
    what = "would be added" if dry_run else "added"
    say(bundle_summary(bundle, f"{bundle.added} of {bundle.versions} versions {what}"))
