"""Writing histories into a bundle, while writers go on.

No lock is taken. Each stage is exported as it was at some moment: from its first version to the one that was the newest when it
was begun, or a later one. What is deleted meanwhile is a gap in the bundle too. A stage that does not hold together (something
is damaged, or missing without a record) is not exported at all: a bundle is a whole history, or it is none. The tags of its
versions go with it, as they are once the last version was read; one of a version that the bundle does not hold stays behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.bundle_chain import Chain
from checkpoint_manager._format.bundle_parts import MAX_GAPS_BYTES, EndPart, GapsPart, StagePart, TagsPart, VersionPart
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.gaps import Gaps, encode
from checkpoint_manager._operations import tag
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.models import BundledStage, Progress, display

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager._format.bundle_parts import Part
    from checkpoint_manager._format.tags import Tagged
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import OnProgress


class Exporter:
    """Exports stages of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def chosen(self, stages: Iterable[str] | None) -> list[str]:
        """Return the stages to export, each once, in the order of a bundle; None: all there are, or were seen.

        Raises:
            CheckpointNotFoundError: One of them does not exist.
            RollbackError: One of them is older than what this user has seen, or gone.
        """
        if stages is None:
            stages = {*self._store.backend.stages(), *self._store.last_seen.stages()}
        found = sorted(set(stages))
        for stage in found:
            if self._store.history.look(stage).number == 0:
                raise self._store.history.absent(stage, 0, 0)
        return found

    def parts(self, stages: list[str], done: list[BundledStage], step: OnProgress) -> Iterator[Part]:
        """Yield the parts of a bundle of these stages.

        Args:
            stages: As :meth:`chosen` returned them.
            done: Gets a line for each stage that is finished.
            step: Is told of each version.

        Raises:
            IntegrityError: A stage is not whole.
            RollbackError: A stage's tags are older than what this user has seen.
        """
        total = sum(len(self._store.backend.versions(stage)) for stage in stages)
        versions = 0
        for stage in stages:
            yield StagePart(stage)
            chain, of_stage = Chain(), 0
            for part in self._versions(stage):
                self._add(stage, chain, part)
                of_stage += 1
                yield part
                step(Progress(versions + of_stage, max(total, versions + of_stage), "versions", stage))
            yield GapsPart(self._gaps(stage, chain))
            tags = self._tags(stage, chain)
            if tags:
                yield TagsPart(tags)
            versions += of_stage
            done.append(BundledStage(stage, of_stage, chain.newest, tags=tuple(tags)))
        yield EndPart(len(stages), versions)

    def _versions(self, stage: str) -> Iterator[VersionPart]:
        """Yield the versions of a stage up to the one that is the newest now, or a later one if that is deleted meanwhile."""
        reached, goal = 0, 0
        while reached == 0 or reached < goal:
            look = self._store.history.look(stage)
            goal = goal or look.number
            before = reached
            gaps, _ = self._store.gaps(stage)
            for number in self._store.backend.versions(stage):
                if not reached < number <= look.number or number in gaps:
                    continue
                try:
                    entry, data = self._store.load(stage, number)
                except VersionAbsentError:  # deleted since it was listed: the record of gaps will say so
                    continue
                if number == look.number:
                    self._store.history.confirm(stage, look, entry)
                reached = number
                yield VersionPart(number, entry, data)
            if reached == before and self._store.history.look(stage).number == look.number:
                broken = BrokenError("has a newest version that counts as deleted")
                raise self._not_whole(stage, broken, look.number)

    def _add(self, stage: str, chain: Chain, part: VersionPart) -> None:
        try:
            chain.add(part.version, part.entry)
        except BrokenError as broken:
            raise self._not_whole(stage, broken, part.version) from None

    def _gaps(self, stage: str, chain: Chain) -> Gaps:
        """Return why there is no version where there is none. Read last: it covers whatever was deleted meanwhile."""
        gaps = chain.fitted(self._store.gaps(stage)[0])
        try:
            chain.close(gaps)
            if len(encode(gaps)) > MAX_GAPS_BYTES:
                raise BrokenError(f"holds more gaps than the {MAX_GAPS_BYTES} bytes that a bundle has for them")
        except BrokenError as broken:
            raise self._not_whole(stage, broken, None) from None
        return gaps

    def _tags(self, stage: str, chain: Chain) -> dict[str, Tagged]:
        tags, _ = tag.read(self._store, stage)
        return {name: tagged for name, tagged in tags.named.items() if chain.has(tagged.version, tagged.id)}

    def _not_whole(self, stage: str, broken: BrokenError, version: int | None) -> IntegrityError:
        message = (
            f"stage {display(stage)} in {self._store.backend.location} {broken}, and is not exported: run "
            '"checkpoint-manager verify" to see what is wrong, or export the other stages by name'
        )
        return IntegrityError(message, stage=stage, version=version)
