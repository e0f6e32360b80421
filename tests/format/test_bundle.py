"""The format of a bundle by itself: parts to bytes and back, the rules of a history, and messages of any length."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager._format import bundle, bundle_chain, seal
from checkpoint_manager._format.bundle_chain import Chain
from checkpoint_manager._format.bundle_parts import EndPart, GapsPart, StagePart, TagsPart, VersionPart
from checkpoint_manager._format.checkpoint_file import MAX_VERSION, BrokenError, Entry, Writer
from checkpoint_manager._format.gaps import Gap, Gaps
from checkpoint_manager._format.tags import MAX_TAGS, MAX_TAGS_BYTES, Tagged
from tests.bundles import SECRET, end, frame, gaps, id_of, sealed, version

START = datetime(2026, 11, 25, 10, tzinfo=UTC)
ORIGIN = Writer("u", "h", 1, "3", "1")


def entry(number: int, previous: str | None = None, **changes: object) -> Entry:
    fields: dict[str, object] = {
        "id": id_of(number),
        "previous": previous,
        "status": "completed",
        "created_at": START + timedelta(seconds=number),
        "metadata": {"é": [1, 2.5, None, 2**64 - 1]},
        "origin": ORIGIN,
        "size": 4,
        "restored_from": None,
    }
    return Entry(**(fields | changes))  # type: ignore[arg-type]


def chained(*numbers: int) -> Chain:
    chain = Chain()
    for number in numbers:
        chain.add(number, entry(number, id_of(number - 1) if number > 1 else None))
    return chain


@given(
    pieces=st.lists(st.binary(max_size=40_000), max_size=6),
    cuts=st.lists(st.integers(1, 30_000), min_size=1, max_size=5),
)
def test_a_message_comes_back_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    key = seal.generate_key()
    plain = b"".join(pieces)
    whole = b"".join(seal.seal_stream(key, pieces, b"context"))
    assert len(whole) == seal.sealed_length(len(plain))
    assert seal.unseal(key, whole, b"context") == plain

    def cut(data: bytes) -> list[bytes]:
        found, at = [], 0
        for length in itertools.cycle(cuts):
            if at >= len(data):
                return found
            found.append(data[at : at + length])
            at += length
        raise AssertionError

    assert b"".join(seal.unseal_stream(key, cut(whole), b"context")) == plain
    for bad in (whole[:-1], whole + b"\0", whole[:-1] + bytes([whole[-1] ^ 1])):
        with pytest.raises(seal.SealBrokenError):
            list(seal.unseal_stream(key, cut(bad), b"context"))
    with pytest.raises(seal.SealBrokenError):
        list(seal.unseal_stream(key, cut(whole), b"another context"))


def test_a_large_piece_is_sealed_in_slices() -> None:
    key, message = seal.generate_key(), bytes(range(256)) * 10_000
    pieces = list(seal.seal_stream(key, [message], b""))
    assert max(map(len, pieces)) <= seal.SLICE_BYTES + 2 * seal.CHUNK_BYTES
    assert b"".join(seal.unseal_stream(key, pieces, b"")) == message


def test_parts_come_back() -> None:
    parts = [
        StagePart("../a"),
        VersionPart(1, entry(1), b"null"),
        VersionPart(4, entry(4, id_of(3), restored_from=1, status="failed"), b'"ab"'),
        GapsPart(Gaps((Gap(2, 3, id_of(1), id_of(3)),))),
        TagsPart({"a": Tagged(4, id_of(4)), "b": Tagged(1, id_of(1)), "c": Tagged(4, id_of(4))}),
        StagePart("é"),
        VersionPart(1, entry(1, size=300_002), b'"' + b"x" * 300_000 + b'"'),
        GapsPart(Gaps()),
        EndPart(2, 3),
    ]
    header, key = bundle.create(SECRET, now=START)
    file = b"".join(bytes(piece) for piece in bundle.seal_bundle(header, key, parts))
    read = bundle.parse_header(file)
    assert read == header
    assert read.unlock(SECRET) == key
    for step in (1, 100, 10**6):
        body = (file[at : at + step] for at in range(len(header.line), len(file), step))
        assert list(bundle.open_bundle(read, key, body)) == parts
        if step == 1:
            assert file.count(b"../a") == 0


def test_as_many_tags_as_a_record_holds_fit_into_a_bundle() -> None:
    rows = [[f"t{number:063}", MAX_VERSION, id_of(1)] for number in range(MAX_TAGS)]
    assert len(orjson.dumps(rows)) < MAX_TAGS_BYTES
    holes = [[1, MAX_VERSION - 1, None, None, "deleted"]]
    last = version(MAX_VERSION, previous=None, id=id_of(1))
    parts = parts_of(sealed(frame("S", b"train"), last, gaps(*holes), frame("t", orjson.dumps(rows)), end(1, 1)))
    assert parts[3] == TagsPart({name: Tagged(MAX_VERSION, id_of(1)) for name, *_ in rows})


def test_a_chain_knows_which_versions_it_has() -> None:
    chain = chained(3, 4, 7)
    assert [number for number in range(10) if chain.has(number, id_of(number))] == [3, 4, 7]
    assert not chain.has(3, id_of(4))
    assert not chain.has(3, "")
    assert not chain.has(MAX_VERSION, id_of(7))


def test_nothing_is_the_smallest_bundle() -> None:
    assert parts_of(sealed(end(0, 0))) == [EndPart(0, 0)]


def parts_of(file: bytes) -> list[object]:
    header = bundle.parse_header(file)
    key = header.unlock(SECRET)
    assert key is not None
    return list(bundle.open_bundle(header, key, [file[len(header.line) :]]))


def test_it_ends_where_it_says() -> None:
    whole = (frame("S", b"train"), version(1), gaps(), end(1, 1))
    assert len(parts_of(sealed(*whole))) == 4
    for more in (b"\0", b"x" * 100_000, end(1, 1)):
        with pytest.raises(BrokenError, match="goes on after its end"):
            parts_of(sealed(*whole, more))


def test_the_longest_metadata_that_a_checkpoint_file_can_hold_is_the_longest_here() -> None:
    longest = seal.CHUNK_BYTES * 64 - seal.sealed_length(0) - seal.TAG_BYTES * 63
    base = len(version(1, metadata={"x": ""})) - 9 - 2 - 13
    start, stop = frame("S", b"train"), gaps() + end(1, 1)
    assert parts_of(sealed(start, version(1, metadata={"x": "x" * (longest - base)}), stop))
    with pytest.raises(BrokenError, match="metadata that is not in canonical form"):
        parts_of(sealed(start, version(1, metadata={"x": "x" * (longest - base + 1)}), stop))


def test_a_chain_knows_its_missing_ranges() -> None:
    chain = chained(3, 4, 7)
    assert [(each.first, each.last, each.before, each.after) for each in chain.missing] == [
        (1, 2, None, id_of(2)),
        (5, 6, id_of(4), id_of(6)),
    ]
    chain.close(Gaps((Gap(1, 2, None, id_of(2)), Gap(5, 5, id_of(4), None), Gap(6, 6, None, id_of(6), "lost"))))


@pytest.mark.parametrize(
    "gaps",
    [
        (),
        (Gap(1, 2, None, None),),
        (Gap(5, 6, None, None),),
        (Gap(1, 2, None, None), Gap(5, 5, None, None)),
        (Gap(1, 2, None, None), Gap(5, 7, None, None)),
        (Gap(1, 2, None, None), Gap(5, 6, id_of(5), None)),
        (Gap(1, 2, None, None), Gap(5, 6, None, id_of(5))),
        (Gap(1, 2, None, None), Gap(5, 5, None, id_of(1)), Gap(6, 6, id_of(2), None)),
        (Gap(1, 2, id_of(0), None), Gap(5, 6, None, None)),
        (Gap(1, 2, None, None), Gap(5, 6, None, None), Gap(8, 8, None, None)),
        (Gap(1, 6, None, None),),
    ],
)
def test_a_chain_is_not_closed_by_gaps_that_are_not_its_missing_ranges(gaps: tuple[Gap, ...]) -> None:
    with pytest.raises(BrokenError, match="record"):
        chained(3, 4, 7).close(Gaps(gaps))


def test_gaps_are_cut_to_the_missing_ranges() -> None:
    """A version that is in the bundle may have been deleted since, and what comes after the newest is of no concern."""
    there = Gaps((Gap(1, 3, None, id_of(3)), Gap(4, 5, id_of(3), id_of(5), "lost"), Gap(6, 9, None, id_of(9))))
    fitted = chained(3, 4, 7).fitted(there)
    assert tuple(fitted) == (
        Gap(1, 2, None, id_of(2)),
        Gap(5, 5, id_of(4), id_of(5), "lost"),
        Gap(6, 6, None, id_of(6)),
    )
    chained(3, 4, 7).close(fitted)
    assert chained(1, 2).fitted(there) == Gaps()
    assert tuple(chained(10).fitted(Gaps((Gap(1, 9, None, None),)))) == (Gap(1, 9, None, None),)


def test_a_chain_refuses_what_does_not_continue_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, bad in (
        (2, entry(2)),
        (1, entry(1)),
        (MAX_VERSION + 1, entry(5)),
        (3, entry(3, id_of(7))),
        (3, entry(3, id_of(2), restored_from=3)),
        (3, entry(3, id_of(2), restored_from=0)),
    ):
        with pytest.raises(BrokenError, match="holds"):
            chained(1, 2).add(number, bad)
    chained(1, 2).add(3, entry(3, None))
    chained(1, 2).add(3, entry(3, id_of(1)))  # version 2 could not be read when it was saved
    chained(1, 2).add(3, entry(3, id_of(2), created_at=START))  # a clock that was set back
    chained(1, 2).add(MAX_VERSION, entry(3, None))
    with pytest.raises(BrokenError, match="without a version"):
        Chain().close(Gaps())
    with pytest.raises(BrokenError, match="continue"):
        Chain().add(1, entry(1, id_of(0)))
    monkeypatch.setattr(bundle_chain, "MAX_MISSING_RANGES", 2)
    with pytest.raises(BrokenError, match="more than 2 gaps"):
        chained(2, 4, 6)
