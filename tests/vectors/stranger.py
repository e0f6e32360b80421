"""A reader of checkpoint files and bundles, written from the specification alone: it imports nothing of the library.

The docstrings of ``checkpoint_file``, ``bundle``, ``gaps``, ``tags``, ``seal``, ``keyring``, ``handover`` and ``key_slot`` must
be enough to write this. It opens with a key file's 32 bytes.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FIELDS = ["id", "previous", "status", "created_at", "metadata", "origin", "size", "restored_from"]
BUNDLE = "checkpoint-manager-bundle/1"
KEYRING, KEYRING_2 = "checkpoint-manager-keyring/1", "checkpoint-manager-keyring/2"
HEADER = re.compile(
    rb'\{"format":"checkpoint-manager/1","store":"([0-9a-f]{32})","key":"([0-9a-f]{16})","version":([1-9][0-9]{0,11}),'
    rb'"metadata":([1-9][0-9]*)\}\n'
)


class RefusedError(Exception):
    """The file is not what it should be."""


def context(*fields: object) -> bytes:
    encoded = [field if isinstance(field, bytes) else str(field).encode() for field in fields]
    return b"".join(len(field).to_bytes(4, "big") + field for field in encoded)


def unseal(key: bytes, sealed: bytes, *fields: object) -> bytes:
    decryptor = Cobblestone256Decryptor(key, context(*fields))
    try:
        return decryptor.update(sealed) + decryptor.finalize()
    except InvalidTag:
        raise RefusedError("does not open") from None


def store_keys(keyring: bytes, key_file: bytes) -> tuple[str, dict[str, bytes]]:
    fields = json.loads(keyring)
    for slot in fields["slots"]:
        if slot["kind"] == "key-file":
            salt = base64.b64decode(slot["salt"])
            wrapping = HKDF(SHA512(), 32, salt, KEYRING.encode()).derive(key_file)
            bound = (slot["slot"], slot["kind"], slot["label"], slot["created_at"], salt)
            try:
                keys = {
                    key_id: unseal(
                        wrapping,
                        base64.b64decode(text),
                        "checkpoint-manager-keyring/1",
                        "slot",
                        fields["store"],
                        key_id,
                        *bound,
                    )
                    for key_id, text in slot["wrapped"].items()
                }
            except RefusedError:
                continue
            document = {name: fields[name] for name in fields if name not in {"seal", "checksum"}}
            shown = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
            unseal(keys[fields["active"]], base64.b64decode(fields["seal"]), fields["format"], "keyring", shown)
            return fields["store"], keys
    raise RefusedError("no slot opens")


def public_key(store: str, key_id: str, key: bytes) -> bytes:
    """Return the public key of a store key."""
    seed = HKDF(SHA512(), 32, None, context(KEYRING_2, "signing key", store, key_id)).derive(key)
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def succeeds(keyring: bytes, seen: tuple[str, bytes], active: bytes) -> bool:
    """Return whether a chain of handovers leads from a key that was seen, by id and public key, to the active one."""
    fields = json.loads(keyring)
    (key_id, public), store = seen, fields["store"]
    for each in fields["handovers"]:
        if each["from"] == key_id:
            new = base64.b64decode(each["public"])
            said = context(KEYRING_2, "handover", store, each["serial"], each["from"], each["to"], new)
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(each["signature"]), said)
            except InvalidSignature:
                return False
            key_id, public = each["to"], new
    return (key_id, public) == (fields["active"], active)


def read(file: bytes, store: str, keys: dict[str, bytes], stage: str, version: int) -> tuple[dict[str, Any], Any]:
    match = HEADER.match(file)
    if match is None:
        raise RefusedError("header")
    header = match[0]
    length = int(match[4])
    if length > 1048576 or int(match[3]) != version or match[1].decode() != store or match[2].decode() not in keys:
        raise RefusedError("header")
    key = keys[match[2].decode()]
    end = len(header) + length
    if end > len(file):
        raise RefusedError("length")
    metadata = json.loads(unseal(key, file[len(header) : end], "checkpoint-manager/1", "metadata", header, stage, version))
    if list(metadata) != FIELDS or metadata["status"] not in {"completed", "progress", "failed", "cleared"}:
        raise RefusedError("metadata")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", metadata["created_at"]):
        raise RefusedError("time")
    size = metadata["size"]
    if type(size) is not int or len(file) - end != 56 + size + 16 * (size // 16384 + 1):
        raise RefusedError("length")
    data = unseal(key, file[end:], "checkpoint-manager/1", "data", header, stage, version, metadata["id"])
    return metadata, json.loads(data)


def read_bundle(file: bytes, key_file: bytes) -> dict[str, list[Any]]:
    """Return, by stage, its versions as (number, metadata, data), then its gaps, and its tags last."""
    header = file[: file.index(b"\n") + 1]
    fields = json.loads(header)
    slot = fields["slot"]
    if len(header) > 4096 or list(fields) != ["format", "slot"] or fields["format"] != BUNDLE or slot["label"]:
        raise RefusedError("header")
    salt = base64.b64decode(slot["salt"])
    wrapping = HKDF(SHA512(), 32, salt, KEYRING.encode()).derive(key_file)
    bound = (slot["slot"], slot["kind"], slot["label"], slot["created_at"], salt)
    wrapped = base64.b64decode(slot["wrapped"]["bundle"])
    key = unseal(wrapping, wrapped, KEYRING, "slot", BUNDLE, "bundle", *bound)
    body = unseal(key, file[len(header) :], BUNDLE, "body", header)
    parts = []
    while body:
        end = 9 + int.from_bytes(body[1:9], "big")
        parts.append((body[:1].decode(), body[9:end]))
        body = body[end:]
    if not re.fullmatch(r"(S(VD)+G[a-su-z]*t?[a-su-z]*)*E", "".join(kind for kind, _ in parts)):
        raise RefusedError("order")
    stages: dict[str, list[Any]] = {}
    name, number, metadata = "", 0, {}
    for kind, content in parts:
        if kind == "S":
            name = content.decode()
            stages[name] = []
        elif kind == "V":
            digits, plain = content.split(b"\n", 1)
            number, metadata = int(digits), json.loads(plain)
        elif kind == "D":
            if len(content) != metadata["size"]:
                raise RefusedError("length")
            stages[name].append((number, metadata, json.loads(content)))
        elif kind == "G":
            stages[name] += [json.loads(content), []]
        elif kind == "t":
            stages[name][-1] = tags = json.loads(content)
            held = [[number, metadata["id"]] for number, metadata, _ in stages[name][:-2]]
            if not tags or len(content) > 1048576 or not all(version in held for _, *version in tags):
                raise RefusedError("tags")
        elif kind == "E" and json.loads(content) != [len(stages), sum(map(len, stages.values())) - 2 * len(stages)]:
            raise RefusedError("count")
    return stages


def read_record(kind: str, file: bytes, store: str, keys: dict[str, bytes], stage: str) -> Any:
    """Read a stage's record of gaps or of tags, of which ``envelope.gaps`` and ``envelope.tags`` say all that is needed."""
    form = rb"checkpoint-manager-gaps/[12]" if kind == "gaps" else rb"checkpoint-manager-tags/1"
    header = re.compile(rb'\{"format":"(%s)","store":"([0-9a-f]{32})","key":"([0-9a-f]{16})"\}\n' % form)
    match = header.match(file)
    if match is None or match[2].decode() != store or match[3].decode() not in keys:
        raise RefusedError("header")
    return json.loads(unseal(keys[match[3].decode()], file[match.end() :], match[1].decode(), match[0], stage))
