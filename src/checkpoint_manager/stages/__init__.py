"""Functions and loops that resume: stages.

Each name is imported on first use (PEP 562), so that programs without stages do not pay for them.
"""

from typing import TYPE_CHECKING

from checkpoint_manager._loading import load as _load

if TYPE_CHECKING:
    from checkpoint_manager.stages.bar import Bar
    from checkpoint_manager.stages.by_arguments import version_of
    from checkpoint_manager.stages.coroutines import acquire, run_coroutine
    from checkpoint_manager.stages.decorator import make_stage
    from checkpoint_manager.stages.loop import Loop, make_loop
    from checkpoint_manager.stages.options import Options
    from checkpoint_manager.stages.report import RunReport
    from checkpoint_manager.stages.run import FailedCallError
    from checkpoint_manager.stages.run_history import latest_run, report_of
    from checkpoint_manager.stages.run_id import current_run
    from checkpoint_manager.stages.runner import NOT_PICKLED, Runner, reopened
    from checkpoint_manager.stages.snapshots import snapshot_of
    from checkpoint_manager.stages.threads import in_thread

__all__ = [
    "NOT_PICKLED",
    "Bar",
    "FailedCallError",
    "Loop",
    "Options",
    "RunReport",
    "Runner",
    "acquire",
    "current_run",
    "in_thread",
    "latest_run",
    "make_loop",
    "make_stage",
    "reopened",
    "report_of",
    "run_coroutine",
    "snapshot_of",
    "version_of",
]

_MODULES = {
    "acquire": "coroutines",  # needs asyncio, which takes longer to import than all of these
    "Bar": "bar",  # needs rich, an extra
    "FailedCallError": "run",
    "NOT_PICKLED": "runner",
    "Loop": "loop",
    "Options": "options",
    "RunReport": "report",
    "Runner": "runner",
    "in_thread": "threads",  # needs asyncio
    "latest_run": "run_history",
    "make_loop": "loop",
    "make_stage": "decorator",
    "reopened": "runner",
    "report_of": "run_history",
    "run_coroutine": "coroutines",
    "current_run": "run_id",
    "snapshot_of": "snapshots",  # needs pickle
    "version_of": "by_arguments",
}


def __getattr__(name: str) -> object:
    """Import a name from its module on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_load(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
