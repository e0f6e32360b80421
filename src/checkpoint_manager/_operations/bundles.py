"""A bundle from end to end: its key, its file, and the stages that go into it or come out of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager._format import bundle as sealed_bundle
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._operations import bundle_file as bundle_files
from checkpoint_manager.errors import IntegrityError, WrongKeyError
from checkpoint_manager.models import BundledStage, BundleSummary, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from checkpoint_manager._format.bundle_parts import Parts
    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager._operations.bundle_file import BundleFile, BundlePath
    from checkpoint_manager._operations.export_bundle import Exporter
    from checkpoint_manager._operations.import_bundle import Importer
    from checkpoint_manager.models import OnProgress


def export_stages(
    exporter: Exporter,
    place: BundlePath,
    secret: Secret,
    stages: Iterable[str] | None,
    *,
    overwrite: bool,
    progress: OnProgress | None,
) -> BundleSummary:
    """Write a bundle that this secret opens; the rest as in :meth:`Exporter.chosen` and :func:`bundle_files.write`."""
    if not overwrite:
        bundle_files.refuse_if_there(place)
    chosen = exporter.chosen(stages)
    header, key = sealed_bundle.create(secret, now=datetime.now(UTC))
    done: list[BundledStage] = []
    parts = exporter.parts(chosen, done, progress or _nobody)
    size = bundle_files.write(place, sealed_bundle.seal_bundle(header, key, parts), overwrite=overwrite)
    return BundleSummary(tuple(done), size)


def import_stages(
    importer: Importer,
    place: BundlePath,
    secret: Secret,
    into: Mapping[str, str],
    *,
    dry_run: bool,
    progress: OnProgress | None,
) -> BundleSummary:
    """Read a bundle that this secret opens, and take over what it brings; the rest as in :class:`Importer`.

    Raises:
        WrongKeyError: It was made for another secret.
        IntegrityError: It is damaged, or was changed. Nothing was imported.
    """
    with bundle_files.opened(place) as file:
        try:
            return _Import(importer, file, secret, progress or _nobody).run(into, dry_run=dry_run)
        except BrokenError as broken:
            message = f"the bundle {file.name} {broken}. Nothing was imported: get the file again, or export it anew"
            raise IntegrityError(message) from None


class _Import:
    """One import: the bundle is read once to verify it, and a second time to write what it brings."""

    def __init__(self, importer: Importer, file: BundleFile, secret: Secret, progress: OnProgress) -> None:
        self._importer = importer
        self._file = file
        self._progress = progress
        self._header = sealed_bundle.parse_header(file.opening(sealed_bundle.MAX_HEADER_BYTES))
        self._key = _unlocked(self._header, secret, file.name)

    def run(self, into: Mapping[str, str], *, dry_run: bool) -> BundleSummary:
        size = self._file.size
        total = size if dry_run else 2 * size
        arrivals = self._importer.plan(self._parts(lambda done: self._tell(min(done, size), total)), into)
        if not dry_run and any(arrival.brings_something for arrival in arrivals):
            try:
                self._importer.add(self._parts(lambda done: self._tell(size + min(done, size), total)), arrivals)
            except BrokenError:
                message = (
                    f"the bundle {self._file.name} was changed while it was being imported. What was added before is whole: "
                    "get the file again and import it, and it goes on from there"
                )
                raise IntegrityError(message) from None
        self._tell(total, total)
        return BundleSummary(tuple(arrival.as_result() for arrival in arrivals), size)

    def _tell(self, done: int, total: int) -> None:
        self._progress(Progress(done, total, "bytes"))

    def _parts(self, step: Callable[[int], None]) -> Parts:
        body = self._file.pieces(len(self._header.line), step)
        return sealed_bundle.open_bundle(self._header, self._key, body)


def _unlocked(header: sealed_bundle.Header, secret: Secret, name: str) -> bytes:
    key = header.unlock(secret)
    if key is None:
        given, made = (kind.replace("-", " ") for kind in (secret.kind, header.slot.kind))
        what = "it was made for another one, or its header was changed" if given == made else f"it was made for a {made}"
        raise WrongKeyError(f"the {given} given does not open the bundle {name}: {what}. Nothing was imported")
    return key


def _nobody(_: Progress) -> None:
    pass
