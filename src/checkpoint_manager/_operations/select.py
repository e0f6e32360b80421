"""Which version is meant: ``7``, ``"latest"``, ``"prev"``, a tag, or a moment; and ``STAGE@VERSION`` in one piece of text.

====================  ==================================================================================================
``7``, ``"7"``        version 7
``"latest"``          the newest version
``"prev"``            the one before the newest, whole or not
``"good"``            the one that was tagged so
====================  ==================================================================================================

A stage's name may itself hold an ``@``. ``STAGE@VERSION`` is split at the last one, if what follows it can be a version;
else the whole is a stage's name. So ``mail@3`` is version 3 of the stage ``mail``, and the newest version of a stage called
``mail@3`` is written ``mail@3@latest``. Where what follows could only be a tag, and there is a stage of the whole name,
that stage is meant; if both exist, it is refused: to guess wrong would be to restore something else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checkpoint_manager._format.tags import RESERVED, is_name
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.errors import CheckpointNotFoundError, StageNameError, TagError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._operations.tag import Tagger
    from checkpoint_manager._store.history import History
    from checkpoint_manager._store.store import Vault

_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)


class Selecting:
    """Finds the versions that are named, in one store."""

    def __init__(self, vault: Vault, history: History, tagger: Tagger) -> None:
        self._vault = vault
        self._history = history
        self._tagger = tagger

    def split(self, text: str) -> tuple[str, str | None]:
        """Return the stage and the version (None: nothing was said) of a ``STAGE`` or ``STAGE@VERSION``.

        Raises:
            StageNameError: What should be a stage's name can't be one.
            TagError: It could mean two things.
        """
        stage, at, version = text.rpartition("@")
        if not at or not stage or not _can_be_a_version(version):
            return validate(text), None
        if not is_name(version) or not self._is_stage(text):
            return validate(stage), version
        if self._is_stage(stage) and version in self._tagger.read(stage)[0].named:
            message = (
                f"{display(text)} is a stage, and stage {display(stage)} has the tag {version}: write {display(text)}@latest "
                "for the stage, or the number of the tagged version for the other"
            )
            raise TagError(message, stage=text)
        return text, None

    def number(self, stage: str, version: int | str) -> int:
        """Return the number of the version that is meant; that it exists is certain only of a tag's.

        Raises:
            TagError: It can't be a version.
            CheckpointNotFoundError: There is no version before the newest, or no such tag.
            IntegrityError, RollbackError: As for :meth:`Tagger.find`.
        """
        if isinstance(version, int):
            return version
        if not _can_be_a_version(version):
            shown = ascii(version[:80])
            raise TagError(f"{shown} is no version: give a number, latest, prev or a tag", stage=stage)
        if _NUMBER.fullmatch(version):
            return int(version)
        if version not in RESERVED:
            return self._tagger.find(stage, version)
        newest = self._history.look(stage).number
        if newest == 0:
            raise self._history.absent(stage, 0, 0)
        if version == "latest":
            return newest
        before = self._history.before(stage, newest)
        if before is None:
            where = f"{display(stage)} in {self._vault.backend.location}"
            message = f"stage {where} has no version before its newest one: see history()"
            raise CheckpointNotFoundError(message, stage=stage)
        return before

    def at(self, stage: str, moment: datetime) -> int:
        """Return the number of the version that was the newest at a moment, of those that are there.

        Raises:
            CheckpointNotFoundError: The stage had no version then.
        """
        then = self._history.at(stage, moment)
        if then is None:
            if self._history.look(stage).number == 0:
                raise self._history.absent(stage, 0, 0)
            message = (
                f"stage {display(stage)} in {self._vault.backend.location} had no version at {moment.isoformat()}: "
                "see history() for its times"
            )
            raise CheckpointNotFoundError(message, stage=stage)
        return then[0]

    def _is_stage(self, name: str) -> bool:
        try:
            return self._vault.backend.newest(validate(name)) > 0
        except StageNameError:
            return False


def _can_be_a_version(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None or text in RESERVED or is_name(text)
