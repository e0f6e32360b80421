"""The page of a stage: its versions on a time axis and in a table, some at a time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from checkpoint_manager._format.notes import own_metadata, read_failure, read_progress, read_run
from checkpoint_manager.dashboard import timeline
from checkpoint_manager.dashboard.cell import shown_state
from checkpoint_manager.dashboard.feed import what_was_done
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from starlette.responses import Response

    from checkpoint_manager import Reason, Version
    from checkpoint_manager.dashboard.views.call import Call

_MOST_VERSIONS = 60


def show(call: Call) -> Response:
    """Show a stage."""
    store, stage, below = call.store, call.stage, call.number("below")
    cell = store.look(stage)
    versions, problem = _versions(call, below)
    tags = _tags(call)
    return call.page(
        "stage.html",
        cell=cell,
        stage=stage,
        versions=[_row(version, tags) for version in versions[:_MOST_VERSIONS]],
        problem=problem,
        below=below,
        following=versions[_MOST_VERSIONS - 1].number if len(versions) > _MOST_VERSIONS else None,
        chart=timeline.draw(versions[:_MOST_VERSIONS], tags),
        legend=timeline.legend(versions[:_MOST_VERSIONS]),
        tags=sorted(((name, number) for number, names in tags.items() for name in names), key=lambda each: -each[1]),
        downstream=store.made_of(stage) if below is None else [],
        is_complete=store.is_complete,
        reasons=_reasons(call) if below is None else [],
    )


def _versions(call: Call, below: int | None) -> tuple[list[Version], str]:
    """Return the versions of this page, one more to tell whether there are others, and what kept it from reading on."""
    versions: list[Version] = []
    try:
        for version in itertools.islice(call.store.cm.iter_history(call.stage, below=below), _MOST_VERSIONS + 1):
            versions.append(version)  # noqa: PERF402  # those read before an error are shown
    except CheckpointError as error:
        return versions, call.store.explain(error)
    return versions, ""


def _tags(call: Call) -> dict[int, list[str]]:
    """Return the tags of each version."""
    found: dict[int, list[str]] = {}
    try:
        for name, number in call.store.cm.tags(call.stage).items():
            found.setdefault(number, []).append(name)
    except CheckpointError:  # told on the page of the store's health
        return {}
    return found


def _reasons(call: Call) -> list[tuple[Reason, str]]:
    """Return why tags were given or removed and versions deleted, each with what was done."""
    try:
        return [(reason, what_was_done(reason)) for reason in call.store.cm.reasons(call.stage)]
    except CheckpointError:  # told on the page of the store's health
        return []


def _row(version: Version, tags: dict[int, list[str]]) -> dict[str, object]:
    run = read_run(version.metadata)
    return {
        "version": version,
        "state": shown_state(version),
        "tags": tags.get(version.number, []),
        "seconds": None if run is None else run.seconds,
        "failure": read_failure(version.metadata),
        "progress": read_progress(version.metadata),
        "metadata": own_metadata(version.metadata),
    }
