"""What a type checker sees of the public interface; checked by ``test_typing``, never run."""

from __future__ import annotations

from typing import assert_type

from checkpoint_manager import CheckpointManager, Diff, StageReport, Version

cm = CheckpointManager("checkpoints")

assert_type(cm.save_checkpoint("train", 1), Version)
assert_type(cm.clear_checkpoint("train"), Version | None)
assert_type(cm.history("train"), list[Version])
assert_type(cm.diff("train"), Diff)
assert_type(cm.report(), StageReport)


@cm.stage
def clean(path: str, limit: int = 10) -> list[str]:
    return [path] * limit


@cm.stage("train", version=2, ignore=["verbose"])
def fit(rows: list[str], *, verbose: bool = False) -> dict[str, float]:
    return {"loss": len(rows) + verbose}


@cm.stage(encode=sorted, decode=set)
async def fetch(url: str) -> set[str]:
    return {url}


assert_type(clean("a", limit=3), list[str])
assert_type(fit(clean("a"), verbose=True), dict[str, float])
clean(3)  # type: ignore[arg-type]
fit()  # type: ignore[call-arg]


async def main() -> None:
    assert_type(await fetch("a"), set[str])
