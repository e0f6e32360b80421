r"""A bundle, format 1: histories of stages in one file, under a key of its own, to be moved to another store.

::

    header  {"format":"checkpoint-manager-bundle/1","slot":{…}}\n
    body    to the end of the file: a sealed message, the parts below one after the other

**Header.** One line of JSON without white space and a line feed, at most 4096 bytes. The slot is one of
:mod:`checkpoint_manager._format.keyring`, with an empty label. It wraps the bundle's key, 32 random bytes made for this bundle
alone, as the key ``bundle`` of the store ``checkpoint-manager-bundle/1``: no slot of a store opens as one of a bundle, or the
other way round. Its costs are bounded as there. A reader MUST refuse whatever is not, byte for byte, what writing its content
anew gives.

**Body.** Cobblestone-256 (see :mod:`checkpoint_manager._format.seal`) under the bundle's key, with the context
``["checkpoint-manager-bundle/1", "body", header]``, where ``header`` is the header's bytes with the line feed. It is a single
message on purpose: that nothing in it is changed, moved, doubled, left out or appended, and that it ends where it ended, is
what the cipher promises, and nobody without the key sees more than how long it is.

**Parts.** A part is its kind (one byte, an ASCII letter), the length of its content (8 bytes, big-endian), and the content:

====  ==================================================================================================================
S     a stage begins: its name, in UTF-8; 1 to 1020 bytes
V     a version: its number in decimal digits, a line feed, and its metadata as in
      :mod:`checkpoint_manager._format.checkpoint_file`, as long as a checkpoint file of format 1 can hold it
D     the data of the version just before: JSON, exactly as long as its metadata's ``size`` says
G     the gaps that end this stage's versions: the JSON of :mod:`checkpoint_manager._format.gaps`; at most 32 MiB
E     the end: ``[stages,versions]``, how many of each there were
t     the tags of this stage: the JSON list ``tags`` of :mod:`checkpoint_manager._format.tags`, under its rules, with one
      tag at least; at most 1 MiB. Each names a version of this stage in this bundle, by number and id
a-z   about the stage just before; at most 64 MiB. A reader passes over a kind it does not know: what an older one need not
      understand belongs here
====  ==================================================================================================================

In the order ``(S (V D)+ G [a-z]*)* E``, with one ``t`` at most for each stage; without one, no version of it has a tag, or an
older library wrote it. Stages ascend by the bytes of their names, so none comes twice; the versions of a stage are what
:mod:`checkpoint_manager._format.bundle_chain` accepts. Metadata, gaps, tags and the end are JSON without white space, in the
order of their specification: here too, a reader MUST refuse what writing anew would write differently. A capital kind that it
does not know is of a newer format. Whoever has the key may still be hostile: no length is believed before its bytes have
come.
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
    from checkpoint_manager._format.key_slot import ArgonCost, Secret
    from checkpoint_manager.models import Buffer

FORMAT = "checkpoint-manager-bundle/1"
MAX_HEADER_BYTES = 4096
_KEY_ID = "bundle"
_OTHER_FORMAT = re.compile(rb'\{"format":"(checkpoint-manager-bundle/[1-9][0-9]{0,5})"')


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a bundle, checked for form but not yet authenticated."""

    line: bytes
    slot: Slot

    def unlock(self, secret: Secret) -> bytes | None:
        """Return the bundle's key, or None if the secret is not the one it was made for."""
        if secret.kind != self.slot.kind:
            return None
        try:
            return self.slot.unwrap(self.slot.derive(secret), FORMAT)[_KEY_ID]
        except seal.SealBrokenError:
            return None


def create(secret: Secret, *, now: datetime, cost: ArgonCost | None = None) -> tuple[Header, bytes]:
    """Return the header of a new bundle that this secret opens, and the bundle's key."""
    key = seal.generate_key()
    slot, _ = new_slot(FORMAT, {_KEY_ID: key}, secret, label="", now=now, cost=cost)
    return Header(_line(slot), slot), key


def parse_header(opening: bytes) -> Header:
    """Read the header from a file's opening bytes; ``MAX_HEADER_BYTES`` of them are enough. Nothing costly is done.

    Raises:
        BrokenError: It is none, or asks for a cost that is out of bounds.
        FormatError: It is one of another format version.
    """
    other = _OTHER_FORMAT.match(opening)
    if other is not None and other[1].decode() != FORMAT:
        message = (
            f"the bundle is of the format {other[1].decode()}, and this version of the library reads {FORMAT}: "
            "use the version of checkpoint_manager that wrote it, or a newer one"
        )
        raise FormatError(message)
    line = opening[: opening.find(b"\n", 0, MAX_HEADER_BYTES) + 1]
    try:
        fields = orjson.loads(line)
        slot = Slot.from_fields(fields["slot"], (_KEY_ID,))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenError("has no valid header") from None
    if slot.label or _line(slot) != line:
        raise BrokenError("has a header that is not written as it must be")
    return Header(line, slot)


def _line(slot: Slot) -> bytes:
    return orjson.dumps({"format": FORMAT, "slot": slot.as_fields()}) + b"\n"


def seal_bundle(header: Header, key: bytes, parts: Iterable[Part]) -> Iterator[Buffer]:
    """Yield the bytes of a bundle, to be written in this order."""
    yield header.line
    plain = (piece for part in parts for piece in bundle_parts.encode(part))
    yield from seal.seal_stream(key, plain, _context(header))


def open_bundle(header: Header, key: bytes, body: Iterable[Buffer]) -> Parts:
    """Yield the parts of a bundle, each checked in its place. Only when this has ended it is known that nothing is missing.

    Raises:
        BrokenError: The bundle does not open, or its parts are not as they must be.
        FormatError: It has a part of a newer format.
    """
    try:
        yield from bundle_parts.decode(seal.unseal_stream(key, body, _context(header)))
    except seal.SealBrokenError:
        raise BrokenError("does not open: it is damaged, cut short or was changed") from None


def _context(header: Header) -> bytes:
    return seal.context(FORMAT, "body", header.line)
