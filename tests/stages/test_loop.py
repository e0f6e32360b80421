"""``cm.loop``: a loop that resumes where it was killed, and whose final state is the result."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    FingerprintError,
    LockTimeoutError,
    PayloadError,
    ResultNotSavedError,
    Retention,
    StorageError,
)
from checkpoint_manager._format.notes import Note, ProgressNote, read_note
from checkpoint_manager._operations.save import Draft, save
from checkpoint_manager.stages.progress import MOST_USELESS
from checkpoint_manager.stages.run import Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

KEY = bytes(32)


def flip_last_byte(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


ITEMS = list(range(1000))


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="checkpoint_manager")
    return caplog


def statuses(cm: CheckpointManager, stage: str = "sum") -> list[str]:
    return [version.status for version in reversed(cm.history(stage))]


def add_up(cm: CheckpointManager, items: Any = range(10), *, until: int | None = None, **options: Any) -> Any:
    """Add numbers up as the stage ``sum``; raise KeyError in the middle of an item."""
    with cm.loop("sum", items, initial={"sum": 0, "seen": []}, **{"every_items": 1, **options}) as progress:
        for item in progress:
            progress.state["sum"] += item
            if item == until:
                raise KeyError(item)
            progress.state["seen"].append(item)
    return progress.result


class TestGoingOn:
    def test_the_result_is_the_state_in_the_end(self, cm: CheckpointManager, tmp_path: Path) -> None:
        assert add_up(cm) == {"sum": 45, "seen": list(range(10))}
        again = CheckpointManager(tmp_path / "store", key=KEY)
        assert add_up(again, until=0) == {"sum": 45, "seen": list(range(10))}
        assert again.load_checkpoint("sum")["sum"] == 45
        assert again.has_checkpoint("sum")
        assert [outcome.what for outcome in again.run_report().outcomes] == ["reused"]

    def test_an_exception_keeps_what_is_done_and_nothing_of_the_item_at_hand(
        self, cm: CheckpointManager, log: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=7)
        assert cm.get_checkpoint("sum", cm.get_version("sum").number).data == {"sum": 21, "seen": list(range(7))}
        assert cm.get_version("sum").status == "progress"
        assert not cm.has_checkpoint("sum")
        assert add_up(cm) == {"sum": 45, "seen": list(range(10))}
        assert [(outcome.what, outcome.why) for outcome in cm.run_report().outcomes] == [
            ("failed", "first run"),
            ("ran", "continued after 7 of 10 items"),
        ]
        messages = [record.getMessage() for record in log.records]
        assert messages[0].startswith("sum: failed after ")
        assert messages[0].endswith(" (KeyError), version 7 continues after 7 of 10 items")
        assert messages[1] == "sum: continues after 7 of 10 items (version 7, saved 0 s ago)"
        assert messages[2].startswith("sum: ran in ")
        assert messages[2].endswith(", saved version 11 (continued after 7 of 10 items)")

    def test_an_exception_saves_what_was_not_due_yet(self, cm: CheckpointManager) -> None:
        def work() -> None:
            with cm.loop("slow", ITEMS, initial=0) as progress:
                for _ in progress:
                    if progress.done == 3:
                        raise KeyError
                    time.sleep(0.1)  # against which a copy of the state is nothing, whatever the machine does
                    progress.state += 1

        with pytest.raises(KeyError):
            work()
        assert cm.get_checkpoint("slow", cm.get_version("slow").number).data == 3

    @pytest.mark.parametrize("initial", [0, {"sum": 0}, [0, "small"], 10**15])
    def test_an_exception_in_a_quick_loop_repeats_nothing_of_a_small_state(self, cm: CheckpointManager, initial: Any) -> None:
        def count() -> None:
            with cm.loop("count", range(5000), initial=initial) as progress:
                for item in progress:
                    if isinstance(initial, int):
                        progress.state += 1
                    else:
                        progress.state["sum" if isinstance(initial, dict) else 0] += 1
                    if item == 4321:
                        raise KeyError

        with pytest.raises(KeyError):
            count()
        state = cm.get_checkpoint("count", cm.get_version("count").number).data
        first = next(iter(state.values() if isinstance(state, dict) else state)) if isinstance(initial, dict | list) else state
        assert first - (initial if isinstance(initial, int) else 0) == 4321
        assert cm.get_version("count").metadata["@progress"]["done"] == 4321

    def test_an_exception_keeps_the_last_copy_of_a_state_that_can_no_longer_be_saved(self, cm: CheckpointManager) -> None:
        def count() -> None:
            with cm.loop("count", range(5000), initial=0) as progress:
                for item in progress:
                    progress.state = item if item < 4000 else "\ud800"
                    if item == 4001:
                        raise KeyError

        with pytest.raises((KeyError, PayloadError)):  # the latter if a copy was due after item 4000
            count()
        assert 0 < cm.get_version("count").metadata["@progress"]["done"] <= 4000

    def test_an_exception_before_the_first_item_is_done_leaves_no_trace(self, cm: CheckpointManager) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=0)
        assert cm.stages() == []
        assert cm.run_report().failed[0].version is None

    def test_a_loop_that_is_left_is_not_complete(self, cm: CheckpointManager, log: pytest.LogCaptureFixture) -> None:
        with cm.loop("sum", range(10), initial=0, every_items=1) as progress:
            for item in progress:
                progress.state += item
                if item == 5:
                    break
        with pytest.raises(CheckpointError, match="left before its last item"):
            _ = progress.result
        assert cm.get_checkpoint("sum", cm.get_version("sum").number).data == 10
        assert [len(cm.run_report().stopped), str(cm.run_report()).splitlines()[-1]] == [
            1,
            "0 reused, 0 ran, 0 failed, 1 stopped",
        ]
        assert log.messages[-1].endswith("version 5 continues after 5 of 10 items")

    def test_one_that_is_finished_early_is_complete(self, cm: CheckpointManager) -> None:
        for turn in range(2):
            with cm.loop("sum", range(10), initial=0) as progress:
                for item in progress:
                    assert turn == 0
                    progress.state += item
                    if item == 5:
                        progress.finish()
                        break
            assert progress.result == 15
        assert cm.has_checkpoint("sum")

    def test_the_block_may_do_more_than_its_loop(self, cm: CheckpointManager) -> None:
        results = []
        for _ in range(2):
            with cm.loop("mean", [1, 2, 3], initial={"sum": 0.0}) as progress:
                for item in progress:
                    progress.state["sum"] += item
                progress.state["sum"] /= 3
            results.append(progress.result)
            assert progress.state == progress.result
        assert results == [{"sum": 2.0}] * 2
        assert (progress.reused, progress.done, progress.total) == (True, 3, 3)

    def test_what_fails_after_the_loop_is_done_again_without_it(self, cm: CheckpointManager) -> None:
        looped = []
        for fails in (True, False):
            try:
                with cm.loop("mean", [1, 2, 3], initial=0) as progress:
                    for item in progress:
                        looped.append(item)
                        progress.state += item
                    progress.state *= 100
                    if fails:
                        raise OSError
            except OSError:
                continue
        assert progress.result == 600
        assert looped == [1, 2, 3]

    def test_no_items_at_all(self, cm: CheckpointManager) -> None:
        assert add_up(cm, []) == {"sum": 0, "seen": []}

    def test_cleared_it_begins_anew_and_restored_it_goes_on(self, cm: CheckpointManager) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=4)
        cm.clear_checkpoint("sum")
        with cm.loop("sum", range(10), initial={"sum": 0, "seen": []}) as progress:
            assert progress.done == 0
        cm.restore_checkpoint("sum", 4)
        with cm.loop("sum", range(10), initial={"sum": 0, "seen": []}) as progress:
            assert (progress.done, progress.state["sum"]) == (4, 6)

    def test_if_the_newest_progress_is_damaged_it_goes_on_from_the_one_before(
        self, cm: CheckpointManager, tmp_path: Path, log: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=8)
        path = tmp_path / "store" / "history" / "sum" / "000000000008.checkpoint"
        flip_last_byte(path)
        assert add_up(CheckpointManager(tmp_path / "store", key=KEY))["sum"] == 45
        assert any(message.startswith("sum: continues after 7 of 10 items") for message in log.messages)

    def test_a_pruning_leaves_what_it_goes_on_from(
        self, cm: CheckpointManager, tmp_path: Path, log: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=8)
        cm.prune(Retention(keep_last=1))
        assert [version.number for version in cm.history("sum")] == [8, 7]
        flip_last_byte(tmp_path / "store" / "history" / "sum" / "000000000008.checkpoint")
        assert add_up(CheckpointManager(tmp_path / "store", key=KEY))["sum"] == 45
        assert any(message.startswith("sum: continues after 7 of 10 items") for message in log.messages)

    def test_an_async_loop(self, cm: CheckpointManager) -> None:
        async def count(last: int) -> AsyncIterator[int]:
            for number in range(last):
                await asyncio.sleep(0)
                yield number

        async def run(last: int, until: int) -> int:
            with cm.loop("sum", count(last), initial=0, key="count", every_items=1) as progress:
                async for item in progress:
                    if item == until:
                        raise KeyError
                    progress.state += item
            return progress.result

        with pytest.raises(KeyError):
            asyncio.run(run(10, 6))
        assert cm.get_checkpoint("sum", cm.get_version("sum").number).data == 15
        with pytest.raises(CheckpointError, match="only 5 items now, and 6 are done"):
            asyncio.run(run(5, -1))
        assert asyncio.run(run(10, -1)) == 45
        assert asyncio.run(run(10, -1)) == 45


class TestWhatIsThere:
    def test_progress_does_not_pile_up(self, cm: CheckpointManager) -> None:
        seen: list[list[str]] = []
        with cm.loop("sum", range(60), initial=0, every_items=1) as progress:
            for item in progress:
                progress.state += item
                seen.append(statuses(cm))
        assert seen[:4] == [[], ["progress"], ["progress"] * 2, ["progress"] * 3]
        assert max(map(len, seen)) == MOST_USELESS + 1
        assert statuses(cm) == ["completed"]
        assert cm.verify().ok

    def test_what_has_a_tag_stays(self, cm: CheckpointManager) -> None:
        with cm.loop("sum", range(40), initial=0, every_items=1) as progress:
            for item in progress:
                if item == 4:
                    cm.tag("sum", cm.get_version("sum").number, "four")
                progress.state += item
        assert statuses(cm) == ["progress", "completed"]
        assert cm.load_checkpoint("sum", "four") == 6

    def test_of_large_states_there_are_two(self, cm: CheckpointManager) -> None:
        seen: list[list[str]] = []
        with cm.loop("sum", range(6), initial="x" * 2**20, every_items=1) as progress:
            for item in progress:
                progress.state += str(item)
                seen.append(statuses(cm))
        assert seen == [[], ["progress"], *[["progress"] * 2] * 4]

    def test_that_of_a_run_before_goes_as_well(self, cm: CheckpointManager) -> None:
        for until in (8, 8, 16, 24):
            with pytest.raises(KeyError):
                add_up(cm, range(30), until=until)
        assert statuses(cm) == ["progress"] * (24 - MOST_USELESS)
        add_up(cm, range(30))
        assert statuses(cm) == ["completed"]

    def test_nothing_but_progress_is_ever_deleted(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("sum", "by hand")
        add_up(cm, range(5))
        cm.clear_checkpoint("sum")
        cm.stage("sum", revision=9)(lambda: "a stage")()
        before = {version.number: cm.load_checkpoint("sum", version.number) for version in cm.history("sum")}
        with pytest.raises(KeyError):
            add_up(cm, until=5)
        with pytest.raises(KeyError):
            add_up(cm, list(range(20)), until=7)  # progress of something else is left alone, too
        add_up(cm)
        assert statuses(cm) == ["completed", "completed", "cleared", "completed", *["progress"] * 7, "completed"]
        assert {number: cm.load_checkpoint("sum", number) for number in before} == before
        notes = [note for number in before if (note := read_note(cm._store.entry("sum", number).metadata))]
        assert len(notes) == 2
        for note in (Note(1), *notes):
            assert cm._runner.delete_progress(Run("", "sum", note), sorted(before)) == []
        assert {number: cm.load_checkpoint("sum", number) for number in before} == before

    def test_a_forged_note_deletes_no_progress_of_another_run(self, cm: CheckpointManager) -> None:
        with pytest.raises(KeyError):
            add_up(cm, range(20), until=7)
        with pytest.raises(KeyError):
            add_up(cm, until=2)
        entry = cm._store.entry("sum", 9)
        progress = ProgressNote(2, 10, complete=False, before=(1, 2, 3, 4, 5, 6, 7, 8, 9))
        data = b'{"sum": 1, "seen": [0, 1]}'
        save(cm._store, "sum", Draft(data, {**entry.metadata, "@progress": progress.as_metadata()}, "progress"))
        assert add_up(cm)["sum"] == 45
        assert add_up(cm, range(20))["sum"] == 190
        assert cm.run_report().ran[-1].why == "continued after 7 of 20 items"

    def test_what_can_not_be_deleted_now_is_deleted_later(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: object, **__: object) -> None:
            raise StorageError("not now")

        with monkeypatch.context() as patch:
            patch.setattr(cm._store.backend, "flush", refused)  # the first step of a deletion
            with pytest.raises(KeyError):
                add_up(cm, range(40), until=30)
            assert len(statuses(cm)) == 30
        assert add_up(cm, range(40))["sum"] == sum(range(40))
        assert statuses(cm) == ["completed"]

    def test_what_is_gone_or_damaged_is_passed_over(self, cm: CheckpointManager, tmp_path: Path) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=6)
        history = tmp_path / "store" / "history" / "sum"
        (history / "000000000002.checkpoint").unlink()
        (history / "000000000003.checkpoint").write_bytes(b"damaged")
        assert add_up(cm)["sum"] == 45
        left = [finding.version for finding in cm.verify("sum").findings if finding.state in {"whole", "damaged"}]
        assert left == [3, 11]  # the damaged one as evidence

    def test_it_is_seen_how_far_it_is(self, cm: CheckpointManager) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=6)
        version = cm.history("sum")[0]
        assert version.metadata["@progress"] == {"done": 6, "total": 10, "complete": False, "before": [1, 2, 3, 4, 5]}
        assert set(version.metadata["@stage"]["arguments"]) == {"items", "start"}


class TestIdentity:
    @pytest.mark.parametrize(
        ("items", "options", "why"),
        [
            ([*range(9), 10], {}, "arguments changed: items"),
            (list(range(10)), {}, "arguments changed: items"),  # a list is no range: in doubt, it differs
            (range(10), {"revision": 2}, "revision changed: 1 to 2"),
            (range(10), {"key": "other"}, "arguments changed: items, key, number of items"),
        ],
    )
    def test_progress_of_something_else_is_not_used_and_that_is_said(
        self, cm: CheckpointManager, log: pytest.LogCaptureFixture, items: Any, options: dict[str, Any], why: str
    ) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=6)
        assert add_up(cm, items, **options)["seen"] == list(items)
        warning = next(record for record in log.records if record.levelname == "WARNING")
        assert (
            warning.getMessage()
            == f"sum: starts from the beginning: version 6, which got to 6 of 10 items, does not match ({why})"
        )
        log.clear()
        add_up(cm, items, **options)
        assert not any(record.levelname == "WARNING" for record in log.records)

    def test_progress_that_has_become_a_result_is_not_warned_of(
        self, cm: CheckpointManager, log: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KeyError):
            add_up(cm, until=6)
        add_up(cm, range(3))
        assert "does not match" in log.text
        add_up(cm)
        log.clear()
        add_up(cm, range(4))
        assert "does not match" not in log.text

    def test_another_start_is_something_else(self, cm: CheckpointManager) -> None:
        for start in (0, 1, 1.0):
            with cm.loop("sum", range(3), initial=start) as progress:
                for item in progress:
                    progress.state += item
            assert progress.result == 3 + start
        assert len(cm.run_report().ran) == 3

    def test_the_start_is_copied(self, cm: CheckpointManager) -> None:
        start: list[int] = []
        with cm.loop("list", range(3), initial=start) as progress:
            progress.state.extend(progress)
        assert (progress.result, start) == ([0, 1, 2], [])

    @pytest.mark.parametrize(
        ("items", "said"),
        [({1, 2}, "has no order"), (iter([1]), "list_iterator.*key="), ({1: 2}, "dict"), ("ab", "str"), ([print], "builtin")],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_items_that_may_be_others_the_next_time_are_refused(self, cm: CheckpointManager, items: Any, said: str) -> None:
        with pytest.raises(FingerprintError, match=said):
            cm.loop("sum", items, initial=0)
        if isinstance(items, set):
            with pytest.raises(FingerprintError, match=said):
                cm.loop("sum", items, initial=0, key="a")

    def test_a_key_stands_for_items_that_can_not_be_compared(self, cm: CheckpointManager) -> None:
        with pytest.raises(KeyError):
            add_up(cm, iter(range(10)), key="first", until=5)
        with pytest.raises(CheckpointError, match="only 3 items now, and 5 are done"):
            add_up(cm, iter(range(3)), key="first")
        assert add_up(cm, iter(range(10)), key="first")["sum"] == 45
        assert add_up(cm, iter(range(3)), key="second")["sum"] == 3
        with pytest.raises(FingerprintError, match="key is or contains an object of type object"):
            add_up(cm, iter([]), key=object())

    def test_a_key_with_another_number_of_items_is_something_else(self, cm: CheckpointManager) -> None:
        assert add_up(cm, dict.fromkeys([1, 2]), key="a")["sum"] == 3
        assert add_up(cm, dict.fromkeys([1, 2, 3]), key="a")["sum"] == 6


class TestMisuse:
    def test_it_is_used_once_in_its_block(self, cm: CheckpointManager) -> None:
        progress = cm.loop("sum", range(10), initial=0)
        with pytest.raises(CheckpointError, match="in its with block"):
            list(progress)
        with progress:
            with pytest.raises(CheckpointError, match="not ended yet"):
                _ = progress.result
            loop = iter(progress)
            assert next(loop) == 0
            with pytest.raises(CheckpointError, match="already looped over"):
                list(progress)
        with pytest.raises(CheckpointError, match="outside its with block"):
            next(loop)
        with pytest.raises(CheckpointError, match="used before"), progress:
            pass

    def test_one_inside_itself_is_told_so(self, cm: CheckpointManager) -> None:
        loops = [cm.loop("sum", range(3), initial=0) for _ in range(2)]
        with pytest.raises(CheckpointError, match="called by itself"), loops[0], loops[1]:
            pass
        with cm.loop("sum", range(3), initial=0), cm.loop("sum", range(4), initial=0) as other:
            other.finish()
        assert other.result == 0

    def test_a_child_that_is_forked_in_the_block_saves_nothing(self, cm: CheckpointManager) -> None:
        child = -1
        with cm.loop("sum", range(3), initial=0, every_items=1) as progress:
            for item in progress:
                progress.state += item
                if item == 1 and (child := os.fork()) == 0:
                    code = 1
                    try:
                        with progress:
                            pass
                    except CheckpointError:
                        code = 2
                    progress.__exit__(None, None, None)
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2  # not for a child of another test
        assert progress.result == 3
        assert [(outcome.what, outcome.version) for outcome in cm.run_report().outcomes] == [("ran", 4)]

    @pytest.mark.parametrize("options", [{"every_seconds": -1}, {"every_seconds": float("nan")}, {"every_items": 0}])
    def test_intervals_that_are_none(self, cm: CheckpointManager, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="every_"):
            cm.loop("sum", [], initial=0, **options)

    def test_a_state_that_can_not_be_saved_is_refused_at_once(self, cm: CheckpointManager) -> None:
        seen = []

        def work() -> None:
            with cm.loop("sum", ITEMS, initial=0) as progress:
                for item in progress:
                    seen.append(item)
                    progress.state = range(1)  # type: ignore[assignment]

        with pytest.raises(PayloadError, match=r"initial state can't be saved: \$ is of type bytearray"):
            cm.loop("sum", [], initial=bytearray())
        with pytest.raises(PayloadError, match=r"state can't be saved: \$ is of type range"):
            work()
        assert seen == [0]


class TestWhenSavingFails:
    @pytest.fixture
    def full(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
        append = cm._store.backend.append

        def refused(*_: object, **__: object) -> None:
            raise StorageError("no room", errno=28, filename="x")

        return lambda yes: monkeypatch.setattr(cm._store.backend, "append", refused if yes else append)

    def test_the_loop_goes_on_and_it_is_tried_again(
        self, cm: CheckpointManager, full: Callable[[bool], None], log: pytest.LogCaptureFixture
    ) -> None:
        with cm.loop("sum", range(100), initial=0, every_items=10) as progress:
            full(True)
            for item in progress:
                full(item < 50)
                progress.state += item
        assert progress.result == sum(range(100))
        warned = [message for message in log.messages if "could not be saved, and the loop continues" in message]
        assert len(warned) == 5

    def test_the_result_is_not_lost(self, cm: CheckpointManager, full: Callable[[bool], None]) -> None:
        full(True)
        with pytest.raises(ResultNotSavedError, match="no room") as caught:
            add_up(cm)
        assert caught.value.result == {"sum": 45, "seen": list(range(10))}
        full(False)
        assert add_up(cm)["sum"] == 45

    def test_a_result_that_can_not_be_saved_loses_no_progress(self, cm: CheckpointManager) -> None:
        def work() -> None:
            with cm.loop("sum", range(10), initial=0) as progress:
                for item in progress:
                    progress.state += item
                progress.state = {object}  # type: ignore[assignment]

        with pytest.raises(ResultNotSavedError) as caught:
            work()
        assert caught.value.result == {object}
        assert "codecs=[" in caught.value.hint
        assert "attribute result" in caught.value.hint
        assert cm.get_checkpoint("sum", cm.get_version("sum").number).data == 45


class TestInAStage:
    def test_it_goes_on_in_the_stage_of_its_name(self, cm: CheckpointManager) -> None:
        done: list[int] = []

        @cm.stage("embed")
        def embed(items: list[int], until: int | None, scale: int = 1) -> int:
            with cm.loop("embed", items, initial=0, every_items=1) as progress:
                for item in progress:
                    if item == until:
                        raise KeyError
                    done.append(item)
                    progress.state += item * scale
            return progress.result * 10

        items = list(range(10))
        embed = cm.stage("embed", ignore=["until"])(embed.__wrapped__)  # type: ignore[attr-defined]
        for until in (4, 7):
            with pytest.raises(KeyError):
                embed(items, until)
        assert statuses(cm, "embed") == [*["progress"] * 4, "failed", *["progress"] * 3, "failed"]
        assert embed(items, None) == embed(items, 0) == 450
        assert done == items
        assert statuses(cm, "embed") == ["failed", "failed", "completed"]
        assert cm.load_checkpoint("embed") == 450
        assert [outcome.what for outcome in cm.run_report().outcomes] == ["failed", "failed", "ran", "reused"]
        assert embed(items, None, scale=2) == 900
        assert done == items * 2

    def test_progress_for_other_arguments_of_the_stage_is_not_used(
        self, cm: CheckpointManager, log: pytest.LogCaptureFixture
    ) -> None:
        @cm.stage
        def embed(scale: int, version: int = 1) -> int:
            with cm.loop("embed", range(10), initial=0, every_items=1) as progress:
                for item in progress:
                    if scale == 1 and item == 5:
                        raise KeyError
                    progress.state += item * scale
            return progress.result

        with pytest.raises(KeyError):
            embed(1)
        assert embed(3) == 135
        assert "version 5, which got to 5 of 10 items, does not match (arguments changed: scale)" in log.text

    def test_what_comes_after_the_loop_is_done_again_without_it(self, cm: CheckpointManager) -> None:
        looped: list[int] = []
        fails = [True, False]

        @cm.stage
        def embed() -> int:
            with cm.loop("embed", range(10), initial=0) as progress:
                for item in progress:
                    looped.append(item)
                    progress.state += item
                progress.state += 1000
            if fails.pop(0):
                raise OSError
            return progress.result

        with pytest.raises(OSError):
            embed()
        assert not cm.has_checkpoint("embed")
        assert embed() == 1045
        assert looped == list(range(10))
        assert statuses(cm, "embed") == ["failed", "completed"]

    def test_two_of_the_same_items_are_told_apart_or_refused(self, cm: CheckpointManager) -> None:
        def embed(*keys: str | None) -> list[int]:
            results = []
            for number, key in enumerate(keys, 1):
                with cm.loop("embed", [1, 2], initial=0, key=key) as progress:
                    for item in progress:
                        progress.state += item * number
                results.append(progress.result)
            return results

        assert cm.stage("embed")(embed)("a", "b") == [3, 6]
        with pytest.raises(CheckpointError, match="stands twice in its function"):
            cm.stage("embed")(embed)(None, None)

    def test_finished_early(self, cm: CheckpointManager) -> None:
        looped: list[int] = []
        fails = [True, False]

        @cm.stage
        async def embed() -> int:
            with cm.loop("embed", range(10), initial=0) as progress:
                for item in progress:
                    looped.append(item)
                    progress.state = item
                    if item == 3:
                        progress.finish()
                        break
            if fails.pop(0):
                raise OSError
            return progress.result

        with pytest.raises(OSError):
            asyncio.run(embed())
        assert asyncio.run(embed()) == 3
        assert looped == [0, 1, 2, 3]

    def test_one_of_another_name_is_a_stage_of_its_own(self, cm: CheckpointManager) -> None:
        @cm.stage
        def embed() -> Any:
            return add_up(cm)["sum"]

        assert embed() == 45
        assert (statuses(cm, "embed"), statuses(cm)) == (["completed"], ["completed"])


PROGRAM = """
import logging, os, signal, sys, time
from checkpoint_manager import CheckpointManager
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
store, seen, every, dies_at, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
cm = CheckpointManager(store, key=bytes(32))
seen = os.open(seen, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def work(items):
    with cm.loop("sum", items, initial={"sum": 0, "seen": []}, every_items=every or None) as progress:
        for item in progress:
            os.write(seen, b"%d\\n" % item)
            progress.state["sum"] += item
            if item == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if pause:
                time.sleep(pause)
            progress.state["seen"].append(item)
    return progress.result

if len(sys.argv) > 6:
    work = cm.stage("sum")(work)
result = work(list(range(1000)))
assert result["seen"] == list(range(1000)) and result["sum"] == 499500
print("done", flush=True)
"""


class Loop:
    """A process that loops over 1,000 items, and writes down each that it begins."""

    def __init__(self, folder: Path) -> None:
        self.store, self.file = folder / "store", folder / "seen"

    def start(self, *, every: int, dies_at: int = -1, pause: float = 0.0, stage: bool = False) -> subprocess.Popen[str]:
        words = [str(self.store), str(self.file), str(every), str(dies_at), str(pause), *(["stage"] if stage else [])]
        command = [sys.executable, "-c", PROGRAM, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @property
    def seen(self) -> list[int]:
        return [int(line) for line in self.file.read_text().split()] if self.file.exists() else []

    def wait_for(self, number: int, *children: subprocess.Popen[str]) -> None:
        while len(self.seen) < number:
            assert all(child.poll() is None for child in children), children[0].communicate()
            time.sleep(0.005)


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


class TestProcesses:
    @pytest.mark.parametrize("stage", [False, True])
    @pytest.mark.parametrize("every", [7, 90])
    def test_killed_at_random_items_it_repeats_at_most_those_since_the_last_save(
        self, loop: Loop, every: int, stage: bool
    ) -> None:
        kills = sorted(random.sample(range(1000), 4))
        for item in kills:
            child = loop.start(every=every, dies_at=item, stage=stage)
            assert child.communicate(timeout=60)[0] == ""
            assert child.returncode == -signal.SIGKILL
        out, err = loop.start(every=every, stage=stage).communicate(timeout=60)
        assert out == "done\n", err
        repeated = len(loop.seen) - 1000
        assert set(loop.seen) == set(ITEMS)
        assert len(kills) <= repeated <= len(kills) * every
        cm = CheckpointManager(loop.store, key=KEY)
        assert cm.has_checkpoint("sum")
        assert cm.verify().ok

    def test_killed_at_any_time_it_goes_on(self, loop: Loop) -> None:
        kills, seen = 0, 0
        while True:
            child = loop.start(every=9)
            while len(loop.seen) == seen and child.poll() is None:  # which it may be at once: killed before, but done
                time.sleep(0.005)
            time.sleep(random.random() * 0.5)
            child.kill()
            out, err = child.communicate()
            if out:
                break
            assert child.returncode == -signal.SIGKILL, err
            kills, seen = kills + 1, len(loop.seen)
        assert set(loop.seen) == set(ITEMS)
        assert len(loop.seen) - 1000 <= kills * 9
        cm = CheckpointManager(loop.store, key=KEY)
        assert cm.load_checkpoint("sum")["sum"] == 499_500
        assert cm.verify().ok

    def test_ctrl_c_saves(self, loop: Loop) -> None:
        child = loop.start(every=0, pause=0.05)
        loop.wait_for(15, child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        assert (out, child.returncode) == ("", -signal.SIGINT), err
        assert "(KeyboardInterrupt), version 1 continues after" in err
        cm = CheckpointManager(loop.store, key=KEY)
        saved = cm.load_checkpoint("sum", cm.get_version("sum").number)
        assert saved["sum"] == sum(saved["seen"])
        assert len(loop.seen) - len(saved["seen"]) <= 6  # the one at hand, and what a very slow machine could not copy in time

    def test_several_at_once_run_it_once(self, loop: Loop) -> None:
        children = [loop.start(every=100) for _ in range(3)]
        for child in children:
            out, err = child.communicate(timeout=60)
            assert out == "done\n", err
        assert loop.seen == ITEMS
        assert statuses(CheckpointManager(loop.store, key=KEY)) == ["completed"]

    def test_if_the_one_that_runs_is_killed_another_goes_on(self, loop: Loop) -> None:
        first = loop.start(every=10, pause=0.005)
        loop.wait_for(45, first)
        second = loop.start(every=10)
        loop.wait_for(60, first, second)
        first.kill()
        first.communicate()
        out, err = second.communicate(timeout=60)
        assert out == "done\n", err
        assert "sum: continues after" in err
        assert max(Counter(loop.seen).values()) <= 2
        assert len(loop.seen) - 1000 <= 10

    def test_one_that_does_not_wait_is_refused(self, loop: Loop) -> None:
        first = loop.start(every=10, pause=0.01)
        loop.wait_for(15, first)
        cm = CheckpointManager(loop.store, key=KEY)
        with pytest.raises(LockTimeoutError, match=str(first.pid)):
            add_up(cm, ITEMS, wait=False)
        with pytest.raises(LockTimeoutError, match=str(first.pid)):
            add_up(cm, ITEMS, wait=0.5)
        assert add_up(cm, wait=False)["sum"] == 45  # other items are in nobody's way
        first.kill()
        first.communicate()
        assert add_up(cm, ITEMS, wait=False)["sum"] == 499_500

    def test_threads_run_it_once(self, cm: CheckpointManager) -> None:
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(add_up(cm, range(50)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [result["sum"] for result in results] == [1225] * 4
        assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "reused", "reused", "reused"]
        assert os.listdir(cm._store.backend.location)
