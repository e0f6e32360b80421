"""``demo``: a real pipeline, killed, resumed, rolled back and attacked."""

from __future__ import annotations

import os
from pathlib import Path

import click

from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES
from checkpoint_manager._text import printable
from checkpoint_manager.backends.registry import open_backend, redacted, scheme_of
from checkpoint_manager.cli.exit_codes import UsageError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--store", metavar="PLACE", help="Where the demonstration makes its store: a directory or a URL.")
def demo(folder: Path | None, store: str | None) -> None:
    """Watch a real pipeline be killed, resume, go back and refuse a forged file: over the Python files of FOLDER.

    Without FOLDER it takes the standard library of the running Python. It leaves its store in the current folder, or in the
    PLACE given.

    \b
    Examples:
      checkpoint-manager demo
      checkpoint-manager demo --store sqlite:///demo.db
    """
    from checkpoint_manager.cli.commands.demo.story import free_name, tell  # noqa: PLC0415  # --help does not wait for it

    if folder is not None and not folder.is_dir():
        raise UsageError(f"{printable(str(folder))} is not a folder", hint="Name a folder with Python files in it, or none")
    if store is not None and scheme_of(store):
        _refuse_what_is_there(store)
        tell(folder, store)
        return
    if store is not None and os.path.lexists(store):
        raise UsageError(f"{printable(store)} is there already", hint="Name a directory that does not exist yet")
    place = free_name(Path.cwd()) if store is None else Path(store).absolute()
    above = next(each for each in place.parents if each.exists())
    if not os.access(above, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"no store can be made in {printable(str(place.parent))}", hint="Name another place with --store")
    tell(folder, str(place))


def _refuse_what_is_there(url: str) -> None:
    """Refuse a place that holds a store, or can't be shared with the processes of the pipeline."""
    backend = open_backend(url)
    try:
        if not backend.capabilities.persistent:
            hint = "Name a directory or the URL of another place"
            raise UsageError(f"{printable(redacted(url))} ends with its process, and the pipeline runs in several", hint=hint)
        if backend.read_record("keyring", limit=MAX_KEYRING_BYTES) is not None:
            hint = "Name a place that holds none yet, such as another schema or prefix"
            raise UsageError(f"there is a store in {printable(redacted(url))} already", hint=hint)
    finally:
        backend.close()
