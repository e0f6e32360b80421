"""Find the newest result of a function's stage for given arguments, without the function and without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.notes import read_note
from checkpoint_manager._store import listing
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, CheckpointNotFoundError
from checkpoint_manager.stages.fingerprint import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkpoint_manager._store.store import Store

_HINT = "Call the function, or name the arguments as its parameters are named"


def version_of(store: Store, stage: str, arguments: Mapping[str, object]) -> int:
    """Return the newest completed version that is the result of a call with these arguments, among others.

    The history is read from the newest version downwards, and ends at a cleared one.

    Raises:
        CheckpointNotFoundError: There is none.
        IntegrityError: A version above it is damaged or missing: it may be a newer one, or have cleared the stage.
        FingerprintError: An argument can't be compared.
    """
    location = store.backend.location
    hint, codecs = "Name the version instead", store.codecs
    wanted = {name: digest(value, f"argument {name}", hint, location, codecs=codecs) for name, value in arguments.items()}
    with store.session(stage) as session:
        gaps, _ = store.gaps(stage, session)
        end = max((gap.last for gap in gaps if gap.reason == "set aside"), default=0)  # it may have been a cleared version
        for version, entry, fault, _ in listing.walk(store, stage, session):
            if entry is None:
                raise fault if isinstance(fault, CheckpointError) else store.history.absent(stage, version, version)
            if entry.status == "cleared" or version < end:
                break
            note = read_note(entry.metadata)
            if entry.status == "completed" and note is not None and wanted.items() <= note.arguments.items():
                return version
    message = f"stage {printable(stage)} in {location} has no result of these arguments"
    raise CheckpointNotFoundError(message, hint=_HINT, stage=stage)
