"""``demo``: real programs that are killed, go on, and go back."""

from __future__ import annotations

import os
from pathlib import Path

import click

from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES
from checkpoint_manager._text import printable
from checkpoint_manager.backends.registry import open_backend, redacted, scheme_of
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.errors import CheckpointError

_TOUR = "A pipeline over Python files is killed, goes on, goes back, and refuses a forged file"


@click.command()
@click.argument("what", metavar="[NAME]", required=False)
@click.option("--store", metavar="PLACE", help="Where the demonstration makes its store: a directory or a URL.")
@click.option("--source", "shows_source", is_flag=True, help="Print the program of the example NAME.")
def demo(what: str | None, store: str | None, *, shows_source: bool) -> None:
    """Watch real programs be killed, go on, and go back. Without a NAME, it lists them and runs the first, `tour`.

    The tour runs over the Python files of the standard library, or of a folder that is given in place of NAME (write ./NAME
    for one with the name of a demonstration). A demonstration leaves its store in the current
    folder, or in the PLACE given.

    \b
    Examples:
      checkpoint-manager demo
      checkpoint-manager demo etl
      checkpoint-manager demo --store sqlite:///demo.db
    """
    from checkpoint_manager.cli.commands.demo import examples  # noqa: PLC0415  # --help does not wait for it

    name = what if what in examples.EXAMPLES else None
    if shows_source:
        if name is None:
            raise UsageError("--source prints the program of an example", hint=f"Name one: {', '.join(examples.EXAMPLES)}")
        click.echo(examples.source(name).read_text(encoding="utf-8"), nl=False)
        return
    if name is None:
        _tour(None if what in {None, "tour"} else Path(str(what)), store, lists=what is None)
        return
    folder = _creatable(_unused(f"demo-{name}"))
    examples.show(name, folder, _checked(store))


def _tour(folder: Path | None, store: str | None, *, lists: bool) -> None:
    from checkpoint_manager.cli.commands.demo import examples  # noqa: PLC0415  # as above
    from checkpoint_manager.cli.commands.demo.story import STORE, tell  # noqa: PLC0415  # likewise

    if folder is not None and not folder.is_dir():
        hint = f"Name a folder with Python files in it, or one of: tour, {', '.join(examples.EXAMPLES)}"
        raise UsageError(f"{printable(str(folder))} is neither a demonstration nor a folder", hint=hint)
    place = _checked(store) or str(_creatable(_unused(STORE)))
    if lists:
        click.echo("The demonstrations: checkpoint-manager demo NAME")
        for name, summary in {"tour": _TOUR, **{name: each.summary for name, each in examples.EXAMPLES.items()}}.items():
            click.echo(f"  {name:<12} {summary}")
        click.echo("This is the tour.\n")
    tell(folder, place)


def _checked(store: str | None) -> str | None:
    """Return where the store is to be made: a URL, or an absolute path; None if it is not said.

    Raises:
        UsageError: It can't be made there.
        CheckpointError: Something is there already.
    """
    if store is None:
        return None
    if scheme_of(store):
        _refuse_what_is_there(store)
        return store
    if os.path.lexists(store):
        raise CheckpointError(f"{printable(store)} is there already", hint="Name a directory that does not exist yet")
    return str(_creatable(Path(store).absolute()))


def _unused(name: str) -> Path:
    """Return a path in the current folder where nothing is: the name, with a number if it is taken."""
    place, number = Path(name).absolute(), 1
    while os.path.lexists(place):
        number += 1
        place = Path(f"{name}-{number}").absolute()
    return place


def _creatable(place: Path) -> Path:
    """Return the path of a folder that does not exist, and can be created.

    Raises:
        UsageError: This user may not create it.
    """
    above = next(each for each in place.parents if each.exists())
    if not os.access(above, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"no store can be made in {printable(str(place.parent))}", hint="Name another place with --store")
    return place


def _refuse_what_is_there(url: str) -> None:
    """Refuse a place that holds a store, or can't be shared with the processes of the pipeline."""
    backend = open_backend(url)
    try:
        if not backend.capabilities.persistent:
            hint = "Name a directory or the URL of another place"
            raise UsageError(f"{printable(redacted(url))} ends with its process, and the pipeline runs in several", hint=hint)
        if backend.read_record("keyring", limit=MAX_KEYRING_BYTES) is not None:
            hint = "Name a place that holds none yet, such as another schema or prefix"
            raise CheckpointError(f"there is a store in {printable(redacted(url))} already", hint=hint)
    finally:
        backend.close()
