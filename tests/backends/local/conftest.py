"""Stores in a directory, in a state that takes long to reach."""

from __future__ import annotations

import pytest

from checkpoint_manager.backends.local import LocalBackend


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow what was found before, as in a long folder between two of the changes by others that have it listed again."""
    monkeypatch.setattr(LocalBackend, "_may_follow", lambda *_: True)
