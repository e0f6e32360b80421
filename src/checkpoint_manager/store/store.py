"""One opened store: its vault, and everything that can be done to it, each in a module of its own."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from checkpoint_manager.store.deleting import Deleter
from checkpoint_manager.store.history import History
from checkpoint_manager.store.reading import Library
from checkpoint_manager.store.repairing import Repairer
from checkpoint_manager.store.restoring import Restorer
from checkpoint_manager.store.rollback import Acceptance
from checkpoint_manager.store.selecting import Selecting
from checkpoint_manager.store.tagging import Tagger
from checkpoint_manager.store.verifying import Verifier
from checkpoint_manager.store.writing import Writer

if TYPE_CHECKING:
    from checkpoint_manager.store.exporting import Exporter
    from checkpoint_manager.store.importing import Importer
    from checkpoint_manager.store.pruning import Pruner
    from checkpoint_manager.store.retention import Retention
    from checkpoint_manager.store.vault import Vault


class Store:
    """What the parts of a manager work with. What few programs need is loaded when it is asked for."""

    def __init__(self, vault: Vault, retention: Retention | None = None) -> None:
        self.vault = vault
        self.backend = vault.backend
        self.history = History(vault)
        self.tagger = Tagger(vault, self.history)
        self.selecting = Selecting(vault, self.history, self.tagger)
        self.library = Library(vault, self.history)
        self.writer = Writer(vault, self.history)
        self.restorer = Restorer(vault, self.history, self.selecting, self.library, self.writer)
        self.deleter = Deleter(vault, self.history, self.tagger)
        self.verifier = Verifier(vault, self.tagger)
        self.repairer = Repairer(vault, self.history, self.verifier, self.deleter, self.writer)
        self.acceptance = Acceptance(vault, self.history, self.writer, self.tagger)
        if retention is not None:
            from checkpoint_manager.store.trimming import Trimmer  # noqa: PLC0415  # for those who give a policy

            self.writer.afterwards = Trimmer(vault, self.tagger, self.deleter, retention).after

    @cached_property
    def pruner(self) -> Pruner:
        """Deletes what no rule keeps."""
        from checkpoint_manager.store.pruning import Pruner  # noqa: PLC0415  # for those who prune

        return Pruner(self.vault, self.history, self.tagger, self.deleter)

    @cached_property
    def exporter(self) -> Exporter:
        """Writes bundles."""
        from checkpoint_manager.store.exporting import Exporter  # noqa: PLC0415  # for those who export

        return Exporter(self.vault, self.history, self.tagger)

    @cached_property
    def importer(self) -> Importer:
        """Reads bundles."""
        from checkpoint_manager.store.importing import Importer  # noqa: PLC0415  # for those who import

        return Importer(self.vault, self.history, self.tagger)
