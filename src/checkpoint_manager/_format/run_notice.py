r"""The notice of a run: what a stage that is running tells other processes.

It is written when a run has its lock, and again by a loop as it goes on. It is never made durable, and is gone with the lock.
Its form is that of a record (:mod:`checkpoint_manager._format.records`) with the format ``checkpoint-manager-run/2``, bound to
no stage. Its content is a JSON object::

    {"stage": "train", "name": "5c0f…", "run": "…", "started_at": "2026-11-27T17:10:00.000000Z",
     "updated_at": "…", "resumed": 0, "done": 415, "total": 1234,
     "origin": {"user": "anna", "host": "node7", "pid": 4711, "python": "3.13.1", "library": "1.0"},
     "stages": ["clean", "train", "report"]}

followed by spaces up to a multiple of 512 bytes, so that its length tells little. ``name`` is the name of the run's lock.
``done`` and ``total`` are null for a function, and ``total`` also for a loop of unknown length; ``resumed`` is the number of
items that were done when the run began. ``stages`` are those that its program has defined, as in ``@run``
(:mod:`checkpoint_manager._format.notes`); ``checkpoint-manager-run/1``, which is read as well, does not have them.

**What it proves.** Whoever has the key wrote it, for this store, stage and run. An older one may have been put in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from checkpoint_manager._format.checkpoint_file import BrokenError, Writer
from checkpoint_manager._format.notes import is_list_of_stages
from checkpoint_manager._format.records import RecordFormat

FORMAT, _OLDER_FORMAT = "checkpoint-manager-run/2", "checkpoint-manager-run/1"
MAX_NOTICE_BYTES = 8 * 1024
RECORD = RecordFormat(FORMAT, of="its run", max_bytes=MAX_NOTICE_BYTES, also_reads=_OLDER_FORMAT)
_BLOCK_BYTES = 512
_LARGEST = 2**63 - 1
_ORIGIN_TYPES = {"user": str, "host": str, "pid": int, "python": str, "library": str}


@dataclass(frozen=True, slots=True)
class RunNotice:
    """What a run tells; see the module's docstring."""

    stage: str
    name: str
    run: str
    started_at: datetime
    updated_at: datetime
    origin: Writer
    resumed: int = 0
    done: int | None = None
    total: int | None = None
    stages: tuple[str, ...] = ()

    def at(self, done: int, total: int | None, now: datetime) -> RunNotice:
        """Return the notice of the same run, so many items on."""
        resumed = done if self.done is None else self.resumed
        return replace(self, updated_at=now, resumed=resumed, done=done, total=total)


def encode(notice: RunNotice) -> bytes:
    """Return the content of the record."""
    origin = notice.origin
    fields = {
        "stage": notice.stage,
        "name": notice.name,
        "run": notice.run,
        "started_at": _text(notice.started_at),
        "updated_at": _text(notice.updated_at),
        "resumed": notice.resumed,
        "done": notice.done,
        "total": notice.total,
        "origin": {name: getattr(origin, name) for name in _ORIGIN_TYPES},
        "stages": list(notice.stages),
    }
    content = orjson.dumps(fields)
    return content + b" " * (-len(content) % _BLOCK_BYTES)


def decode(content: bytes) -> RunNotice:
    """Return the notice from the content, which is authenticated.

    Raises:
        BrokenError: It breaks a rule of the format.
    """
    try:
        fields = orjson.loads(content)
        texts = [fields.pop(name) for name in ("stage", "name", "run")]
        times = [_moment(fields.pop(name)) for name in ("started_at", "updated_at")]
        counts = [fields.pop(name) for name in ("resumed", "done", "total")]
        origin, stages = fields.pop("origin"), fields.pop("stages", [])
        is_valid = (
            not fields
            and all(type(text) is str for text in texts)
            and _is_count(counts[0])
            and all(count is None or _is_count(count) for count in counts[1:])
            and {name: type(value) for name, value in origin.items()} == _ORIGIN_TYPES
            and is_list_of_stages(stages)
        )
        if is_valid:
            return RunNotice(*texts, *times, Writer(**origin), *counts, tuple(stages))  # type: ignore[call-arg]  # counted above
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        pass
    raise BrokenError("is not of this format")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _moment(text: Any) -> datetime:  # noqa: ANN401  # JSON is what it is
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not UTC or _text(moment) != text:
        raise ValueError(text)
    return moment


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST
