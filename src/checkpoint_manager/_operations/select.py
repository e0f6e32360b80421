"""Resolve version selectors: ``7``, ``"latest"``, ``"prev"``, a tag or a moment, and ``STAGE@VERSION`` as one text.

====================  ==================================================================================================
``7``, ``"7"``        version 7
``"latest"``          the newest completed version; the stage must not have been cleared since
``"prev"``            the completed version before that; of a cleared stage, the last one before it was cleared
``"failed"``          the newest record of a failure, unless a tag of this name is there from an earlier release
``"good"``            the version with this tag
====================  ==================================================================================================

A damaged or missing version counts as completed for ``"latest"`` and ``"prev"``: it may have been, and an older version must
not pass for it.

A stage name may contain an ``@``. ``STAGE@VERSION`` is split at the last one if a version can follow it; otherwise the whole
text is a stage name. So ``mail@3`` is version 3 of the stage ``mail``, and the newest version of a stage called ``mail@3`` is
written ``mail@3@latest``. If the text after the ``@`` could only be a tag, and a stage of the whole name exists, that stage is
meant; if both exist, the selector is refused as ambiguous.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager import times
from checkpoint_manager._arguments import check, wrong
from checkpoint_manager._format.tags import RESERVED, is_name
from checkpoint_manager._operations import tag
from checkpoint_manager._operations.tag import FAILED
from checkpoint_manager._store import listing
from checkpoint_manager._text import printable
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.errors import ArgumentError, CheckpointNotFoundError, Hint, IntegrityError, StageNameError, TagError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store

_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)
_COMPLETED = frozenset(("completed", "damaged"))


def checked(version: object) -> int | str:
    """Return a version as a caller names it: a number, or text."""
    return version if isinstance(version, str) else checked_number(version)


def checked_number(version: object) -> int:
    """Return a version's number as a caller gives it."""
    if not isinstance(version, int) or isinstance(version, bool):
        raise wrong("version", version, "a number such as 3, or the name of a version")
    return version


def moment(at: datetime | str, argument: str = "at") -> datetime:
    """Return a moment in UTC; see :func:`times.moment`."""
    if not isinstance(at, str) and not hasattr(at, "astimezone"):
        raise wrong(argument, at, "a datetime, or text such as 2026-11-20T14:00 or 1d")
    try:
        return times.moment(at, datetime.now(UTC))
    except ValueError as error:
        raise ArgumentError(f"{argument}: {error}", argument=argument) from None


def named(store: Store, stage: str, version: int | str | None, at: datetime | str | None) -> int:
    """Return the number of the version that a caller names by ``version``, or by ``at``, a moment.

    Raises:
        TypeError: Both are given, or neither.
        TagError, CheckpointNotFoundError: As for :func:`number` and :func:`number_at`.
    """
    if (version is None) == (at is None):
        raise ArgumentError("either a version or a moment must be given, and not both")
    return number_at(store, stage, moment(at)) if at is not None else number(store, stage, checked(version))


def chosen(store: Store, stage: str, version: int | str | None, at: datetime | str | None) -> int | None:
    """Return what :func:`named` does, or None if the caller gave neither."""
    return None if version is None and at is None else named(store, stage, version, at)


def split(store: Store, text: str) -> tuple[str, str | None]:
    """Split ``STAGE`` or ``STAGE@VERSION``; return the stage and the version, or None if no version is given.

    Raises:
        StageNameError: The stage name is not valid.
        TagError: The selector is ambiguous.
    """
    check("selector", text, str, "text such as train@3")
    stage, at, version = text.rpartition("@")
    if not at or not stage or not _can_be_a_version(version):
        return validate(text), None
    if not is_name(version) or not _is_stage(store, text):
        return validate(stage), version
    if _is_stage(store, stage) and version in tag.read(store, stage)[0].named:
        message = f"{printable(text)} is a stage, and stage {printable(stage)} has the tag {version}"
        hint = f"Write {printable(text)}@latest for the stage, or the number of the tagged version for the other"
        raise TagError(message, hint=hint, stage=text)
    return text, None


