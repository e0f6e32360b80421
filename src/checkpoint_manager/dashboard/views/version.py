"""The page of a version: what is known of it, and behind a button that is logged, its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.notes import own_metadata, read_failure, read_inputs, read_progress, read_run
from checkpoint_manager.dashboard import tree
from checkpoint_manager.dashboard.cell import shown_state
from checkpoint_manager.dashboard.views.call import RefusedError, check_size, is_revealed, version_of
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from starlette.responses import Response

    from checkpoint_manager import Checkpoint, Version
    from checkpoint_manager.dashboard.views.call import Call

_MOST_INSIDE = 100
"""How many arrays, frames and tensors in the data are offered as files."""


def show(call: Call) -> Response:
    """Show a version; its data, too, if this session has revealed it and may still read it."""
    version = version_of(call)
    if not is_revealed(call, version):
        return _page(call, version)
    if not call.store.can_read(version.stage, version.number):
        return _page(call, version, is_being_read=True)
    found = _read(call, version)
    return _page(call, version, tree.part(found.data), found)


def reveal(call: Call) -> Response:
    """Note that the data of a version is asked for, and show it."""
    version = version_of(call)
    check_size(call.command(f"show STAGE@{version.number}", version.stage), version)
    call.session.reveal(call.store.id, version.stage, version.number)
    call.note("reveal", "revealed data", stage=version.stage, version=version.number)
    return call.go(f"{_address(call, version)}#data")


def hide(call: Call) -> Response:
    """Show a version without its data again."""
    version = version_of(call)
    call.session.revealed.discard((call.store.id, version.stage, version.number))
    return call.go(_address(call, version))


def show_part(call: Call) -> Response:
    """Show a part of the data: what a pointer leads to, from an element on, or what a search finds."""
    version = version_of(call)
    if not is_revealed(call, version):
        raise RefusedError(403, "This data is not revealed", "Open the version and reveal its data there.")
    found = _read(call, version)
    try:
        shown = tree.part(found.data, call.asked("at"), call.number("start") or 0, call.asked("search"))
    except LookupError:
        raise RefusedError(404, "The data holds nothing at this place") from None
    return _page(call, version, shown, found)


def _read(call: Call, version: Version) -> Checkpoint:
    return call.store.cm.get_json(version.stage, version.number)


def _address(call: Call, version: Version) -> str:
    return call.at("/version", stage=version.stage, version=version.number)


def _page(
    call: Call,
    version: Version,
    data: tree.Part | None = None,
    found: Checkpoint | None = None,
    *,
    is_being_read: bool = False,
) -> Response:
    cm = call.store.cm
    attached = {each.name for each in version.attachments}
    inside = [] if found is None else [each for name, each in found.attachments.items() if name not in attached]
    try:
        tags = [name for name, number in cm.tags(version.stage).items() if number == version.number]
    except CheckpointError:
        tags = []
    below = cm.iter_history(version.stage, below=version.number)
    return call.page(
        "version.html",
        version=version,
        stage=version.stage,
        state=shown_state(version),
        newest=cm.get_version(version.stage).number,
        before=next((each.number for each in below if each.size is not None), None),
        tags=tags,
        run=read_run(version.metadata),
        failure=read_failure(version.metadata),
        progress=read_progress(version.metadata),
        inputs=read_inputs(version.metadata),
        metadata=own_metadata(version.metadata),
        data=data,
        is_being_read=is_being_read,
        inside=inside[:_MOST_INSIDE],
        more_inside=len(inside) - _MOST_INSIDE,
    )
