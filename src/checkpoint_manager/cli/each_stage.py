"""Run an action on each stage, so that an error in one does not hide the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from checkpoint_manager.cli.exit_codes import Exit, exit_of
from checkpoint_manager.cli.hints import explain
from checkpoint_manager.cli.output import say
from checkpoint_manager.errors import CheckpointError, LockTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

R = TypeVar("R")


def with_each(stages: Iterable[str], act: Callable[[str], R]) -> tuple[dict[str, R], dict[str, CheckpointError]]:
    """Return what an act gave for each stage, and the errors of those in trouble.

    Raises:
        LockTimeoutError: Another writer holds a stage: that is nothing about the stage.
    """
    done: dict[str, R] = {}
    troubles: dict[str, CheckpointError] = {}
    for stage in stages:
        try:
            done[stage] = act(stage)
        except LockTimeoutError:
            raise
        except CheckpointError as error:
            troubles[stage] = error
    return done, troubles


def tell_troubles(troubles: dict[str, CheckpointError]) -> Exit:
    """Tell each error on a line, and return the exit code."""
    for error in troubles.values():
        say(f"error: {explain(error)}")
    return next(map(exit_of, troubles.values()), Exit.DONE)


def trouble_fields(troubles: dict[str, CheckpointError]) -> list[dict[str, str]]:
    """Return the errors as they stand in a JSON document."""
    return [{"stage": stage, "problem": explain(error)} for stage, error in troubles.items()]
