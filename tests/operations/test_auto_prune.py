"""Retention after each save: a bounded step, nothing lost, and in the end what a pruning by hand would leave."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_manager import CheckpointManager, Retention
from checkpoint_manager._operations import auto_prune as trimming
from checkpoint_manager._operations.save import draft, save
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.retention import plan

if TYPE_CHECKING:
    from pathlib import Path


KEY = bytes(range(32))
ENOUGH, MOST = trimming._ENOUGH, trimming._MOST_AT_A_TIME


def opened(place: Any, retention: Retention | None = None) -> CheckpointManager:
    relaxed = not isinstance(place, MemoryBackend)
    return CheckpointManager(place, key=KEY, retention=retention, durability="relaxed" if relaxed else "full")


def present(cm: CheckpointManager, stage: str = "train") -> list[int]:
    return [version.number for version in reversed(cm.history(stage))]


class TestOneProcess:
    @pytest.mark.parametrize("place", ["memory", "local"])
    def test_a_history_stays_short(self, place: str, tmp_path: Path) -> None:
        cm = opened(MemoryBackend() if place == "memory" else tmp_path / "store", Retention(keep_last=3))
        most = 0
        for number in range(1, 101):
            cm.save_checkpoint("train", number)
            kept = present(cm)
            assert kept[-3:] == [n for n in (number - 2, number - 1, number) if n > 0]
            most = max(most, len(kept))
        assert most == 3 + ENOUGH - 1
        assert cm.verify().problems == ()
        assert cm.load_checkpoint("train") == 100

    def test_a_stage_keeps_the_results_of_each_arguments(self, tmp_path: Path) -> None:
        calls: list[int] = []

        def square(number: int) -> int:
            calls.append(number)
            return number * number

        for revision in (1, 2, 3, 4):
            for _ in range(2):
                cm = opened(tmp_path / "store", Retention(keep_last=2))
                stage = cm.stage(revision=revision)(square)
                assert [stage(number) for number in range(30)] == [number * number for number in range(30)]
        assert calls == [*range(30)] * 4
        assert len(cm.history("square")) < 2 * 30 + ENOUGH
        plan = cm.prune(Retention(keep_last=1))
        assert [len(plan.kept), len(cm.history("square"))] == [30, 30]
        assert [stage(number) for number in range(30)] == [number * number for number in range(30)]
        assert len(calls) == 120

    def test_large_versions_go_sooner(self) -> None:
        cm = opened(MemoryBackend(), Retention(keep_last=1))
        for _ in range(5):
            cm.save_checkpoint("train", "x" * 600_000)
            assert len(present(cm)) <= 2
        assert present(cm) == [5]

    def test_each_way_of_saving_counts(self) -> None:
        cm = opened(MemoryBackend(), Retention(keep_last=1))
        for _ in range(ENOUGH):
            cm.update_checkpoint("train", lambda data: (data or 0) + 1)
            cm.restore_checkpoint("train", "latest")
        cm.clear_checkpoint("train")
        assert len(present(cm)) <= ENOUGH + 2

        @cm.stage("train", ignore=["number"], revision=1)
        def train(number: int) -> int:
            return number

        assert train(3) == 3
        assert train(4) == 3

    def test_tagged_ones_stay(self) -> None:
        cm = opened(MemoryBackend(), Retention(keep_last=1))
        for number in range(1, 40):
            cm.save_checkpoint("train", number)
            if number % 10 == 0:
                cm.tag("train", number, f"t{number}")
        assert {10, 20, 30, 39} <= set(present(cm))
        assert set(present(cm)) <= {10, 20, *range(23, 40)}
        cm.untag("train", "t10")
        for number in range(40, 40 + 2 * ENOUGH):
            cm.save_checkpoint("train", number)
        assert present(cm)[0] == 20
        assert cm.verify().problems == ()

    def test_what_others_tag_meanwhile_stays(self) -> None:
        backend = MemoryBackend()
        cm, other = opened(backend, Retention(keep_last=1)), opened(backend)
        for number in range(1, 2 * ENOUGH):
            cm.save_checkpoint("train", number)
            other.tag("train", number, f"v{number}")
        assert present(cm) == list(range(1, 2 * ENOUGH))

    def test_a_tag_can_go_with_its_version(self) -> None:
        cm = opened(MemoryBackend(), Retention(keep_last=1, keep_tagged=False))
        cm.save_checkpoint("train", 1)
        cm.tag("train", 1, "good")
        for number in range(2, 40):
            cm.save_checkpoint("train", number)
        assert cm.tags("train") == {}
        assert 1 not in present(cm)
        assert cm.verify().problems == ()

    def test_a_long_history_is_worked_off_little_by_little(self, tmp_path: Path) -> None:
        fill = opened(tmp_path / "store")
        for number in range(300):
            fill.save_checkpoint("train", number)
        fill.tag("train", 7, "good")
        cm = opened(tmp_path / "store", Retention(keep_last=2))
        before = 300
        for turn in range(12):
            cm.save_checkpoint("train", turn)
            now = len(present(fill))
            assert before - MOST <= now - 1 <= before
            before = now
        assert set(present(fill)) <= {7, *range(295, 313)}
        assert fill.verify().problems == ()

    def test_what_does_not_open_is_left_alone(self) -> None:
        backend = MemoryBackend()
        fill = opened(backend)
        for number in range(1, 41):
            fill.save_checkpoint("train", number)
        backend._versions["train"][7] = b"damaged"
        del backend._versions["train"][9]
        cm = opened(backend, Retention(keep_last=1))
        cm.save_checkpoint("train", 41)
        assert backend.versions("train") == [7, 41]
        assert {(finding.version, finding.state) for finding in cm.verify().problems} == {(7, "damaged"), (9, "missing")}


class TestManyProcesses:
    @settings(max_examples=25)
    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from(["save", "fail", "clear", "tag", "delete", "reopen"])), max_size=120
        )
    )
    def test_whatever_others_do_no_rule_is_broken(self, turns: list[tuple[int, str]]) -> None:
        """Several managers with one policy, and one without: what the policy keeps of what there was, is there."""
        backend, policy = MemoryBackend(), Retention(keep_last=3, keep_hourly=1)
        managers = [opened(backend, None if number == 3 else policy) for number in range(4)]
        judge = opened(backend)
        for who, what in turns:
            cm = managers[who]
            before, deleted = judge.history("train"), set()
            if what in {"save", "fail"}:
                status = "completed" if what == "save" else "failed"
                save(cm._store, "train", draft("train", None, None, status=status))  # type: ignore[arg-type]
            elif what == "clear":
                cm.clear_checkpoint("train")
            elif what == "reopen":
                managers[who] = opened(backend, None if who == 3 else policy)
            elif what == "tag" and before:
                cm.tag("train", before[len(before) // 2].number, "middle", force=True)
            elif what == "delete":
                free = [each.number for each in before[1:] if each.number not in judge.tags("train").values()]
                deleted = set(free[:1])
                cm.delete_versions("train", deleted)
            after = judge.history("train")
            new = [each for each in after if each.number > (before[0].number if before else 0)]
            kept = plan(policy, new + before, judge.tags("train"), datetime.now(UTC)).kept
            assert {each.number for each in kept} - deleted <= {each.number for each in after}
        assert judge.verify().problems == ()

    def test_two_that_take_turns(self, tmp_path: Path) -> None:
        first, second = (opened(tmp_path / "store", Retention(keep_last=4)) for _ in range(2))
        for number in range(1, 101):
            (first if number % 3 else second).save_checkpoint("train", number)
            assert present(first)[-4:] == [n for n in range(number - 3, number + 1) if n > 0]
        assert len(present(first)) < 4 + 2 * ENOUGH
        assert first.verify().problems == ()

    def test_what_others_have_deleted_of_what_was_kept(self) -> None:
        """The policy counts what is there, not what once was."""
        backend = MemoryBackend()
        cm, other = opened(backend, Retention(keep_last=4)), opened(backend)
        for number in range(1, 20):
            cm.save_checkpoint("train", number)
        other.delete_versions("train", [16, 17, 18])
        cm.save_checkpoint("train", 20)
        assert {13, 14, 15, 19, 20} & set(present(cm)) == {13, 14, 15, 19, 20}
        for number in range(21, 60):
            cm.save_checkpoint("train", number)
        assert len(present(cm)) < 4 + ENOUGH

    def test_others_that_are_far_ahead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trimming, "_MOST_CAUGHT_UP", 5)
        backend = MemoryBackend()
        cm, other = opened(backend, Retention(keep_last=2)), opened(backend)
        cm.save_checkpoint("train", 1)
        for number in range(2, 60):
            other.save_checkpoint("train", number)
        cm.save_checkpoint("train", 60)
        assert set(present(cm)) == {59, 60}

    def test_a_process_that_saves_once_prunes_too(self, tmp_path: Path) -> None:
        for number in range(60):
            opened(tmp_path / "store", Retention(keep_last=3)).save_checkpoint("train", number)
        assert len(present(opened(tmp_path / "store"))) < 3 + ENOUGH

    def test_what_a_killed_one_left_is_removed(self) -> None:
        backend = MemoryBackend()
        cm = opened(backend)
        for number in range(1, 20):
            cm.save_checkpoint("train", number)
        left = {number: backend._versions["train"][number] for number in range(2, 9)}
        cm.delete_versions("train", range(1, 10))
        backend._versions["train"].update(left)
        opened(backend, Retention(keep_last=20)).save_checkpoint("train", 20)
        assert backend.versions("train") == list(range(10, 21))


class TestFailures:
    def test_a_failure_never_fails_the_save(self, caplog: pytest.LogCaptureFixture) -> None:
        backend = MemoryBackend()
        cm = opened(backend, Retention(keep_last=1))
        cm.save_checkpoint("train", 1)
        cm.tag("train", 1, "good")
        record = backend._records["tags", "train"]
        backend._records["tags", "train"] = type(record)(b"damaged", object())
        for number in range(2, 40):
            assert cm.save_checkpoint("train", number).number == number
        assert "could not be pruned: the record of tags of stage train" in caplog.text
        assert len(present(cm)) == 39
        backend._records["tags", "train"] = record
        cm.save_checkpoint("train", 40)
        assert present(cm) == [1, 40]

    def test_an_interruption_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = MemoryBackend()
        cm = opened(backend, Retention(keep_last=1))
        for number in range(1, ENOUGH + 1):
            cm.save_checkpoint("train", number)

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(backend, "delete", interrupt)
            with pytest.raises(KeyboardInterrupt):
                cm.save_checkpoint("train", 17)
        assert cm.load_checkpoint("train") == 17
        cm.save_checkpoint("train", 18)
        assert set(backend.versions("train")) == {17, 18}

    def test_older_ones_go_only_because_the_newest_completed_one_is_whole(self, caplog: pytest.LogCaptureFixture) -> None:
        backend = MemoryBackend()
        fill = opened(backend)
        for number in range(1, 30):
            fill.save_checkpoint("train", number)
        whole = backend._versions["train"][29]
        backend._versions["train"][29] = whole[:-1] + bytes([whole[-1] ^ 1])
        cm = opened(backend, Retention(keep_last=1))
        save(cm._store, "train", draft("train", None, None, status="failed"))
        assert "could not be pruned: version 29 of stage train" in caplog.text
        assert len(backend.versions("train")) == 30
        backend._versions["train"][29] = whole
        for _ in range(2):
            save(cm._store, "train", draft("train", None, None, status="failed"))
        assert {29, 32} <= set(backend.versions("train"))
        assert len(backend.versions("train")) < 20


def test_thousands_of_versions_cost_what_ten_do(tmp_path: Path) -> None:
    """The number of system calls of saves with their share of pruning does not grow with the history, pruned so far or not."""
    if not any(os.access(os.path.join(folder, "strace"), os.X_OK) for folder in os.environ["PATH"].split(":")):
        if os.environ.get("TESTS_REQUIRE_PROGRAMS"):
            pytest.fail("strace is not installed")
        pytest.skip("strace is not installed")
    policy = "Retention(keep_last=5, keep_daily=7)"
    program = (
        "import os, sys; from checkpoint_manager import CheckpointManager as C, Retention\n"
        f"cm = C(sys.argv[1], key=bytes(range(32)), retention={policy})\n"
        "cm.has_checkpoint('train')  # lists once, and follows the chain once from what this user saw\n"
        "for turn in range(33):\n"
        "    os.access('MARK', 0); cm.save_checkpoint('train', 1)\n"
        "os.access('MARK', 0)\n"
    )

    fill = opened(tmp_path / "store")

    def calls(number: int) -> tuple[int, int]:
        """Fill the history up to a number, and return the calls of the first save then, and of the 32 that follow."""
        while fill.save_checkpoint("train", 1).number < number:
            pass
        if number not in {4_200, 5_600}:  # there, nothing was ever pruned above the first hundreds
            fill.prune(Retention(keep_last=5, keep_daily=7))
        command = ["strace", "-f", "-o", str(tmp_path / "log"), sys.executable, "-c", program, str(tmp_path / "store")]
        subprocess.run(command, check=True, capture_output=True)
        first, *later = [text.count("\n") for text in (tmp_path / "log").read_text().split('"MARK"')[1:-1]]
        return first, sum(later)

    ten, hundreds, unpruned, more_unpruned, thousands = map(calls, (10, 300, 4_200, 5_600, 6_000))
    for few, many in ((ten, hundreds), (ten, thousands), (unpruned, more_unpruned)):
        assert abs(few[0] - many[0]) <= 70
        assert abs(few[1] - many[1]) <= 40
