"""Restoring, clearing and tagging: each shows what it will do, asks for a reason, and does it only if nobody was quicker.

A restore and a clear keep the reason in the metadata of the version that they append. The reason of a tag is sealed with the
tags of its stage.

The plan names the newest version that it was made for. That is the *expected version* of the change: if another one is the
newest by then, nothing is changed, and the page says what happened meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager.dashboard.cell import shown_state
from checkpoint_manager.dashboard.plans import newest_number
from checkpoint_manager.dashboard.views.call import RefusedError, version_of
from checkpoint_manager.errors import VersionConflictError

if TYPE_CHECKING:
    from starlette.responses import Response

    from checkpoint_manager import Version
    from checkpoint_manager.dashboard.views.call import Call

_MAX_REASON = 500
_IN_VERSION = "The reason is kept in the metadata of the new version."
WITH_TAGS = "The reason is kept in the store, with the tags of the stage."
_MOST_SHOWN = 20


def plan_restore(call: Call) -> Response:
    """Show what a restore would do."""
    version, newest = version_of(call), _newest(call)
    return call.page(
        "plan.html",
        title=f"Restore version {version.number}",
        steps=[
            f"A copy of version {version.number} is appended as version {newest + 1}, and becomes the newest.",
            f"Version {newest} and all others stay as they are.",
            *_made_of_it(call, version.stage),
        ],
        undo=f"To undo it, restore version {newest}.",
        kept=_IN_VERSION,
        target=version,
        state=shown_state(version),
        action=call.at("/restore"),
        fields={"stage": version.stage, "version": version.number, "expected": newest},
        button="Restore",
        back=call.at("/version", stage=version.stage, version=version.number),
    )


def restore(call: Call) -> Response:
    """Restore a version."""
    number, reason = call.number("version"), reason_of(call)
    expected = _expected(call)
    try:
        restored = call.store.cm.restore_checkpoint(call.stage, number, metadata={"reason": reason}, expected_version=expected)
    except VersionConflictError as error:
        return overtaken(
            call, call.stage, error.expected, error.actual, call.at("/restore/plan", stage=call.stage, version=number)
        )
    call.note("change", f"restored version {number}", stage=call.stage, version=restored.number, reason=reason)
    return call.go(call.at("/stage", stage=call.stage), f"Restored: version {restored.number} is a copy of version {number}.")


def plan_clear(call: Call) -> Response:
    """Show what clearing a stage would do."""
    stage, newest = call.stage, _newest(call)
    following = call.store.made_of(stage)
    return call.page(
        "plan.html",
        title=f"Clear {stage}",
        steps=[
            f"Version {newest + 1} is appended. It marks the stage as not done.",
            "The next run of the pipeline runs the stage again. All its versions stay.",
            *([f"The stages that use its results are not cleared: {', '.join(following)}."] if following else []),
        ],
        undo=f"To undo it, restore version {newest}.",
        kept=_IN_VERSION,
        target=None,
        state="",
        action=call.at("/clear"),
        fields={"stage": stage, "expected": newest},
        button="Clear",
        back=call.at("/stage", stage=stage),
    )


def clear(call: Call) -> Response:
    """Clear a stage."""
    reason, expected = reason_of(call), _expected(call)
    try:
        cleared = call.store.cm.clear_checkpoint(call.stage, metadata={"reason": reason}, expected_version=expected)
    except VersionConflictError as error:
        return overtaken(call, call.stage, error.expected, error.actual, call.at("/clear/plan", stage=call.stage))
    number = None if cleared is None else cleared.number
    call.note("change", "cleared", stage=call.stage, version=number, reason=reason)
    notice = "It was cleared already." if cleared is None else f"Cleared: version {number} marks the stage as not done."
    return call.go(call.at("/stage", stage=call.stage), notice)


def plan_tag(call: Call) -> Response:
    """Ask for a tag, and then show what giving it would do."""
    version, name = version_of(call), call.asked("name").strip()
    tags = call.store.cm.tags(version.stage)
    back = call.at("/version", stage=version.stage, version=version.number)
    if not name:
        return call.page("tag.html", version=version, tags=tags, back=back)
    named = tags.get(name)
    moves = f"The tag {name} is moved from version {named}, which it no longer protects from deletion."
    steps = [] if named in {None, version.number} else [moves]
    return call.page(
        "plan.html",
        title=f"Tag version {version.number} as {name}",
        steps=[*steps, f"The tag {name} names version {version.number}, and protects it from deletion."],
        undo=f"To undo it, move the tag back to version {named}." if steps else "To undo it, remove the tag.",
        kept=WITH_TAGS,
        target=version,
        state=shown_state(version),
        action=call.at("/tag"),
        fields={"stage": version.stage, "version": version.number, "name": name, "expected": named or 0},
        button="Tag",
        back=back,
    )


def tag(call: Call) -> Response:
    """Give a version a tag."""
    version, name, reason = version_of(call), call.asked("name").strip(), reason_of(call)
    try:
        call.store.cm.tag(version.stage, version.number, name, expected_version=_expected(call), reason=reason)
    except VersionConflictError as error:
        raise _overtaken_tag(call, name, error) from None
    call.note("change", f"tagged as {name}", stage=version.stage, version=version.number, reason=reason)
    return call.go(call.at("/version", stage=version.stage, version=version.number), f"It is now tagged {name}.")


def plan_untag(call: Call) -> Response:
    """Show what removing a tag would do."""
    stage, name = call.stage, call.asked("name")
    number = call.store.cm.tags(stage).get(name)
    if number is None:
        raise RefusedError(404, "There is no such tag")
    return call.page(
        "plan.html",
        title=f"Remove the tag {name}",
        steps=[f"Version {number} loses the tag {name}, which no longer protects it from deletion."],
        undo=f"To undo it, tag version {number} again.",
        kept=WITH_TAGS,
        target=None,
        state="",
        action=call.at("/untag"),
        fields={"stage": stage, "name": name, "expected": number},
        button="Remove",
        back=call.at("/stage", stage=stage),
    )


def untag(call: Call) -> Response:
    """Remove a tag."""
    stage, name, reason = call.stage, call.asked("name"), reason_of(call)
    expected = _expected(call)
    try:
        call.store.cm.untag(stage, name, expected_version=expected, reason=reason)
    except VersionConflictError as error:
        raise _overtaken_tag(call, name, error) from None
    call.note("change", f"removed the tag {name}", stage=stage, version=expected, reason=reason)
    return call.go(call.at("/stage", stage=stage), f"The tag {name} is removed.")


def overtaken(call: Call, stage: str, expected: int, actual: int, again: str, told: str = "Nothing was changed.") -> Response:
    """Show that a change was not made because somebody was quicker, and what was saved meanwhile.

    Args:
        call: The request.
        stage: The stage that has changed.
        expected: The version of it that was the newest when the plan was made.
        actual: The newest now.
        again: The address of a new plan.
        told: Says what was changed.
    """
    since: list[Version] = []
    for version in call.store.cm.iter_history(stage):
        if version.number <= expected or len(since) == _MOST_SHOWN:
            break
        since.append(version)
    call.note("refused", "a change, because somebody was quicker", stage=stage, version=actual)
    return call.page(
        "overtaken.html",
        409,
        expected=expected,
        actual=actual,
        told=told,
        since=[(version, shown_state(version)) for version in since],
        stage=stage,
        again=again,
    )


def _newest(call: Call) -> int:
    return newest_number(call.store.cm, call.stage)


def reason_of(call: Call) -> str:
    """Return why a change is made.

    Raises:
        RefusedError: No reason is given.
    """
    reason = " ".join(call.asked("reason").split())[:_MAX_REASON]
    if not reason:
        raise RefusedError(400, "A reason is needed", "Go back and say why.")
    return reason


def _expected(call: Call) -> int:
    expected = call.number("expected")
    if expected is None:
        raise RefusedError(400, "The form does not say which version it expects", "Open the plan again.")
    return expected


def _overtaken_tag(call: Call, name: str, error: VersionConflictError) -> RefusedError:
    call.note("refused", f"to change the tag {name}, because somebody was quicker", stage=call.stage)
    now = f"now names version {error.actual}" if error.actual else "now names no version"
    return RefusedError(409, "Somebody was quicker", f"The tag {name} {now}. Nothing was changed.")


def _made_of_it(call: Call, stage: str) -> list[str]:
    following = call.store.made_of(stage)
    return [f"Stages that use its results may then be out of date: {', '.join(following)}."] if following else []
