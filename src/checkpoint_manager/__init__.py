"""A secure, versioned checkpoint store for pipelines.

Start at :class:`CheckpointManager`. Everything public is importable from here; errors are drawn as a tree in
:mod:`checkpoint_manager.errors`.
"""

from checkpoint_manager._version import __version__
from checkpoint_manager.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    KeyUnavailableError,
    LockTimeoutError,
    PayloadError,
    ResultNotSavedError,
    RollbackError,
    StageNameError,
    StorageError,
    TagError,
    VersionConflictError,
    WrongKeyError,
)
from checkpoint_manager.keys import Keys
from checkpoint_manager.manager import CheckpointManager
from checkpoint_manager.model import (
    Bundle,
    BundledStage,
    Checkpoint,
    Finding,
    KeyFile,
    KeySlot,
    Origin,
    Passphrase,
    Repair,
    Report,
    RotationProgress,
    Version,
)
from checkpoint_manager.stages.outcomes import Outcome, StageReport
from checkpoint_manager.stages.partial import Partial
from checkpoint_manager.store.diff import Change, Diff
from checkpoint_manager.store.retention import Plan, Retention, Verdict

__all__ = [
    "ArgumentError",
    "Bundle",
    "BundledStage",
    "Change",
    "Checkpoint",
    "CheckpointError",
    "CheckpointManager",
    "CheckpointNotFoundError",
    "Diff",
    "Finding",
    "FormatError",
    "IntegrityError",
    "KeyFile",
    "KeySlot",
    "KeyUnavailableError",
    "Keys",
    "LockTimeoutError",
    "Origin",
    "Outcome",
    "Partial",
    "Passphrase",
    "PayloadError",
    "Plan",
    "Repair",
    "Report",
    "ResultNotSavedError",
    "Retention",
    "RollbackError",
    "RotationProgress",
    "StageNameError",
    "StageReport",
    "StorageError",
    "TagError",
    "Verdict",
    "Version",
    "VersionConflictError",
    "WrongKeyError",
    "__version__",
]
