"""What a bundle holds, and what an import of it added."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BundledStage:
    """One stage of a bundle.

    Attributes:
        stage: Its name; after an import, the one that it has in the store.
        versions: How many versions of it the bundle holds.
        newest: The number of the newest one.
        added: How many of them an import appended to the store, or with ``dry_run`` would append; 0 for an export.
        tags: The tags that were exported; after an import, those that it added, or with ``dry_run`` would add.
        tags_kept: The tags of the bundle that an import left alone, as another version has that name in the store.
    """

    stage: str
    versions: int
    newest: int
    added: int = 0
    tags: tuple[str, ...] = ()
    tags_kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was exported or imported.

    Attributes:
        stages: The stages, by name as in the bundle.
        size: The length of the bundle in bytes.
    """

    stages: tuple[BundledStage, ...]
    size: int

    @property
    def versions(self) -> int:
        """How many versions the bundle holds."""
        return sum(stage.versions for stage in self.stages)

    @property
    def added(self) -> int:
        """How many of them an import appended."""
        return sum(stage.added for stage in self.stages)
