"""Where everything lies in a bucket: the names of the objects.

::

    keyring                                   the store's record
    history/STAGE/000000000001                a version
    records/STAGE/gaps, records/STAGE/tags    the records of a stage
    chunks/STAGE/UPLOAD/000000                parts of a large version
    attachments/STAGE/ATTACHMENT/000000       segments of an attachment
    names/STAGE                               the name of a stage that is too long to be encoded in STAGE
    heads/STAGE                               a hint: a number below which a listing need not begin
    leases/STAGE/NAME                         a lock of a run
    quarantine/STAGE/…                        what was set aside
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checkpoint_manager.backends.stage_names import to_filename

if TYPE_CHECKING:
    from checkpoint_manager.backends.base import RecordName

_VERSION = re.compile(r"[0-9]{12}")


def history_folder(stage: str) -> str:
    """Return what the names of a stage's versions begin with."""
    return f"history/{to_filename(stage)}"


def version_name(version: int) -> str:
    """Return the name of a version in its stage's folder."""
    return f"{version:012d}"


def version_of(name: str) -> int | None:
    """Return the number of the version with this name; None if it is not the name of a version."""
    return int(name) or None if _VERSION.fullmatch(name) else None


def version_key(stage: str, version: int) -> str:
    """Return the name of the object of a version."""
    return f"{history_folder(stage)}/{version_name(version)}"


def upload_folder(stage: str, upload: str) -> str:
    """Return what the names of an upload's chunks begin with."""
    return f"chunks/{to_filename(stage)}/{upload}"


def chunk_key(stage: str, upload: str, part: int) -> str:
    """Return the name of the object of a chunk."""
    return f"{upload_folder(stage, upload)}/{part:06d}"


def attachment_folder(stage: str, attachment: str) -> str:
    """Return what the names of an attachment's segments begin with."""
    return f"attachments/{to_filename(stage)}/{attachment}"


def segment_name(index: int) -> str:
    """Return the name of a segment in its attachment's folder."""
    return f"{index:06d}"


def segment_key(stage: str, attachment: str, index: int) -> str:
    """Return the name of the object of a segment."""
    return f"{attachment_folder(stage, attachment)}/{segment_name(index)}"


def record_key(name: RecordName, stage: str | None) -> str:
    """Return the name of the object of a record."""
    return name if stage is None else f"records/{to_filename(stage)}/{name}"


def name_key(file: str) -> str:
    """Return the name of the object that holds a stage's name."""
    return f"names/{file}"


def hint_key(stage: str) -> str:
    """Return the name of the object that holds a stage's hint."""
    return f"heads/{to_filename(stage)}"
