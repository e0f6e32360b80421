"""What a store means, said again with lists and dictionaries. It knows nothing of files, keys or the library."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What one version should be."""

    data: Any
    status: str = "completed"
    metadata: dict[str, Any] = field(default_factory=dict)
    restored_from: int | None = None


class Pipeline:
    """The stages of a store, each with its versions from 1 on; None in the place of a deleted one."""

    def __init__(self) -> None:
        self.stages: dict[str, list[Entry | None]] = {}
        self.tags: dict[str, dict[str, int]] = {}

    def newest(self, stage: str) -> int:
        return len(self.stages.get(stage, []))

    def entry(self, stage: str, version: int) -> Entry | None:
        versions = self.stages.get(stage, [])
        return versions[version - 1] if 1 <= version <= len(versions) else None

    def is_deleted(self, stage: str) -> bool:
        """Whether nothing but a delete marker is left of it."""
        entry = self.entry(stage, self.newest(stage))
        return (
            entry is not None and "@deleted" in entry.metadata and self.stages[stage][:-1] == [None] * (self.newest(stage) - 1)
        )

    def visible(self) -> list[str]:
        return sorted(stage for stage in self.stages if not self.is_deleted(stage))

    def present(self, stage: str) -> list[int]:
        if self.is_deleted(stage):
            return []
        return [number for number, entry in enumerate(self.stages.get(stage, []), 1) if entry is not None]

    def is_completed(self, stage: str) -> bool:
        entry = self.entry(stage, self.newest(stage))
        return entry is not None and entry.status == "completed"

    def is_cleared(self, stage: str) -> bool:
        entry = self.entry(stage, self.newest(stage))
        return entry is None or entry.status == "cleared"

    def append(self, stage: str, entry: Entry) -> int:
        self.stages.setdefault(stage, []).append(copy.deepcopy(entry))
        return self.newest(stage)

    def restore(self, stage: str, version: int) -> int:
        entry = self.entry(stage, version)
        assert entry is not None
        return self.append(stage, Entry(entry.data, entry.status, entry.metadata, version))

    def clear(self, stage: str) -> int | None:
        return None if self.is_cleared(stage) else self.append(stage, Entry(None, "cleared"))

    def restore_all(self, then: dict[str, int]) -> int:
        """Go back to when the newest versions were these, and return how many stages that changes."""
        changed = 0
        for stage in self.visible():
            number = max((one for one in self.present(stage) if one <= then.get(stage, 0)), default=0)
            now = self.entry(stage, self.newest(stage))
            assert now is not None
            if number == 0:
                changed += self.clear(stage) is not None
            elif number not in {self.newest(stage), now.restored_from}:
                before = self.entry(stage, number)
                assert before is not None
                if not (now.status == before.status == "cleared"):
                    self.restore(stage, number)
                    changed += 1
        return changed

    def named(self, stage: str, version: int | str) -> int | None:
        """Which version is meant; None: there is none."""
        if isinstance(version, int):
            return version if self.entry(stage, version) is not None else None
        if version in {"latest", "prev"}:
            states = [(number, entry) for number in self.present(stage) if (entry := self.entry(stage, number)) is not None]
            if version == "latest":
                return states[-1][0] if states and states[-1][1].status == "completed" else None
            return next((number for number, entry in reversed(states[:-1]) if entry.status == "completed"), None)
        return self.tags.get(stage, {}).get(version)

    def prune(self, last: int, *, keep_tagged: bool) -> list[tuple[str, int]]:
        """Keep so many completed versions, what is tagged, and what a pipeline stands on; return what goes."""
        gone: list[tuple[str, int]] = []
        for stage in self.visible():
            entries = [(number, self.entry(stage, number)) for number in reversed(self.present(stage))]
            by_status = {
                status: [number for number, entry in entries if entry is not None and entry.status == status]
                for status in ("completed", "cleared")
            }
            kept = {entries[0][0], *by_status["completed"][: max(1, last)], *by_status["cleared"][:1]}
            if keep_tagged:
                kept |= set(self.tags.get(stage, {}).values())
            dropped = {number for number, _ in entries} - kept
            self.delete(stage, dropped)
            if not keep_tagged:
                self.tags[stage] = {name: number for name, number in self.tags.get(stage, {}).items() if number not in dropped}
            gone += [(stage, number) for number in sorted(dropped, reverse=True)]
        return gone

    def delete(self, stage: str, versions: set[int]) -> None:
        for version in versions:
            self.stages[stage][version - 1] = None

    def delete_stage(self, stage: str) -> None:
        entry = self.entry(stage, self.newest(stage))
        if entry is None or "@deleted" not in entry.metadata:
            self.append(stage, Entry(None, "cleared", {"@deleted": True}))
        self.stages[stage][:-1] = [None] * (self.newest(stage) - 1)
        self.tags.pop(stage, None)
