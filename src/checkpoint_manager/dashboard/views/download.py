"""The download of an attachment, or of an array, frame or tensor in the data: streamed, as a file, and logged as a reveal.

Only authenticated data is sent. It is read in segments of 16 MiB, and a damaged one ends the connection before the announced
length, which browsers show as a failed download.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from checkpoint_manager.dashboard.file_names import disposition, safe_name
from checkpoint_manager.dashboard.views.call import RefusedError, check_size, is_revealed, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from starlette.responses import Response

    from checkpoint_manager.dashboard.views.call import Call

_PIECE_BYTES = 1024 * 1024


def send(call: Call) -> Response:
    """Send an attachment by its name or, if this session has revealed the data, a part of it by its JSON pointer."""
    version, name = version_of(call), call.asked("name")
    is_attached = any(each.name == name for each in version.attachments)
    if not is_attached and not is_revealed(call, version):
        raise RefusedError(404, "The version has no such attachment")
    check_size(call.command(f"show STAGE@{version.number} --attachment NAME", version.stage), version)
    what = f"downloaded the attachment {name}" if is_attached else "downloaded a part of the data"
    call.note("reveal", what, stage=version.stage, version=version.number)
    found = call.store.cm.get_json(version.stage, version.number).attachments.get(name)
    if found is None:
        raise RefusedError(404, "The data holds nothing at this place")
    file = found.open()
    pieces = _pieces(file)
    first = next(pieces, b"")  # damage at the start is told by a page
    headers = {
        "content-disposition": disposition(safe_name(name, found.kind)),
        "content-length": str(found.size),
    }
    return StreamingResponse(itertools.chain([first], pieces), media_type="application/octet-stream", headers=headers)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
