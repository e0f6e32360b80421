"""What changed between two versions: typed, by path, lists aligned; and a patch that another library applies."""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import jsonpatch
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, Diff, Version
from checkpoint_manager._format import payload
from checkpoint_manager._operations.diff import changes
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.testing.strategies import json_values, values
from tests.strategies import same

KEY = bytes(32)


def diff(old: Any, new: Any) -> Diff:
    cm = CheckpointManager(MemoryBackend(), key=KEY)
    cm.save_checkpoint("train", old)
    cm.save_checkpoint("train", new)
    return cm.diff("train")


def shown(old: Any, new: Any) -> list[tuple[str, str]]:
    return [(change.kind, change.where) for change in changes(old, new)]


def sorted_keys(value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["!dict"] and all(isinstance(pair, list) for pair in value["!dict"]):
        return {"!dict": sorted(map(sorted_keys, value["!dict"]), key=json.dumps)}
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return list(map(sorted_keys, value)) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        (1, 1.0, [("changed", "$")]),
        (1, True, [("changed", "$")]),
        (0.0, -0.0, [("changed", "$")]),
        (None, False, [("changed", "$")]),
        ({"a": [1]}, {"a": {"0": 1}}, [("changed", "$.a")]),
        ({"a": 1, "b": {"c": 2}}, {"b": {"c": 3}, "e": 4}, [("removed", "$.a"), ("changed", "$.b.c"), ("added", "$.e")]),
        ({"a b": 1}, {"a b": 2}, [("changed", '$["a b"]')]),
        ([1, 2, 3], [0, 1, 2, 3], [("added", "$[0]")]),
        ([1, 2, 3], [1, 3], [("removed", "$[1]")]),
        ([1, 2, 3], [1, 9, 3], [("changed", "$[1]")]),
        ([{"id": 1}, 2], [0, {"id": 3}, 2], [("changed", "$[0]"), ("added", "$[1]")]),
        ([7] * 5, [7] * 7, [("added", "$[5]"), ("added", "$[6]")]),
        ([[1, 2], [3]], [[1, 2, 4], [3]], [("added", "$[0][2]")]),
        (list("abcdef"), list("dabcef"), [("added", "$[0]"), ("removed", "$[3]")]),
    ],
)
def test_it_says_what_and_where(old: Any, new: Any, expected: list[tuple[str, str]]) -> None:
    assert shown(old, new) == expected


def test_an_element_in_front_of_ten_thousand_is_one_change() -> None:
    rows = [{"id": number, "value": number % 7} for number in range(10_000)]
    assert shown(rows, [{"id": -1, "value": 0}, *rows]) == [("added", "$[0]")]
    edited = copy.deepcopy(rows)
    edited[5000]["value"] = 99
    del edited[100]
    assert shown(rows, [{"id": -1}, *edited]) == [("added", "$[0]"), ("removed", "$[100]"), ("changed", "$[5000].value")]


def test_lists_without_anything_in_common_end() -> None:
    dice = random.Random(1)
    old, new = ([dice.choice("ab") for _ in range(20_000)] for _ in range(2))
    patched = jsonpatch.apply_patch(copy.deepcopy(old), diff(old, new).as_patch())
    assert patched == new


@given(old=json_values(), new=json_values())
@example(old=None, new={"!": None})
def test_the_patch_makes_the_new_of_the_old(old: Any, new: Any) -> None:
    assert_patched(old, new)


@given(old=values(max_leaves=8), new=values(max_leaves=8))
def test_the_patch_of_values_that_json_does_not_have_is_one_of_their_json(old: Any, new: Any) -> None:
    assert_patched(old, new)


