"""What a type checker sees of the public interface; checked by ``test_typing``, never run."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypedDict, assert_type

from checkpoint_manager import (
    AsyncCheckpointManager,
    Attachment,
    AttachmentInfo,
    BundleSummary,
    Checkpoint,
    CheckpointManager,
    Codec,
    Diff,
    Key,
    Passphrase,
    Progress,
    PrunePlan,
    RepairStep,
    RestoreStep,
    Retention,
    RunReport,
    VerificationReport,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

key: Key = Passphrase("words")
cm = CheckpointManager("checkpoints", key=key)


def show(progress: Progress) -> None:
    assert_type(progress.done, int)


codec = Codec(complex, "complex", str, complex)
assert_type(codec, Codec[complex])
assert_type(CheckpointManager("checkpoints", codecs=[codec]), CheckpointManager)
Codec(complex, "complex", str, dict)  # type: ignore[arg-type]
CheckpointManager("checkpoints", codecs=[complex])  # type: ignore[list-item]
cm.verify(progress=show)
with CheckpointManager("checkpoints") as opened:
    assert_type(opened, CheckpointManager)
opened.close()
cm.keys.rotate(progress=show)
assert_type(cm.get_checkpoint("train"), Checkpoint)
assert_type(cm.get_checkpoint("train").attachments["model"], Attachment)
assert_type(cm.get_version("train").attachments[0], AttachmentInfo)

assert_type(cm.save_checkpoint("train", 1), Version)
assert_type(cm.clear_checkpoint("train"), Version | None)
assert_type(cm.clear_checkpoints(), list[Version])
assert_type(cm.delete_versions("train", [1, 2]), list[int])
assert_type(cm.delete_stage("train"), list[int])
assert_type(cm.stages(prefix="train"), list[str])
assert_type(cm.verify(stage_name="train"), VerificationReport)
assert_type(cm.repair(dry_run=True), list[RepairStep])
assert_type(cm.accept_rollback(stage_name="train"), list[Version])
assert_type(cm.history("train"), list[Version])
assert_type(cm.diff("train"), Diff)
assert_type(cm.tag_pipeline("good"), list[Version])
assert_type(cm.plan_restore(tag="good"), list[RestoreStep])
assert_type(cm.tag("train", "prev", "good"), Version)
assert_type(cm.tags("train"), dict[str, int])
assert_type(cm.get_version("train", "good"), Version)
assert_type(cm.get_version("train", at="1d"), Version)
assert_type(cm.resolve("train@good", at=None), Version)
assert_type(cm.prune(Retention(keep_last=5, keep_within="2w"), stage_name="train", dry_run=True), PrunePlan)
cm.load_checkpoint("train", 1.5)  # type: ignore[arg-type]
Retention(5)  # type: ignore[call-arg]
assert_type(cm.run_report(), RunReport)
assert_type(cm.retention, Retention | None)
assert_type(cm.export_bundle("x.bundle", ["train"], key=Passphrase("words")), BundleSummary)
assert_type(cm.copy_to("there"), BundleSummary)
assert_type(cm.import_bundle(io.BytesIO(), key=bytes(32), rename={"train": "fit"}), BundleSummary)
cm.export_bundle("x.bundle")  # type: ignore[call-arg]


@cm.stage
def clean(path: str, limit: int = 10) -> list[str]:
    return [path] * limit


@cm.stage("train", revision=2, ignore=["verbose"])
def fit(rows: list[str], *, verbose: bool = False) -> dict[str, float]:
    return {"loss": len(rows) + verbose}


@cm.stage(encode=sorted, decode=set)
async def fetch(url: str) -> set[str]:
    return {url}


assert_type(clean("a", limit=3), list[str])
assert_type(fit(clean("a"), verbose=True), dict[str, float])
clean(3)  # type: ignore[arg-type]
fit()  # type: ignore[call-arg]


class Rows(TypedDict):
    rows: list[str]


rows: Rows = {"rows": []}
with cm.loop("embed", ["a", "b"], initial=rows, every_items=10) as progress:
    for text in progress:
        assert_type(text, str)
        progress.state["rows"].append(text)
        progress.state["row"]  # type: ignore[typeddict-item]
assert_type(progress.result, Rows)

with cm.loop("sum", range(10), initial=0) as adding:
    for number in adding:
        adding.state += number
assert_type(adding.result, int)

with cm.loop("lists", range(10), initial={"rows": []}) as free, cm.loop("list", range(10), initial=[]) as freer:
    pass
assert_type(free.result, dict[str, Any])
assert_type(freer.result, list[Any])


async def numbers() -> AsyncIterator[int]:
    yield 1


async def main() -> None:
    assert_type(await fetch("a"), set[str])
    with cm.loop("sum", numbers(), initial=0.5, key="numbers") as adding:
        async for number in adding:
            assert_type(number, int)
    assert_type(adding.result, float)


async def awaited() -> None:
    async with AsyncCheckpointManager("checkpoints", key=key, durability="relaxed") as cm:
        assert_type(await cm.save_checkpoint("train", {"epoch": 3}, expected_version=2), Version)
        assert_type(await cm.has_checkpoint("train"), bool)
        assert_type(await cm.history(stage_name="train"), list[Version])
        assert_type([each async for each in cm.iter_history("train")], list[Version])
        await cm.save_checkpoint("train", expected="2")  # type: ignore[call-arg]
        await cm.has_checkpoint(2)  # type: ignore[arg-type]
        await cm.keys.rotate(drop=["old"])

        @cm.stage("fetch", retries=3)
        async def fetch(url: str) -> list[str]:
            return [url]

        assert_type(await fetch("a"), list[str])

        async with cm.loop("sum", [1, 2], initial=[], every_items=1) as adding:
            async for number in adding:
                assert_type(number, int)
        assert_type(adding.result, list[Any])

        @cm.stage  # type: ignore[type-var]
        def plain() -> None: ...
