"""One opened store: its vault, and everything that can be done to it, each in a module of its own."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from checkpoint_manager._operations.load import Library
from checkpoint_manager._operations.save import Writer
from checkpoint_manager._store.history import History

if TYPE_CHECKING:
    from checkpoint_manager._operations.accept_rollback import Acceptance
    from checkpoint_manager._operations.delete import Deleter
    from checkpoint_manager._operations.export_bundle import Exporter
    from checkpoint_manager._operations.import_bundle import Importer
    from checkpoint_manager._operations.prune import Pruner
    from checkpoint_manager._operations.repair import Repairer
    from checkpoint_manager._operations.restore import Restorer
    from checkpoint_manager._operations.select import Selecting
    from checkpoint_manager._operations.tag import Tagger
    from checkpoint_manager._operations.verify import Verifier
    from checkpoint_manager._store.store import Vault
    from checkpoint_manager.retention import Retention


class Store:
    """What the parts of a manager work with.

    What each program needs, to save, to load and to see whether a stage is done, is there from the start. The rest is loaded
    when it is asked for: ask before a lock is taken, for a module's file is read then, and that may fail. None of it holds a
    state of its own: that two threads may make one each does no harm.
    """

    def __init__(self, vault: Vault, retention: Retention | None = None) -> None:
        self.vault = vault
        self.backend = vault.backend
        self.history = History(vault)
        self.library = Library(vault, self.history)
        self.writer = Writer(vault, self.history)
        if retention is not None:
            from checkpoint_manager._operations.auto_prune import Trimmer  # noqa: PLC0415  # for those who give a policy

            self.writer.afterwards = Trimmer(vault, self.tagger, self.deleter, retention).after

    @cached_property
    def tagger(self) -> Tagger:
        """Knows the names of versions."""
        from checkpoint_manager._operations.tag import Tagger  # noqa: PLC0415  # for those who have tags, or delete

        return Tagger(self.vault, self.history)

    @cached_property
    def selecting(self) -> Selecting:
        """Finds the version that is meant."""
        from checkpoint_manager._operations.select import Selecting  # noqa: PLC0415  # for those who name a version

        return Selecting(self.vault, self.history, self.tagger)

    @cached_property
    def restorer(self) -> Restorer:
        """Restores and clears."""
        from checkpoint_manager._operations.restore import Restorer  # noqa: PLC0415  # for those who go back

        return Restorer(self.vault, self.history, self.selecting, self.library, self.writer)

    @cached_property
    def deleter(self) -> Deleter:
        """Deletes versions."""
        from checkpoint_manager._operations.delete import Deleter  # noqa: PLC0415  # for those who delete

        return Deleter(self.vault, self.history, self.tagger)

    @cached_property
    def verifier(self) -> Verifier:
        """Looks at everything."""
        from checkpoint_manager._operations.verify import Verifier  # noqa: PLC0415  # for those who check the store

        return Verifier(self.vault, self.tagger)

    @cached_property
    def repairer(self) -> Repairer:
        """Puts things in order again."""
        from checkpoint_manager._operations.repair import Repairer  # noqa: PLC0415  # for those who repair

        return Repairer(self.vault, self.history, self.verifier, self.deleter, self.writer)

    @cached_property
    def acceptance(self) -> Acceptance:
        """Moves on after a rollback."""
        from checkpoint_manager._operations.accept_rollback import Acceptance  # noqa: PLC0415  # for those who were turned back

        return Acceptance(self.vault, self.history, self.writer, self.tagger)

    @cached_property
    def pruner(self) -> Pruner:
        """Deletes what no rule keeps."""
        from checkpoint_manager._operations.prune import Pruner  # noqa: PLC0415  # for those who prune

        return Pruner(self.vault, self.history, self.tagger, self.deleter)

    @cached_property
    def exporter(self) -> Exporter:
        """Writes bundles."""
        from checkpoint_manager._operations.export_bundle import Exporter  # noqa: PLC0415  # for those who export

        return Exporter(self.vault, self.history, self.tagger)

    @cached_property
    def importer(self) -> Importer:
        """Reads bundles."""
        from checkpoint_manager._operations.import_bundle import Importer  # noqa: PLC0415  # for those who import

        return Importer(self.vault, self.history, self.tagger)
