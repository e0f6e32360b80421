"""The next step after an error, in the words of pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointError
from checkpoint_manager.dashboard.hints import HINTS, hint_of
from checkpoint_manager.errors import Hint
from tests.cli.commands import COMMANDS
from tests.cli.test_hints import _PYTHON
from tests.dashboard.conftest import dashboard_of

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager
    from tests.dashboard.conftest import Browser

_OPTION = re.compile(r"(?<!\S)--(?!key\b)[a-z-]+")


def test_each_hint_has_a_sentence_for_pages() -> None:
    assert set(HINTS) == set(Hint)


@pytest.mark.parametrize("hint", Hint)
def test_a_sentence_names_neither_calls_nor_options_but_those_of_commands(hint: Hint) -> None:
    text = HINTS[hint]
    assert not _PYTHON.search(text)
    assert not _OPTION.search(re.sub(r"\{.*?\}", "", text))
    assert text[0].isupper()
    assert not text.endswith(".")
    shown = hint_of(CheckpointError("x", hint=hint), "/data/my store")
    assert "{" not in shown
    for words in re.findall(r"\{(.*?)\}", text):
        assert words.split()[0] in {name for name, *_ in COMMANDS}
        assert f"checkpoint-manager {words} --store '/data/my store'" in shown


def test_a_hint_that_reads_the_same_everywhere_is_shown_as_it_is() -> None:
    assert hint_of(CheckpointError("it is full", hint="Free some space"), "x") == "Free some space"


@pytest.mark.parametrize(
    ("page", "step"),
    [
        ("/stage?stage=nowhere", "Choose a stage on the page of the store"),
        ("/version?stage=train&version=99", "Choose a version on the page of the stage"),
    ],
)
def test_a_page_says_where_to_go_on(visitor: Browser, page: str, step: str) -> None:
    answer = visitor.get(visitor.at(page))
    assert (answer.status_code, step in answer.text) == (404, True)
    assert visitor.at("") in answer.text
    assert (visitor.at("/stage", stage="train") in answer.text) is ("version" in page)


def test_the_command_in_a_hint_names_the_store_and_is_text(cm: CheckpointManager) -> None:
    store = dashboard_of(cm).store
    store.location = "/data/<b>\u202e"
    shown = store.explain(CheckpointError("it is damaged", hint=Hint.VERIFY_AND_REPAIR))
    assert shown.endswith("then run: checkpoint-manager repair --store '/data/<b>\\u202e'")
