"""Committed keyrings, read by the library and by the reader that was written from the specification alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from checkpoint_manager import IntegrityError
from checkpoint_manager._format import handover_signatures
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.key_slot import Secret
from checkpoint_manager._format.keyring import Keyring, UnlockedKeyring, begin_rotation, unlock
from tests.vectors import stranger

HERE = Path(__file__).parent / "keyrings"
MANIFEST = json.loads((HERE / "manifest.json").read_text())
VALID = MANIFEST["valid"]
KEY = bytes.fromhex(MANIFEST["key_hex"])


def opened(name: str) -> UnlockedKeyring:
    keyring = Keyring.parse((HERE / f"{name}.json").read_bytes(), where=name)
    return unlock(keyring, Secret("key-file", Hidden(KEY)), where=name)


def test_every_file_is_in_the_manifest() -> None:
    named = {*VALID, *(f"invalid-{name}" for name in MANIFEST["invalid"]), "manifest"}
    assert {path.stem for path in HERE.iterdir()} == named


@pytest.mark.parametrize("name", VALID)
def test_the_library_reads_it(name: str) -> None:
    unlocked, expected = opened(name), VALID[name]
    assert unlocked.keyring.encode() == (HERE / f"{name}.json").read_bytes()
    assert unlocked.keyring.store == expected["store"]
    assert {key_id: key.raw.hex() for key_id, key in unlocked.keys.items()} == expected["keys_hex"]
    assert unlocked.as_seen("").public == expected["public_hex"]


@pytest.mark.parametrize("name", VALID)
def test_a_stranger_reads_the_same_from_the_specification_alone(name: str) -> None:
    keyring, expected = (HERE / f"{name}.json").read_bytes(), VALID[name]
    store, keys = stranger.store_keys(keyring, KEY)
    assert (store, {key_id: key.hex() for key_id, key in keys.items()}) == (expected["store"], expected["keys_hex"])
    active = json.loads(keyring)["active"]
    assert stranger.public_key(store, active, keys[active]).hex() == expected["public_hex"]


@pytest.mark.parametrize("name", VALID)
def test_both_agree_which_keyring_succeeds_which(name: str) -> None:
    content = (HERE / f"{name}.json").read_bytes()
    now = opened(name)
    active = (now.keyring.active, bytes.fromhex(VALID[name]["public_hex"]))
    for other, expected in VALID.items():
        seen = (opened(other).keyring.active, bytes.fromhex(expected["public_hex"]))
        succeeds = other in VALID[name]["succeeds"]
        assert stranger.succeeds(content, seen, active[1]) == succeeds
        assert handover_signatures.lead(now.keyring.handovers, now.keyring.store, seen, active) == succeeds
        another = (seen[0], bytes(32))  # the key that was seen is another one of the same id
        assert not stranger.succeeds(content, another, active[1])
        assert not handover_signatures.lead(now.keyring.handovers, now.keyring.store, another, active)


@pytest.mark.parametrize("name", MANIFEST["invalid"])
def test_the_library_refuses_it(name: str) -> None:
    with pytest.raises(IntegrityError):
        opened(f"invalid-{name}")


def test_a_handover_made_today_is_followed_by_the_stranger() -> None:
    before = opened("rotated-twice")
    now = begin_rotation(before)
    seen = (before.keyring.active, bytes.fromhex(before.as_seen("").public))
    assert stranger.succeeds(now.keyring.encode(), seen, bytes.fromhex(now.as_seen("").public))
    assert not stranger.succeeds(now.keyring.encode(), (seen[0], seen[1][::-1]), bytes.fromhex(now.as_seen("").public))
