"""Data as a tree: what a page shows of it, what it leaves out, and where it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from checkpoint_manager.dashboard import tree

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager


def test_arrays_are_told_by_what_they_hold(cm: CheckpointManager) -> None:
    cm.save_checkpoint("arrays", {"large": np.arange(5000.0), "small": np.arange(3)})
    (top,) = tree.part(cm.get_json("arrays").data).nodes
    assert [(node.key, node.kind, node.text.partition(",")[0]) for node in top.children] == [
        ("large", "numpy", "5000 float64"),
        ("small", "numpy", "3 int64"),
    ]


def test_a_page_ends_and_says_where_it_goes_on() -> None:
    data = [[number] * 50 for number in range(50)]
    (top,) = tree.part(data).nodes
    assert top.more is not None
    assert 1 + sum(1 + len(row.children) for row in top.children) <= tree.MOST_ROWS + 1
    (rest,) = tree.part(data, start=top.more).nodes
    assert rest.children[0].key == str(top.more)


@pytest.mark.parametrize(("limit", "value"), [("_MOST_FOUND", 3), ("_MOST_SEARCHED", 4)])
def test_a_search_that_ends_early_says_so(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(tree, limit, value)
    found = tree.part(["x"] * 10, search="X")
    assert (len(found.nodes), found.is_cut) == (3, True)
    assert not tree.part(["x"] * 2, search="X").is_cut
