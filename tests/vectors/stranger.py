"""A reader of checkpoint files and bundles, written from the specification alone: it imports nothing of the library.

The docstrings of ``checkpoint_file``, ``values``, ``embedded``, ``contents``, ``attachment``, ``bundle``, ``gaps``, ``tags``,
``seal``, ``keyring``, ``handover`` and ``key_slot`` must be enough to write this. It opens with a key file's 32 bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = ["id", "previous", "status", "created_at", "metadata", "origin", "size", "restored_from"]
RECORDS = [["id", "key", "size", "kind", "detail", of, *under] for of in ("segments", "blake3") for under in ([], ["under"])]
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


def read_metadata(file: bytes, store: str, keys: dict[str, bytes], stage: str, version: int) -> dict[str, Any]:
    """Return a version's metadata, whose data is not read."""
    return _opened(file, store, keys, stage, version)[0]


def read(
    file: bytes, store: str, keys: dict[str, bytes], stage: str, version: int, contents: bytes = b""
) -> tuple[dict[str, Any], Any]:
    """Return a version's metadata and data; ``contents`` is its attachment ``@contents``."""
    metadata, data = _opened(file, store, keys, stage, version)
    return metadata, read_data(data, contents)


def _opened(file: bytes, store: str, keys: dict[str, bytes], stage: str, version: int) -> tuple[dict[str, Any], bytes]:
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
    return metadata, data


