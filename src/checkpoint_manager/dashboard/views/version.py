"""The page of a version: what is known of it, and behind a button that is logged, its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.notes import read_failure, read_inputs, read_progress, read_run
from checkpoint_manager.dashboard import tree
from checkpoint_manager.dashboard.stores import own_metadata, shown_state
from checkpoint_manager.dashboard.views.call import RefusedError, check_size
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from typing import Any

    from starlette.responses import Response

    from checkpoint_manager import Version
    from checkpoint_manager.dashboard.views.call import Call


def show(call: Call) -> Response:
    """Show a version; its data, too, if this session has revealed it and may still read it."""
    version = _version(call)
    is_revealed = call.session.role.read and (call.store.id, version.stage, version.number) in call.session.revealed
    return _page(call, version, tree.part(_data(call, version)) if is_revealed else None)


def reveal(call: Call) -> Response:
    """Note that the data of a version is asked for, and show it."""
    version = _version(call)
    check_size("show", version)
    call.session.reveal(call.store.id, version.stage, version.number)
    call.note("reveal", "revealed data", stage=version.stage, version=version.number)
    return call.go(f"{_address(call, version)}#data")


def hide(call: Call) -> Response:
    """Show a version without its data again."""
    version = _version(call)
    call.session.revealed.discard((call.store.id, version.stage, version.number))
    return call.go(_address(call, version))


def show_part(call: Call) -> Response:
    """Show a part of the data: what a pointer leads to, from an element on, or what a search finds."""
    version = _version(call)
    if (call.store.id, version.stage, version.number) not in call.session.revealed:
        raise RefusedError(403, "This data is not revealed", "Open the version and reveal its data there.")
    try:
        shown = tree.part(_data(call, version), call.asked("at"), call.number("start") or 0, call.asked("search"))
    except LookupError:
        raise RefusedError(404, "The data holds nothing at this place") from None
    return _page(call, version, shown)


def _version(call: Call) -> Version:
    number = call.number("version")
    if number is None:
        raise RefusedError(400, "No version is given")
    return call.store.cm.get_version(call.stage, number)


def _data(call: Call, version: Version) -> Any:  # noqa: ANN401  # JSON is what it is
    return call.store.cm.get_json(version.stage, version.number).data


def _address(call: Call, version: Version) -> str:
    return call.at("/version", stage=version.stage, version=version.number)


def _page(call: Call, version: Version, data: tree.Part | None) -> Response:
    cm = call.store.cm
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
        metadata=own_metadata(version),
        data=data,
    )
