"""Each mutant fits the library: its edit has exactly one place, and changes the code there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.mutations.edits import Body, Both, Decide, Delete, Drop, Edit, PlaceError, Replace, Swap, edited
from tests.mutations.mutants import MUTANTS, Mutant

PACKAGE = Path(__file__).parents[2] / "src" / "checkpoint_manager"
MODULE = """
FLAGS = A | B | C  # a comment

class Store:
    def save(self, data):
        if self.closed and not data:
            raise ValueError
        self.write(data)
        self.sync()
        return len(data)

def other():
    sync()
    sync()
"""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_one_place(mutant: Mutant) -> None:
    assert mutant.broken((PACKAGE / mutant.path).read_text())


def test_each_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_there_are_as_many_as_the_readme_says() -> None:
    told = re.search(r"broken in more than (\d+) small ways", (PACKAGE.parents[1] / "README.md").read_text())
    assert told is not None
    assert len(MUTANTS) > int(told[1])


@pytest.mark.parametrize(
    ("symbol", "edit", "old", "new"),
    [
        ("Store.save", Delete("sync"), "        self.sync()\n", "        pass\n"),
        ("Store.save", Swap("write"), "self.write(data)\n        self.sync()", "self.sync()\n        self.write(data)"),
        ("Store.save", Decide("closed", outcome=False), "self.closed and (not data)", "False"),
        ("Store.save", Replace("len(data)", "0"), "return len(data)", "return 0"),
        ("Store.save", Drop("self.closed"), "self.closed and (not data)", "not data"),
        ("Store.save", Drop("data", at=0, of=2), "self.write(data)", "self.write()"),
        ("FLAGS", Drop("B"), "A | B | C", "A | C"),
        ("other", Delete("sync", at=None, of=2), "    sync()\n    sync()", "    pass\n    pass"),
        ("", Both(Drop("A"), Replace("C", "D")), "A | B | C", "B | D"),
        ("other", Body("return 1"), "    sync()\n    sync()", "    return 1"),
        ("other", Delete("sync", at=1, of=2), "    sync()\n    sync()", "    sync()\n    pass"),
    ],
)
def test_an_edit_changes_one_place(symbol: str, edit: Edit, old: str, new: str) -> None:
    before = ast.unparse(ast.parse(MODULE))
    assert before.count(old) == 1
    assert edited(MODULE, symbol, edit) == ast.unparse(ast.parse(before.replace(old, new)))


@pytest.mark.parametrize(
    ("symbol", "edit"),
    [
        ("Store.load", Delete("sync")),
        ("other", Delete("sync")),
        ("other", Delete("flush")),
        ("Store", Body("pass")),
        ("Store.save", Replace("len(data)", "len(data)")),
    ],
)
def test_an_edit_that_fits_no_place_or_several_is_refused(symbol: str, edit: Edit) -> None:
    with pytest.raises(PlaceError):
        edited(MODULE, symbol, edit)


def test_comments_and_line_breaks_do_not_matter() -> None:
    assert edited("x = f(\n  1,  # one\n)", "x", Replace("f(1)", "2")) == "x = 2"
