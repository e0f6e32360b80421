"""A bundle is changed without its key, or made by someone hostile who has it: nothing is imported, nothing else is touched."""

from __future__ import annotations

import base64
import os
import random
import re
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from checkpoint_manager import (
    CheckpointManager,
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    KeyFile,
    Passphrase,
    Progress,
    RollbackError,
    StorageError,
    TagError,
    VersionConflictError,
    WrongKeyError,
)
from checkpoint_manager._format import bundle, seal
from checkpoint_manager._format import key_slot as slots
from checkpoint_manager._format.checkpoint_file import MAX_VERSION
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.keyring import Keyring
from checkpoint_manager._operations.import_bundle import MAX_IMPORTED_VERSION
from checkpoint_manager._store.key_sources import create_key_file
from tests.bundles import KEY, end, frame, frames_of, gaps, id_of, sealed, version

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = seal.CHUNK_BYTES + seal.TAG_BYTES


@pytest.fixture
def whole(store: Path, opened: Callable[..., CheckpointManager], tmp_path: Path) -> bytes:
    """A bundle of the store: two stages, each with a gap and three versions."""
    opened().export_bundle(tmp_path / "whole", key=KEY)
    return (tmp_path / "whole").read_bytes()


@pytest.fixture
def large(tmp_path: Path) -> bytes:
    """A bundle of some chunks."""
    cm = CheckpointManager(tmp_path / "large store", key=KEY)
    for letter in "abc":
        cm.save_checkpoint("train", letter * 20_000)
    cm.export_bundle(tmp_path / "large", key=KEY)
    return (tmp_path / "large").read_bytes()


@pytest.fixture
def target(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "target", key=bytes(32))


@pytest.fixture
def attempt(target: CheckpointManager, tmp_path: Path) -> Callable[[bytes], Exception]:
    """Import bytes, which must be refused without a trace; returns why."""
    path = tmp_path / "attempt"

    def attempt(data: bytes) -> Exception:
        path.write_bytes(data)
        before = contents(tmp_path / "target")
        with pytest.raises((IntegrityError, FormatError, WrongKeyError)) as caught:
            target.import_bundle(path, key=KEY)
        assert contents(tmp_path / "target") == before
        assert target.stages() == []
        return caught.value

    return attempt


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and ".locks" not in path.parts
    }


# Without the key


def test_any_edited_byte_of_a_bundle_is_refused(whole: bytes, attempt: Callable[[bytes], Exception]) -> None:
    body = whole.index(b"\n") + 1
    chosen = {*range(body), *range(body, body + 60), *range(len(whole) - 20, len(whole))}
    chosen |= {*random.Random(1).sample(range(len(whole)), 150)}
    for position in sorted(chosen):
        for change in (1, 128):
            edited = bytearray(whole)
            edited[position] ^= change
            attempt(bytes(edited))


def test_truncated_at_sampled_lengths_is_refused(large: bytes, attempt: Callable[[bytes], Exception]) -> None:
    body = large.index(b"\n") + 1
    lengths = {*range(0, body + 60, 7), body - 1, body, len(large) - 1, len(large) - 16, len(large) - 17}
    edges = range(body + seal.HEADER_BYTES, len(large), CHUNK)
    lengths |= {edge + more for edge in edges for more in (-1, 0, 1) if edge + more < len(large)}
    for length in sorted(lengths):
        attempt(large[:length])


def test_appended_bytes_are_refused(whole: bytes, large: bytes, attempt: Callable[[bytes], Exception]) -> None:
    for file in (whole, large):
        for more in (b"\0", b"\n", file[-16:], file[-CHUNK:], file, bytes(CHUNK)):
            assert "does not open" in str(attempt(file + more))


def test_chunks_reordered_doubled_or_dropped_are_refused(large: bytes, attempt: Callable[[bytes], Exception]) -> None:
    start = large.index(b"\n") + 1 + seal.HEADER_BYTES
    chunks = [large[at : at + CHUNK] for at in range(start, len(large), CHUNK)]
    assert len(chunks) == 4
    for order in ([1, 0, 2, 3], [0, 2, 1, 3], [0, 0, 1, 2, 3], [0, 2, 3], [0, 1, 2], [3], [0, 1, 2, 3, 3], [1, 2, 3]):
        assert "does not open" in str(attempt(large[:start] + b"".join(chunks[index] for index in order)))


def test_two_bundles_spliced_are_refused(
    store: Path, opened: Callable[..., CheckpointManager], large: bytes, tmp_path: Path, attempt: Callable[[bytes], Exception]
) -> None:
    """Even two bundles of the same histories under the same secret."""
    cm = CheckpointManager(tmp_path / "large store", key=KEY)
    cm.export_bundle(tmp_path / "again", key=KEY)
    other = (tmp_path / "again").read_bytes()
    assert len(other) == len(large)
    body = large.index(b"\n") + 1
    for at in (body, body + seal.HEADER_BYTES, body + seal.HEADER_BYTES + CHUNK, len(large) - 16):
        assert "does not open" in str(attempt(large[:at] + other[at:]))


