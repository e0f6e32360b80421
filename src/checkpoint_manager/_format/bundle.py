r"""A bundle, format 1: histories of stages in one file under a key of its own, for another store.

::

    header  {"format":"checkpoint-manager-bundle/1","slot":{…}}\n
    body    to the end of the file: a sealed message, the parts below one after the other

**Header.** One line of JSON without white space and a line feed, at most 4096 bytes. The slot is one of
:mod:`checkpoint_manager._format.keyring`, with an empty label. It wraps the bundle's key, 32 random bytes made for this bundle
alone, as the key ``bundle`` of the store ``checkpoint-manager-bundle/1``: a slot of a store does not open as one of a bundle,
or the other way round. Its costs are bounded as there. A reader MUST refuse a header that is not, byte for byte, what writing
its content gives.

**Body.** Cobblestone-256 (see :mod:`checkpoint_manager._format.seal`) under the bundle's key, with the context
``["checkpoint-manager-bundle/1", "body", header]``, where ``header`` is the header's bytes with the line feed. It is a single
message on purpose: the cipher ensures that nothing in it is changed, moved, doubled, left out or appended, and that it is
complete. Without the key, only its length is visible.

**Parts.** A part is its kind (one byte, an ASCII letter), the length of its content (8 bytes, big-endian), and the content:

====  ==================================================================================================================
S     a stage begins: its name, in UTF-8; 1 to 1020 bytes
V     a version: its number in decimal digits, a line feed, and its metadata as in
      :mod:`checkpoint_manager._format.checkpoint_file`, as long as a checkpoint file of format 1 can hold it. The key in the
      record of an attachment counts for nothing: a writer MUST NOT tell that of the store, and writes zeros; and no ``under``
D     the data of the version just before, exactly as long as its metadata's ``size`` says
A     the content of an attachment of the version just before, exactly as long as its record's ``size`` says: one for each
      record whose id no version of this stage has had in this bundle so far, in the order of the records
G     the gaps that end this stage's versions: the JSON of :mod:`checkpoint_manager._format.gaps`; at most 32 MiB
E     the end: ``[stages,versions]``, how many of each there were
t     the tags of this stage: the JSON list ``tags`` of :mod:`checkpoint_manager._format.tags`, under its rules, with one
      tag at least; at most 1 MiB. Each names a version of this stage in this bundle, by number and id
a-z   about the stage just before; at most 64 MiB. A reader skips a kind it does not know: what an older reader need not
      understand belongs here
====  ==================================================================================================================

The order is ``(S (V D A*)+ G [a-z]*)* E``, with at most one ``t`` for each stage; without it, no version has a tag, or an older
library wrote the bundle. Stages ascend by the bytes of their names, so that none comes twice. The versions of a stage follow
the rules of :mod:`checkpoint_manager._format.bundle_chain`. Metadata, gaps, tags and the end are JSON without white space, in
the order of their specification; here too, a reader MUST refuse what writing their content would write differently. An unknown
capital kind is of a newer format. The maker of a bundle may be hostile: no length is trusted before its bytes have come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from checkpoint_manager._format import bundle_parts, seal
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.key_slot import Slot
from checkpoint_manager._format.keyring import new_slot
from checkpoint_manager.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from checkpoint_manager._format.bundle_parts import Part, Parts
    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._format.key_slot import ArgonCost, Secret
    from checkpoint_manager.models import Buffer

FORMAT = "checkpoint-manager-bundle/1"
MAX_HEADER_BYTES = 4096
_KEY_ID = "bundle"
_BEGINNING = b'{"format":"checkpoint-manager-bundle/'
_OTHER_FORMAT = re.compile(rb'\{"format":"(checkpoint-manager-bundle/[1-9][0-9]{0,5})"')


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a bundle: its form is checked, and it is not yet authenticated."""

    line: bytes
    slot: Slot

    def unlock(self, secret: Secret) -> SecretBytes | None:
        """Return the bundle's key, or None if the bundle was made for another secret."""
        if secret.kind != self.slot.kind:
            return None
        try:
            return self.slot.unwrap(self.slot.derive(secret), FORMAT)[_KEY_ID]
        except seal.SealBrokenError:
            return None


def create(secret: Secret, *, now: datetime, cost: ArgonCost | None = None) -> tuple[Header, SecretBytes]:
    """Return the header of a new bundle that this secret opens, and the bundle's key."""
    key = seal.generate_key()
    slot, _ = new_slot(FORMAT, {_KEY_ID: key}, secret, label="", now=now, cost=cost)
    return Header(_line(slot), slot), key


def may_be_bundle(opening: bytes) -> bool:
    """Return whether a file may be a bundle of any format, judged by the first bytes that were read so far."""
    return opening.startswith(_BEGINNING) or _BEGINNING.startswith(opening)


def parse_header(opening: bytes) -> Header:
    """Return the header from the first ``MAX_HEADER_BYTES`` of a file. Nothing costly is done.

    Raises:
        BrokenError: There is no valid header, or it asks for a cost that is out of bounds.
        FormatError: The header is of another format version.
    """
    other = _OTHER_FORMAT.match(opening)
    if other is not None and other[1].decode() != FORMAT:
        raise FormatError(
            f"the bundle is of the format {other[1].decode()}, and this version of the library reads {FORMAT}",
            hint="Use the version of checkpoint_manager that wrote it, or a newer one",
        )
    line = opening[: opening.find(b"\n", 0, MAX_HEADER_BYTES) + 1]
    try:
        fields = orjson.loads(line)
        slot = Slot.from_fields(fields["slot"], (_KEY_ID,))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenError("has no valid header") from None
    if slot.label or _line(slot) != line:
        raise BrokenError("has a header that is not in canonical form")
    return Header(line, slot)


def _line(slot: Slot) -> bytes:
    return orjson.dumps({"format": FORMAT, "slot": slot.as_fields()}) + b"\n"


def seal_bundle(header: Header, key: SecretBytes, parts: Iterable[Part]) -> Iterator[Buffer]:
    """Yield the bytes of a bundle, to be written in this order."""
    yield header.line
    plain = (piece for part in parts for piece in bundle_parts.encode(part))
    yield from seal.seal_stream(key, plain, _context(header))


def open_bundle(header: Header, key: SecretBytes, body: Iterable[Buffer]) -> Parts:
    """Yield the parts of a bundle, each checked in its place. Only the end of the iteration proves that nothing is missing.

    Raises:
        BrokenError: The bundle does not open, or one of its parts breaks a rule.
        FormatError: It has a part of a newer format.
    """
    try:
        yield from bundle_parts.decode(seal.unseal_stream(key, body, _context(header)))
    except seal.SealBrokenError:
        raise BrokenError("does not open: it is damaged, cut short or was changed") from None


def _context(header: Header) -> bytes:
    return seal.context(FORMAT, "body", header.line)
