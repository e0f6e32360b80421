"""The operations on an opened store: one module for each verb.

Modules that few programs need are loaded when they are first asked for as attributes of this package, which is always before
a lock is taken: ``_operations.verify.verify(store)``.
"""

from types import ModuleType
from typing import TYPE_CHECKING

from checkpoint_manager._loading import load as _load

if TYPE_CHECKING:
    from checkpoint_manager._operations import (
        accept_rollback,
        attach,
        auto_prune,
        choose_index,
        copy_store,
        delete,
        diff,
        export_bundle,
        find,
        import_bundle,
        lineage,
        prune,
        read_attachments,
        repair,
        restore,
        rotate_key,
        running,
        save_together,
        select,
        status,
        tag,
        verify,
    )

__all__ = [
    "accept_rollback",
    "attach",
    "auto_prune",
    "choose_index",
    "copy_store",
    "delete",
    "diff",
    "export_bundle",
    "find",
    "import_bundle",
    "lineage",
    "prune",
    "read_attachments",
    "repair",
    "restore",
    "rotate_key",
    "running",
    "save_together",
    "select",
    "status",
    "tag",
    "verify",
]


def __getattr__(name: str) -> ModuleType:
    """Load a module when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return _load(f"{__name__}.{name}")
