"""The manager: what a pipeline's author touches, by topic."""

from checkpoint_manager.manager.manager import CheckpointManager

__all__ = ["CheckpointManager"]
