"""The error about a value that can't be saved, which becomes a :class:`~checkpoint_manager.errors.PayloadError`."""

from __future__ import annotations


class UnsavableError(Exception):
    """A value that has no form.

    Attributes:
        fault: What is wrong with it, as the end of a message.
        remedy: What to do about it; empty if its type says what.
    """

    def __init__(self, fault: str, remedy: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.remedy = remedy
