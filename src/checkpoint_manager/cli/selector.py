"""``STAGE`` or ``STAGE@VERSION``, as commands take it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from checkpoint_manager.errors import CheckpointNotFoundError
from checkpoint_manager.model import display

if TYPE_CHECKING:
    from checkpoint_manager.manager import CheckpointManager

_SELECTOR = re.compile(r"(?s)(?P<stage>.+)@(?P<version>[0-9]{1,12}|latest|prev)")


@dataclass(frozen=True, slots=True)
class Selector:
    """What was asked for.

    Attributes:
        stage: The stage.
        version: A number, ``latest``, ``prev`` (the one before the newest), or None: nothing was said.
    """

    stage: str
    version: str | None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read ``STAGE@VERSION``; a stage whose own name ends like that is written ``STAGE@3@latest``."""
        match = _SELECTOR.fullmatch(text)
        return cls(text, None) if match is None else cls(match["stage"], match["version"])

    @classmethod
    def of(cls, stage: str, version: str) -> Selector:
        """Read a version that stands by itself.

        Raises:
            UsageError: It is none.
        """
        chosen = cls.parse(f"{stage}@{version}")
        if chosen != cls(stage, version):
            raise click.UsageError(f"{display(version)} is no version: give a number, latest or prev")
        return chosen

    def number(self, cm: CheckpointManager) -> int | None:
        """Return the version's number; None: the newest.

        Raises:
            CheckpointNotFoundError: There is none before the newest.
        """
        if self.version in {None, "latest"}:
            return None
        if self.version != "prev":
            return int(str(self.version))
        history = cm.history(self.stage)
        if len(history) < 2:
            message = f"stage {display(self.stage)} has no version before its newest one: see checkpoint-manager log"
            raise CheckpointNotFoundError(message, stage=self.stage)
        return history[1].version
