"""The order of stages on pages, and those that have never run."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager.dashboard import events
from checkpoint_manager.dashboard.cell import Cell
from checkpoint_manager.dashboard.order import in_order

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager
    from tests.dashboard.conftest import Browser, Dashboard

BEGAN = datetime(2026, 11, 27, tzinfo=UTC)


def cells(saved: str, never: str = "", **inputs: str) -> dict[str, Cell]:
    """Return one-letter stages in the order in which they were saved first, and those that have never run."""
    found = {
        name: Cell(name, "done", began=BEGAN + timedelta(hours=hour), inputs=frozenset(inputs.get(name, "")))
        for hour, name in enumerate(saved)
    }
    lists = {name: tuple(each) for each in never.split() for name in each if name not in saved}
    return found | {name: Cell(name, "never run", defined=defined) for name, defined in lists.items()}


@pytest.mark.parametrize(
    ("known", "order"),
    [
        (cells("cab"), "cab"),
        (cells("cab", c="b"), "abc"),  # c was cleared, and made anew of b, which is younger
        (cells("dcba", d="c", c="b", b="a"), "abcd"),
        (cells("abcd", a="d"), "bcda"),
        (cells("abc", a="b", b="a"), "cab"),  # of one another
        (cells("abc", a="b", b="a", c="b"), "abc"),
        (cells("cab", c="ab"), "abc"),
        (cells("abc", a="a"), "abc"),
        (cells("ab", a="x"), "ab"),  # of a stage that is gone
        (cells("ab", never="abcd"), "abcd"),
        (cells("ax", never="abc xyz"), "abcxyz"),  # each behind its own program
        (cells("ba", never="abc", b="a"), "abc"),
        (cells("b", never="abc"), "bca"),  # nothing before it tells where
        (cells(""), ""),
    ],
)
def test_stages_stand_behind_what_they_were_made_of(known: dict[str, Cell], order: str) -> None:
    assert "".join(in_order(known)) == order
    assert "".join(in_order(dict(reversed(known.items())))) == order


def test_a_stage_that_was_saved_before_its_input_stands_behind_it(cm: CheckpointManager, visitor: Browser) -> None:
    rows = cm.stage("rows")(lambda number: number)
    model = cm.stage("model")(lambda rows: rows)
    cm.save_checkpoint("model", 0)  # the first version, before there were rows
    model(rows([1, 2]))
    page = visitor.get(visitor.at("")).text
    assert re.findall(r'class="name" title="(\w+)"', page) == ["clean", "train", "rows", "model"]


@pytest.fixture
def failed(cm: CheckpointManager) -> None:
    """A pipeline failed before its last stages."""

    @cm.stage
    def load() -> int:
        raise ValueError("no rows")

    @cm.stage
    def fit() -> None: ...

    @cm.stage("report <b>\u202e")
    def report() -> None: ...

    with pytest.raises(ValueError, match="no rows"):
        load()


@pytest.mark.usefixtures("failed")
class TestNeverRun:
    def test_it_is_shown_in_its_place_and_filtered(self, visitor: Browser) -> None:
        page = visitor.get(visitor.at("")).text
        assert re.findall(r'class="name" title="(\w+)', page) == ["clean", "train", "load", "fit", "report"]
        assert "<b>2</b> never run" in page
        assert "is-never-run" in visitor.get("/").text
        filtered = visitor.get(visitor.at("", state="never run")).text
        assert re.findall(r'class="name" title="(\w+)', filtered) == ["fit", "report"]
        assert "report <b>" not in page

    def test_its_page_says_so_and_offers_nothing(self, owner: Browser) -> None:
        answer = owner.get(owner.at("/stage", stage="fit"))
        assert answer.status_code == 200
        assert "It has no version. Its program defines it, with" in answer.text
        assert (">load<" in answer.text, "Clear…" in answer.text) == (True, False)
        assert "<b>\u202e" not in answer.text
        assert owner.get(owner.at("/stage", stage="nowhere")).status_code == 404

    def test_one_that_is_saved_then_is_done(self, cm: CheckpointManager, visitor: Browser) -> None:
        cm.save_checkpoint("fit", 1)
        assert "<b>1</b> never run" in visitor.get(visitor.at("")).text

    def test_one_that_was_deleted_has_run(self, cm: CheckpointManager, visitor: Browser) -> None:
        cm.save_checkpoint("fit", 1)
        cm.delete_stage("fit")
        page = visitor.get(visitor.at("")).text
        assert ("<b>1</b> never run" in page, 'title="fit"' in page) == (True, False)
        assert visitor.get(visitor.at("/stage", stage="fit")).status_code == 404

    def test_it_keeps_no_event_back(self, dashboard: Dashboard, visitor: Browser) -> None:
        visitor.get("/")
        assert (dashboard.store.id, "train") in events._look([dashboard.store], {})
        assert (dashboard.store.id, "train") in events._look([dashboard.store], {"stage": "fit"})


def test_a_run_tells_what_follows_before_anything_is_saved(cm: CheckpointManager, visitor: Browser) -> None:
    begun, end = threading.Event(), threading.Event()

    @cm.stage
    def first() -> None:
        begun.set()
        end.wait(20)

    @cm.stage
    def second() -> None: ...

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert begun.wait(20)
        page = visitor.get(visitor.at("")).text
        assert re.findall(r'class="cell is-([\w-]+)">.*?title="(\w+)"', page, re.DOTALL)[2:] == [
            ("running", "first"),
            ("never-run", "second"),
        ]
    finally:
        end.set()
        thread.join()