def number(store: Store, stage: str, version: int | str) -> int:
    """Return the number of the version that is meant. Only for a tag is it certain that the version exists.

    Raises:
        TagError: It can't be a version.
        CheckpointNotFoundError: There is no such version, or no such tag.
        IntegrityError, RollbackError: As for :func:`tag.find`.
    """
    if isinstance(version, int):
        return version
    if not _can_be_a_version(version):
        message = f"{version[:80]!a} can't be a version"
        raise TagError(message, hint="Give a number, latest, prev or a tag", stage=stage)
    if _NUMBER.fullmatch(version):
        return int(version)
    if version == "latest":
        return _latest(store, stage)
    if version == "prev":
        return _before_latest(store, stage)
    if version == FAILED and FAILED not in tag.read(store, stage)[0].named:
        return _failed(store, stage)
    return tag.find(store, stage, version)


def newest(store: Store, stage: str) -> int:
    """Return the number of the newest version, whatever its status.

    Raises:
        CheckpointNotFoundError: The stage has none, or was deleted.
    """
    return store.history.existing(stage)


def _latest(store: Store, stage: str) -> int:
    for found, status in _downwards(store, stage):
        if status == "cleared":
            message = f"stage {printable(stage)} in {store.backend.location} is cleared (version {found})"
            raise CheckpointNotFoundError(message, hint=Hint.RESTORE_EARLIER, stage=stage, version=found)
        if status in _COMPLETED:
            return found
    raise _none(store, stage, "has no completed version")


def _before_latest(store: Store, stage: str) -> int:
    is_below = False
    for found, status in _downwards(store, stage):
        if is_below and status in _COMPLETED:
            return found
        is_below = is_below or status in _COMPLETED or status == "cleared"
    raise _none(store, stage, "has no completed version before its newest one")


def _failed(store: Store, stage: str) -> int:
    for found, status in _downwards(store, stage):
        if status == "failed":
            return found
    raise _none(store, stage, "has no record of a failure")


def _downwards(store: Store, stage: str) -> Iterator[tuple[int, str]]:
    """Yield the number and status of each version, newest first; the status of one that can't be had is ``damaged``.

    Raises:
        CheckpointNotFoundError: The stage has no versions.
    """
    found: int | None = newest(store, stage)
    while found is not None:
        try:
            yield found, store.history.entry(stage, found).status
        except IntegrityError:
            yield found, "damaged"
        except CheckpointNotFoundError:  # deleted meanwhile
            pass
        found = store.history.before(stage, found)


def _none(store: Store, stage: str, what: str) -> CheckpointNotFoundError:
    message = f"stage {printable(stage)} in {store.backend.location} {what}"
    return CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage)


def number_at(store: Store, stage: str, moment: datetime) -> int:
    """Return the number of the version that was the newest at a moment, of those that are there.

    Raises:
        CheckpointNotFoundError: The stage had no version then.
    """
    store.history.existing(stage)
    with store.session(stage) as session:
        then = newest_at(listing.entries(store, stage, session), moment)
    if then is None:
        message = f"stage {printable(stage)} in {store.backend.location} had no version at {times.local(moment)}"
        raise CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage)
    return then


def newest_at(entries: Iterable[tuple[int, Entry]], moment: datetime) -> int | None:
    """Return the number of the version that was the newest at a moment, or None if there was none then.

    The order is that of the numbers, and times that can't be believed do not count: see :mod:`checkpoint_manager.times`.

    Args:
        entries: A stage's versions, newest first.
        moment: The moment.
    """
    dated = [(number, entry.created_at) for number, entry in entries]
    dated.reverse()
    believed = times.believed([created_at for _, created_at in dated], datetime.now(UTC))
    known = [number for (number, created_at), when in zip(dated, believed, strict=True) if (when or created_at) <= moment]
    return known[-1] if known else None


def _is_stage(store: Store, name: str) -> bool:
    try:
        return store.backend.newest(validate(name)).number > 0
    except StageNameError:
        return False


def _can_be_a_version(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None or text in RESERVED or is_name(text)
