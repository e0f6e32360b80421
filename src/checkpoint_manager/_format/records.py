r"""The form of a stage's records: a header in the clear, and a sealed message bound to the header and the stage.

::

    header   {"format":"FORMAT","store":"S","key":"K"}\n
    content  to the end of the file: a sealed message

S and K are as in :mod:`checkpoint_manager._format.checkpoint_file`; the message is sealed under K with the context
``[FORMAT, header, stage]``. The module that owns the format specifies the content.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checkpoint_manager._format import seal
from checkpoint_manager._format.checkpoint_file import BrokenError

if TYPE_CHECKING:
    from checkpoint_manager._format.hidden import SecretBytes


class RecordFormat:
    """One kind of record.

    Args:
        name: The name of the format.
        of: What the record lists, for messages.
        max_bytes: The maximum length.
        also_reads: The name of an older format that is read, too, or empty.
    """

    def __init__(self, name: str, *, of: str, max_bytes: int, also_reads: str = "") -> None:
        self.name = name
        self.of = of
        self.max_bytes = max_bytes
        names = "|".join(re.escape(each) for each in (name, also_reads) if each)
        beginning = rb'\{"format":"(?P<format>%b)","store":"(?P<store>[0-9a-f]{32})","key":"(?P<key>[0-9a-f]{16})"\}\n'
        self._header = beginning % names.encode()

    def key_of(self, file: bytes) -> str:
        """Return the id of the key that a record is sealed under.

        Raises:
            BrokenError: It is not a record of this kind.
        """
        return self._match(file)["key"].decode()

    def store_of(self, file: bytes) -> str:
        """Return the id of the store that a record claims to belong to; errors as for :meth:`key_of`."""
        return self._match(file)["store"].decode()

    def seal(self, key_id: str, key: SecretBytes, store: str, stage: str, content: bytes) -> bytes:
        """Return a record as it is stored."""
        line = f'{{"format":"{self.name}","store":"{store}","key":"{key_id}"}}\n'.encode()
        return line + seal.seal(key, content, seal.context(self.name, line, stage))

    def open(self, key: SecretBytes, store: str, stage: str, file: bytes) -> bytes:
        """Return the content of a stage's record.

        Raises:
            BrokenError: It is of another store or stage, or does not open.
        """
        match = self._match(file)
        if match["store"].decode() != store:
            raise BrokenError("belongs to another store")
        try:
            return seal.unseal(key, file[match.end() :], seal.context(match["format"], match[0], stage))
        except seal.SealBrokenError:
            raise BrokenError("does not open: it is damaged, was changed, or belongs to another stage") from None

    def _match(self, file: bytes) -> re.Match[bytes]:
        match = re.match(self._header, file)
        if match is None:
            family, _, number = self.name.rpartition("/")
            claimed = re.match(rb'\{"format":"%b/([1-9][0-9]{0,5})"' % family.encode(), file)
            if claimed is not None and int(claimed[1]) > int(number):
                what = f"claims the format {family}/{int(claimed[1])}, and this version of the library reads {self.name}"
                raise BrokenError(what, newer=True)
            raise BrokenError("has no valid header")
        return match
