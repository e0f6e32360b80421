"""Checkpoints in an SQLite database, on one host."""

from checkpoint_manager.backends.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
