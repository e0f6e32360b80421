"""Attacks on the keyring: flipped, edited, replaced, replayed, made costly."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
import pytest

from checkpoint_manager import (
    CheckpointManager,
    FormatError,
    IntegrityError,
    LockTimeoutError,
    Passphrase,
    RollbackError,
    StorageError,
    WrongKeyError,
)
from checkpoint_manager._format import handover_signatures, seal
from checkpoint_manager._format.checkpoint_file import BrokenError, Place, seal_version
from checkpoint_manager._format.key_slot import MIN_MEMORY_KIB, ArgonCost, Secret, Slot, check_costs
from checkpoint_manager._format.keyring import MAX_SERIAL, MAX_STEP, Keyring, begin_rotation, unlock
from checkpoint_manager.backends.local import LocalBackend
from tests import forking
from tests.attacks.conftest import write_keyring
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable

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
        with pytest.raises((IntegrityError, FormatError, WrongKeyError, RollbackError)):
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
    for attempt in (lambda: cm.save_checkpoint("train", 5), lambda: cm.keys.add(OTHER_KEY), opened):
        with pytest.raises(RollbackError, match="belongs to another store"):
            attempt()
    first_time = opened(forgetful=True)
    assert first_time.stages() == []  # a user who has never been here finds nothing that is authentic
    with pytest.raises(IntegrityError, match="belongs to another store"):
        first_time.load_checkpoint("train")


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
        lambda fields: fields.update(handovers=None),
        lambda fields: fields.update(handovers=[{}]),
        lambda fields: fields.pop("handovers"),
        lambda fields: fields.update(format="checkpoint-manager-keyring/1"),
        lambda fields: fields["slots"][0].update(label="\x1b]0;"),
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
    edit_keyring(lambda fields: fields.update(format="checkpoint-manager-keyring/3"))
    with pytest.raises(FormatError, match="keyring/3"):
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


class Leaver:
    """Someone whose slot was dropped by a rotation. He may write to the directory, and has what he had: the keyring of then."""

    def __init__(self, store: Path, secret: Passphrase, content: bytes) -> None:
        self.path = store / "keyring.json"
        self.then = unlock(Keyring.parse(content, where="then"), Secret.from_passphrase(secret.text), where="then")

    def publish(self, keyring: Keyring) -> None:
        """Put a keyring in place that is sealed under the key of then."""
        put(self.path, keyring._replace(seal=seal.seal(self.then.active_key, b"", keyring.context())).encode())

    @property
    def now(self) -> Keyring:
        """The keyring as it is now, which he can read but not open."""
        return Keyring.parse(self.path.read_bytes(), where="now")


@pytest.fixture
def leaver(store: Path, opened: Opened) -> Leaver:
    """A store whose key was rotated to shut someone out, as its owner has seen."""
    cm, secret = opened(), Passphrase("someone who leaves")
    slot = cm.keys.add(secret).slot
    content = (store / "keyring.json").read_bytes()
    cm.keys.rotate(drop=[slot])
    return Leaver(store, secret, content)


def contents(store: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file() and ".locks" not in path.parts}


def assert_refused(store: Path, opened: Opened, running: CheckpointManager, match: str) -> None:
    """A running process and a new one refuse what is there, write nothing, and take it only when that is accepted."""
    before = contents(store)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: running.save_checkpoint("train", "secret"),
        lambda: running.keys.add(OTHER_KEY),
        running.keys.rotate,
        running.keys.list,
        opened,
    )
    for attempt in attempts:
        with pytest.raises(RollbackError, match=match):
            attempt()
    assert contents(store) == before


@pytest.mark.parametrize("serial", ["next", "far above"])
def test_a_keyring_under_a_key_that_was_given_up_is_refused(
    opened: Opened, store: Path, leaver: Leaver, serial: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its holder replays the old key in the slots of others: all who follow it would write under a key that he has."""
    running = opened()
    number = leaver.now.serial + (1 if serial == "next" else 10**6)
    leaver.publish(leaver.then.keyring._replace(serial=number, seal=b""))
    assert_refused(store, opened, running, "does not succeed")
    warned = CheckpointManager(store, key=KEY, on_rollback="warn")
    assert "a key that was given up" in caplog.text
    with pytest.raises(RollbackError):  # a warning is not yet consent
        opened()
    warned.accept_rollback()
    with pytest.raises(IntegrityError):  # what the rotation sealed does not open under it
        opened().load_checkpoint("train")


