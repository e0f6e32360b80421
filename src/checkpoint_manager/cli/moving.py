"""Commands that move histories between stores: ``export`` and ``import``."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from checkpoint_manager.cli import key_options as keysource
from checkpoint_manager.cli.completing import stage_names
from checkpoint_manager.cli.options import Access, dry_run_option, store_options
from checkpoint_manager.cli.output import say, show_size, write_json, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.errors import CheckpointError, StorageError
from checkpoint_manager.models import KeyFile, Passphrase, display

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.models import BundleSummary

_PATH = click.Path(path_type=Path)
_STREAM = "-"
_key_file_option = click.option("--bundle-key-file", type=_PATH, help="The bundle's key is this key file.")
_passphrase_file_option = click.option(
    "--bundle-passphrase-file", type=_PATH, help="Its passphrase is in this file. Without either, it is asked for."
)


@click.command("export")
@click.argument("stages", nargs=-1, metavar="[STAGE]...", shell_complete=stage_names)
@click.argument("file")
@_key_file_option
@_passphrase_file_option
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
    if not overwrite and file != _STREAM and os.path.lexists(file):
        raise click.UsageError(f"{display(file)} exists already: choose another name, or give --overwrite")
    key = _key(bundle_key_file, bundle_passphrase_file, new=True)
    with progress_of("exporting") as step:
        bundle = _piped(lambda: cm.export_bundle(_output(file), stages or None, key=key, overwrite=overwrite, progress=step))
    if access.as_json:
        write_json("export", {"file": file, **_fields(bundle, "stage", "versions", "newest", "tags")})
        return
    if file != _STREAM:
        write_table(("STAGE", "VERSIONS", "NEWEST"), [(s.stage, str(s.versions), str(s.newest)) for s in bundle.stages])
    say(_summary(bundle, f"{bundle.versions} versions"))


def _check_output(access: Access, file: str) -> None:
    if file == _STREAM and access.as_json:
        raise click.UsageError("--json needs stdout for itself: write the bundle to a file")
    if file == _STREAM and sys.stdout.isatty():
        raise click.UsageError("a bundle is no text for a terminal: name a file, or send stdout somewhere else")


def _output(file: str) -> str | BinaryIO:
    return sys.stdout.buffer if file == _STREAM else file


def _piped(act: Callable[[], BundleSummary]) -> BundleSummary:
    try:
        return act()
    except StorageError as error:
        if error.errno != errno.EPIPE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
    # Not as an OSError: click would take that for a reader who has read enough.
    raise CheckpointError("whoever read the bundle went away before its end: what came there is no bundle, export it again")


@click.command("import")
@click.argument("file")
@_key_file_option
@_passphrase_file_option
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
    key = _key(bundle_key_file, bundle_passphrase_file, new=False)
    with progress_of("importing") as step:
        source: str | BinaryIO = sys.stdin.buffer if file == _STREAM else file
        bundle = cm.import_bundle(source, key=key, into=dict(into), dry_run=dry_run, progress=step)
    if access.as_json:
        fields = _fields(bundle, "stage", "versions", "newest", "added", "tags", "tags_kept")
        write_json("import", {"dry_run": dry_run, "file": file, **fields, "added": bundle.added})
        return
    rows = [(s.stage, str(s.added), str(s.versions), str(s.newest)) for s in bundle.stages]
    write_table(("STAGE", "ADDED", "VERSIONS", "NEWEST"), rows)
    for stage in bundle.stages:
        if stage.tags_kept:
            names = ", ".join(stage.tags_kept)
            say(f"stage {display(stage.stage)}: another version has the tag here and keeps it: {names}; tag --force moves one")
    what = "would be added" if dry_run else "added"
    say(_summary(bundle, f"{bundle.added} of {bundle.versions} versions {what}"))


def _key(key_file: Path | None, passphrase_file: Path | None, *, new: bool) -> KeyFile | Passphrase:
    if key_file is not None and passphrase_file is not None:
        raise click.UsageError("give one of --bundle-key-file and --bundle-passphrase-file, not two")
    if key_file is not None:
        return _key_file(key_file, new=new)
    if passphrase_file is not None:
        return keysource.from_file(passphrase_file)
    if not sys.stdin.isatty():
        raise click.UsageError(
            "there is no terminal to ask for the bundle's passphrase at: give --bundle-passphrase-file or --bundle-key-file"
        )
    return keysource.from_prompt("Passphrase of the bundle", twice=new)


def _key_file(path: Path, *, new: bool) -> KeyFile:
    from checkpoint_manager._store.key_sources import create_key_file  # noqa: PLC0415  # --help does not wait for it

    if new and not path.exists():
        create_key_file(path)
        say(f"made the key file {display(str(path))}: the bundle opens with nothing else; send it another way than the bundle")
    return KeyFile(str(path))


def _fields(bundle: BundleSummary, *names: str) -> dict[str, object]:
    stages = [{name: value for name, value in asdict(stage).items() if name in names} for stage in bundle.stages]
    return {"bytes": bundle.size, "versions": bundle.versions, "stages": stages}


def _summary(bundle: BundleSummary, versions: str) -> str:
    tags = sum(len(stage.tags) for stage in bundle.stages)
    return f"{len(bundle.stages)} stages, {versions}{f' and {tags} tags' if tags else ''}, {show_size(bundle.size)}"
