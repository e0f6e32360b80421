"""The committed files, read by the library and by a reader written from the specification alone."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoint_manager import CheckpointManager, FormatError, IntegrityError
from checkpoint_manager._format import attachment as attachment_format
from checkpoint_manager._format import gaps as sealed_gaps
from checkpoint_manager._format import note_keys, payload
from checkpoint_manager._format import tags as sealed_tags
from checkpoint_manager._format.embedded import Held
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.seal import SealBrokenError
from checkpoint_manager.backends.base import Record
from checkpoint_manager.backends.memory import MemoryBackend
from tests.strategies import same
from tests.vectors.expressions import evaluate

HERE = Path(__file__).parent
MANIFEST = json.loads((HERE / "manifest.json").read_text())
VALUES = json.loads((HERE / "values-1.json").read_text())
VALUES_2, VALUES_3 = (json.loads((HERE / f"values-{number}.json").read_text()) for number in (2, 3))
ATTACHMENTS = json.loads((HERE / "attachments.json").read_text())
VECTORS = {vector["file"]: vector for vector in MANIFEST["vectors"]}
KEY = bytes.fromhex(MANIFEST["key_hex"])


def load_stranger() -> Any:
    spec = importlib.util.spec_from_file_location("stranger", HERE / "stranger.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stranger = load_stranger()


def opened(vector: dict[str, Any]) -> CheckpointManager:
    """Return a store in memory in which the file stands at its place."""
    backend = MemoryBackend()
    backend._records["keyring", None] = Record((HERE / "keyring.json").read_bytes(), object())
    backend._versions[vector["stage"]] = {vector["version"]: (HERE / vector["file"]).read_bytes()}
    return CheckpointManager(backend, key=KEY)


def test_every_file_is_in_the_manifest() -> None:
    assert {path.name for path in HERE.glob("*.checkpoint")} == set(VECTORS)
    assert sum("error" not in vector for vector in VECTORS.values()) >= 6


@pytest.mark.parametrize("name", VECTORS)
def test_the_library_reads_it_or_says_why_not(name: str) -> None:
    vector = VECTORS[name]
    cm = opened(vector)
    if "error" not in vector:
        checkpoint = cm.get_checkpoint(vector["stage"], vector["version"])
        assert checkpoint.data == vector["data"]
        assert checkpoint.version.metadata == vector["metadata"]
        return
    with pytest.raises((IntegrityError, FormatError)) as caught:
        cm.load_checkpoint(vector["stage"], vector["version"])
    assert type(caught.value).__name__ == vector["error"]
    assert vector["says"]
    assert vector["says"] in str(caught.value)


@pytest.mark.parametrize("name", VECTORS)
def test_a_stranger_reads_the_same_from_the_specification_alone(name: str) -> None:
    vector = VECTORS[name]
    store, keys = stranger.store_keys((HERE / "keyring.json").read_bytes(), KEY)
    assert (store, keys) == (MANIFEST["store"], {MANIFEST["key_id"]: bytes.fromhex(MANIFEST["store_key_hex"])})
    file = (HERE / name).read_bytes()
    if "error" not in vector:
        metadata, data = stranger.read(file, store, keys, vector["stage"], vector["version"])
        assert data == vector["data"]
        assert metadata["metadata"] == vector["metadata"]
        return
    with pytest.raises(stranger.RefusedError):
        stranger.read(file, store, keys, vector["stage"], vector["version"])


@pytest.mark.parametrize("vector", VALUES["valid"], ids=lambda vector: vector["python"])
def test_a_value_is_read_and_written_as_the_committed_bytes(vector: dict[str, str]) -> None:
    value, data = evaluate(vector["python"]), payload.VALUES + vector["json"].encode()
    assert payload.encode(value)[0] == data
    assert same(payload.decode(data), value)
    assert same(stranger.read_data(data), value)


@pytest.mark.parametrize("content", VALUES["invalid"])
def test_a_form_that_is_not_valid_is_refused(content: str) -> None:
    """The library's own tests try each in other places, too."""
    data = payload.VALUES + content.encode()
    with pytest.raises(FormatError):
        payload.decode(data)
    with pytest.raises(stranger.RefusedError):
        stranger.read_data(data)


@pytest.mark.parametrize(
    ("mark", "vector"),
    [(f"values/{number}", vector) for number, values in ((2, VALUES_2), (3, VALUES_3)) for vector in values["valid"]],
    ids=lambda value: value if isinstance(value, str) else value["python"],
)
def test_data_with_arrays_is_read_and_written_as_the_committed_bytes(mark: str, vector: dict[str, str]) -> None:
    """Of frames, only reading: their metadata names the library that wrote them."""
    for library in vector["needs"]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    value, data = evaluate(vector["python"]), f"{mark}\n{vector['json']}".encode()
    contents = base64.b64decode(vector["contents"])
    assert same(payload.decode(data, contents=Held(data, contents) if contents else None), value)
    assert same(stranger.read_data(data, contents), value)
    if vector["needs"] == ["numpy"]:
        encoded, embedded, _ = payload.encode(value)
        if embedded is None:
            assert encoded == data
        else:
            if mark == "values/2":
                embedded.identify()
            assert (b"".join(embedded.pieces()), embedded.data()) == (contents, data)