def assert_patched(old: Any, new: Any) -> None:
    """Of the JSON that ``show`` prints; nothing that is needed for the values is needed for it."""
    found = diff(old, new)
    before, after = (payload.form(payload.encode(value)[0]) for value in (old, new))
    assert same(sorted_keys(jsonpatch.apply_patch(before, found.as_patch())), sorted_keys(after))
    assert bool(found) == (not same(sorted_keys(before), sorted_keys(after)))
    json.dumps([found.as_dicts(), found.as_dicts(redact=True)])
    assert len(found.as_text().split("\n")) >= bool(found)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((1, 2), [1, 2], [("changed", "$")]),
        ((1, (2, 3)), (1, (2, 4)), [("changed", "$[1][1]")]),
        ({1: "a", (2, 3): "b"}, {1: "c", (2, 3): "b", None: 0}, [("changed", "$[1]"), ("added", "$[null]")]),
        ({(2, 3): [1]}, {(2, 3): [1, 2]}, [("added", '$[{"!tuple":[2,3]}][1]')]),
        ({1: 0, 2: 0}, {2: 0, 1: 0}, []),
        ({"a": {1, 2}}, {"a": {2, 3}}, [("removed", "$.a[0]"), ("added", "$.a[1]")]),
        ({1, 2}, frozenset({1, 2}), [("changed", "$")]),
        ({"at": dt.date(2026, 1, 1)}, {"at": dt.date(2026, 1, 2)}, [("changed", "$.at")]),
        ({"!tuple": [1]}, (1,), [("changed", "$")]),
        ({"!tuple": [1]}, {"!tuple": [2]}, [("changed", '$["!tuple"][0]')]),
        (float("nan"), float("nan"), []),
        (2**64, float(2**64), [("changed", "$")]),
    ],
)
def test_values_that_json_does_not_have_are_compared_by_their_parts(
    old: Any, new: Any, expected: list[tuple[str, str]]
) -> None:
    assert [(change.kind, change.where) for change in diff(old, new).changes] == expected


def test_redacted_values_tell_their_kind_only() -> None:
    old = {"a": b"secret", "b": (1, 2), "c": {3: "secret"}, "d": 5}
    text = diff(old, {**dict.fromkeys(old), "d": Decimal(5)}).as_text(redact=True)
    assert text.split("\n") == [
        "~ $.a: bytes → null",
        "~ $.b: a tuple of 2 elements → null",
        "~ $.c: a dict of 1 key → null",
        "~ $.d: an integer → a decimal",
    ]


@given(
    old=st.lists(st.integers(0, 5) | st.lists(st.integers(0, 3))),
    edits=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5))),
)
def test_the_patch_of_an_edited_list_makes_the_new_of_the_old(old: list[Any], edits: list[tuple[int, int]]) -> None:
    new = copy.deepcopy(old)
    for place, value in edits:
        if value == 0 and new:
            del new[place % len(new)]
        else:
            new.insert(place, value)
    found = diff(old, new)
    assert same(jsonpatch.apply_patch(copy.deepcopy(old), found.as_patch()), new)
    nested = sum(len(each) for each in old if isinstance(each, list))  # those of two that are compared as a pair
    assert len(found.changes) <= 2 * len(edits) + 2 * len(old) + nested


def test_lists_made_to_be_split_again_and_again_are_compared_in_bounded_steps() -> None:
    """Each element is in a list twice, and once in what is left after the split before: as deep as the list is long."""
    old = ["x2", "A"]
    for number in range(3, 3000):
        old += [f"x{number}", f"x{number - 1}"]
    new = [each for element in old for each in ("F", element)]
    found = changes([*old, "P"], [*new, "Q"])
    patch = Diff(None, None, found).as_patch()  # type: ignore[arg-type]  # the versions do not matter here
    assert jsonpatch.apply_patch([*old, "P"], patch) == [*new, "Q"]


class TestShown:
    OLD, NEW = {"a": 1, "b": "secret", "c": [1, 2]}, {"b": {"x": None}, "c": [1, 2, 3.5], "d": True}

    def test_as_text(self) -> None:
        text = '- $.a: 1\n~ $.b: "secret" → {"x":null}\n+ $.c[2]: 3.5\n+ $.d: true'
        assert diff(self.OLD, self.NEW).as_text() == text

    def test_redacted(self) -> None:
        found = diff(self.OLD, self.NEW)
        text = found.as_text(redact=True)
        assert "~ $.b: a text of 6 characters → an object of 1 key" in text
        assert "+ $.d: true or false" in text
        assert "secret" not in text + json.dumps(found.as_dicts(redact=True)) + repr(found)

    def test_in_colour(self) -> None:
        lines = diff(self.OLD, self.NEW).as_text(colour=True).splitlines()
        assert [line[:5] for line in lines] == ["\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[32m"]

    def test_as_dicts(self) -> None:
        assert diff(self.OLD, self.NEW).as_dicts() == [
            {"kind": "removed", "path": ["a"], "old": 1},
            {"kind": "changed", "path": ["b"], "old": "secret", "new": {"x": None}},
            {"kind": "added", "path": ["c", 2], "new": 3.5},
            {"kind": "added", "path": ["d"], "new": True},
        ]

    def test_long_values_are_cut_and_move_no_cursor(self) -> None:
        line = diff({"\x1b[2J": 0}, {"\x1b[2J": "x" * 500}).as_text()
        assert "\x1b" not in line
        assert len(line) < 120
        assert line.endswith("…")


