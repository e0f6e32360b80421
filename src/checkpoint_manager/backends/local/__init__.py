"""Checkpoints in a directory of the local file system."""

from checkpoint_manager.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