def read_attachment(record: dict[str, Any], segments: list[bytes], store: str, stage: str) -> bytes:
    """Return the content of an attachment."""
    if list(record) not in RECORDS:
        raise RefusedError("record")
    named, digest = ("blake3", blake3) if "blake3" in record else ("segments", hashlib.sha256)
    if len(segments) != max(1, -(-record["size"] // 2**24)) or len(record[named]) != 64 * len(segments):
        raise RefusedError("segments")
    content = b""
    for index, segment in enumerate(segments):
        if digest(segment).hexdigest() != record[named][64 * index : 64 * index + 64]:
            raise RefusedError("digest")
        last = "last" if index == len(segments) - 1 else "more"
        bound = ("checkpoint-manager/attachment/1", store, stage, record["id"], index, last)
        content += unseal(bytes.fromhex(record["key"]), segment, *bound)
    return content if len(content) == record["size"] else _refuse("length")


def read_data(data: bytes, contents: bytes = b"") -> Any:
    """Return the value of JSON, or of JSON with forms; ``contents`` is the attachment ``@contents``."""
    at = count = 0

    def form(pairs: list[tuple[str, Any]]) -> Any:
        nonlocal at, count
        if data[:9] not in {b"values/2\n", b"values/3\n"} or len(pairs) != 1 or pairs[0][0] != "!content":
            return _object(pairs)
        kind, detail, where, *digest = pairs[0][1]
        if type(kind) is not str or type(detail) is not str:
            raise RefusedError("content")
        count += 1
        if type(where) is str and not digest:
            return CONTENTS[kind](io.BytesIO(_bytes(where)))
        content = contents[at : at + where]
        expected = [hashlib.sha256(content).hexdigest()] if data[:9] == b"values/2\n" else []
        if type(where) is not int or not 0 <= where == len(content) or digest != expected:
            raise RefusedError("content")
        at += where
        return CONTENTS[kind](io.BytesIO(content))

    if not data.startswith((b"values/1\n", b"values/2\n", b"values/3\n")):
        return json.loads(data)
    try:
        json.dumps(json.loads(data[9:]), ensure_ascii=False).encode()  # fails at half a surrogate pair
        value = json.loads(
            data[9:], object_pairs_hook=form, parse_constant=_refuse, parse_int=_integer_of_64_bits, parse_float=_finite
        )
        return value if at == len(contents) and (count > 0) == (data[:9] != b"values/1\n") else _refuse("contents")
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RecursionError,
        struct.error,
        OSError,
        ImportError,
    ):
        raise RefusedError("not a value") from None


def _refuse(text: str) -> Any:
    raise RefusedError(text)


def _array(file: Any) -> Any:
    import numpy as np

    return np.load(file, allow_pickle=False)


def _pandas_frame(file: Any) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(file).read_pandas()


def _polars_frame(file: Any) -> Any:
    import polars as pl

    return pl.read_ipc_stream(file)


def _tensor(file: Any) -> Any:
    import safetensors.torch

    return safetensors.torch.load(file.read())["tensor"]


CONTENTS = {"numpy": _array, "pandas": _pandas_frame, "polars": _polars_frame, "torch": _tensor}
"""What reads a content, by its kind."""


def _integer_of_64_bits(text: str) -> int:
    number = int(text)
    return number if -(2**63) <= number < 2**64 else _refuse(text)


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) < float("inf") else _refuse(text)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """Return a dict, or the value of a form, whose content was read before it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("the same key twice")
    if len(pairs) != 1 or not pairs[0][0].startswith("!"):
        return found
    tag, content = pairs[0]
    name = tag[1:]
    if name in {"tuple", "set", "frozenset", "dict"}:
        return _collection(name, content)
    kind, pattern, make = FORMS[name]
    if kind is str and (type(content) is not str or not re.fullmatch(pattern, content, re.ASCII | re.DOTALL)):
        raise RefusedError(tag)
    return make(content)


def _collection(name: str, content: Any) -> Any:
    if type(content) is not list or (name == "dict" and any(type(pair) is not list or len(pair) != 2 for pair in content)):
        raise RefusedError(name)
    if name != "tuple" and any(map(_has_tensor, [key for key, _ in content] if name == "dict" else content)):
        raise RefusedError(name)
    value = {"tuple": tuple, "set": set, "frozenset": frozenset, "dict": dict}[name](content)
    return value if len(value) == len(content) else _refuse(name)


def _has_tensor(value: Any) -> bool:
    """Return whether an element of a set, or a key, has the one content in it that could be hashed."""
    return type(value).__module__ == "torch" or (type(value) is tuple and any(map(_has_tensor, value)))


def _exactly(value: Any, written: Any, content: Any) -> Any:
    return value if [written, type(written)] == [content, type(content)] else _refuse(str(type(value)))


def _integer(text: str) -> int:
    number = int(text, 16)
    return _refuse(text) if -(2**63) <= number < 2**64 else number


def _float(text: str) -> float:
    if text in {"nan", "inf", "-inf"}:
        return float(text)
    number = struct.unpack(">d", bytes.fromhex(text))[0]
    return _refuse(text) if number == number or text == "7ff8000000000000" else number  # noqa: PLR0124  # NaN


def _complex(content: Any) -> complex:
    real, imaginary = content
    return complex(real, imaginary) if type(real) is type(imaginary) is float else _refuse("complex")


def _bytes(text: str) -> bytes:
    value = base64.b64decode(text, validate=True)
    return _exactly(value, base64.b64encode(value).decode(), text)


def _moment(kind: Any) -> Callable[[Any], Any]:
    def make(content: Any) -> Any:
        if type(content) is str:
            value = kind.fromisoformat(content)
            if value.tzinfo is not None and not re.search("[+-][0-9]{2}:[0-9]{2}$", content):
                raise RefusedError("time")
            return _exactly(value, value.isoformat(), content)
        text, fold, zone = content
        value = kind.fromisoformat(text)
        if value.tzinfo is not None or value.isoformat() != text or type(fold) is not int:
            raise RefusedError("time")
        if type(zone) is str:
            if not re.fullmatch("[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", zone):
                raise RefusedError("zone")
            return value.replace(fold=fold, tzinfo=ZoneInfo(zone))
        if zone is None:
            return value.replace(fold=fold) if fold else _refuse("time")
        offset, name = zone
        if type(offset) is not int or not (fold or name is not None or offset % 60_000_000):
            raise RefusedError("zone")
        fixed = timezone(timedelta(microseconds=offset), name) if name is not None else timezone(timedelta(microseconds=offset))
        return value.replace(fold=fold, tzinfo=UTC if fixed == UTC and name is None else fixed)

    return make


def _date(text: str) -> date:
    return date.fromisoformat(text)


def _timedelta(content: Any) -> timedelta:
    days, seconds, microseconds = content
    value = timedelta(days, seconds, microseconds)
    written = [value.days, value.seconds, value.microseconds]
    return value if written == content and all(type(each) is int for each in content) else _refuse("timedelta")


def _uuid(content: Any) -> UUID:
    text, safety = (content, "unknown") if type(content) is str else content
    if type(content) is not str and safety not in {"safe", "unsafe"}:
        raise RefusedError("uuid")
    return _exactly(UUID(text, is_safe=SafeUUID[safety]), str(UUID(text)), text)


def _path(kind: Any) -> Callable[[str], Any]:
    return lambda text: _exactly(kind(text), str(kind(text)), text)


def _decimal(text: str) -> Decimal:
    return _exactly(Decimal(text), str(Decimal(text)), text)


def _numpy(content: Any) -> Any:
    import numpy as np

    name, value = content
    if name in {"str", "bytes"}:
        return getattr(np, f"{name}_")(value) if type(value).__name__ == name else _refuse(name)
    if re.fullmatch(r"(datetime|timedelta)64(\[([1-9][0-9]{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?", name):
        return np.array(value, "i8").view(name)[()] if type(value) is int else _refuse(name)
    kinds = {"b": bool, "i": int, "u": int, "f": float, "c": complex}
    if not re.fullmatch("bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)", name):
        raise RefusedError(name)
    kind = np.dtype(name)
    with np.errstate(all="ignore"):
        scalar = kind.type(value)
    same = scalar.item() == value or value != value  # noqa: PLR0124  # NaN
    return scalar if type(value) is kinds[kind.kind] and same else _refuse(name)


_ANY = ".*"
FORMS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "bytes": (str, _ANY, _bytes),
    "int": (str, "-?0x[1-9a-f][0-9a-f]*", _integer),
    "float": (str, "nan|-?inf|[7f]ff[0-9a-f]{13}", _float),
    "complex": (list, _ANY, _complex),
    "decimal": (str, _ANY, _decimal),
    "date": (str, "[0-9]{4}-[0-9]{2}-[0-9]{2}", _date),
    "datetime": (object, _ANY, _moment(datetime)),
    "time": (object, _ANY, _moment(time)),
    "timedelta": (list, _ANY, _timedelta),
    "uuid": (object, _ANY, _uuid),
    "path": (str, _ANY, _path(PosixPath)),
    "pureposixpath": (str, _ANY, _path(PurePosixPath)),
    "purewindowspath": (str, _ANY, _path(PureWindowsPath)),
    "numpy": (list, _ANY, _numpy),
}
"""By the name in a form: what its content is, the pattern of text, and what makes the value of it. There are no codecs here."""


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
            stages[name].append((number, metadata, read_data(content)))
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
    form = rb"checkpoint-manager-gaps/[12]" if kind == "gaps" else rb"checkpoint-manager-tags/[12]"
    header = re.compile(rb'\{"format":"(%s)","store":"([0-9a-f]{32})","key":"([0-9a-f]{16})"\}\n' % form)
    match = header.match(file)
    if match is None or match[2].decode() != store or match[3].decode() not in keys:
        raise RefusedError("header")
    return json.loads(unseal(keys[match[3].decode()], file[match.end() :], match[1].decode(), match[0], stage))
