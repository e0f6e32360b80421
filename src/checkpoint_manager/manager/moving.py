"""Moving: histories into a bundle, one encrypted file, and out of it into another store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._store.key_sources import given_secret
from checkpoint_manager.backends.stage_names import validate

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from typing import BinaryIO

    from checkpoint_manager._operations.services import Store
    from checkpoint_manager.models import BundleSummary, KeyFile, Passphrase

_LOG = logging.getLogger("checkpoint_manager")


class Moving:
    """The part of a manager that moves histories between stores."""

    _store: Store

    def export_bundle(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        stages: Iterable[str] | None = None,
        *,
        key: Passphrase | KeyFile | os.PathLike[str] | bytes,
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> BundleSummary:
        """Write the histories and tags of stages into a bundle: one file, encrypted as a whole, that another store can import.

        Writers need not stop. The file appears whole or not at all. A bundle has a key of its own, which says nothing about the
        store's; whoever knows the secret given here reads all that the bundle holds.

        Args:
            file: Where to; or an open binary stream.
            stages: Which stages; None: all of them.
            key: What is to open the bundle where it arrives: a passphrase, a key file, or 32 bytes. There is no default: the
                store's own secret may not be known there.
            overwrite: Replace a file that is there.
            progress: Called with how many versions are done, and how many there are.

        Raises:
            CheckpointNotFoundError: There is no such stage. Nothing was written.
            IntegrityError: A stage is damaged, or something is missing. Nothing was written.
            RollbackError: A stage, or its tags, are older than what this user has seen. Nothing was written.
            StorageError: The file exists already, or the operating system refused.
        """
        if isinstance(stages, str):
            raise TypeError(f'stages= is a list of names: write ["{stages}"]')
        chosen = None if stages is None else [validate(stage) for stage in stages]
        from checkpoint_manager._operations import bundles as moving  # noqa: PLC0415  # for those who export

        bundle = moving.export_stages(
            self._store.exporter, file, given_secret(key), chosen, overwrite=overwrite, progress=progress
        )
        _LOG.info("Bundle exported: %d stages, %d versions, %d bytes", len(bundle.stages), bundle.versions, bundle.size)
        return bundle

    def import_bundle(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        key: Passphrase | KeyFile | os.PathLike[str] | bytes,
        into: Mapping[str, str] | None = None,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> BundleSummary:
        """Take over the histories of a bundle: all that is not in this store yet.

        The whole bundle is verified before anything is written. Numbers, times, metadata and origins stay as they were. A stage
        that this store has already gets the newer versions, if both are one history; so doing this again and again keeps a copy
        up to date. Killed in the middle, run it again: it goes on where it stopped.

        So do the tags of versions that are here then. A name that another version has here already is not moved: ``tags_kept``
        of its stage in the result says so.

        Args:
            file: The bundle; or an open binary stream, which is kept, encrypted, in a temporary file.
            key: What the bundle was exported with.
            into: Other names for stages, by their names in the bundle.
            dry_run: Verify the bundle and say what would be added, and change nothing.
            progress: Called with how many bytes are done, and how many there are: it is read twice.

        Raises:
            WrongKeyError: The bundle was made for another key. Nothing was imported.
            IntegrityError: It is damaged, cut short or forged. Nothing was imported.
            FormatError: It was made by a newer version of the library. Nothing was imported.
            VersionConflictError: A stage has another history here; they are named. Nothing was imported. Or another writer
                saved a version meanwhile: import it again.
            RollbackError: This store is older than what this user has seen of it. Nothing was imported.
            TagError: A stage would have too many tags. Nothing was imported.
            StorageError: The operating system refused, or a stage would have more deletions than can be recorded.
        """
        names = {validate(old): validate(new) for old, new in (into or {}).items()}
        from checkpoint_manager._operations import bundles as moving  # noqa: PLC0415  # for those who import

        bundle = moving.import_stages(self._store.importer, file, given_secret(key), names, dry_run=dry_run, progress=progress)
        if not dry_run:
            _LOG.info("Bundle imported: %d stages, %d versions added", len(bundle.stages), bundle.added)
        return bundle