def test_another_key_does_not_open_a_bundle(whole: bytes, target: CheckpointManager, tmp_path: Path) -> None:
    (tmp_path / "by key").write_bytes(whole)
    target.save_checkpoint("x", 1)
    target.export_bundle(tmp_path / "by passphrase", key=Passphrase("c0rrect horse"))
    create_key_file(tmp_path / "other.key")
    for path in (tmp_path / "by key", tmp_path / "by passphrase"):
        for key in (bytes(32), Passphrase("another horse"), KeyFile(str(tmp_path / "other.key"))):
            with pytest.raises(WrongKeyError, match=r"does not open the bundle .* Nothing was imported") as caught:
                target.import_bundle(path, key=key)
            assert "horse" not in str(caught.value)
    assert target.import_bundle(tmp_path / "by passphrase", key=Passphrase("c0rrect horse"), dry_run=True).versions == 1


def test_the_key_of_the_store_does_not_open_a_bundle(whole: bytes, opened: Callable[..., CheckpointManager]) -> None:
    header = bundle.parse_header(whole)
    key = opened()._store.keyring.active[1]
    with pytest.raises(seal.SealBrokenError):
        seal.unseal(key, whole[len(header.line) :], seal.context(bundle.FORMAT, "body", header.line))
    assert header.unlock(slots.Secret("key-file", key)) is None


def test_a_slot_of_a_store_is_none_of_a_bundle_and_the_other_way_round(
    store: Path, whole: bytes, tmp_path: Path, edit_keyring: Callable[[Callable[[Any], object]], None]
) -> None:
    """Both may open with one secret: what is wrapped for the one must not be taken for a key of the other."""
    fields = orjson.loads((store / "keyring.json").read_bytes())
    slot = fields["slots"][0] | {"label": "", "wrapped": {"bundle": fields["slots"][0]["wrapped"][fields["active"]]}}
    header = orjson.dumps({"format": bundle.FORMAT, "slot": slot}) + b"\n"
    assert bundle.parse_header(header).unlock(slots.Secret("key-file", Hidden(bytes(range(32))))) is None
    foreign = orjson.loads(whole[: whole.index(b"\n")])["slot"]

    def plant(keyring: Any) -> None:
        keyring["slots"] = [foreign | {"wrapped": {keyring["active"]: foreign["wrapped"]["bundle"]}}]

    edit_keyring(plant)
    assert Keyring.parse((store / "keyring.json").read_bytes(), where="x")
    with pytest.raises(WrongKeyError):
        CheckpointManager(store, key=KEY)


