"""Secrets that no ``repr`` shows."""

from __future__ import annotations

import copy
import pickle

import pytest

from checkpoint_manager._format.hidden import Hidden


def test_a_hidden_value_is_not_shown_copied_or_pickled() -> None:
    secret = Hidden(b"secret")
    assert "secret" not in f"{secret!r}{secret!s}{[secret]}"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="can't be copied or pickled"):
            attempt(secret)
    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)


def test_hidden_values_are_compared_by_what_they_hide() -> None:
    assert Hidden(b"secret") == Hidden(b"secret")
    assert Hidden(b"secret") != Hidden(b"other")
    assert Hidden("text") == Hidden("text")
    assert Hidden("text") != Hidden(b"text")
    assert Hidden(b"secret") != b"secret"