@pytest.mark.parametrize("vector", VALUES_2["invalid"] + VALUES_3["invalid"], ids=lambda vector: vector["why"])
def test_data_with_arrays_that_is_not_valid_is_refused(vector: dict[str, str]) -> None:
    data, contents = vector["data"].encode(), base64.b64decode(vector["contents"])
    with pytest.raises(FormatError):
        payload.decode(data, contents=Held(data, contents) if contents else None)
    with pytest.raises(stranger.RefusedError):
        stranger.read_data(data, contents)


@pytest.mark.parametrize("vector", ATTACHMENTS["valid"] + ATTACHMENTS["invalid"], ids=lambda vector: vector["why"])
def test_attachments_are_read_by_the_library_and_by_the_stranger(vector: dict[str, Any]) -> None:
    store, stage, content = ATTACHMENTS["store"], ATTACHMENTS["stage"], vector.get("content")
    segments = [base64.b64decode(segment) for segment in vector["segments"]]
    fault, _, _ = vector["why"].partition(":")
    if content is not None:
        assert library_reads(vector["record"], segments[0], store, stage) == base64.b64decode(content)
        assert stranger.read_attachment(vector["record"], segments, store, stage) == base64.b64decode(content)
        return
    with pytest.raises(ValueError if fault == "record" else SealBrokenError):
        library_reads(vector["record"], segments[0], store, stage)
    with pytest.raises(stranger.RefusedError):
        stranger.read_attachment(vector["record"], segments, store, stage)


def library_reads(fields: dict[str, Any], segment: bytes, store: str, stage: str) -> bytes:
    """Return the content of an attachment of one segment."""
    (record,) = attachment_format.take_records({note_keys.ATTACHMENTS: {"w": fields}})
    content = memoryview(bytearray(record.size))
    context = attachment_format.bound_to(store, stage, record.id, 0, last=True)
    attachment_format.open_segment(record, 0, [segment], content, context, record.digests[0])
    taken: list[bytes] = []
    take = lambda pieces: taken.extend(map(bytes, pieces))  # noqa: E731
    attachment_format.open_segment(record, 0, [segment], take, context, record.digests[0])
    assert b"".join(taken) == content
    return bytes(content)


def test_a_new_version_with_arrays_and_attachments_is_read_by_the_stranger() -> None:
    backend = MemoryBackend()
    cm = CheckpointManager(backend, key=KEY)
    array = np.arange(2_500_000.0)  # two segments
    cm.save_checkpoint("train", {"w": array, "few": np.arange(3)}, attachments={"raw": b"abc"})
    store, keys = stranger.store_keys(backend._records["keyring", None].data, KEY)
    records = stranger.read_metadata(backend._versions["train"][1], store, keys, "train", 1)["metadata"]["@attachments"]
    assert list(records) == ["raw", "@contents"]
    written = {name: sorted(backend._attachments["train"][record["id"]].items()) for name, record in records.items()}
    contents = {
        name: stranger.read_attachment(record, [segment for _, segment in written[name]], store, "train")
        for name, record in records.items()
    }
    assert contents["raw"] == b"abc"
    data = stranger.read(backend._versions["train"][1], store, keys, "train", 1, contents["@contents"])[1]
    assert same(data, {"w": array, "few": np.arange(3)})


@pytest.mark.parametrize(
    "data", [{"!tuple": [1]}, {"!dict": [[1, 2]]}, [{"!int": "0x1"}], {"!codec": ["a", 1]}, "values/1\n[]"]
)
def test_json_that_looks_like_a_form_was_never_one(data: object) -> None:
    """It is written as it was before there were forms."""
    encoded = payload.encode(data)[0]
    assert encoded == json.dumps(data, separators=(",", ":")).encode()
    assert payload.decode(encoded) == stranger.read_data(encoded) == data


def test_a_new_file_is_read_by_the_stranger() -> None:
    """What is written today is of the format that the committed files are of."""
    backend = MemoryBackend()
    cm = CheckpointManager(backend, key=KEY)
    data = {"text": "é" * 10_000, "numbers": (*range(100),)}
    cm.save_checkpoint("Stage/é", data)
    store, keys = stranger.store_keys(backend._records["keyring", None].data, KEY)
    assert stranger.read(backend._versions["Stage/é"][1], store, keys, "Stage/é", 1)[1] == data


def test_a_new_bundle_is_read_by_the_stranger() -> None:
    cm = CheckpointManager(MemoryBackend(), key=bytes(32))
    for number in range(1, 5):
        cm.save_checkpoint("Stage/é", "é" * 10_000 * number, metadata={"number": number})
    cm.delete_versions("Stage/é", [2])
    cm.tag("Stage/é", 4, "good")
    cm.tag("Stage/é", 1, "first")
    stream = io.BytesIO()
    cm.export_bundle(stream, key=KEY)
    stages = stranger.read_bundle(stream.getvalue(), KEY)
    *versions, gaps, tags = stages.pop("Stage/é")
    assert tags == [["first", 1, versions[0][1]["id"]], ["good", 4, versions[2][1]["id"]]]
    assert stages == {}
    assert [(number, metadata["metadata"], data) for number, metadata, data in versions] == [
        (number, {"number": number}, "é" * 10_000 * number) for number in (1, 3, 4)
    ]
    assert gaps == [[2, 2, versions[0][1]["id"], versions[1][1]["previous"], "deleted"]]