class TestWhichVersions:
    @pytest.fixture
    def cm(self) -> CheckpointManager:
        cm = CheckpointManager(MemoryBackend(), key=KEY)
        for number in range(1, 6):
            cm.save_checkpoint("train", number)
        cm.delete_versions("train", [4])
        return cm

    def test_by_default_the_newest_and_the_one_before_it(self, cm: CheckpointManager) -> None:
        found = cm.diff("train")
        assert (found.old.number, found.new.number) == (3, 5)

    def test_any_two(self, cm: CheckpointManager) -> None:
        found = cm.diff("train", 5, 1)
        assert (found.old.number, found.new.number, found.as_text()) == (5, 1, "~ $: 5 → 1")
        assert cm.diff("train", 2).new.number == 5
        assert cm.diff("train", new=3).old.number == 2

    def test_nothing_to_compare_with_says_so(self, cm: CheckpointManager) -> None:
        with pytest.raises(CheckpointNotFoundError, match="no version before version 1"):
            cm.diff("train", new=1)
        with pytest.raises(CheckpointNotFoundError, match="was deleted"):
            cm.diff("train", 4)
        with pytest.raises(CheckpointNotFoundError):
            cm.diff("nothing")


class TestTexts:
    """Long texts show where they part."""

    def text(self, old: Any, new: Any) -> str:
        moment = datetime.now(UTC)
        versions = [Version("train", number, "completed", moment) for number in (1, 2)]
        return Diff(versions[0], versions[1], changes({"t": old}, {"t": new})).as_text()

    def test_on_one_line(self) -> None:
        old = f"{'a' * 1000}the quick brown fox{'b' * 1000}"
        text = self.text(old, old.replace("brown", "red"))
        assert "quick brown fox" in text
        assert "quick red fox" in text
        assert len(text) < 300
        assert "from character 1,011" in text

    def test_by_line(self) -> None:
        lines = [f"line {number}" for number in range(1000)]
        changed = [*lines[:500], "a new line", *lines[501:]]
        assert self.text("\n".join(lines), "\n".join(changed)).splitlines() == [
            "~ $.t: ",
            "    @@ from line 499 on @@",
            "     line 498",
            "     line 499",
            "    -line 500",
            "    +a new line",
            "     line 501",
            "     line 502",
        ]

    def test_of_two_that_have_nothing_in_common_the_beginning(self) -> None:
        text = self.text("\n".join(f"old {n}" for n in range(9999)), "\n".join(f"new {n}" for n in range(9999)))
        assert len(text.splitlines()) < 30
        assert "-old 0" in text
        assert "9,999 lines" in text

    @given(st.text(max_size=300), st.text(max_size=300))
    def test_whatever_they_are_it_ends_and_moves_no_cursor(self, old: str, new: str) -> None:
        text = self.text(old, new)
        assert all(line.isprintable() for line in text.split("\n"))
        assert bool(text) == (old != new)


@pytest.mark.parametrize("redact", [False, True])
def test_what_a_content_says_of_itself_is_made_safe(redact: bool) -> None:
    old, new = ({"!content": ["numpy", f"{number}\x1b[2J", 5, f"\x1b{number}" * 32]} for number in (1, 2))
    version = Version("train", 1, "completed")
    text = Diff(version, version, changes(old, new)).as_text(redact=redact)
    assert text.startswith("~ $: ")
    assert text.isprintable()
