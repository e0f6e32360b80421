"""The table of mutants fits the library: what each one replaces is there, once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutations.mutants import MUTANTS, Mutant

PACKAGE = Path(__file__).parents[2] / "src" / "checkpoint_manager"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_replaces_is_there_once(mutant: Mutant) -> None:
    whole = (PACKAGE / mutant.path).read_text()
    assert whole.count(mutant.old) == 1
    ast.parse(whole.replace(mutant.old, mutant.new))


def test_each_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_the_readme_counts_them() -> None:
    assert f"broken in {len(MUTANTS)} small ways" in (PACKAGE.parents[1] / "README.md").read_text()
