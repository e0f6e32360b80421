"""``python lean_has.py STORE KEY STATE STAGE``: the quickest program that we know for what ``checkpoint-manager has`` answers.

One file, with the same dependencies, but without orjson, which loads much. It opens the keyring with a key file, compares it
and the newest version with what this user has seen, and opens metadata and data of the newest version. It exits with 0 if the
stage is completed. It fails with a traceback where anything is out of the ordinary: passphrases, changed keyrings, deleted
versions, attachments, open folders.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import sys

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SLOT = "checkpoint-manager-keyring/1"
FILE = "checkpoint-manager/1"


def context(*fields: str | int | bytes) -> bytes:
    encoded = (field if isinstance(field, bytes) else str(field).encode() for field in fields)
    return b"".join(len(field).to_bytes(4, "big") + field for field in encoded)


def unseal(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    decryptor = Cobblestone256Decryptor(key, bound_to)
    return bytes(decryptor.update(sealed) + decryptor.finalize())


def sha256(data: bytes) -> str:
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize().hex()


def read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def main(store: str, key_file: str, state: str, stage: str) -> None:
    secret = base64.urlsafe_b64decode(read(key_file).splitlines()[-1].partition(b":")[2])
    written = read(f"{store}/keyring.json")
    keyring = json.loads(written)
    slot, active, store_id = keyring["slots"][0], keyring["active"], keyring["store"]
    location = read(f"{state}/locations/{sha256(os.path.realpath(store).encode())[:40]}")
    seen_keyring = read(f"{state}/{store_id}/keyring").split()
    seen = read(f"{state}/{store_id}/{sha256(stage.encode())[:40]}").split()
    salt = base64.b64decode(slot["salt"])
    wrapping_key = HKDF(SHA512(), 32, salt, SLOT.encode()).derive(secret)
    bound_to = context(SLOT, "slot", store_id, active, slot["slot"], slot["kind"], slot["label"], slot["created_at"], salt)
    key = unseal(wrapping_key, base64.b64decode(slot["wrapped"][active]), bound_to)
    del keyring["checksum"]
    seal = base64.b64decode(keyring.pop("seal"))
    document = json.dumps(keyring, ensure_ascii=False, separators=(",", ":"))
    unseal(key, seal, context(keyring["format"], "keyring", document))
    sealed = read(f"{store}/{stage}.checkpoint")
    header, line_feed, rest = sealed.partition(b"\n")
    header += line_feed
    told = json.loads(header)
    number, length = told["version"], told["metadata"]
    newest = max(os.listdir(f"{store}/history/{stage}"))
    entry = json.loads(unseal(key, rest[:length], context(FILE, "metadata", header, stage, number)))
    data = unseal(key, rest[length:], context(FILE, "data", header, stage, number, entry["id"]))
    if (
        location.split()[0].decode() != store_id
        or seen_keyring[1].decode() != sha256(written)
        or (told["format"], told["store"], told["key"], newest[:12]) != (FILE, store_id, active, f"{number:012d}")
        or (int(seen[0]), seen[1].decode()) != (number, entry["id"])
        or len(data) != entry["size"]
    ):
        raise AssertionError("something is out of the ordinary")
    gc.freeze()
    sys.exit(0 if entry["status"] == "completed" else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