def test_going_on_after_a_warning_does_not_accept_a_key_that_was_given_up(opened: Opened, store: Path, leaver: Leaver) -> None:
    leaver.publish(leaver.then.keyring._replace(serial=leaver.now.serial + 1, seal=b""))
    warned = CheckpointManager(store, key=KEY, on_rollback="warn")
    warned.keys.add(OTHER_KEY)
    leaver.publish(leaver.then.keyring._replace(serial=leaver.now.serial + 1, seal=b""))
    warned.keys.list()
    with pytest.raises(RollbackError, match="does not succeed"):
        opened()


def test_a_key_that_was_given_up_does_not_come_back_as_the_second_of_two(opened: Opened, store: Path) -> None:
    """A rotation is under way, and both keys are wrapped in each slot: their order is exchanged."""
    cm, secret = opened(), Passphrase("someone who leaves")
    slot = cm.keys.add(secret).slot
    leaver = Leaver(store, secret, (store / "keyring.json").read_bytes())
    cm._store.keyring.change(lambda unlocked: begin_rotation(unlocked, drop=[slot]), 1)
    now = leaver.now
    slots = tuple(slot._replace(wrapped=dict(reversed(slot.wrapped.items()))) for slot in now.slots)
    leaver.publish(now._replace(serial=now.serial + 1, keys=now.keys[::-1], slots=slots, handovers=(), seal=b""))
    assert_refused(store, opened, cm, "does not succeed")


def test_a_handover_that_the_old_key_signs_for_itself_is_refused(opened: Opened, store: Path, leaver: Leaver) -> None:
    then, now = leaver.then, leaver.now
    old, new = (now.active, then.active_key), (then.keyring.active, then.active_key)
    own = handover_signatures.sign(now.store, now.serial + 1, old, new)
    running = opened()
    for handovers in ((own,), now.handovers[:-1]):
        leaver.publish(then.keyring._replace(serial=now.serial + 1, handovers=handovers, seal=b""))
        assert_refused(store, opened, running, "does not succeed")


def test_whoever_was_away_during_rotations_follows_the_handovers(opened: Opened, store: Path) -> None:
    """The keys in between are gone: that each handed over to the next is what the newest keyring proves."""
    opened()
    seen = {path: path.read_bytes() for path in state_of_keyring()}
    admin = CheckpointManager(store, key=KEY)
    for _ in range(3):
        admin.keys.rotate()
    for path, content in seen.items():
        path.write_bytes(content)
    assert opened().load_checkpoint("train")["number"] == 4
    admin.keys.rotate()
    assert opened().save_checkpoint("train", 5).number == 5


