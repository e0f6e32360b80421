"""Regenerate the vectors of keyrings: ``python tests/vectors/generate_keyrings.py``. Ids, salts and keys are random.

Only to be run when a vector is added; the committed files are what counts, and what a change of the format must not break.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checkpoint_manager._format import handover_signatures, keyring, seal
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.key_slot import Secret

HERE = Path(__file__).parent / "keyrings"
KEY = bytes(range(32))


def main() -> None:
    secret, now = Secret("key-file", Hidden(KEY)), datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
    steps = {"new": keyring.create(secret, label="", now=now)}
    steps["with-a-label"] = keyring.add_slot(
        steps["new"], Secret("key-file", Hidden(bytes(32))), label="zweite Öffnung", now=now
    )
    steps["rotating"] = keyring.begin_rotation(steps["with-a-label"], drop=[steps["with-a-label"].keyring.slots[1].slot])
    steps["rotated"] = keyring.finish_rotation(steps["rotating"])
    steps["rotated-twice"] = keyring.finish_rotation(keyring.begin_rotation(steps["rotated"]))
    old = (HERE.parent / "keyring.json").read_bytes()
    from_1 = keyring.unlock(keyring.Keyring.parse(old, where=""), secret, where="")
    steps["from-format-1"] = keyring.finish_rotation(keyring.begin_rotation(from_1))
    last = steps["rotated-twice"]
    first, second = last.keyring.handovers
    broken = {
        "handovers-exchanged": (second, first),
        "handovers-not-to-the-active-key": (first,),
        "handovers-doubled": (first, second, second),
        "handovers-in-a-circle": (second._replace(old=first.new, new=first.old), first._replace(old=first.old), second),
        "handover-with-a-short-signature": (first, second._replace(signature=second.signature[1:])),
        "handover-with-a-short-key": (first._replace(public=first.public[1:]), second),
        "handover-with-serial-0": (first._replace(serial=0), second),
        "handovers-more-than-128": (first,) * 129,
    }
    invalid = {
        **{name: sealed(last, last.keyring._replace(handovers=handovers)) for name, handovers in broken.items()},
        "of-format-1-with-a-later-change": sealed(last, last.keyring._replace(format="checkpoint-manager-keyring/1")).replace(
            b'"slots"', b'"handovers":[],"slots"'
        ),
        "label-with-a-control-character": sealed(last, with_label(last, "\x1b]0;")),
    }
    manifest: dict[str, Any] = {"key_hex": KEY.hex(), "valid": {}, "invalid": sorted(invalid)}
    for name, step in steps.items():
        (HERE / f"{name}.json").write_bytes(step.keyring.encode())
        manifest["valid"][name] = {
            "store": step.keyring.store,
            "keys_hex": {key_id: key.raw.hex() for key_id, key in step.keys.items()},
            "public_hex": step.as_seen("").public,
            "succeeds": sorted(other for other in steps if leads(steps[other], step)),
        }
    for name, content in invalid.items():
        (HERE / f"invalid-{name}.json").write_bytes(content)
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def leads(seen: keyring.UnlockedKeyring, now: keyring.UnlockedKeyring) -> bool:
    """Return whether the key that is active in one keyring is the end of a chain of handovers from that of another one."""
    before, after = ((each.key_id, bytes.fromhex(each.public)) for each in (seen.as_seen(""), now.as_seen("")))
    return handover_signatures.lead(now.keyring.handovers, now.keyring.store, before, after)


def sealed(unlocked: keyring.UnlockedKeyring, changed: keyring.Keyring) -> bytes:
    """Return a changed keyring, sealed by someone who has the key."""
    return changed._replace(seal=seal.seal(unlocked.active_key, b"", changed.context())).encode()


def with_label(unlocked: keyring.UnlockedKeyring, label: str) -> keyring.Keyring:
    (slot,) = unlocked.keyring.slots
    return unlocked.keyring._replace(slots=(slot._replace(label=label),))


if __name__ == "__main__":
    main()