def test_an_argon2_cost_out_of_bounds_is_refused_before_it_is_paid(
    target: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.save_checkpoint("x", 1)
    target.export_bundle(tmp_path / "bundle", key=Passphrase("words"))
    line, body = (tmp_path / "bundle").read_bytes().split(b"\n", 1)
    monkeypatch.setattr(slots.Slot, "derive", lambda *_: pytest.fail("it was paid"))
    for name, values in (
        ("memory_kib", (0, -1, 8, slots.MIN_MEMORY_KIB - 1, slots.MAX_MEMORY_KIB + 1, 2**40, 19456.5, "19456", None, True)),
        ("passes", (0, 1, slots.MAX_PASSES + 1, 2**31, -3)),
        ("lanes", (0, slots.MAX_LANES + 1, 2**24)),
    ):
        for value in values:
            fields = orjson.loads(line)
            fields["slot"][name] = value
            (tmp_path / "edited").write_bytes(orjson.dumps(fields) + b"\n" + body)
            with pytest.raises(IntegrityError, match="outside of the bounds"):
                target.import_bundle(tmp_path / "edited", key=Passphrase("words"))


def test_a_header_spelled_otherwise_is_refused(whole: bytes, attempt: Callable[[bytes], Exception]) -> None:
    line, body = whole.split(b"\n", 1)
    fields = orjson.loads(line)
    for header in (
        b"",
        b"\n",
        b"{}\n",
        b"[" * 5000 + b"\n",
        line + b" \n",
        line.replace(b",", b", ", 1) + b"\n",
        line + b"\r\n",
        line[:-1] + b',"format":"checkpoint-manager-bundle/1"}\n',
        orjson.dumps(fields | {"more": 1}) + b"\n",
        orjson.dumps({"format": fields["format"], "slot": [1]}) + b"\n",
        orjson.dumps({"format": fields["format"], "slot": fields["slot"] | {"label": "x"}}) + b"\n",
        orjson.dumps({"format": fields["format"], "slot": fields["slot"] | {"kind": "none"}}) + b"\n",
        orjson.dumps({"format": "none", "slot": fields["slot"]}) + b"\n",
        b" " * bundle.MAX_HEADER_BYTES + line + b"\n",
    ):
        assert "header" in str(attempt(header + body)) or "slot" in str(attempt(header + body))


def test_a_bundle_of_a_newer_format_says_so(whole: bytes, attempt: Callable[[bytes], Exception]) -> None:
    error = attempt(whole.replace(b"checkpoint-manager-bundle/1", b"checkpoint-manager-bundle/2", 1))
    assert isinstance(error, FormatError)
    assert "or a newer one" in str(error)
    error = attempt(sealed(frame("S", b"train"), version(1), gaps(), frame("Q", b"new"), end(1, 1)))
    assert isinstance(error, FormatError)
    assert "newer" in str(error)


def test_no_name_no_plaintext_and_no_key_shows_in_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in any file that is open or lies about while it is exported and imported."""
    markers = [b"the patient's d1agnosis", b"a n0te of the run", b"St4ge of oncology", b"c0rrect horse"]
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    there = CheckpointManager(tmp_path / "target", key=bytes(32))
    for _ in range(3):
        cm.save_checkpoint("St4ge of oncology", {"text": "the patient's d1agnosis"}, metadata={"note": "a n0te of the run"})
    cm.delete_versions("St4ge of oncology", [1])
    markers.append(cm._store.keyring.active[1].raw)
    looked = 0

    def look(_: object) -> None:
        nonlocal looked
        for path in [*tmp_path.rglob("*"), *Path("/proc/self/fd").iterdir()]:
            if path.is_file() and str(tmp_path) in os.path.realpath(path):
                data = path.read_bytes()
                looked += 1
                for marker in markers:
                    for form in (marker, base64.b64encode(marker)[:-4], marker.hex().encode()):
                        assert form not in data

    secret = Passphrase("c0rrect horse")
    cm.export_bundle(tmp_path / "bundle", key=secret, progress=look)
    with (tmp_path / "bundle").open("rb") as stream:
        there.import_bundle(stream, key=secret, progress=look)
    look(None)
    assert looked > 5
    assert list(spool.iterdir()) == []
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_the_bundle_is_not_written_through(target: CheckpointManager, tmp_path: Path) -> None:
    target.save_checkpoint("x", 1)
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "bundle").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="exists already"):
        target.export_bundle(tmp_path / "bundle", key=KEY)
    target.export_bundle(tmp_path / "bundle", key=KEY, overwrite=True)
    assert not (tmp_path / "bundle").is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_something_else_in_the_place_of_a_bundle_is_refused(target: CheckpointManager, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bundle" if kind != "device" else Path(os.devnull)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(StorageError, match="is not a regular file"):
        target.import_bundle(path, key=KEY)


def test_a_bundle_changed_between_its_two_readings_adds_nothing_forged(
    opened: Callable[..., CheckpointManager], target: CheckpointManager, tmp_path: Path
) -> None:
    cm, path = opened(), tmp_path / "bundle"
    for letter in "abc":
        cm.save_checkpoint("long", letter * 400_000)
    whole = cm.export_bundle(path, ["long"], key=KEY)

    def change(progress: Progress) -> None:
        if progress.done == progress.total // 2:
            with path.open("r+b") as file:
                file.seek(whole.size - 20_000)
                file.write(bytes(20_000))

    with pytest.raises(IntegrityError, match="changed while it was being imported"):
        target.import_bundle(path, key=KEY, progress=change)
    assert target.verify().ok
    assert [target.load_checkpoint("long", each.number)[0] for each in reversed(target.history("long"))] == ["a", "b"]
    cm.export_bundle(path, ["long"], key=KEY, overwrite=True)
    assert target.import_bundle(path, key=KEY).added == 1


def test_an_older_bundle_takes_nothing_back(
    whole: bytes, opened: Callable[..., CheckpointManager], target: CheckpointManager, tmp_path: Path
) -> None:
    cm = opened()
    cm.save_checkpoint("train", "newer")
    cm.export_bundle(tmp_path / "newer", key=KEY)
    target.import_bundle(tmp_path / "newer", key=KEY)
    assert target.import_bundle(tmp_path / "whole", key=KEY).added == 0
    assert target.load_checkpoint("train") == "newer"


def test_a_stage_that_was_rolled_back_is_not_imported_into(whole: bytes, target: CheckpointManager, tmp_path: Path) -> None:
    target.import_bundle(tmp_path / "whole", key=KEY)
    for path in (*(tmp_path / "target").rglob("*.checkpoint"), *(tmp_path / "target").rglob("*.pending")):
        if path.parent.name == "train" or path.name == "train.checkpoint":
            path.unlink()
    again = CheckpointManager(tmp_path / "target", key=bytes(32))
    with pytest.raises(RollbackError):
        again.import_bundle(tmp_path / "whole", key=KEY)
    warned = CheckpointManager(tmp_path / "target", key=bytes(32), on_rollback="warn")
    with pytest.raises(RollbackError, match="accept_rollback"):
        warned.import_bundle(tmp_path / "whole", key=KEY)
    assert warned.import_bundle(tmp_path / "whole", key=KEY, rename={"train": "train again"}).added == 3


# With the key: a bundle that a hostile sender made


def test_truncated_at_every_part_is_refused(whole: bytes, attempt: Callable[[bytes], Exception]) -> None:
    frames = frames_of(whole)
    assert [chr(each[0]) for each in frames] == list("SVDVDVDGSVDVDVDGE")
    for length in range(len(frames) - 1):
        assert "ends in the middle of a part" in str(attempt(sealed(*frames[:length])))
        attempt(sealed(*frames[:length], frames[-1]))
        attempt(sealed(*frames[:length], frames[length][:-1]))
    attempt(sealed(*frames[:-1]))


def test_parts_reordered_doubled_or_dropped_are_refused(whole: bytes, attempt: Callable[[bytes], Exception]) -> None:
    frames = frames_of(whole)
    for at in range(len(frames)):
        attempt(sealed(*frames[:at], *frames[at + 1 :]))
        attempt(sealed(*frames[: at + 1], *frames[at:]))
        attempt(sealed(*frames[:at], *frames[at + 1 : at + 2], frames[at], *frames[at + 2 :]) if at + 1 < len(frames) else b"")
    attempt(sealed(*frames[:-1]))
    attempt(sealed(*frames, b"\0"))
    attempt(sealed(*frames, *frames))
    attempt(sealed(*frames[8:16], *frames[:8], frames[-1]))
    attempt(sealed(*frames[:8], *frames[:8], end(2, 6)))


def test_huge_declared_lengths_are_refused_without_the_memory(attempt: Callable[[bytes], Exception]) -> None:
    start = frame("S", b"train")
    size = 2**60
    bundles = [sealed(frame("S", b"", length)) for length in (1021, 2**20, 2**32, 2**63, 2**64 - 1)] + [
        sealed(start, frame("V", b"1\n", 2**40)),
        sealed(start, version(1, size=size)),
        sealed(start, version(1, size=size)[:-13] + frame("D", b"null", size)),
        sealed(start, version(1), frame("G", b"[]", 2**35)),
        sealed(start, version(1), gaps(), frame("t", b"", 2**40)),
        sealed(start, version(1), gaps(), frame("E", b"[1,1]", 2**50)),
    ]
    tracemalloc.start()
    try:
        for data in bundles:
            attempt(data)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["", "x" * 256, b"\xed\xa0\x80", b"\xff", "é" * 511])
def test_names_that_no_stage_can_have_are_refused(name: str | bytes, attempt: Callable[[bytes], Exception]) -> None:
    encoded = name if isinstance(name, bytes) else name.encode()
    assert "stage name" in str(attempt(sealed(frame("S", encoded), version(1), gaps(), end(1, 1)))) or len(encoded) > 1020


def test_evil_names_stay_inside_of_the_store(target: CheckpointManager, tmp_path: Path) -> None:
    names = ["../../evil", "/etc/evil", "..", ".", "a/b", "C:\\evil", "nul", "evil\0", "-rf", "~", "\u202eevil", "keyring.json"]
    names.sort()
    path = tmp_path / "bundle"
    path.write_bytes(sealed(*(frame("S", name.encode()) + version(1) + gaps() for name in names), end(len(names), len(names))))
    before = sorted(each for each in tmp_path.rglob("*") if "target" not in each.parts)
    assert target.import_bundle(path, key=KEY).added == len(names)
    assert target.stages() == names
    assert sorted(each for each in tmp_path.rglob("*") if "target" not in each.parts) == before
    assert all(re.fullmatch(r"[a-z0-9_.%-]+", each.name) for each in (tmp_path / "target").rglob("*"))
    assert target.verify().problems == ()


def test_version_numbers_near_overflow_or_doubled_are_refused(attempt: Callable[[bytes], Exception]) -> None:
    for numbers in ((0,), (1, 1), (2, 1), (1, 3), (1, 2, 2), (10**12,), (2**63,), (2**64,), (-1,)):
        attempt(sealed(frame("S", b"train"), *map(version, numbers), gaps(), end(1, len(numbers))))
    for spelled in ("01", "+1", "1.0", "", "\u0661", "1 ", "1e0", "0x1"):
        attempt(sealed(frame("S", b"train"), version(spelled), gaps(), end(1, 1)))


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [[1, 1, None, None, "deleted"]],
        [[1, 3, None, None, "deleted"]],
        [[0, 2, None, None, "deleted"]],
        [[1, 2, None, None, "deleted"], [2, 2, None, None, "deleted"]],
        [[1, 2, None, None, "deleted"], [4, 4, None, None, "deleted"]],
        [[2, 2, None, None, "deleted"], [1, 1, None, None, "deleted"]],
        [[1, 2, id_of(9), None, "deleted"]],
        [[1, 2, None, id_of(9), "deleted"]],
        [[1, 2, None, None, "stolen"]],
        [[1, 2, None, "x", "deleted"]],
        [[1.0, 2, None, None, "deleted"]],
        [[True, 2, None, None, "deleted"]],
        [["1", 2, None, None, "deleted"]],
        [[1, 2, None, None]],
        [1],
        [[1, 2**64 - 1, None, None, "deleted"]],
    ],
    ids=repr,
)
def test_records_of_deletions_that_do_not_fit_are_refused(listed: list[Any], attempt: Callable[[bytes], Exception]) -> None:
    attempt(sealed(frame("S", b"train"), version(3), frame("G", orjson.dumps(listed)), end(1, 1)))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "x"},
        {"id": id_of(1).upper()},
        {"id": None},
        {"previous": id_of(9)},
        {"previous": 1},
        {"status": "done"},
        {"created_at": "2026-11-25T10:00:00.000000"},
        {"created_at": "2026-11-25T10:00:00.000000+02:00"},
        {"created_at": "0001-01-01T00:00:00.000000"},
        {"created_at": 5},
        {"metadata": [["a", 1]]},
        {"metadata": None},
        {"metadata": {"x": "x" * 2**20}},
        {"origin": {"user": "u"}},
        {"origin": "root"},
        {"size": -1},
        {"size": 5},
        {"size": 4.0},
        {"size": True},
        {"restored_from": 2},
        {"restored_from": 0},
        {"restored_from": "1"},
        {"restored_from": True},
        {"more": 1},
    ],
    ids=repr,
)
def test_metadata_that_can_not_be_is_refused(fields: dict[str, Any], attempt: Callable[[bytes], Exception]) -> None:
    attempt(sealed(frame("S", b"train"), version(1), version(2, **fields), gaps(), end(1, 2)))


def test_metadata_and_data_that_are_no_json_are_refused(attempt: Callable[[bytes], Exception]) -> None:
    start, stop = frame("S", b"train"), gaps() + end(1, 1)
    for data in (b"", b"nul", b"{}x", b"\xff", b"NaN", b"[" * 5000, b'"\xed\xa0\x80"'):
        assert "data is not JSON" in str(attempt(sealed(start, version(1, data), stop)))
    good = version(1)
    for entry in (b"", b"{}", b"[]", b"x", b"[" * 5000, good[11:-13].replace(b",", b", ", 1)):
        attempt(sealed(start, frame("V", b"1\n" + entry), frame("D", b"null"), stop))


@pytest.mark.parametrize("deep", [b"[" * 500 + b"]" * 500, b'{"a":' * 500 + b"1" + b"}" * 500], ids=["lists", "objects"])
def test_data_nested_deeper_than_can_be_saved_breaks_no_operation(
    target: CheckpointManager, tmp_path: Path, deep: bytes
) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(sealed(frame("S", b"deep"), version(1, b"{}"), version(2, b'{"new":%b}' % deep), gaps(), end(1, 2)))
    target.import_bundle(path, key=KEY)
    assert target.verify("deep").ok
    assert target.load_checkpoint("deep").keys() == {"new"}
    with pytest.raises(FormatError, match="nested deeper than 254 levels"):
        target.diff("deep")
    target.restore_checkpoint("deep", 2)
    target.keys.rotate()
    assert target.load_checkpoint("deep").keys() == {"new"}


@pytest.mark.parametrize(
    "form",
    [
        b'{"!codec":["os.system","touch planted"]}',
        b'{"!numpy":["os.system","touch planted"]}',
        b'{"!datetime":["2026-11-23T10:00:00",0,"../../planted"]}',
        b'{"!set":[[1]]}',
        b'{"!dict":[[1,2],[1,3]]}',
        b'{"!pickle":"gASVCAAAAAAAAACMBHRlc3SULg=="}',
        b'{"!int":"0x%b"}' % (b"f" * 100 + b"g"),
        b'{"a":1,"a":2}',
    ],
    ids=lambda form: form[:12].decode(),
)
def test_forms_that_no_value_has_run_nothing_and_break_no_operation(
    target: CheckpointManager, tmp_path: Path, form: bytes
) -> None:
    """Whoever makes a bundle may encrypt what they like: it is an error when it is loaded, and can be left behind."""
    path = tmp_path / "bundle"
    hostile = b"values/1\n[%b]" % form
    path.write_bytes(sealed(frame("S", b"odd"), version(1, b"{}"), version(2, hostile), gaps(), end(1, 2)))
    target.import_bundle(path, key=KEY)
    assert target.verify("odd").ok
    for read in (target.load_checkpoint, lambda stage: target.update_checkpoint(stage, str)):
        with pytest.raises(FormatError):
            read("odd")
    assert [each.number for each in target.history("odd")] == [2, 1]
    target.restore_checkpoint("odd", 1)
    assert target.load_checkpoint("odd") == {}
    assert not list(tmp_path.rglob("planted"))


def test_a_history_that_is_not_the_stores_own_is_not_continued(target: CheckpointManager, tmp_path: Path) -> None:
    """Not by any bundle whose version of that number is another one, nor by one that can't tell."""
    path = tmp_path / "bundle"
    path.write_bytes(sealed(frame("S", b"train"), version(1), version(2), gaps(), end(1, 2)))
    target.import_bundle(path, key=KEY)
    before = contents(tmp_path / "target")
    other = {"history": "b"}
    for versions, listed in (
        ([version(1, **other), version(2, **other), version(3, **other)], []),
        ([version(1), version(2, id=id_of(2, "b")), version(3, **other)], []),
        ([version(1), version(3)], [[2, 2, None, None, "lost"]]),
        ([version(4)], [[1, 3, None, None, "deleted"]]),
        ([version(3, previous=None)], [[1, 2, None, None, "deleted"]]),
        ([version(1, **other)], []),
    ):
        path.write_bytes(sealed(frame("S", b"train"), *versions, gaps(*listed), end(1, len(versions))))
        if versions[-1] == version(3) and len(versions) == 2:  # version 3 names version 2 itself
            assert target.import_bundle(path, key=KEY, dry_run=True).added == 1
            continue
        with pytest.raises(VersionConflictError, match="another history"):
            target.import_bundle(path, key=KEY)
        assert contents(tmp_path / "target") == before


def test_parts_that_an_older_reader_need_not_know_are_passed_over_where_they_may_stand(
    target: CheckpointManager, tmp_path: Path, attempt: Callable[[bytes], Exception]
) -> None:
    stage, more = frame("S", b"train") + version(1), frame("u", b'{"good":1}')
    for frames in ((more, stage, gaps(), end(1, 1)), (stage, more, gaps(), end(1, 1)), (stage, gaps(), end(1, 1), more)):
        attempt(sealed(*frames))
    for kind in ("s", "7", "\n", "D", "["):
        attempt(sealed(frame("S", b"train"), frame(kind, b""), version(1), gaps(), end(1, 1)))
    (tmp_path / "bundle").write_bytes(sealed(stage, gaps(), more, frame("z", b"z" * 70_000), end(1, 1)))
    assert target.import_bundle(tmp_path / "bundle", key=KEY).added == 1


GOOD = ["good", 1, id_of(1)]


@pytest.mark.parametrize(
    "listed",
    [
        [],
        {},
        "good",
        1,
        None,
        [["good", 3, id_of(3)]],
        [["good", 2, id_of(2)]],
        [["good", 0, id_of(1)]],
        [["good", -1, id_of(1)]],
        [["good", 2**64 - 1, id_of(1)]],
        [["good", 1, id_of(1, "b")]],
        [["good", 1, id_of(1).upper()]],
        [["good", 1, ""]],
        [["good", 1, None]],
        [["good", True, id_of(1)]],
        [["good", 1.0, id_of(1)]],
        [["good", "1", id_of(1)]],
        [["good", 1]],
        [[*GOOD, 1]],
        [GOOD, GOOD],
        [["z", 1, id_of(1)], GOOD],
        [GOOD, ["other", 9, id_of(9)]],
        [[f"t{number:04}", 1, id_of(1)] for number in range(1001)],
        [[[], 1, id_of(1)]],
        *(
            [[name, 1, id_of(1)]]
            for name in ("", "7", "latest", "Prev", "a b", "-rf", "../x", "x\n", "\u202ex", "é", "x" * 65, 7)
        ),
    ],
    ids=lambda listed: ascii(listed)[:60],
)
def test_tags_that_can_not_be_are_refused(listed: Any, attempt: Callable[[bytes], Exception]) -> None:
    """Of versions that the bundle does not hold, with names that are none, too many, spelled otherwise."""
    stage = frame("S", b"train") + version(1) + version(4, previous=None)
    holes = gaps([2, 3, None, None, "deleted"])
    assert "tag" in str(attempt(sealed(stage, holes, frame("t", orjson.dumps(listed)), end(1, 2))))


def test_tags_doubled_misplaced_or_of_another_stage_are_refused(attempt: Callable[[bytes], Exception]) -> None:
    tags = frame("t", orjson.dumps([GOOD]))
    one, two = frame("S", b"a") + version(1), frame("S", b"b") + version(1, history="b")
    for frames in (
        (tags, one, gaps(), end(1, 1)),
        (one, tags, gaps(), end(1, 1)),
        (one, gaps(), tags, tags, end(1, 1)),
        (one, gaps(), tags, frame("u", b""), tags, end(1, 1)),
        (one, gaps(), two, gaps(), tags, end(2, 2)),
        (one, gaps(), end(1, 1), tags),
    ):
        attempt(sealed(*frames))
    for plain in (b"", b"[", orjson.dumps([GOOD]) + b" ", b"\xff", b"[" * 5000):
        attempt(sealed(one, gaps(), frame("t", plain), end(1, 1)))
    for length in (2**20 + 1, 2**40):
        attempt(sealed(one, gaps(), frame("t", orjson.dumps([GOOD]), length), end(1, 1)))


def test_a_bundle_moves_no_tag_and_takes_none_away(target: CheckpointManager, tmp_path: Path) -> None:
    """So it frees no version that is protected, and leads nobody to another version than the one he tagged."""
    path = tmp_path / "bundle"
    stage = frame("S", b"train") + version(1) + version(2) + gaps()
    path.write_bytes(sealed(stage, end(1, 2)))
    target.import_bundle(path, key=KEY)
    target.tag("train", 1, "good")
    target.tag("train", 2, "mine")
    path.write_bytes(sealed(stage, frame("t", orjson.dumps([["good", 2, id_of(2)], ["more", 1, id_of(1)]])), end(1, 2)))
    before = contents(tmp_path / "target")
    planned = target.import_bundle(path, key=KEY, dry_run=True)
    assert contents(tmp_path / "target") == before
    assert target.import_bundle(path, key=KEY) == planned
    assert (planned.stages[0].tags, planned.stages[0].tags_kept) == (("more",), ("good",))
    assert target.tags("train") == {"good": 1, "mine": 2, "more": 1}
    assert target.verify().problems == ()


def test_a_bundle_can_not_fill_up_the_tags_of_a_stage(target: CheckpointManager, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    stage = frame("S", b"train") + version(1) + gaps()
    path.write_bytes(sealed(stage, end(1, 1)))
    target.import_bundle(path, key=KEY)
    target.tag("train", 1, "mine")
    path.write_bytes(
        sealed(
            frame("S", b"also") + version(1) + gaps() + stage,
            frame("t", orjson.dumps([[f"t{number:04}", 1, id_of(1)] for number in range(1000)])),
            end(2, 2),
        )
    )
    before = contents(tmp_path / "target")
    with pytest.raises(TagError, match="more than 1000 tags"):
        target.import_bundle(path, key=KEY)
    assert contents(tmp_path / "target") == before
    assert target.import_bundle(path, key=KEY, rename={"train": "other"}).added == 2
    assert len(target.tags("other")) == 1000
    assert target.verify().problems == ()


def test_a_tag_does_not_follow_its_number_in_a_bundle_to_another_version(target: CheckpointManager, tmp_path: Path) -> None:
    """A history that ends as the store's own, with another version before that: the name is that one's, not the number's."""
    path = tmp_path / "bundle"
    path.write_bytes(sealed(frame("S", b"train"), version(1), version(2), gaps(), end(1, 2)))
    target.import_bundle(path, key=KEY)
    spliced = frame("S", b"train") + version(1, id=id_of(1, "b")) + version(2, previous=None) + gaps()
    tags = [["evil", 1, id_of(1, "b")], ["good", 2, id_of(2)]]
    path.write_bytes(sealed(spliced, frame("t", orjson.dumps(tags)), end(1, 2)))
    assert target.import_bundle(path, key=KEY).stages[0].tags == ("good",)
    assert target.tags("train") == {"good": 2}
    assert target.verify().problems == ()


def test_tags_rolled_back_between_its_two_readings_are_not_imported_into(target: CheckpointManager, tmp_path: Path) -> None:
    path, record = tmp_path / "bundle", tmp_path / "target" / "history" / "train" / "tags"
    stage = frame("S", b"train") + version(1) + gaps()
    path.write_bytes(sealed(stage, frame("t", orjson.dumps([GOOD])), end(1, 1)))
    target.import_bundle(path, key=KEY)
    older, size = record.read_bytes(), path.stat().st_size
    target.tag("train", 1, "mine")
    path.write_bytes(sealed(stage, frame("t", orjson.dumps([["more", 1, id_of(1)]])), end(1, 1)))

    def turn_back(progress: Progress) -> None:
        if progress.done > size:
            record.write_bytes(older)

    with pytest.raises(RollbackError, match="tags of stage train"):
        target.import_bundle(path, key=KEY, progress=turn_back)
    assert record.read_bytes() == older


def test_tags_that_were_rolled_back_are_not_imported_into(target: CheckpointManager, tmp_path: Path) -> None:
    """Also where a rollback is only warned of: adding a tag would make the older record the newest."""
    path, record = tmp_path / "bundle", tmp_path / "target" / "history" / "train" / "tags"
    path.write_bytes(sealed(frame("S", b"train") + version(1) + gaps(), frame("t", orjson.dumps([GOOD])), end(1, 1)))
    target.import_bundle(path, key=KEY)
    older = record.read_bytes()
    target.tag("train", 1, "mine")
    target.untag("train", "good")
    record.write_bytes(older)
    for cm in (target, CheckpointManager(tmp_path / "target", key=bytes(32), on_rollback="warn")):
        with pytest.raises(RollbackError, match="tags of stage train"):
            cm.import_bundle(path, key=KEY)
    assert record.read_bytes() == older
    with pytest.raises(RollbackError, match="tags of stage train"):
        target.export_bundle(tmp_path / "another", key=KEY)
    assert not (tmp_path / "another").exists()


# What a bundle may cost and use up


def test_a_bundle_can_not_use_up_the_numbers_of_a_stage(target: CheckpointManager, tmp_path: Path) -> None:
    """Its maker once got a bundle of the stage, and knows the id of its first version."""
    target.save_checkpoint("train", 1)
    target.export_bundle(tmp_path / "theirs", key=KEY)
    first = frames_of((tmp_path / "theirs").read_bytes())[1:3]
    version_id = target._store.entry("train", 1).id
    for number in (MAX_VERSION, MAX_IMPORTED_VERSION + 1):
        hole = [2, number - 1, version_id, None, "deleted"]
        far = version(number, previous=None)
        (tmp_path / "far").write_bytes(sealed(frame("S", b"train"), *first, far, gaps(hole), end(1, 2)))
        with pytest.raises(IntegrityError, match=f"{number}, and an import reaches {MAX_IMPORTED_VERSION} at most"):
            target.import_bundle(tmp_path / "far", key=KEY)
    assert target.save_checkpoint("train", 2).number == 2


def test_as_far_as_an_import_reaches_the_stage_can_still_be_saved(target: CheckpointManager, tmp_path: Path) -> None:
    far = version(MAX_IMPORTED_VERSION, previous=None)
    hole = [1, MAX_IMPORTED_VERSION - 1, None, None, "deleted"]
    (tmp_path / "far").write_bytes(sealed(frame("S", b"train"), far, gaps(hole), end(1, 1)))
    assert target.import_bundle(tmp_path / "far", key=KEY).added == 1
    assert target.save_checkpoint("train", 2).number == MAX_IMPORTED_VERSION + 1
    assert target.verify().ok


def hostile_bundles() -> dict[str, Callable[[], list[bytes]]]:
    """Return bundles whose content takes many times its length when it is read."""
    size = 1_000_000

    def many_versions() -> list[bytes]:
        numbers = range(1, size // 300, 2)
        holes = [[number - 1, number - 1, None, None, "lost"] for number in numbers if number > 1]
        versions = [version(number, b"1", previous=None) for number in numbers]
        return [frame("S", b"s"), *versions, gaps(*holes), end(1, len(versions))]

    def many_gaps() -> list[bytes]:
        reasons = ("lost", "deleted")
        holes = [[number, number, None, None, reasons[number % 2]] for number in range(1, size // 30)]
        return [frame("S", b"s"), version(size // 30, previous=None), gaps(*holes), end(1, 1)]

    def many_stages() -> list[bytes]:
        stages = [frame("S", f"{number:08}".encode()) + version(1, b"1") + gaps() for number in range(size // 350)]
        return [*stages, end(len(stages), len(stages))]

    def many_tags() -> list[bytes]:
        tags = frame("t", orjson.dumps([[f"t{number:03}", 1, id_of(1)] for number in range(1000)]))
        stages = [frame("S", f"{number:08}".encode()) + version(1) + gaps() + tags for number in range(size // 47_000)]
        return [*stages, end(len(stages), len(stages))]

    def data(unit: bytes) -> Callable[[], list[bytes]]:
        content = b"[" + b",".join([unit] * (size // len(unit))) + b"]"
        return lambda: [frame("S", b"s"), version(1, content), gaps(), end(1, 1)]

    def metadata() -> list[bytes]:
        nested = {"a": [{"": 0}] * 70_000}
        return [frame("S", b"s"), *(version(number, metadata=nested) for number in range(1, 7)), gaps(), end(1, 6)]

    def optional() -> list[bytes]:
        return [frame("S", b"s"), version(1), gaps(), frame("q", bytes(size)), end(1, 1)]

    return {
        "versions": many_versions,
        "gaps": many_gaps,
        "stages": many_stages,
        "tags": many_tags,
        "objects": data(b'{"":0}'),
        "lists": data(b"[]"),
        "metadata": metadata,
        "optional": optional,
    }


@pytest.mark.parametrize("kind", hostile_bundles())
def test_a_bundle_takes_no_more_than_a_few_times_its_size_of_memory(
    kind: str, target: CheckpointManager, tmp_path: Path
) -> None:
    """Objects that are read from JSON take up to 33 times its length: only a part of them is in memory at a time.

    The metadata of one version, 1 MiB at most, is read as a whole.
    """
    path = tmp_path / "hostile"
    path.write_bytes(sealed(*hostile_bundles()[kind]()))
    limit = 4 * path.stat().st_size + (50_000_000 if kind == "metadata" else 15_000_000)
    tracemalloc.start()
    try:
        planned = target.import_bundle(path, key=KEY, dry_run=True)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
    assert planned.added == planned.versions > 0


def test_an_endless_stream_does_not_fill_the_disk(target: CheckpointManager) -> None:
    with Path("/dev/zero").open("rb") as zeros, pytest.raises(IntegrityError, match="is not a bundle"):
        target.import_bundle(zeros, key=KEY)


def test_a_message_does_not_name_all_stages_of_a_bundle(target: CheckpointManager, tmp_path: Path) -> None:
    stages = [frame("S", f"stage {number:03}".encode()) + version(1) + gaps() for number in range(500)]
    (tmp_path / "many").write_bytes(sealed(*stages, end(500, 500)))
    with pytest.raises(CheckpointNotFoundError, match="stage 019 and 480 more"):
        target.import_bundle(tmp_path / "many", key=KEY, rename={"missing": "x"})
    for number in range(100):
        target.save_checkpoint(f"stage {number:03}", 1)
    with pytest.raises(VersionConflictError, match=r"stage 019 \(version 1 here, 1 there\) and 80 more"):
        target.import_bundle(tmp_path / "many", key=KEY)
