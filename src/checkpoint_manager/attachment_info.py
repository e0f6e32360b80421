"""What a version says of an attachment. Few versions have one, so this is imported for the first that has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttachmentInfo:
    """What a version says of one of its attachments.

    Attributes:
        name: Its name.
        kind: What its content is read back as: ``bytes``, ``file``, ``numpy``, ….
        size: The length of its content in bytes.
        detail: What it is, for people: the shape and the type of an array, for example.
    """

    name: str
    kind: str
    size: int
    detail: str = ""