def test_new_records_of_gaps_and_tags_are_read_by_the_stranger() -> None:
    backend = MemoryBackend()
    cm = CheckpointManager(backend, key=KEY)
    for number in range(1, 5):
        cm.save_checkpoint("train", number)
    cm.tag("train", 3, "good")
    cm.tag("train", 1, "first")
    cm.delete_versions("train", [2])
    store, keys = stranger.store_keys(backend._records["keyring", None].data, KEY)
    ids = {number: stranger.read(file, store, keys, "train", number)[0] for number, file in backend._versions["train"].items()}
    serial, record_id, tags = stranger.read_record("tags", backend._records["tags", "train"].data, store, keys, "train")
    assert (serial, len(record_id)) == (2, 32)
    assert tags == [["first", 1, ids[1]["id"]], ["good", 3, ids[3]["id"]]]
    serial, record_id, gaps = stranger.read_record("gaps", backend._records["gaps", "train"].data, store, keys, "train")
    assert (serial, len(record_id)) == (1, 32)
    assert gaps == [[2, 2, ids[1]["id"], ids[3]["previous"], "deleted"]]
    for kind, stage in (("tags", "clean"), ("gaps", "clean")):
        with pytest.raises(stranger.RefusedError):
            stranger.read_record(kind, backend._records[kind, "train"].data, store, keys, stage)


@pytest.mark.parametrize("number", [1, 2])
def test_a_record_of_tags_is_read_as_it_was_written(number: int) -> None:
    """Of both formats; its bytes never change."""
    tags = [["first", 1, "ab" * 16], ["good", 4, "cd" * 16]]
    reasons = [
        ["2026-11-27T20:00:00.000000Z", "tagged", "good", 4, 4, 1, "alice@host", "the best so far"],
        ["2026-11-27T20:00:01.000001Z", "untagged", "best", 3, 3, 1, "alice@host", "it was not"],
        ["2026-11-27T20:00:02.000000Z", "deleted", "", 2, 3, 2, "bob@host", "room \u00e9"],
    ]
    file = (HERE / f"tags-{number}.record").read_bytes()
    key, store = bytes.fromhex(MANIFEST["store_key_hex"]), MANIFEST["store"]
    read = sealed_tags.decode(sealed_tags.RECORD.open(Hidden(key), store, "train", file))
    assert (read.serial, read.id, sealed_tags.rows_of(read.named)) == (7, "23" * 16, tags)
    written = [[f"{each.at:%Y-%m-%dT%H:%M:%S.%fZ}", *each[1:]] for each in read.reasons]
    assert written == (reasons if number == 2 else [])
    content = stranger.read_record("tags", file, store, {MANIFEST["key_id"]: key}, "train")
    assert content == [7, "23" * 16, tags, *([reasons] if number == 2 else [])]
    other = file.replace(b"tags/%d" % number, b"tags/%d" % (3 - number))
    for stage, edited in (("clean", file), ("train", other), ("train", file[:-1])):
        with pytest.raises(sealed_tags.BrokenError):
            sealed_tags.RECORD.open(Hidden(key), store, stage, edited)
        with pytest.raises(stranger.RefusedError):
            stranger.read_record("tags", edited, store, {MANIFEST["key_id"]: key}, stage)


@pytest.mark.parametrize(("name", "serial", "record_id"), [("gaps-1.record", 0, ""), ("gaps-2.record", 7, "23" * 16)])
def test_a_record_of_gaps_is_read_as_it_was_written(name: str, serial: int, record_id: str) -> None:
    """Of both formats; its bytes never change."""
    gaps = [
        [1, 2, None, "ab" * 16, "deleted"],
        [4, 4, "cd" * 16, "ef" * 16, "set aside"],
        [7, 9, "01" * 16, None, "lost"],
    ]
    file = (HERE / name).read_bytes()
    key, store = bytes.fromhex(MANIFEST["store_key_hex"]), MANIFEST["store"]
    read = sealed_gaps.decode(sealed_gaps.RECORD.open(Hidden(key), store, "train", file))
    assert [list(gap) for gap in read] == gaps
    assert (read.serial, read.id) == (serial, record_id)
    content = stranger.read_record("gaps", file, store, {MANIFEST["key_id"]: key}, "train")
    assert content == ([serial, record_id, gaps] if serial else gaps)
    for stage, edited in (("clean", file), ("train", file.replace(b"gaps/1", b"gaps/2") if not serial else file[:-1])):
        with pytest.raises(sealed_gaps.BrokenError):
            sealed_gaps.RECORD.open(Hidden(key), store, stage, edited)
        with pytest.raises(stranger.RefusedError):
            stranger.read_record("gaps", edited, store, {MANIFEST["key_id"]: key}, stage)
