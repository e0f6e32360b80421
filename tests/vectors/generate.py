"""Regenerate the vectors: ``python tests/vectors/generate.py``. Salts and ids are random, so each run gives other bytes.

Only to be run when a vector is added; the committed files are what counts, and what a change of the format must not break.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from checkpoint_manager import CheckpointManager
from checkpoint_manager._format import checkpoint_file as sealed_format
from checkpoint_manager._format import seal
from checkpoint_manager.backends.memory import MemoryBackend

HERE = Path(__file__).parent
KEY = bytes(range(32))

VALID: dict[str, tuple[str, Any]] = {
    "null": ("train", None),
    "nested": ("train", {"epoch": 3, "loss": 0.25, "tags": ["a", "é", "\U0001f600"], "none": None, "yes": True}),
    "limits-of-integers": ("train", [2**64 - 1, -(2**63), 0, -1]),
    "empty-containers": ("Stage Ünder ein", [{}, [], ""]),
    "one-chunk-to-the-byte": ("train", "x" * (seal.CHUNK_BYTES - 2)),
    "three-chunks": ("train", "y" * 40_000),
}


def main() -> None:
    backend = MemoryBackend()
    cm = CheckpointManager(backend, key=KEY)
    store = cm._store
    vectors: list[dict[str, Any]] = []

    def write(name: str, stage: str, version: int, file: bytes, **expected: Any) -> None:
        (HERE / f"{name}.checkpoint").write_bytes(file)
        vectors.append({"file": f"{name}.checkpoint", "stage": stage, "version": version, **expected})

    for path in HERE.glob("*.checkpoint"):
        path.unlink()
    for name, (stage, value) in VALID.items():
        saved = cm.save_checkpoint(stage, value, metadata={"vector": name})
        file = backend._versions[stage][saved.number]
        write(f"valid-{name}", stage, saved.number, file, data=value, metadata={"vector": name})

    good = backend._versions["train"][2]
    header = sealed_format.parse_header(good)
    end = header.data_offset

    def invalid(
        name: str, data: bytes, says: str, stage: str = "train", version: int = 2, error: str = "IntegrityError"
    ) -> None:
        write(f"invalid-{name}", stage, version, data, error=error, says=says)

    no_header, metadata, cut = "no valid header", "metadata that does not open", "cut short"
    line = header.line
    for name, at, says in (
        ("nothing", 0, no_header),
        ("in-the-header", 40, no_header),
        ("before-the-line-feed", len(line) - 1, no_header),
        ("after-the-header", len(line), cut),
        ("in-the-metadata", len(line) + 60, cut),
        ("one-byte-of-metadata-missing", end - 1, cut),
        ("after-the-metadata", end, cut),
        ("in-the-salt-of-the-data", end + 10, cut),
        ("in-the-data", end + seal.HEADER_BYTES + 5, cut),
        ("last-byte-missing", len(good) - 1, cut),
    ):
        invalid(f"truncated-{name}", good[:at], says)
    invalid("trailing-byte", good + b"\0", "something appended")
    invalid("twice", good + good, "something appended")
    for name, old, new in (
        ("format-0", b"checkpoint-manager/1", b"checkpoint-manager/0"),
        ("format-none", b"checkpoint-manager/1", b"none"),
        ("store-upper-case", header.store.encode(), header.store.upper().encode().replace(b"A", b"G", 1)),
        ("store-short", header.store.encode(), header.store[1:].encode()),
        ("key-short", header.key.encode(), header.key[1:].encode()),
        ("version-zero", b'"version":2', b'"version":0'),
        ("version-leading-zero", b'"version":2', b'"version":02'),
        ("version-too-long", b'"version":2', b'"version":1000000000000'),
        ("version-text", b'"version":2', b'"version":"2"'),
        ("metadata-zero", b'"metadata":', b'"metadata":0'),
        ("metadata-negative", b'"metadata":', b'"metadata":-'),
        ("metadata-huge", b'"metadata":', b'"metadata":9223372036854775807'),
        ("unknown-field", b"}\n", b',"cipher":"none"}\n'),
        ("duplicate-field", b'{"format"', b'{"format":"checkpoint-manager/1","format"'),
        ("other-order", b'{"format":"checkpoint-manager/1","store"', b'{"store"'),
        ("white-space", b'{"format"', b'{ "format"'),
        ("line-ends-of-dos", b"}\n", b"}\r\n"),
        ("nested-deep", b'{"format"', b"[" * 2000 + b'{"format"'),
    ):
        invalid(f"header-{name}", good.replace(old, new, 1), no_header)
    huge = good.replace(b'"metadata":%d}' % header.metadata_length, b'"metadata":1048577}', 1)
    invalid("header-metadata-above-the-limit", huge, "claims more metadata than the limit")
    invalid("header-metadata-beyond-the-file", huge.replace(b"1048577", b"1048576", 1), cut)
    invalid("header-metadata-one-less", replace_length(good, header, -1), metadata)
    invalid("header-metadata-one-more", replace_length(good, header, 1), metadata)
    invalid("header-other-store", good.replace(header.store.encode(), b"0" * 32, 1), "belongs to another store")
    invalid("header-other-key", good.replace(header.key.encode(), b"0" * 16, 1), "a key that the keyring does not have")
    invalid("header-other-version", good.replace(b'"version":2', b'"version":3', 1), "was written as version 3")
    invalid("format-2", good.replace(b"checkpoint-manager/1", b"checkpoint-manager/2", 1), "newer one")
    invalid("in-the-place-of-version-3", good, "was written as version 2", version=3)
    invalid("in-the-place-of-another-stage", good, metadata, stage="clean")
    invalid("stage-by-case", good, metadata, stage="Train")
    other = backend._versions["train"][3]
    invalid("parts-exchanged", line + good[end:] + good[len(line) : end], metadata)
    invalid("data-of-another-version", good[:end] + other[sealed_format.parse_header(other).data_offset :], cut)
    restored = cm.restore_checkpoint("train", 2)
    copy = backend._versions["train"][restored.number]
    copied = sealed_format.parse_header(copy)
    invalid("data-of-a-copy", good[:end] + copy[copied.data_offset :], "data that does not open")
    for name, position in (("salt", 0), ("commitment", 30), ("chunk", 60), ("tag", -1)):
        for part, start, stop, says in (
            ("metadata", len(line), end, metadata),
            ("data", end, len(good), "data that does not open"),
        ):
            at = start + position if position >= 0 else stop - 1
            invalid(f"flipped-{part}-{name}", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], says)
    key_id, key = store.keyring.active
    for name, change in (
        ("unknown-field", lambda fields: fields.update(extra=1)),
        ("missing-field", lambda fields: fields.pop("previous")),
        ("unknown-status", lambda fields: fields.update(status="done")),
        ("no-time", lambda fields: fields.update(created_at="soon")),
        ("no-size", lambda fields: fields.update(size=None)),
    ):
        bound_to = seal.context(sealed_format.FORMAT, "metadata", line, "train", 2)
        fields = orjson.loads(seal.unseal(key, good[len(line) : end], bound_to))
        change(fields)
        plain = orjson.dumps(fields)
        new = line.replace(b'"metadata":%d' % header.metadata_length, b'"metadata":%d' % seal.sealed_length(len(plain)))
        sealed = seal.seal(key, plain, seal.context(sealed_format.FORMAT, "metadata", new, "train", 2))
        invalid(f"metadata-{name}", new + sealed + good[end:], "has metadata")
    keyring = backend._records["keyring", None].data
    manifest = {
        "comment": "Each file stands at its stage and version. keyring.json opens with the key file's 32 bytes, key_hex.",
        "key_hex": KEY.hex(),
        "store": header.store,
        "key_id": key_id,
        "store_key_hex": key.hex(),
        "vectors": vectors,
    }
    (HERE / "keyring.json").write_bytes(keyring)
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    print(len(vectors), "vectors")


def replace_length(good: bytes, header: sealed_format.Header, by: int) -> bytes:
    return good.replace(b'"metadata":%d}' % header.metadata_length, b'"metadata":%d}' % (header.metadata_length + by), 1)


if __name__ == "__main__":
    main()
