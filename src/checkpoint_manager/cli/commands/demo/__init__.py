"""``demo``: a real pipeline, killed, resumed, rolled back and attacked."""

from __future__ import annotations

import os
from pathlib import Path

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import UsageError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--store", type=click.Path(path_type=Path), metavar="DIRECTORY", help="Where the demonstration makes its store.")
def demo(folder: Path | None, store: Path | None) -> None:
    """Watch a real pipeline be killed, resume, go back and refuse a forged file: over the Python files of FOLDER.

    Without FOLDER it takes the standard library of the running Python. It leaves its store in the current folder, or in the
    DIRECTORY given.

    \b
    Example:
      checkpoint-manager demo
    """
    from checkpoint_manager.cli.commands.demo.story import free_name, tell  # noqa: PLC0415  # --help does not wait for it

    if folder is not None and not folder.is_dir():
        raise UsageError(f"{printable(str(folder))} is not a folder", hint="Name a folder with Python files in it, or none")
    if store is not None and os.path.lexists(store):
        raise UsageError(f"{printable(str(store))} is there already", hint="Name a directory that does not exist yet")
    place = free_name(Path.cwd()) if store is None else store.absolute()
    above = next(each for each in place.parents if each.exists())
    if not os.access(above, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"no store can be made in {printable(str(place.parent))}", hint="Name another place with --store")
    tell(folder, place)
