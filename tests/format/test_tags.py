"""The record of tags: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager._format import seal
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.tags import (
    FORMAT,
    MAX_TAGS,
    MAX_TAGS_BYTES,
    RECORD,
    Tagged,
    Tags,
    decode,
    encode,
    is_name,
)

KEY, KEY_ID, STORE = Hidden(bytes(range(32))), "0123456789abcdef", "ab" * 16
ID = "cd" * 16
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+-]{0,63}", fullmatch=True).filter(is_name)
TAGGED = st.builds(Tagged, st.integers(1, 999_999_999_999), st.from_regex(r"[0-9a-f]{32}", fullmatch=True))


def seal_tags(stage: str, tags: Tags) -> bytes:
    return RECORD.seal(KEY_ID, KEY, STORE, stage, encode(tags))


def open_tags(stage: str, file: bytes, store: str = STORE) -> Tags:
    return decode(RECORD.open(KEY, store, stage, file))


def sealed(plain: bytes, stage: str = "train") -> bytes:
    line = f'{{"format":"{FORMAT}","store":"{STORE}","key":"{KEY_ID}"}}\n'.encode()
    return line + seal.seal(KEY, plain, seal.context(FORMAT, line, stage))


@given(st.dictionaries(NAMES, TAGGED, max_size=10), st.text(min_size=1, max_size=10), st.integers(0, 9))
def test_what_is_sealed_is_opened(named: dict[str, Tagged], stage: str, above: int) -> None:
    tags = Tags(3, ID).changed(named, above=above)
    assert tags.serial == max(3, above) + 1
    file = seal_tags(stage, tags)
    assert RECORD.key_of(file) == KEY_ID
    assert open_tags(stage, file) == tags
    assert list(open_tags(stage, file).named) == sorted(named)


def test_the_largest_record_is_below_the_limit() -> None:
    named = {f"{number:04d}".join("ab") + "x" * 58: Tagged(999_999_999_999, ID) for number in range(MAX_TAGS)}
    assert all(map(is_name, named))
    file = seal_tags("x" * 255, Tags(999_999_999_998, ID).changed(named))
    assert len(file) < MAX_TAGS_BYTES
    assert len(open_tags("x" * 255, file).named) == MAX_TAGS


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        [1, ID],
        [0, ID, []],
        [True, ID, []],
        ["1", ID, []],
        [1, "x", []],
        [1, None, []],
        [1, ID, [["good", 1]]],
        [1, ID, [["good", 0, ID]]],
        [1, ID, [["good", 10**12, ID]]],
        [1, ID, [["good", 1, "x"]]],
        [1, ID, [["latest", 1, ID]]],
        [1, ID, [["7", 1, ID]]],
        [1, ID, [[7, 1, ID]]],
        [1, ID, [["b", 1, ID], ["a", 1, ID]]],
        [1, ID, [["a", 1, ID], ["a", 2, ID]]],
        [1, ID, [[f"a{number:04d}", 1, ID] for number in range(MAX_TAGS + 1)]],
    ],
    ids=range(18),
)
def test_what_is_not_of_the_format_is_refused(fields: Any) -> None:
    with pytest.raises(BrokenError, match="not of this format"):
        open_tags("train", sealed(orjson.dumps(fields)))


def test_another_place_is_refused() -> None:
    file = seal_tags("train", Tags(1, ID))
    with pytest.raises(BrokenError, match="another stage"):
        open_tags("clean", file)
    with pytest.raises(BrokenError, match="another store"):
        open_tags("train", file, store="00" * 16)
    for broken in (b"", b"{}\n", file[1:]):
        with pytest.raises(BrokenError, match="header"):
            RECORD.key_of(broken)
        with pytest.raises(BrokenError, match="header"):
            open_tags("train", broken)


@pytest.mark.parametrize("name", ["good", "_", "v1.2+build-3", "A" * 64, "latest1", "e1"])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "7",
        "7th",
        "1d",
        "-x",
        ".x",
        "+x",
        "latest",
        "Latest",
        "prev",
        "PREV",
        "a b",
        "a@b",
        "a/b",
        "é",
        "a\n",
        "\n",
        "A" * 65,
        "a\0",
    ],
    ids=ascii,
)
def test_what_can_be_taken_for_something_else_is_no_name(name: str) -> None:
    assert not is_name(name)
