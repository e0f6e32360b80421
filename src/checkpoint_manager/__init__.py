"""A secure, versioned checkpoint store for pipelines.

Start with :class:`CheckpointManager`. All public names can be imported from here; :mod:`checkpoint_manager.errors` shows the
errors as a tree. Each name is imported on first use (PEP 562), so that ``--help`` does not wait for the cryptography.
"""

from checkpoint_manager._loading import load as _load
from checkpoint_manager._version import __version__

TYPE_CHECKING = False  # as in typing, which takes longer to import than all that this module needs
if TYPE_CHECKING:
    from checkpoint_manager._operations.diff import Change, Diff
    from checkpoint_manager._operations.restore import RestoreStep
    from checkpoint_manager.aio import AsyncCheckpointManager, AsyncKeys
    from checkpoint_manager.attachment_info import AttachmentInfo
    from checkpoint_manager.credentials import Key, KeyFile, Passphrase
    from checkpoint_manager.errors import (
        ArgumentError,
        AttachmentNotFoundError,
        CheckpointError,
        CheckpointNotFoundError,
        FingerprintError,
        FormatError,
        IntegrityError,
        KeyUnavailableError,
        LocationError,
        LockTimeoutError,
        PartlyRestoredError,
        PayloadError,
        ResultNotSavedError,
        RollbackError,
        StageNameError,
        StorageError,
        TagError,
        VersionConflictError,
        WrongKeyError,
    )
    from checkpoint_manager.keys import Keys, KeySlot
    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.models import (
        Attachment,
        Checkpoint,
        Codec,
        Origin,
        Reason,
        Version,
    )
    from checkpoint_manager.pipelines import PipelinePlan, Pipelines, PipelineStatus
    from checkpoint_manager.reports import (
        BundledStage,
        BundleSummary,
        Finding,
        Progress,
        RepairStep,
        Running,
        StageStatus,
        VerificationReport,
    )
    from checkpoint_manager.retention import PruneDecision, PrunePlan, Retention
    from checkpoint_manager.stages.loop import Loop
    from checkpoint_manager.stages.report import Outcome, RunReport

__all__ = [
    "ArgumentError",
    "AsyncCheckpointManager",
    "AsyncKeys",
    "Attachment",
    "AttachmentInfo",
    "AttachmentNotFoundError",
    "BundleSummary",
    "BundledStage",
    "Change",
    "Checkpoint",
    "CheckpointError",
    "CheckpointManager",
    "CheckpointNotFoundError",
    "Codec",
    "Diff",
    "Finding",
    "FingerprintError",
    "FormatError",
    "IntegrityError",
    "Key",
    "KeyFile",
    "KeySlot",
    "KeyUnavailableError",
    "Keys",
    "LocationError",
    "LockTimeoutError",
    "Loop",
    "Origin",
    "Outcome",
    "PartlyRestoredError",
    "Passphrase",
    "PayloadError",
    "PipelinePlan",
    "PipelineStatus",
    "Pipelines",
    "Progress",
    "PruneDecision",
    "PrunePlan",
    "Reason",
    "RepairStep",
    "RestoreStep",
    "ResultNotSavedError",
    "Retention",
    "RollbackError",
    "RunReport",
    "Running",
    "StageNameError",
    "StageStatus",
    "StorageError",
    "TagError",
    "VerificationReport",
    "Version",
    "VersionConflictError",
    "WrongKeyError",
    "__version__",
]

_HOMES = {
    "aio": [
        "AsyncCheckpointManager",
        "AsyncKeys",
    ],
    "attachment_info": [
        "AttachmentInfo",
    ],
    "credentials": [
        "Key",
        "KeyFile",
        "Passphrase",
    ],
    "errors": [
        "ArgumentError",
        "AttachmentNotFoundError",
        "CheckpointError",
        "CheckpointNotFoundError",
        "FingerprintError",
        "FormatError",
        "IntegrityError",
        "KeyUnavailableError",
        "LocationError",
        "LockTimeoutError",
        "PartlyRestoredError",
        "PayloadError",
        "ResultNotSavedError",
        "RollbackError",
        "StageNameError",
        "StorageError",
        "TagError",
        "VersionConflictError",
        "WrongKeyError",
    ],
    "keys": [
        "KeySlot",
        "Keys",
    ],
    "manager": [
        "CheckpointManager",
    ],
    "models": [
        "Attachment",
        "Checkpoint",
        "Codec",
        "Origin",
        "Reason",
        "Version",
    ],
    "pipelines": [
        "PipelinePlan",
        "PipelineStatus",
        "Pipelines",
    ],
    "reports": [
        "BundleSummary",
        "BundledStage",
        "Finding",
        "Progress",
        "RepairStep",
        "Running",
        "StageStatus",
        "VerificationReport",
    ],
    "stages.report": [
        "Outcome",
        "RunReport",
    ],
    "stages.loop": [
        "Loop",
    ],
    "_operations.diff": [
        "Change",
        "Diff",
    ],
    "_operations.restore": [
        "RestoreStep",
    ],
    "retention": [
        "PruneDecision",
        "PrunePlan",
        "Retention",
    ],
}
"""The module that defines each public name: only that module is imported for it."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    module = _load(f"{__name__}.{_HOME_OF[name]}")
    globals()[name] = vars(module)[name]  # later lookups bypass this function
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
