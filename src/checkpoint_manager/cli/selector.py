"""Which version a command means: ``STAGE@VERSION`` and ``--at``, which the library resolves."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from checkpoint_manager import times
from checkpoint_manager._text import printable
from checkpoint_manager.cli import DEFAULT_STORE
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.hints import explain
from checkpoint_manager.cli.output import say
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from checkpoint_manager.manager import CheckpointManager


_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]*", re.ASCII)
"""Names that need no quotes in a shell."""


@dataclass(frozen=True, slots=True)
class Selector:
    """The version that a command is asked for.

    Attributes:
        stage: The stage.
        version: The version's number; None if none was named, which means the newest.
    """

    stage: str
    version: int | None

    @classmethod
    def find(cls, cm: CheckpointManager, text: str, at: datetime | None = None) -> Selector:
        """Find what ``STAGE``, ``STAGE@VERSION`` or ``STAGE --at TIME`` names.

        Raises:
            UsageError: A version and a time are given.
            CheckpointError: There is no such version, or what is there is not whole.
        """
        try:
            version = cm.resolve(text, at=at)
        except TypeError:
            raise UsageError("a version and --at are given", hint="Give one of them") from None
        said = at is not None or version.stage != text
        return cls(version.stage, version.number if said else None)


class _Moment(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4, and not before
    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return times.moment(value, datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


MOMENT = _Moment()
at_option = click.option(
    "--at",
    type=MOMENT,
    metavar="TIME",
    help="The version that was the newest then: 2026-11-20T14:00 (local, or with a zone), or an age such as 12h, 1d, 2w.",
)


def tags_by_version(cm: CheckpointManager, stage: str) -> dict[int, list[str]]:
    """Return the tags of each version that has any; if they can't be read, warn and go on without."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    try:
        for name, number in cm.tags(stage).items():
            found[number].append(name)
    except CheckpointError as error:
        say(f"warning: {explain(error)}")
    return found


def refuse_a_selector(cm: CheckpointManager, stage: str, instead: str, hint: str = "") -> None:
    """Raise if this names a version of another stage, as where versions are read, and there is no stage of this name yet.

    Args:
        cm: The store.
        stage: What was given as the name of a stage to be written to.
        instead: What the command does with it.
        hint: What else there is to do than to name the stage alone.

    Raises:
        UsageError: It does.
    """
    meant, _, version = stage.rpartition("@")
    there = cm.stages(prefix=meant) if meant else []
    if meant in there and stage not in there:
        message = f"{printable(stage)} names version {printable(version)} of stage {printable(meant)}, and {instead}"
        raise UsageError(message, hint=f"Name the stage alone{hint}")


def stage_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of stages that begin with what was typed."""
    from checkpoint_manager.cli.access import Access  # noqa: PLC0415  # loads the library; --help does not wait for it

    location = context.params.get("store") or os.environ.get("CHECKPOINT_MANAGER_STORE") or DEFAULT_STORE
    access = Access(location, key=None, lock_timeout=0, as_json=False)
    try:
        stages = access.stages() if access.is_there() else []
    except CheckpointError:  # no store that can be looked at: nothing to offer
        return []
    return sorted(stage for stage in stages if stage.startswith(incomplete) and _PLAIN.fullmatch(stage))
