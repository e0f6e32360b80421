"""The attachments of a stage in a directory: a folder for each, a file for each segment.

A segment is written under its own name, which no reader looks for before a version refers to it, and is synced together with
the names that lead to it. What a killed writer leaves is an attachment that no version refers to.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import is_refusal
from checkpoint_manager.backends.local import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager.models import Buffer

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SEGMENT = r"[0-9]{6}\.segment"

segment_name = "{:06d}.segment".format


def write_segment(folder: int, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
    """Write a segment below a stage's open folder, durably."""
    if index == 0 or not _is_made(folder, attachment):
        files.make_directory(layout.ATTACHMENTS, folder)
        files.sync(folder)  # also if another thread or process has just made it
        with files.open_directory(layout.ATTACHMENTS, folder) as attachments:
            files.make_directory(attachment, attachments)
            files.sync(attachments)
    with opened(folder, attachment) as place:
        files.write_new(segment_name(index), place, pieces, durable=True)
        files.sync(place)


def _is_made(folder: int, attachment: str) -> bool:
    return files.exists(f"{layout.ATTACHMENTS}{os.sep}{attachment}", folder)


@contextlib.contextmanager
def opened(folder: int, attachment: str) -> Iterator[int]:
    """Open the folder of an attachment."""
    with (
        files.open_directory(layout.ATTACHMENTS, folder) as attachments,
        files.open_directory(attachment, attachments) as place,
    ):
        yield place


def sizes(place: int) -> Iterator[int]:
    """Yield the lengths of the segments in the open folder of an attachment, up to the first that is missing."""
    for index in range(1_000_000):
        try:
            yield os.lstat(segment_name(index), dir_fd=place).st_size
        except FileNotFoundError:
            return


def names(folder: int) -> Iterator[tuple[str, bool]]:
    """Yield each name among the attachments of a stage, and whether it is an attachment's."""
    with files.open_directory(layout.ATTACHMENTS, folder) as attachments, files.entries(attachments) as entries:
        for entry in entries:
            yield entry.name, _ID.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)


def delete(folder: int, ids: Iterable[str]) -> None:
    """Remove attachments; what else lies in their folders stays, and so do these."""
    with files.open_directory(layout.ATTACHMENTS, folder) as attachments:
        for attachment in ids:
            with contextlib.suppress(FileNotFoundError), files.open_directory(attachment, attachments) as place:
                with files.entries(place) as entries:
                    segments = [entry.name for entry in entries if re.fullmatch(_SEGMENT, entry.name)]
                for name in segments:
                    files.remove(name, place)
            try:
                os.rmdir(attachment, dir_fd=attachments)
            except OSError as error:
                if not is_refusal(error):
                    raise
        files.sync(attachments)
