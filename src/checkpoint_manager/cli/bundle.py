"""What ``export`` and ``import`` share: the key of a bundle, and what is told of one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli import key_options as keysource
from checkpoint_manager.cli.output import say, show_size
from checkpoint_manager.models import KeyFile, Passphrase, display

if TYPE_CHECKING:
    from checkpoint_manager.models import BundleSummary


_PATH = click.Path(path_type=Path)
STREAM = "-"
key_file_option = click.option("--bundle-key-file", type=_PATH, help="The bundle's key is this key file.")
passphrase_file_option = click.option(
    "--bundle-passphrase-file", type=_PATH, help="Its passphrase is in this file. Without either, it is asked for."
)


def bundle_key(key_file: Path | None, passphrase_file: Path | None, *, new: bool) -> KeyFile | Passphrase:
    """Return the key of a bundle; a new one's key file is made."""
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


def bundle_fields(bundle: BundleSummary, *names: str) -> dict[str, object]:
    """Return a bundle as it stands in a JSON document."""
    stages = [{name: value for name, value in asdict(stage).items() if name in names} for stage in bundle.stages]
    return {"bytes": bundle.size, "versions": bundle.versions, "stages": stages}


def bundle_summary(bundle: BundleSummary, versions: str) -> str:
    """Return what was exported or imported, in a sentence."""
    tags = sum(len(stage.tags) for stage in bundle.stages)
    return f"{len(bundle.stages)} stages, {versions}{f' and {tags} tags' if tags else ''}, {show_size(bundle.size)}"
