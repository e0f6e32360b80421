"""Versions and records of which one field is another value, sealed with the right key, as a stranger's program may write them.

``python -m tests.attacks.fields`` puts each value in the place of each field, and calls each operation; the tests try a few.
"""

from __future__ import annotations

import contextlib
import copy
import io
import random
import sys
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager import CheckpointError, CheckpointManager, Retention
from checkpoint_manager._format import checkpoint_file, gaps, tags
from checkpoint_manager.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Path = tuple[str | int, ...]

NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**63 - 1, 2**63, 2**64 - 1, 1.5, 1e308, "", "x", "a" * 5000, "\0", "0" * 32),
    *("\x1b]0;own\x07\nERROR forged \u202e", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z", [], {}, {"": None}),
    *([[]] * 20, {"@stage": {"a": 1}}, {"version": 1, "arguments": {}}, [[1, "x", None]]),
]


def rows(number: int) -> list[int]:
    """Return what a stage makes."""
    return list(range(number))


def model(made_of: list[int]) -> int:
    """Return what another stage makes of that."""
    return sum(made_of)


def pipeline() -> CheckpointManager:
    """Return a store with a stage, rows, and one that was made of it."""
    cm = CheckpointManager(MemoryBackend(), key=bytes(32))
    cm.stage(model)(cm.stage(rows)(3))
    return cm


def honest() -> list[tuple[dict[str, Any], bytes]]:
    """Return the metadata, as stored, and the data of versions of all kinds."""
    cm = pipeline()

    @cm.stage(retries=1, backoff=0)
    def broken(_: list[int]) -> None:
        raise ZeroDivisionError

    with contextlib.suppress(ZeroDivisionError):
        broken(cm.stage(rows)(3))
    with contextlib.suppress(ZeroDivisionError), cm.loop("embed", [1, 2], initial=[], every_items=1, bar=False) as loop:
        for item in loop:
            loop.state.append(1 // (2 - item))
    cm.save_checkpoint("attached", {"a": 1}, metadata={"run": "a7"}, attachments={"w": io.BytesIO(b"w")})
    cm.save_checkpoint("deleted", {1, 2})
    cm.restore_checkpoint("deleted", 1)
    cm.delete_stage("deleted")
    found = []
    for stage in cm._store.backend.stages():
        entry, data = cm._store.load(stage, cm._store.backend.versions(stage)[-1])
        found.append((orjson.loads(checkpoint_file.encode_entry(entry)), bytes(data)))
    found[-1][0]["metadata"]["@durable"] = [1, "0" * 32]  # as in a relaxed store
    return found


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the way to each field, to the whole first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from paths(each, (*path, key))


def exchanged(value: object, path: Path, nasty: object) -> Any:
    """Return a copy in which one field is another value."""
    if not path:
        return nasty
    whole: Any = copy.deepcopy(value)
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = nasty
    return whole


def plant(cm: CheckpointManager, stage: str, fields: dict[str, Any], data: bytes, path: Path, nasty: object) -> None:
    """Save version 2 of a stage, which continues version 1, with another value in the place of one field."""
    fields = {**fields, "previous": cm._store.entry(stage, 1).id}
    entry, encoded = checkpoint_file.decode_entry(orjson.dumps(fields)), orjson.dumps(exchanged(fields, path, nasty))
    encode, checkpoint_file.encode_entry = checkpoint_file.encode_entry, lambda _: encoded
    try:
        cm._store.append(stage, 2, entry, data)
    finally:
        checkpoint_file.encode_entry = encode


def looped(cm: CheckpointManager, stage: str) -> None:
    """Run a loop over a stage."""
    with cm.loop(stage, [1, 2], initial=[], every_items=1, bar=False) as loop:
        for item in loop:
            loop.state.append(item)


OPERATIONS: tuple[Callable[[CheckpointManager, str], object], ...] = (
    lambda cm, stage: cm.has_checkpoint(stage),
    lambda cm, stage: cm.load_checkpoint(stage),
    lambda cm, stage: [repr(each) + str(each.load()) for each in cm.get_checkpoint(stage, 2).attachments.values()],
    lambda cm, stage: repr(cm.history(stage)),
    lambda cm, stage: cm.tags(stage),
    lambda cm, stage: repr(cm.diff(stage, 1, 2)),
    lambda cm, stage: repr(cm.verify(stage)),
    lambda cm, stage: repr(cm.prune(Retention(keep_last=1), dry_run=True)) + stage,
    lambda cm, stage: repr(cm.repair(dry_run=True)) + stage,
    lambda cm, stage: str(cm.run_report()) + stage,
    lambda cm, stage: repr(cm.stale_stages()) + repr(cm.downstream(stage)),
    lambda cm, stage: cm.export_bundle(io.BytesIO(), key=bytes(32), stages=[stage]),
    lambda cm, stage: cm.load_checkpoint(stage, at="2099-01-01"),
    lambda cm, stage: cm.restore_checkpoint(stage, 2),
    lambda cm, stage: cm.stage(stage)(rows)(3),
    looped,
    lambda cm, stage: cm.tag(stage, "latest", "a"),
    lambda cm, stage: cm.delete_versions(stage, [1]),
)


def attempt(cm: CheckpointManager, stage: str) -> Iterator[str]:
    """Call each operation on a stage, and yield each error that is not the library's, or that no terminal could show."""
    for index, operation in enumerate(OPERATIONS):
        try:
            operation(cm, stage)
        except CheckpointError as error:
            if not str(error).isprintable():
                yield f"operation {index}: {error!r}"
        except Exception as error:  # whatever it is, a user would meet it
            yield f"operation {index}: {error!r}"


def versions(chosen: Sequence[Any], most: int, dice: random.Random) -> Iterator[str]:
    """Try values in the place of fields of versions, and yield what went wrong."""
    all_of_them = [(fields, data, path) for fields, data in honest() for path in paths(fields)]
    for nasty in chosen:
        for fields, data, path in dice.sample(all_of_them, min(most, len(all_of_them))):
            cm = pipeline()
            plant(cm, "rows", fields, data, path, nasty)
            for problem in attempt(CheckpointManager(cm._store.backend, key=bytes(32)), "rows"):
                yield f"{str(nasty)[:50]!r} at {path}: {problem}"


def records(chosen: Sequence[Any], most: int, dice: random.Random) -> Iterator[str]:
    """Try values in the place of fields of the records of tags and deletions, and yield what went wrong."""
    forms = {"tags": tags.RECORD, "gaps": gaps.RECORD}
    for nasty in chosen:
        for name, form in forms.items():
            row: list[Any] = ["good", 1, "0" * 32] if name == "tags" else [1, 1, None, "0" * 32, "deleted"]
            content = [1, "0" * 32, [row]]
            every = [*paths(content)]
            for path in dice.sample(every, min(most, len(every))):
                cm = CheckpointManager(MemoryBackend(), key=bytes(32))
                cm.save_checkpoint("train", 1)
                cm.save_checkpoint("train", 2)
                cm._store.write_record(name, "train", form, orjson.dumps(exchanged(content, path, nasty)), None)  # type: ignore[arg-type]
                for problem in attempt(CheckpointManager(cm._store.backend, key=bytes(32)), "train"):
                    yield f"{name}: {str(nasty)[:50]!r} at {path}: {problem}"


def main() -> int:
    """Try each value in the place of each field."""
    problems = [*versions(NASTY, 10**6, random.Random(0)), *records(NASTY, 10**6, random.Random(0))]
    print("\n".join(problems) or "no problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
