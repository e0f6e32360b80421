"""Checkpoints in a PostgreSQL database, for pipelines on several hosts."""

from checkpoint_manager.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