def test_whoever_was_away_for_too_many_rotations_is_told_and_can_accept(
    opened: Opened, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkpoint_manager._format.keyring.MAX_HANDOVERS", 2)
    opened()
    seen = {path: path.read_bytes() for path in state_of_keyring()}
    admin = CheckpointManager(store, key=KEY)
    for _ in range(3):
        admin.keys.rotate()
    for path, content in seen.items():
        path.write_bytes(content)
    with pytest.raises(RollbackError, match="does not succeed"):
        opened()
    CheckpointManager(store, key=KEY, on_rollback="warn").accept_rollback()
    assert opened().load_checkpoint("train")["number"] == 4


def state_of_keyring() -> list[Path]:
    state = Path(os.environ["HOME"]) / ".local" / "state" / "checkpoint_manager"
    return [path for path in state.rglob("keyring") if path.is_file()]


def test_two_stores_of_one_user_that_are_exchanged_are_noticed(tmp_path: Path) -> None:
    """The same key file opens both, as by default."""
    for name, limit in (("production", 100), ("test", 10**9)):
        CheckpointManager(tmp_path / name, key=KEY).save_checkpoint("approve", limit)
    (tmp_path / "production").rename(tmp_path / "x")
    (tmp_path / "test").rename(tmp_path / "production")
    before = contents(tmp_path / "production")
    with pytest.raises(RollbackError, match="belongs to another store"):
        CheckpointManager(tmp_path / "production", key=KEY)
    assert contents(tmp_path / "production") == before
    CheckpointManager(tmp_path / "production", key=KEY, on_rollback="warn").accept_rollback()
    assert CheckpointManager(tmp_path / "production", key=KEY).load_checkpoint("approve") == 10**9
    assert CheckpointManager(tmp_path / "x", key=KEY).load_checkpoint("approve") == 100  # it may move


def test_a_link_to_another_store_in_the_place_of_the_directory_is_noticed(opened: Opened, store: Path, tmp_path: Path) -> None:
    """The other store is where this user has seen it; the name that leads there is not."""
    opened()
    CheckpointManager(tmp_path / "other", key=KEY).save_checkpoint("train", "other")
    store.rename(tmp_path / "moved")
    store.symlink_to(tmp_path / "moved")
    assert opened().load_checkpoint("train") == {"stage": "train", "number": 4}
    store.unlink()
    store.symlink_to(tmp_path / "other")
    with pytest.raises(RollbackError, match="has seen another store there"):
        opened()
    assert CheckpointManager(tmp_path / "other", key=KEY).load_checkpoint("train") == "other"
    CheckpointManager(store, key=KEY, on_rollback="warn").accept_rollback()
    assert opened().load_checkpoint("train") == "other"


def test_a_link_to_an_empty_place_instead_of_the_directory_is_warned_of(
    opened: Opened, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened()
    store.rename(tmp_path / "moved")
    (tmp_path / "empty").mkdir()
    store.symlink_to(tmp_path / "empty")
    assert not opened().has_checkpoint("train")
    assert "is gone, with all of its checkpoints" in caplog.text
    caplog.clear()
    assert opened().save_checkpoint("train", 1).number == 1
    assert not caplog.records


def test_a_link_that_its_user_moves_on_is_not_a_rollback(tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        CheckpointManager(tmp_path / name, key=KEY).save_checkpoint("day", name)
        (tmp_path / "today").unlink(missing_ok=True)
        (tmp_path / "today").symlink_to(tmp_path / name)
        assert CheckpointManager(tmp_path / "today", key=KEY).load_checkpoint("day") == name


def test_an_emptied_store_is_warned_of_and_begun_again(opened: Opened, store: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened()
    for path in store.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    cm = opened()
    assert "is gone, with all of its checkpoints" in caplog.text
    assert not cm.has_checkpoint("train")
    caplog.clear()
    assert opened().save_checkpoint("train", 1).number == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_serial_number_can_not_be_driven_to_its_end(opened: Opened, store: Path) -> None:
    """Whoever has the key may skip numbers, but no single keyring uses them up, and older ones are noticed ever after."""
    cm = opened()
    unlocked = cm._store.keyring.unlocked

    def publish(serial: int) -> None:
        keyring = unlocked.keyring._replace(serial=serial, seal=b"")
        put(store / "keyring.json", keyring._replace(seal=seal.seal(unlocked.active_key, b"", keyring.context())).encode())

    for serial in (MAX_SERIAL, MAX_SERIAL - 1, 1 + MAX_STEP + 1):
        publish(serial)
        assert_refused(store, opened, cm, f"is number {serial}")
    publish(MAX_SERIAL)
    with pytest.raises(RollbackError, match="no room"):
        opened(forgetful=True)
    publish(10**12)
    added = opened().keys.add(OTHER_KEY)
    opened().keys.remove(added.slot)
    publish(10**12)
    with pytest.raises(RollbackError, match="already seen number 1000000000002"):
        opened()


def test_many_costly_slots_are_refused_before_anything_is_derived(tmp_path: Path) -> None:
    """Each is within its bounds; together they would take half an hour."""
    directory = tmp_path / "under a passphrase"
    CheckpointManager(directory, key=Passphrase("right"))
    fields = orjson.loads((directory / "keyring.json").read_bytes())
    costly = {**fields["slots"][0], "memory_kib": 1024 * 1024, "passes": 16}
    for number in (1, 32):
        fields["slots"] = [{**costly, "slot": f"{index:08x}"} for index in range(number)]
        write_keyring(directory / "keyring.json", fields)
        with pytest.raises(IntegrityError, match="more work than"):
            CheckpointManager(directory, key=Passphrase("right"))


def test_a_store_with_as_many_slots_as_there_can_be_is_within_the_costs(tmp_path: Path) -> None:
    usual = ArgonCost(64 * 1024, 3, 4)
    check_costs([usual] * 32)
    with pytest.raises(BrokenError):
        check_costs([usual] * 32 + [ArgonCost(MIN_MEMORY_KIB, 2, 1)])


def test_a_planted_slot_that_is_costly_is_tried_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seal does not fit any more, but that shows only when a slot has opened: which one is tried first counts."""
    directory = tmp_path / "under a passphrase"
    CheckpointManager(directory, key=Passphrase("right"))
    fields = orjson.loads((directory / "keyring.json").read_bytes())
    fields["slots"].insert(0, {**fields["slots"][0], "slot": "00000000", "memory_kib": MIN_MEMORY_KIB * 8})
    write_keyring(directory / "keyring.json", fields)
    tried: list[int] = []
    derive = Slot.derive

    def count(self: Slot, secret: Secret) -> object:
        tried.append(self.cost.memory_kib if self.cost else 0)
        return derive(self, secret)

    monkeypatch.setattr(Slot, "derive", count)
    with pytest.raises(IntegrityError):
        CheckpointManager(directory, key=Passphrase("right"))
    assert tried == [MIN_MEMORY_KIB]


def test_a_slot_that_asks_for_more_memory_than_there_is_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "under a passphrase"
    CheckpointManager(directory, key=Passphrase("right"))
    fields = orjson.loads((directory / "keyring.json").read_bytes())
    fields["slots"][0] |= {"memory_kib": 1024 * 1024, "passes": 2}
    write_keyring(directory / "keyring.json", fields)
    program = (
        "import resource\n"
        "from checkpoint_manager import CheckpointError, CheckpointManager, Passphrase\n"
        "resource.setrlimit(resource.RLIMIT_AS, (768 << 20,) * 2)\n"
        f"try: CheckpointManager({str(directory)!r}, key=Passphrase('right'))\n"
        "except CheckpointError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert "takes 1024 MiB of memory" in done.stdout


def test_a_keyring_that_is_touched_again_and_again_stops_nobody(
    opened: Opened, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks changed at each look, and is not."""
    cm, looks = opened(), itertools.count(1)
    read = LocalBackend.read_record

    def touch_and_read(self: LocalBackend, name: Any, stage: str | None = None, **more: Any) -> Any:
        if name == "keyring":
            os.utime(store / "keyring.json", ns=(0, next(looks)))
        return read(self, name, stage, **more)

    monkeypatch.setattr(LocalBackend, "read_record", touch_and_read)
    assert cm.save_checkpoint("train", 5).number == 5
    assert cm.load_checkpoint("train") == 5
    cm.keys.add(OTHER_KEY)


def test_a_keyring_that_is_replaced_again_and_again_is_given_up_after_the_timeout(
    opened: Opened, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone with the key changes it without the lock, each time just before another change is written."""
    cm, other = opened(), CheckpointManager(store, key=KEY)
    write = LocalBackend.write_record

    def overtaken(self: LocalBackend, name: Any, stage: str | None = None, **more: Any) -> Any:
        unlocked = other._store.keyring.unlocked
        with monkeypatch.context() as patch:
            patch.setattr(LocalBackend, "write_record", write)
            other._store.keyring.refresh()
            unlocked = other._store.keyring.unlocked
            keyring = unlocked.keyring._replace(serial=unlocked.keyring.serial + 1, seal=b"")
            put(store / "keyring.json", keyring._replace(seal=seal.seal(unlocked.active_key, b"", keyring.context())).encode())
        return write(self, name, stage, **more)

    monkeypatch.setattr(LocalBackend, "write_record", overtaken)
    with pytest.raises(LockTimeoutError, match="repeatedly by other"):
        cm.keys.add(OTHER_KEY)


@pytest.mark.parametrize("edit", ["the label alone", "the label and the kind"])
def test_control_characters_of_a_label_reach_nobody(
    opened: Opened, edit_keyring: EditKeyring, edit: str, caplog: pytest.LogCaptureFixture
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"

    def change(fields: Any) -> None:
        fields["slots"][0]["label"] = evil if edit == "the label alone" else "read this: all is well"

    edit_keyring(change)
    with pytest.raises((IntegrityError, WrongKeyError)) as caught:
        opened()
    assert "\x1b" not in str(caught.value) + caplog.text
    assert "all is well" not in str(caught.value)


def test_what_an_earlier_version_of_the_library_saw_is_still_a_rollback(opened: Opened, store: Path) -> None:
    """It wrote down the serial number and the digest alone."""
    opened().keys.add(OTHER_KEY)
    content = (store / "keyring.json").read_bytes()
    (path,) = state_of_keyring()
    line = path.read_text().split()
    path.write_text(f"{line[0]} {line[1]}\n")
    put(store / "keyring.json", content)
    assert opened().load_checkpoint("train")["number"] == 4
    assert path.read_text().split() == line
    path.write_text(f"{int(line[0]) + 1:012d} {line[1]}\n")
    with pytest.raises(RollbackError, match="already seen number 3"):
        opened()


def test_a_header_that_names_the_new_key_does_not_spare_a_version_from_being_opened(opened: Opened, store: Path) -> None:
    """During a rotation that was stopped, one header is edited: the only key that opens the version must not be dropped."""
    cm = opened()

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cm.keys.rotate(progress=stop)
    path = store / "history" / "train" / f"{4:012d}.checkpoint"
    whole = path.read_bytes()
    old, new = (key.encode() for key in cm._store.keyring.unlocked.keyring.keys)
    put(path, whole.replace(old, new, 1))
    with pytest.raises(IntegrityError, match=r"the old key stays .* version 4 of stage train"):
        opened().keys.rotate()
    put(path, whole)
    assert opened().load_checkpoint("train")["number"] == 4
    opened().keys.rotate()
    assert opened().load_checkpoint("train")["number"] == 4


@pytest.mark.parametrize("hidden", ["history/train", "history"])
def test_a_stage_that_is_hidden_for_a_moment_is_not_left_under_a_dropped_key(opened: Opened, store: Path, hidden: str) -> None:
    cm = opened()
    cm.keys.list()
    (store / hidden).rename(store / "hidden")
    for head in store.glob("*.checkpoint"):
        head.rename(store.with_name(f"{head.name}.hidden"))
    with pytest.raises(RollbackError, match=r"the old key stays .* was rolled back"):
        cm.keys.rotate()
    assert len(orjson.loads((store / "keyring.json").read_bytes())["keys"]) == 2
    if (store / hidden).exists():
        shutil.rmtree(store / hidden)
    (store / "hidden").rename(store / hidden)
    assert opened().load_checkpoint("train")["number"] == 4
    opened().keys.rotate()
    assert opened().load_checkpoint("train")["number"] == 4
    assert len(orjson.loads((store / "keyring.json").read_bytes())["keys"]) == 1


def test_a_stage_that_comes_back_during_a_rotation_is_sealed_by_its_second_look(opened: Opened, store: Path) -> None:
    cm, hidden = opened(), store / "history" / "clean"
    hidden.rename(store / "hidden")

    def bring_it_back(_: object) -> None:
        if (store / "hidden").exists():
            (store / "hidden").rename(hidden)

    cm.keys.rotate(progress=bring_it_back)  # its first call comes with the stage "train", after the one that is hidden
    assert opened().load_checkpoint("clean")["number"] == 4
    assert len(orjson.loads((store / "keyring.json").read_bytes())["keys"]) == 1


def test_a_newest_version_that_is_hidden_is_not_left_under_a_dropped_key(opened: Opened, store: Path) -> None:
    cm, path = opened(), store / "history" / "train" / f"{4:012d}.checkpoint"
    content = path.read_bytes()
    take_away(path)
    with pytest.raises(RollbackError, match=r"the old key stays .* its newest version is 3"):
        cm.keys.rotate()
    path.write_bytes(content)
    opened().keys.rotate()
    assert opened().load_checkpoint("train")["number"] == 4


def test_tags_that_are_hidden_for_a_moment_are_not_left_under_a_dropped_key(opened: Opened, store: Path) -> None:
    cm, path = opened(), store / "history" / "train" / "tags"
    cm.tag("train", 4, "good")
    path.rename(store / "hidden")
    with pytest.raises(RollbackError, match=r"the old key stays .* tags"):
        cm.keys.rotate()
    (store / "hidden").rename(path)
    opened().keys.rotate()
    assert list(opened().tags("train")) == ["good"]


def test_a_keyring_from_the_middle_of_a_rotation_is_refused_after_its_end(opened: Opened, store: Path) -> None:
    """It still knows the old key: what is forged under that would open again."""
    cm, middle = opened(), b""

    def keep(_: object) -> None:
        nonlocal middle
        middle = (store / "keyring.json").read_bytes()

    cm.keys.rotate(progress=keep)
    put(store / "keyring.json", middle)
    assert_refused(store, opened, cm, "already seen number 3")


def test_the_first_store_of_two_does_not_come_back_in_the_place_of_the_second(
    opened: Opened, store: Path, tmp_path: Path
) -> None:
    """A store was emptied, and its user has begun a new one: the old one is another store by then."""
    old = tmp_path / "old"
    opened()
    store.rename(old)
    assert opened().save_checkpoint("train", "new").number == 1
    shutil.rmtree(store)
    old.rename(store)
    with pytest.raises(RollbackError, match="belongs to another store"):
        opened()


def test_a_reader_that_runs_for_long_heeds_a_rotation_before_it_reads(opened: Opened, store: Path) -> None:
    """It has the old key: what was forged under it after the rotation must not pass for the newest version."""
    reader, admin, secret = opened(), opened(), Passphrase("someone who leaves")
    assert reader.load_checkpoint("train")["number"] == 4
    slot = admin.keys.add(secret).slot
    content = (store / "keyring.json").read_bytes()
    admin.keys.rotate(drop=[slot])
    key_id, key = (then := Leaver(store, secret, content).then).keyring.active, then.active_key
    entry = admin._store.entry("train", 4)
    forged = entry._replace(id="ab" * 16, previous=entry.id, size=8)
    place = Place(then.keyring.store, "train", 5)
    pieces = seal_version(key_id, key, place, forged, b'"forged"')
    (store / "history" / "train" / f"{5:012d}.checkpoint").write_bytes(b"".join(bytes(piece) for piece in pieces))
    with pytest.raises(IntegrityError, match="a key that the keyring does not have"):
        reader.load_checkpoint("train")


@pytest.mark.parametrize("what", ["a save", "a tag", "a deletion"])
def test_a_writer_whose_lock_was_taken_away_does_not_write_under_a_key_that_was_given_up(
    opened: Opened, store: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its lock's name is removed: the rotation finds nobody to wait for, and drops the key that the writer is about to use."""
    writer, rotated = opened(), False
    program = (
        "import pathlib, sys\n"
        "from checkpoint_manager import CheckpointManager\n"
        "for lock in (pathlib.Path(sys.argv[1]) / '.locks').iterdir(): lock.unlink()\n"
        "CheckpointManager(sys.argv[1], key=bytes(range(32)), lock_timeout=5).keys.rotate()\n"
    )

    def rotate() -> None:
        nonlocal rotated
        if not rotated:
            rotated = True
            subprocess.run([sys.executable, "-c", program, str(store)], check=True, env=dict(os.environ))

    def rotate_and_append(*arguments: Any, **more: Any) -> Any:
        rotate()
        return append(*arguments, **more)

    def rotate_and_write(self: LocalBackend, name: Any, stage: str | None = None, **more: Any) -> Any:
        if name != "keyring":
            rotate()
        return write_record(self, name, stage, **more)

    append, write_record = LocalBackend.append, LocalBackend.write_record
    monkeypatch.setattr(LocalBackend, "append", rotate_and_append)
    monkeypatch.setattr(LocalBackend, "write_record", rotate_and_write)
    if what == "a save":
        writer.save_checkpoint("train", "precious")
        assert opened().load_checkpoint("train") == "precious"
    elif what == "a tag":
        writer.tag("train", 4, "good")
        assert list(opened().tags("train")) == ["good"]
    else:
        assert writer.delete_versions("train", [2]) == [2]
    assert rotated
    assert opened().verify().ok


def test_a_foreign_keyring_that_appears_while_a_store_is_opened_is_refused(opened: Opened, store: Path, tmp_path: Path) -> None:
    """There was none at the first look, so that a new store seemed to begin."""
    opened()
    CheckpointManager(tmp_path / "other", key=KEY)
    (store / "keyring.json").unlink()

    class Overtaken(LocalBackend):
        def stages(self) -> list[str]:
            shutil.copy(tmp_path / "other" / "keyring.json", store / "keyring.json")
            return super().stages()

    with pytest.raises(RollbackError, match="belongs to another store"):
        CheckpointManager(Overtaken(store), key=KEY)


@pytest.mark.parametrize("moment", ["lock", "read_record", "stages", "write_record"])
def test_a_foreign_keyring_that_appears_in_an_emptied_place_is_refused(
    opened: Opened, store: Path, tmp_path: Path, moment: str
) -> None:
    """The warning that the old store is gone is not a permission for whatever store is put there next."""
    opened()
    CheckpointManager(tmp_path / "other", key=KEY).save_checkpoint("train", "foreign")
    shutil.rmtree(store)
    backend = LocalBackend(store)
    step = getattr(backend, moment)

    def overtaken(*args: Any, **kwargs: Any) -> object:
        shutil.copytree(tmp_path / "other", store, dirs_exist_ok=True)
        return step(*args, **kwargs)

    setattr(backend, moment, overtaken)
    for _ in range(2):  # also by a second process
        with pytest.raises(RollbackError, match="belongs to another store"):
            CheckpointManager(backend, key=KEY)
    with pytest.raises(RollbackError, match="belongs to another store"):
        opened()


@pytest.mark.parametrize("seen_before", [True, False])
def test_a_keyring_exchanged_right_after_it_was_written_is_refused(
    opened: Opened, store: Path, tmp_path: Path, *, seen_before: bool
) -> None:
    opened(forgetful=True)
    CheckpointManager(tmp_path / "other", key=KEY)
    shutil.rmtree(store)
    if not seen_before:
        shutil.rmtree(Path(os.environ["HOME"]) / ".local" / "state")
    backend = LocalBackend(store)
    write = backend.write_record

    def overtaken(*args: Any, **kwargs: Any) -> object:
        written = write(*args, **kwargs)
        shutil.copy(tmp_path / "other" / "keyring.json", store / "keyring.json")
        return written

    backend.write_record = overtaken  # type: ignore[method-assign,assignment]
    with pytest.raises(RollbackError, match="belongs to another store"):
        CheckpointManager(backend, key=KEY)
    with pytest.raises(RollbackError, match="belongs to another store"):
        opened()


@pytest.mark.parametrize("seen_before", [True, False])
def test_processes_that_find_a_place_emptied_at_once_make_one_store(
    opened: Opened, store: Path, caplog: pytest.LogCaptureFixture, *, seen_before: bool
) -> None:
    opened()
    for _ in range(5):
        shutil.rmtree(store)
        if not seen_before:
            shutil.rmtree(Path(os.environ["HOME"]) / ".local" / "state")
        gate_out, gate_in = os.pipe()

        def save(gate_out: int = gate_out, gate_in: int = gate_in) -> int:
            os.close(gate_in)
            os.read(gate_out, 1)
            CheckpointManager(store, key=KEY).save_checkpoint("train", os.getpid())
            return 0

        children = [forking.start(save) for _ in range(6)]
        os.close(gate_out)
        os.close(gate_in)
        assert [forking.end(child) for child in children] == [0] * 6
        caplog.clear()
        assert [each.status for each in opened().history("train")] == ["completed"] * 6
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_new_store_that_could_not_be_begun_leaves_the_old_one_remembered(opened: Opened, store: Path, tmp_path: Path) -> None:
    """So the old one can be put back."""
    opened()
    shutil.copytree(store, tmp_path / "backup")
    shutil.rmtree(store)
    backend = LocalBackend(store)

    def full(*_: Any, **__: Any) -> NoReturn:
        raise StorageError("no space left on device")

    backend.write_record = full  # type: ignore[method-assign]
    with pytest.raises(StorageError):
        CheckpointManager(backend, key=KEY)
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "backup", store)
    assert opened().load_checkpoint("train") == {"stage": "train", "number": 4}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_file_of_another_user_in_the_state_folder_is_not_believed(
    opened: Opened, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its owner may have planted it while the folder was open to a group, and can change it by another name."""
    state = home / ".local" / "state" / "checkpoint_manager"
    for path in [*state.rglob("*")]:
        if path.is_file():
            os.chown(path, 12345, 12345)
    content = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    opened().save_checkpoint("train", 5)
    assert "a file in it belongs to another user" in caplog.text
    assert {path: path.read_bytes() for path in content} == content


def test_a_state_folder_that_leads_to_another_users_is_not_believed(
    opened: Opened, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A link is followed, as users move such folders; whose folder it leads to is what counts."""
    state = home / ".local" / "state" / "checkpoint_manager"
    state.rename(tmp_path / "elsewhere")
    state.symlink_to(tmp_path / "elsewhere")
    opened()
    assert not caplog.text
    if os.geteuid() == 0:
        os.chown(tmp_path / "elsewhere", 12345, 12345)
        opened()
        assert "belongs to another user" in caplog.text
