"""Export the histories of stages into a bundle, while other writers continue.

No lock is taken. A stage is exported as it was at some moment: from its first version to the one that was its newest when its
turn came, or a later one. A version that is deleted meanwhile is a gap in the bundle too, unless it was written already and its
attachments were not: that is an error. A stage that is damaged, or that
misses a version without a record, is not exported: a bundle holds whole histories. The tags of the exported versions go with
them, as they are after the last version was read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager._format import bundle
from checkpoint_manager._format.bundle_chain import Chain
from checkpoint_manager._format.bundle_parts import (
    MAX_GAPS_BYTES,
    AttachmentPart,
    EndPart,
    GapsPart,
    StagePart,
    TagsPart,
    VersionPart,
)
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.gaps import Gaps, encode_list
from checkpoint_manager._operations import bundle_file, tag
from checkpoint_manager._operations.read_attachments import StoredAttachment
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, Hint, IntegrityError
from checkpoint_manager.reports import BundledStage, BundleSummary, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._format.bundle_parts import Part
    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager._format.tags import Tagged
    from checkpoint_manager._operations.bundle_file import BundlePath
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.reports import OnProgress


def export_bundle(
    store: Store,
    place: BundlePath,
    secret: Secret,
    stages: Iterable[str] | None,
    *,
    overwrite: bool,
    progress: OnProgress | None,
) -> BundleSummary:
    """Write stages into a bundle, and return its summary.

    Args:
        store: The store.
        place: Where the bundle is written to.
        secret: What opens it.
        stages: Which stages; None: all that are there or were seen.
        overwrite: Replace a file that is there.
        progress: Called after each version.

    Raises:
        CheckpointNotFoundError: There is no such stage, or a version with attachments was deleted while it was read.
        IntegrityError: A stage is not whole.
        RollbackError: A stage, or its tags, are older than what this user has seen.
        StorageError: The file exists already, or the operating system refused.
    """
    bundle_file.check_target(place, overwrite=overwrite)
    chosen = _chosen(store, stages)
    header, key = bundle.create(secret, now=datetime.now(UTC))
    done: list[BundledStage] = []
    parts = _parts(store, chosen, done, progress)
    size = bundle_file.write(place, bundle.seal_bundle(header, key, parts), overwrite=overwrite)
    return BundleSummary(tuple(done), size)


def _chosen(store: Store, stages: Iterable[str] | None) -> list[str]:
    """Return the stages to export, each once, in the order of a bundle."""
    chosen = []
    for stage in sorted({*(store.stages() if stages is None else stages)}):
        try:
            store.history.existing(stage)
        except CheckpointNotFoundError as error:
            if stages is None and error.version is not None:  # it was deleted since it was listed
                continue
            raise
        chosen.append(stage)
    return chosen


def _parts(store: Store, stages: list[str], done: list[BundledStage], progress: OnProgress | None) -> Iterator[Part]:
    """Yield the parts of a bundle of these stages, and append to ``done`` each stage that is finished."""
    total = sum(len(store.backend.versions(stage)) for stage in stages)
    before = 0
    for stage in stages:
        yield StagePart(stage)
        chain, versions = Chain(), 0
        attachments: set[str] = set()
        for part in _versions(store, stage):
            try:
                chain.add(part.version, part.entry)
            except BrokenError as broken:
                raise _not_whole(store, stage, broken, part.version) from None
            versions += 1
            yield part
            for record in part.entry.attachments:
                if record.id not in attachments:
                    attachments.add(record.id)
                    yield AttachmentPart(record, _pieces(store, stage, part.version, record))
            if progress is not None:
                progress(Progress(before + versions, max(total, before + versions), "versions", stage))
        yield GapsPart(_gaps(store, stage, chain))
        tags = _tags(store, stage, chain)
        if tags:
            yield TagsPart(tags)
        before += versions
        done.append(BundledStage(stage, versions, chain.newest, tags=tuple(tags)))
    yield EndPart(len(stages), before)


def _pieces(store: Store, stage: str, version: int, record: AttachmentRecord) -> Iterator[memoryview]:
    """Yield the content of an attachment. Its version is in the bundle already, and can't be taken out."""
    try:
        yield from StoredAttachment(store, stage, version, record).pieces()
    except CheckpointNotFoundError as error:
        message = f"{error.message} while it was exported"
        raise CheckpointNotFoundError(message, hint="Export it again", stage=stage, version=version) from None


def _versions(store: Store, stage: str) -> Iterator[VersionPart]:
    """Yield the versions of a stage up to its newest one now, or a later one if that is deleted meanwhile."""
    reached, goal = 0, 0
    while reached == 0 or reached < goal:
        look = store.history.look(stage)
        if not look.durable:  # what a power cut takes from here must not stand in a copy of it
            store.flush(stage)
        goal = goal or look.number
        before = reached
        gaps, _ = store.gaps(stage)
        for number in store.backend.versions(stage):
            if not reached < number <= look.number or number in gaps:
                continue
            try:
                entry, data = store.load(stage, number)
                if number == look.number:
                    store.history.confirm(stage, look, entry)
            except VersionAbsentError:  # deleted since it was listed: the record of gaps will say so
                continue
            reached = number
            yield VersionPart(number, entry, data)
        if reached == before and store.history.look(stage).number == look.number:
            broken = BrokenError("has a newest version that counts as deleted")
            raise _not_whole(store, stage, broken, look.number)


def _gaps(store: Store, stage: str, chain: Chain) -> Gaps:
    """Return the gaps of a stage. They are read after its versions, so that they cover what was deleted meanwhile."""
    gaps = chain.fitted(store.gaps(stage)[0])
    try:
        chain.close(gaps)
        if len(encode_list(gaps)) > MAX_GAPS_BYTES:
            raise BrokenError(f"holds more gaps than fit into the {MAX_GAPS_BYTES} bytes that a bundle has for them")
    except BrokenError as broken:  # a repair does not help: only an acceptance records what is missing
        raise _not_whole(store, stage, broken, None, Hint.ACCEPT_ROLLBACK) from None
    return gaps


def _tags(store: Store, stage: str, chain: Chain) -> dict[str, Tagged]:
    tags, _ = tag.read(store, stage)
    return {name: tagged for name, tagged in tags.named.items() if chain.has(tagged.version, tagged.id)}


def _not_whole(
    store: Store, stage: str, broken: BrokenError, version: int | None, hint: Hint = Hint.VERIFY_AND_REPAIR
) -> IntegrityError:
    return IntegrityError(
        f"stage {printable(stage)} in {store.backend.location} {broken}, and is not exported",
        hint=hint,
        stage=stage,
        version=version,
    )
