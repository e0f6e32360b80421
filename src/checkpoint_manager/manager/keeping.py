"""Keeping what matters: tags, which protect a version, and deleting the others, by number or by a policy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._operations import draft as drafting
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.models import Version, display

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._operations.services import Store
    from checkpoint_manager.retention import PrunePlan, Retention

_LOG = logging.getLogger("checkpoint_manager")


class Keeping:
    """The part of a manager that says what is kept, and deletes what is not."""

    _store: Store

    def tag(self, stage_name: str, version: int | str, name: str, *, force: bool = False) -> Version:
        """Give a version a name, which stands for its number from then on and protects it from being deleted.

        Tags are authenticated, like everything else. The same tag on the same version again changes nothing.

        Args:
            stage_name: The stage.
            version: A number, ``"latest"``, ``"prev"`` or another tag.
            name: Up to 64 of ``A-Z a-z 0-9 _ . + -``, beginning with a letter or ``_``; not ``latest`` or ``prev``.
            force: If the name names another version, move it.

        Returns:
            The version that has the name now.

        Raises:
            TagError: The name can't be one, or names another version.
            CheckpointNotFoundError, IntegrityError: The version can't be had.
            RollbackError: The tags are older than what this user has seen.
        """
        from checkpoint_manager._operations import tag as tagging  # noqa: PLC0415  # for those who have tags

        stage, wanted = validate(stage_name), tagging.validate(name)
        number = self._store.selecting.number(stage, drafting.chosen(version))
        entry = self._store.tagger.set(stage, number, wanted, force=force)
        _LOG.info("Version tagged: %s (version %d is %s)", display(stage), number, wanted)
        return entry.as_version(stage, number)

    def untag(self, stage_name: str, name: str) -> None:
        """Take a name away: its version is not protected by it any more.

        Raises:
            CheckpointNotFoundError: There is no such tag.
            RollbackError: The tags are older than what this user has seen.
        """
        from checkpoint_manager._operations import tag as tagging  # noqa: PLC0415  # for those who have tags

        stage, unwanted = validate(stage_name), tagging.validate(name)
        self._store.tagger.remove(stage, [unwanted])
        _LOG.info("Tag removed: %s %s", display(stage), unwanted)

    def tags(self, stage_name: str) -> dict[str, int]:
        """Return a stage's tags, sorted by name, with the numbers of the versions they name.

        Raises:
            IntegrityError: Their record is damaged or forged.
            RollbackError: It is older than what this user has seen.
        """
        tags, _ = self._store.tagger.read(validate(stage_name))
        return {name: tagged.version for name, tagged in tags.named.items()}

    def prune(self, policy: Retention, *, stage: str | None = None, dry_run: bool = False) -> PrunePlan:
        """Delete for good what a policy does not keep, and return the plan: each version, and which rule keeps it, or none.

        Never deleted, whatever the policy says: the newest version of a stage, the newest completed and cleared
        one, and versions that do not open. Before anything goes, the newest completed version is read as a whole.

        Args:
            policy: The rules; see :class:`Retention`.
            stage: One stage, or None for all of them.
            dry_run: Delete nothing, and return the plan that would be carried out.

        Raises:
            CheckpointNotFoundError: There is no such stage.
            IntegrityError, RollbackError: It can't be told what is tagged or deleted. Nothing of that stage was deleted.
        """
        from checkpoint_manager.retention import Retention  # noqa: PLC0415  # for those who prune

        if not isinstance(policy, Retention):
            raise TypeError(f"prune needs a Retention, such as Retention(keep_last=5), not {type(policy).__name__}")
        plan = self._store.pruner.prune(policy, None if stage is None else validate(stage), dry_run=dry_run)
        if not dry_run:
            _LOG.info("Versions pruned: %d deleted, %d kept", len(plan.dropped), len(plan.kept))
        return plan

    def delete_versions(self, stage_name: str, versions: Iterable[int]) -> None:
        """Delete versions for good. An authenticated record remains, so that ``verify`` can tell it from a theft.

        Args:
            stage_name: The stage.
            versions: The numbers, which are never used again. Not the newest one's.

        Raises:
            CheckpointNotFoundError: One of them does not exist. Nothing was deleted.
            CheckpointError: One of them is the newest, or has a tag. Nothing was deleted.
        """
        stage = validate(stage_name)
        deleted = self._store.deleter.delete(stage, [drafting.number(version) for version in versions])
        _LOG.info("Versions deleted: %s %s", display(stage), deleted)
