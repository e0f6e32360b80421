"""LangGraph's own judge: ``langgraph-checkpoint-conformance``, all 81 tests of all 8 capabilities."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytest.importorskip("langgraph.checkpoint.conformance")

from langgraph.checkpoint.conformance import checkpointer_test, validate

from checkpoint_manager.integrations.langgraph import CheckpointSaver


@pytest.mark.parametrize(
    ("location", "settings"), [("{}", {"durability": "relaxed"}), ("sqlite:///{}.db", {}), ("memory:", {})]
)
def test_the_conformance_suite_passes_in_full(location: str, settings: dict[str, Any], tmp_path: Path) -> None:
    @checkpointer_test(name="CheckpointSaver")
    async def saver() -> AsyncIterator[CheckpointSaver]:
        with CheckpointManager(location.format(tmp_path / "store"), key=bytes(32), **settings) as cm:
            yield CheckpointSaver(cm)

    report = asyncio.run(validate(saver))
    results = report.results.values()
    assert [failure for result in results for failure in result.failures] == []
    assert (report.conformance_level(), sum(result.tests_passed for result in results)) == ("FULL", 81)
    assert len([result for result in results if result.detected and result.passed]) == 8
