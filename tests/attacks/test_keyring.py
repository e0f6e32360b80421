"""Attacks on the keyring: flipped, edited, replaced, replayed, made costly."""

from __future__ import annotations

import shutil
import tracemalloc
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from checkpoint_manager import (
    CheckpointManager,
    FormatError,
    IntegrityError,
    Passphrase,
    RollbackError,
    WrongKeyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Opened = Callable[..., CheckpointManager]
    EditKeyring = Callable[[Callable[[Any], object]], None]

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))


def put(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def test_any_flipped_byte_of_the_keyring_is_refused(opened: Opened, store: Path) -> None:
    path = store / "keyring.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        put(path, whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises((IntegrityError, FormatError)):
            opened()
    put(path, whole)
    assert opened().load_checkpoint("train")["number"] == 4


def test_any_edited_byte_of_the_keyring_is_refused_even_if_its_checksum_fits(
    opened: Opened, store: Path, edit_keyring: EditKeyring
) -> None:
    path = store / "keyring.json"
    whole = path.read_bytes()
    fields = orjson.loads(whole)
    edited = 0
    for position in range(whole.index(b',"checksum"')):
        changed = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        try:
            new = orjson.loads(changed)
        except orjson.JSONDecodeError:
            continue
        edit_keyring(lambda present, new=new: (present.clear(), present.update(new)))
        with pytest.raises((IntegrityError, FormatError, WrongKeyError)):
            opened()
        edited += 1
    assert edited > 300
    edit_keyring(lambda present: (present.clear(), present.update(fields)))
    assert opened().load_checkpoint("train")["number"] == 4


def test_truncated_at_every_length_is_refused(opened: Opened, store: Path) -> None:
    path = store / "keyring.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        put(path, whole[:length])
        with pytest.raises(IntegrityError):
            opened()


def test_a_removed_keyring_is_not_made_anew(opened: Opened, store: Path) -> None:
    cm = opened()
    (store / "keyring.json").unlink()
    with pytest.raises(IntegrityError, match="is gone, but there are checkpoints"):
        opened()
    with pytest.raises(IntegrityError, match="is gone while the store is in use"):
        cm.save_checkpoint("train", 5)
    assert [finding.state for finding in cm.verify().problems] == ["damaged"]


def test_an_older_keyring_is_a_rollback(opened: Opened, store: Path) -> None:
    """Yesterday's keyring would let a removed passphrase open the store again."""
    cm = opened()
    slot = cm.keys.add(Passphrase("leaked")).slot
    before = (store / "keyring.json").read_bytes()
    cm.keys.remove(slot)
    put(store / "keyring.json", before)
    with pytest.raises(RollbackError, match="number 2, and this user has already seen number 3"):
        opened()
    with pytest.raises(RollbackError):
        cm.save_checkpoint("train", 5)
    assert "rolled-back" in {finding.state for finding in cm.verify().problems}


def test_an_older_keyring_can_be_accepted(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    cm = CheckpointManager(store, key=KEY)
    before = (store / "keyring.json").read_bytes()
    cm.keys.add(Passphrase("second"))
    put(store / "keyring.json", before)
    warned = CheckpointManager(store, key=KEY, on_rollback="warn")
    assert "already seen number 2" in caplog.text
    warned.accept_rollback()
    assert CheckpointManager(store, key=KEY).load_checkpoint("train")["number"] == 4


def test_the_keyring_of_another_store_is_refused(opened: Opened, store: Path, tmp_path: Path) -> None:
    cm = opened()
    CheckpointManager(tmp_path / "other", key=KEY)
    shutil.copy(tmp_path / "other" / "keyring.json", store / "keyring.json")
    with pytest.raises(IntegrityError, match="belongs to another store"):
        cm.save_checkpoint("train", 5)
    fresh = opened()
    with pytest.raises(IntegrityError, match="belongs to another store"):
        fresh.load_checkpoint("train")


def test_exchanged_slots_are_refused(opened: Opened, edit_keyring: EditKeyring) -> None:
    cm = opened()
    cm.keys.add(OTHER_KEY, label="second")
    edit_keyring(lambda fields: fields["slots"].reverse())
    with pytest.raises(IntegrityError, match="slots were added, removed or exchanged"):
        opened()
    with pytest.raises(IntegrityError, match="slots were added, removed or exchanged"):
        cm.save_checkpoint("train", 5)


def test_wrapped_keys_exchanged_between_slots_are_refused(opened: Opened, edit_keyring: EditKeyring) -> None:
    cm = opened()
    cm.keys.add(OTHER_KEY)

    def exchange(fields: Any) -> None:
        first, second = fields["slots"]
        first["wrapped"], second["wrapped"] = second["wrapped"], first["wrapped"]

    edit_keyring(exchange)
    with pytest.raises(WrongKeyError):
        opened()
    with pytest.raises(IntegrityError, match="does not open as it did before"):
        cm.save_checkpoint("train", 5)


def test_a_slot_added_or_removed_without_the_key_is_refused(
    opened: Opened, edit_keyring: EditKeyring, store: Path, tmp_path: Path
) -> None:
    opened().keys.add(OTHER_KEY)
    whole = (store / "keyring.json").read_bytes()
    CheckpointManager(tmp_path / "mine", key=b"m" * 32)
    mine = orjson.loads((tmp_path / "mine" / "keyring.json").read_bytes())

    def add(fields: Any) -> None:
        slot = mine["slots"][0]
        slot["wrapped"] = {fields["active"]: next(iter(slot["wrapped"].values()))}
        fields["slots"].append(slot)

    for change in (add, lambda fields: fields["slots"].pop()):
        edit_keyring(change)
        with pytest.raises(IntegrityError, match="slots were added, removed or exchanged"):
            opened()
        put(store / "keyring.json", whole)
    edit_keyring(lambda fields: fields["slots"].pop(0))
    with pytest.raises(WrongKeyError):
        opened()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_kib", 2**30),
        ("memory_kib", 2**63),
        ("memory_kib", 0),
        ("memory_kib", -1),
        ("memory_kib", 8),
        ("memory_kib", 65536.0),
        ("memory_kib", "65536"),
        ("memory_kib", True),
        ("passes", 2**31),
        ("passes", 0),
        ("passes", 1),
        ("lanes", 1000),
        ("lanes", 0),
        ("salt", "c2hvcnQ="),
        ("salt", "no base64"),
        ("salt", 7),
        ("kind", "none"),
        ("kind", "key-file"),
        ("slot", "../../x"),
        ("created_at", "yesterday"),
        ("label", "x" * 101),
        ("wrapped", {}),
        ("wrapped", []),
    ],
)
def test_costs_and_fields_out_of_bounds_are_refused_before_anything_is_derived(
    tmp_path: Path, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyring that asks for 1 TB of memory is refused at once, with the right passphrase or a wrong one."""
    directory = tmp_path / "under a passphrase"
    CheckpointManager(directory, key=Passphrase("right"))
    fields = orjson.loads((directory / "keyring.json").read_bytes())
    fields["slots"][0][name] = value
    content = {key: part for key, part in fields.items() if key != "checksum"}
    import hashlib

    checksum = hashlib.sha256(orjson.dumps(content)).hexdigest()
    put(directory / "keyring.json", orjson.dumps(content | {"checksum": checksum}) + b"\n")
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            CheckpointManager(directory, key=Passphrase("right"))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(serial=0),
        lambda fields: fields.update(serial=2**60),
        lambda fields: fields.update(serial=True),
        lambda fields: fields.update(store="x"),
        lambda fields: fields.update(store=None),
        lambda fields: fields.update(keys=[]),
        lambda fields: fields.update(keys=fields["keys"] * 2),
        lambda fields: fields.update(keys=["0" * 16, "1" * 16, "2" * 16]),
        lambda fields: fields.update(active="0" * 16),
        lambda fields: fields.update(slots=[]),
        lambda fields: fields.update(slots=fields["slots"] * 2),
        lambda fields: fields.update(slots=fields["slots"] * 33),
        lambda fields: fields.update(cipher="none"),
        lambda fields: fields.update(format="none"),
        lambda fields: fields.update(seal=""),
        lambda fields: fields["slots"][0].update(extra=1),
        lambda fields: fields["slots"][0].pop("label"),
    ],
)
def test_edited_fields_of_the_keyring_are_refused(
    opened: Opened, edit_keyring: EditKeyring, change: Callable[[Any], object]
) -> None:
    edit_keyring(change)
    with pytest.raises(IntegrityError):
        opened()


def test_a_keyring_of_a_newer_format_says_so(opened: Opened, edit_keyring: EditKeyring) -> None:
    edit_keyring(lambda fields: fields.update(format="checkpoint-manager-keyring/2"))
    with pytest.raises(FormatError, match="keyring/2"):
        opened()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"[" * 200_000,
        b'{"a":' * 30_000,
        b"\xff" * 100,
        b'{"format":"checkpoint-manager-keyring/1","format":"checkpoint-manager-keyring/1"}',
        b'{"serial":1e999}',
        b'{"serial":' + b"9" * 100_000 + b"}",
    ],
    ids=lambda content: ascii(content[:20]),
)
def test_a_keyring_that_is_none_is_refused(opened: Opened, store: Path, content: bytes) -> None:
    put(store / "keyring.json", content)
    with pytest.raises(IntegrityError):
        opened()


def test_a_huge_keyring_is_refused_without_reading_it(opened: Opened, store: Path) -> None:
    with (store / "keyring.json").open("r+b") as file:
        file.truncate(2**43)
    with pytest.raises(IntegrityError, match="the limit is"):
        opened()


def test_white_space_and_other_spellings_are_refused(opened: Opened, store: Path) -> None:
    whole = (store / "keyring.json").read_bytes()
    for content in (whole[:-1], whole + b"\n", b" " + whole, whole.replace(b'"serial":1,', b'"serial":1.0,')):
        put(store / "keyring.json", content)
        with pytest.raises(IntegrityError):
            opened()
