"""``import``: add the histories of a bundle to a store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from checkpoint_manager._operations.import_bundle import check_source
from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.bundle import STREAM, bundle_fields, bundle_key_option, bundle_summary, key_of_bundle
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.options import dry_run_option, store_options
from checkpoint_manager.cli.output import say, write_json, write_table
from checkpoint_manager.cli.progress import progress_of

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.cli.key_options import Source


@click.command("import")
@click.argument("file")
@bundle_key_option
@click.option("--rename", nargs=2, multiple=True, metavar="STAGE NAME", help="Import a stage of the bundle under another name.")
@dry_run_option
@store_options
def import_(
    access: Access, file: str, bundle_key: Source | None, rename: tuple[tuple[str, str], ...], *, dry_run: bool
) -> None:
    """Add the versions of a bundle that the store does not have yet. The whole bundle is verified first. "-" is stdin.

    Versions keep their numbers, times, metadata and tags. A stage that exists already gets the newer versions if both are one
    history; otherwise give it another name with --rename. A tag that names another version here stays where it is. If the
    import is interrupted, run it again.

    \b
    Examples:
      checkpoint-manager import history.bundle --bundle-key file:bundle.key --dry-run
      checkpoint-manager import train.bundle --bundle-key passphrase-file:secret.txt --rename train train-of-alice
    """
    if len({stage for stage, _ in rename}) != len(rename):
        raise UsageError("--rename names a stage twice", hint="Give each stage one name")
    access.check_there()
    if file != STREAM:
        check_source(file)  # before a passphrase is asked for
    cm = access.open()
    key = key_of_bundle(access, bundle_key, new=False)
    source: str | BinaryIO = sys.stdin.buffer if file == STREAM else file
    with progress_of("importing") as step:
        bundle = cm.import_bundle(source, key=key, rename=dict(rename), dry_run=dry_run, progress=step)
    if access.as_json:
        fields = bundle_fields(bundle, "stage", "versions", "newest", "added", "tags", "tags_kept")
        write_json("import", {"dry_run": dry_run, "file": file, **fields, "added": bundle.added})
        return
    rows = [(s.stage, str(s.added), str(s.versions), str(s.newest)) for s in bundle.stages]
    write_table(("STAGE", "ADDED", "VERSIONS", "NEWEST"), rows)
    for stage in bundle.stages:
        if stage.tags_kept:
            names = ", ".join(stage.tags_kept)
            say(f"stage {printable(stage.stage)}: these tags name other versions here and were not moved: {names}")
            say(f"Move one with: {command('tag --force STAGE@VERSION NAME', stage.stage)}")
    versions = counted(bundle.versions, "version")
    if not bundle.added and not any(stage.tags for stage in bundle.stages):
        say(f"nothing in the bundle is new: {bundle_summary(bundle, versions)}")
    else:
        summary = bundle_summary(bundle, f"{bundle.added} of {versions}")
        say(f"{'would be added' if dry_run else 'added'}: {summary}")
