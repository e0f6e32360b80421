"""``@cm.stage``: run once for the same arguments, say why, keep what fails, lose nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path  # noqa: TC003  # looked up at run time
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003  # looked up at run time

import numpy as np
import pytest

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    Codec,
    FingerprintError,
    LockTimeoutError,
    PayloadError,
    ResultNotSavedError,
    StageNameError,
    StorageError,
    stages,
)
from checkpoint_manager.backends.memory import MemoryBackend
from tests.strategies import same as is_same

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEY = bytes(32)


def flip_last_byte(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def same(limit: int) -> int:
    return limit


def refuse(_: object = None) -> str:
    raise ValueError("no letters")


class Stored:
    def plain(cls, number: int) -> int:  # type: ignore[misc]  # noqa: N805  # what classmethod is put around
        return number


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="checkpoint_manager")
    return caplog


class TestResuming:
    def test_it_runs_once_for_the_same_arguments(self, cm: CheckpointManager, tmp_path: Path) -> None:
        calls: list[Any] = []

        @cm.stage
        def clean(path: str, limit: int = 10) -> list[str]:
            calls.append((path, limit))
            return [path] * limit

        assert clean("a", limit=2) == clean("a", 2) == ["a", "a"]
        assert calls == [("a", 2)]
        assert clean("a") == ["a"] * 10
        again = CheckpointManager(tmp_path / "store", key=KEY)
        assert again.stage("clean")(clean.__wrapped__)("a", 2) == ["a", "a"]  # type: ignore[attr-defined]
        assert calls == [("a", 2), ("a", 10)]
        assert clean.__name__ == "clean"
        assert cm.load_checkpoint("clean") == ["a"] * 10

    def test_another_version_runs_again(self, cm: CheckpointManager) -> None:
        results = iter(range(1, 10))

        def train() -> int:
            return next(results)

        assert [cm.stage(revision=revision)(train)() for revision in (1, 1, 2, 1)] == [1, 1, 2, 1]

    def test_a_cleared_stage_runs_again_and_a_restored_one_does_not(self, cm: CheckpointManager) -> None:
        results = iter(range(1, 10))
        train = cm.stage("train")(lambda: next(results))
        assert train() == 1
        cm.clear_checkpoint("train")
        assert (train(), train()) == (2, 2)
        cm.restore_checkpoint("train", 1)
        assert train() == 1

    def test_what_was_saved_by_hand_or_is_damaged_does_not_count(
        self, cm: CheckpointManager, log: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        cm.save_checkpoint("train", "by hand")
        results = iter(range(1, 10))
        train = cm.stage("train")(lambda: next(results))
        assert train() == 1
        path = tmp_path / "store" / "history" / "train" / "000000000002.checkpoint"
        flip_last_byte(path)
        assert train() == 2
        assert [outcome.why for outcome in cm.run_report().ran] == [
            "the newest version was not saved by this stage",
            "the newest version is damaged",
        ]
        assert any(record.levelname == "ERROR" for record in log.records)

    def test_older_results_are_found_over_damaged_and_deleted_ones(self, cm: CheckpointManager, tmp_path: Path) -> None:
        train = cm.stage("train")(lambda number: number)
        for number in range(1, 5):
            train(number)
        cm.delete_versions("train", [3])
        path = tmp_path / "store" / "history" / "train" / "000000000002.checkpoint"
        flip_last_byte(path)
        again = CheckpointManager(tmp_path / "store", key=KEY)
        train = again.stage("train")(train.__wrapped__)  # type: ignore[attr-defined]
        assert (train(1), train(2), train(3), train(4)) == (1, 2, 3, 4)
        assert [outcome.what for outcome in again.run_report().outcomes] == ["reused", "ran", "ran", "reused"]

    def test_a_result_comes_back_type_for_type(self, cm: CheckpointManager) -> None:
        calls: list[int] = []

        @cm.stage
        def summary() -> dict[Any, Any]:
            calls.append(1)
            return {("a", 1): {dt.date(2026, 11, 23), Decimal("1.10")}, "mean": np.float32(0.1)}

        assert is_same(summary(), summary())
        assert calls == [1]

    def test_results_that_are_encoded(self, cm: CheckpointManager) -> None:
        calls: list[int] = []

        @cm.stage(encode=sorted, decode=set)
        def letters() -> set[str]:
            calls.append(1)
            return {"a", "b"}

        assert letters() == letters() == {"a", "b"}
        assert calls == [1]
        assert cm.load_checkpoint("letters") == ["a", "b"]

    def test_on_any_backend(self) -> None:
        cm = CheckpointManager(MemoryBackend(), key=KEY)
        results = iter([1, 2])
        train = cm.stage("train")(lambda: next(results))
        assert (train(), train()) == (1, 1)


class TestRefusals:
    def test_a_result_that_can_not_be_kept_is_refused_before_the_work(self, cm: CheckpointManager) -> None:
        def shape() -> range:
            raise AssertionError("it ran")

        def either() -> set[Fraction] | bytearray: ...  # type: ignore[empty-body]

        def keys() -> dict[tuple[int, Fraction], int]: ...  # type: ignore[empty-body]

        async def later() -> list[Fraction]: ...  # type: ignore[empty-body]

        for function in (shape, either, keys, later):
            with pytest.raises(PayloadError, match=r"encode=.*codecs="):
                cm.stage(function)  # type: ignore[arg-type]

    def test_an_annotation_that_says_nothing_certain_is_let_through(self, cm: CheckpointManager) -> None:
        def one() -> dict[str, list[int] | None]: ...  # type: ignore[empty-body]

        def two() -> Any: ...

        def three() -> "Unknown": ...  # type: ignore[name-defined]  # noqa: F821, UP037

        def four() -> tuple[int] | list[int]: ...  # type: ignore[empty-body]

        def five() -> tuple[Path, ...] | set[Decimal]: ...  # type: ignore[empty-body]

        def six() -> dict[UUID, tuple[dt.datetime | None, np.float64]]: ...  # type: ignore[empty-body]

        for function in (one, two, three, four, five, six):
            cm.stage(function)

    def test_a_type_with_a_codec_can_be_kept(self) -> None:
        codec = Codec(Fraction, "fraction", str, Fraction)
        cm = CheckpointManager("memory:", key=KEY, codecs=[codec])
        calls = []

        @cm.stage
        def half(of: Fraction) -> dict[str, Fraction]:
            calls.append(of)
            return {"half": of / 2}

        assert half(Fraction(1, 3)) == half(Fraction(1, 3)) == {"half": Fraction(1, 6)}
        with cm.loop("sum", [Fraction(1, 3)] * 3, initial=Fraction(0), key="thirds") as loop:
            for third in loop:
                loop.state += third
        assert cm.load_checkpoint("sum") == 1
        assert calls == [Fraction(1, 3)]

    def test_an_argument_that_can_not_be_compared_is_named(self, cm: CheckpointManager) -> None:
        calls: list[int] = []

        def train(rows: list[Any], model: object = None) -> int:
            calls.append(1)
            return len(calls)

        with pytest.raises(FingerprintError, match=r"argument model is or contains an object of type object.*ignore=.*key="):
            cm.stage(train)([1], object())
        with pytest.raises(FingerprintError, match="argument rows is or contains an object of type function"):
            cm.stage(train)([{"f": [start]}])
        assert calls == []
        ignoring = cm.stage("a", ignore=["model"])(train)
        assert ignoring([1], object()) == ignoring([1], object())
        keyed = cm.stage("b", key=lambda rows, _=None: len(rows))(train)
        assert keyed([1], object()) == keyed([2], object()) != keyed([1, 2], object())
        with pytest.raises(TypeError, match="mode1"):
            cm.stage("c", ignore=["mode1"])(train)
        with pytest.raises(TypeError, match="both"):
            cm.stage("d", encode=list)(train)

    def test_a_result_that_can_not_be_saved_is_not_lost(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ResultNotSavedError) as caught:
            cm.stage("train")(lambda: {"secret": range(1)})()
        assert caught.value.result == {"secret": range(1)}
        assert isinstance(caught.value.__cause__, PayloadError)
        report = cm.run_report()
        assert (report.ran, report.unsaved[0].version) == ((), None)
        assert str(report).endswith("0 reused, 0 ran, 0 failed, 1 not saved")

        def full(*_: object, **__: object) -> None:
            raise StorageError("no room", errno=28, filename="x")

        monkeypatch.setattr(cm._store.backend, "append", full)
        with pytest.raises(ResultNotSavedError, match="no room"):
            cm.stage("other")(lambda: 5)()

    def test_a_result_that_can_not_be_encoded_is_not_lost(self, cm: CheckpointManager) -> None:
        with pytest.raises(ResultNotSavedError, match="ValueError was raised") as caught:
            cm.stage("letters", encode=refuse, decode=set)(lambda: {"a"})()
        assert caught.value.result == {"a"}

    def test_a_stage_without_a_name_is_refused(self, cm: CheckpointManager) -> None:
        with pytest.raises(StageNameError):
            cm.stage("")(refuse)

    @pytest.mark.parametrize("name", [5, b"train", ["train"]])
    def test_a_name_that_is_not_text_is_refused(self, cm: CheckpointManager, name: Any) -> None:
        with pytest.raises(StageNameError, match="must be a str"):
            cm.stage(name)(refuse)

    def test_a_result_that_can_no_longer_be_decoded_is_computed_again(
        self, cm: CheckpointManager, log: pytest.LogCaptureFixture
    ) -> None:
        results, formats = iter([1, 2]), iter([True, False, False, True, True])

        def decode(value: int) -> int:
            if not next(formats):
                raise ValueError("of an old format")
            return value

        train = cm.stage("train", encode=same, decode=decode)(lambda: next(results))
        assert (train(), train(), train()) == (1, 2, 2)
        assert cm.run_report().ran[1].why == "decode= raised ValueError for version 1"
        warnings = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
        assert warnings == ["train: decode= raised ValueError for version 1, so it runs again"]

    def test_a_result_whose_codec_fails_is_computed_again(self, log: pytest.LogCaptureFixture) -> None:
        results, formats = iter([1, 2]), iter([False, False, True])

        def decode(value: str) -> Fraction:
            if not next(formats):
                raise ValueError("of an old format")
            return Fraction(value)

        cm = CheckpointManager("memory:", key=KEY, codecs=[Codec(Fraction, "fraction", str, decode)])
        train = cm.stage("train")(lambda: Fraction(next(results), 3))
        assert (train(), train(), train()) == (Fraction(1, 3), Fraction(2, 3), Fraction(2, 3))
        assert [record.getMessage() for record in log.records if record.levelname == "WARNING"] == [
            "train: a codec raised ValueError for version 1, so it runs again"
        ]

    def test_a_class_method_as_the_hint_says_to_write_it(self, cm: CheckpointManager) -> None:
        class Job:
            @classmethod
            @cm.stage("load")
            def load(cls, number: int) -> int:
                return number

        with pytest.raises(FingerprintError, match="cls"):  # a class in a function has no name that leads to it
            Job.load(1)
        function = cm.stage("stored")(Stored.__dict__["plain"])
        assert function(Stored, 5) == function(Stored, 5) == 5
        assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "reused"]

    def test_an_argument_that_can_be_read_once_is_refused(self, cm: CheckpointManager) -> None:
        for value in (iter([1]), (each for each in [1]), {1: 2}.values()):
            with pytest.raises(FingerprintError, match=r"Pass a list$"):
                cm.stage("train")(refuse)(value)

    def test_a_call_that_does_not_fit_names_the_stage(self, cm: CheckpointManager) -> None:
        with pytest.raises(TypeError, match=r"^stage train: .*missing a required argument: 'rows'$"):
            cm.stage("train")(lambda rows: rows)()

    def test_two_functions_of_one_name_are_not_taken_for_each_other(self, cm: CheckpointManager) -> None:
        cm.stage("refuse")(refuse)
        cm.stage("refuse")(refuse)  # as in a notebook: the cell is run again

        def other() -> int:
            return 1

        with pytest.raises(ValueError, match=r"the stage refuse is .*:refuse already. Give .*\.other another name"):
            cm.stage("refuse")(other)

    def test_callables_of_all_kinds(self, cm: CheckpointManager) -> None:
        stages = [cm.stage("power")(functools.partial(pow, base)) for base in (2, 3)]
        assert [stage(2) for stage in stages] == [4, 9]
        counted = cm.stage("count", ignore=["self"])([1, 1].count)
        assert counted(1) == 2

    def test_a_function_that_yields_is_refused(self, cm: CheckpointManager) -> None:
        def rows() -> Iterator[int]:
            yield 1

        async def later() -> AsyncIterator[int]:
            yield 1

        for function in (rows, later):
            with pytest.raises(TypeError, match="generator"):
                cm.stage(function)

    def test_a_stage_that_calls_itself_is_told_so(self, cm: CheckpointManager) -> None:
        @cm.stage
        def count(number: int) -> int:
            return count(number)

        with pytest.raises(CheckpointError, match="called by itself"):
            count(3)

    def test_a_stage_may_call_itself_with_other_arguments(self, cm: CheckpointManager) -> None:
        @cm.stage
        def count(number: int) -> int:
            return number and count(number - 1) + 1

        assert count(3) == 3
        assert len(cm.run_report().ran) == 4

    def test_stages_may_call_one_another(self, cm: CheckpointManager) -> None:
        inner = cm.stage("inner")(lambda: 1)
        assert cm.stage("outer")(lambda: inner() + 1)() == 2


class TestFailures:
    def test_what_is_raised_is_kept_and_the_next_call_runs_again(
        self, cm: CheckpointManager, log: pytest.LogCaptureFixture
    ) -> None:
        answers: list[Any] = [ValueError("no \ud800 rows"), 7]

        @cm.stage
        def train() -> int:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return int(answer)

        with pytest.raises(ValueError, match="rows"):
            train()
        assert not cm.has_checkpoint("train")
        failed = cm.get_checkpoint("train", "failed")
        assert failed.version.status == "failed"
        assert (failed.data["type"], failed.data["message"]) == ("ValueError", r"no \ud800 rows")
        assert "in train" in failed.data["traceback"]
        assert train() == 7
        assert [(outcome.what, outcome.why) for outcome in cm.run_report().outcomes] == [
            ("failed", "first run"),
            ("ran", "the last run failed"),
        ]
        assert "rows" not in log.text

    def test_a_failure_that_can_not_be_saved_does_not_hide_what_was_raised(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            def full(*_: object, **__: object) -> None:
                raise StorageError("no room", errno=28, filename="x")

            monkeypatch.setattr(cm._store.backend, "append", full)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            cm.stage(fail)()
        assert "could not be saved: no room" in log.text


class TestWhatItSays:
    def test_the_log_says_why(self, cm: CheckpointManager, log: pytest.LogCaptureFixture) -> None:
        for limit in (1, 2, 2):
            cm.stage("clean")(same)(limit)
        cm.stage("clean", revision=2)(same)(2)
        cm.clear_checkpoint("clean")
        cm.stage("clean", revision=2)(same)(2)
        lines = [record.getMessage() for record in log.records if record.getMessage().startswith("clean:")]
        assert [line.partition(", saved ")[2] or line for line in lines] == [
            "version 1 (first run)",
            "version 2 (arguments changed: limit)",
            "clean: reused version 2 (saved 0 s ago)",
            "version 3 (revision changed: 1 to 2)",
            "version 5 (the stage is cleared)",
        ]
        assert all(line.startswith(("clean: ran in ", "clean: reused")) for line in lines)

    def test_its_lines_read_as_promised(self, cm: CheckpointManager, log: pytest.LogCaptureFixture) -> None:
        for limit in (1, 2, 2):
            cm.stage("clean")(same)(limit)
        patterns = [
            r"clean: ran in \d+ ms, saved version 1 \(first run\)",
            r"clean: ran in \d+ ms, saved version 2 \(arguments changed: limit\)",
            r"clean: reused version 2 \(saved \d+ s ago\)",
        ]
        assert all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, log.messages, strict=True)), log.messages
        assert {record.levelname for record in log.records} == {"INFO"}

    def test_the_fingerprint_is_kept_sealed_with_the_version(self, cm: CheckpointManager, tmp_path: Path) -> None:
        cm.stage("clean")(same)(1)
        note = cm.history("clean")[0].metadata["@stage"]
        assert (note["version"], list(note["arguments"])) == (1, ["limit"])
        path = tmp_path / "store" / "history" / "clean" / "000000000001.checkpoint"
        whole = path.read_bytes()
        assert note["arguments"]["limit"].encode() not in whole
        position = whole.index(b"\n") + 40  # in the sealed metadata
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        cm.stage("clean")(same)(1)
        assert cm.run_report().outcomes[-1].why == "the newest version is damaged"

    def test_the_report(self, cm: CheckpointManager) -> None:
        for _ in range(2):
            cm.stage("clean")(lambda: 1)()
        with pytest.raises(KeyError):
            cm.stage("evaluate")(lambda: {}["x"])()
        report = cm.run_report()
        assert [len(each) for each in (report.reused, report.ran, report.failed)] == [1, 1, 1]
        lines = str(report).splitlines()
        assert lines[0].split()[:2] == ["clean", "ran"]
        assert lines[-1] == "1 reused, 1 ran, 1 failed"


class TestAsync:
    def test_it_runs_once(self, cm: CheckpointManager) -> None:
        running: list[str] = []

        @cm.stage
        async def fetch(url: str) -> dict[str, str]:
            running.append(url)
            await asyncio.sleep(0.02)
            return {"url": url}

        async def main() -> list[dict[str, str]]:
            return await asyncio.gather(*(fetch("a") for _ in range(5)))

        assert asyncio.run(main()) == [{"url": "a"}] * 5
        assert running == ["a"]
        assert len(cm.run_report().reused) == 4

    def test_what_is_raised_is_kept(self, cm: CheckpointManager) -> None:
        @cm.stage
        async def fetch() -> None:
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            asyncio.run(fetch())
        assert cm.history("fetch")[0].status == "failed"

    def test_one_that_does_not_wait_is_refused(self, cm: CheckpointManager) -> None:
        @cm.stage(wait=False)
        async def fetch() -> int:
            await asyncio.sleep(0.05)
            return 1

        async def main() -> list[Any]:
            return await asyncio.gather(fetch(), fetch(), return_exceptions=True)

        results = asyncio.run(main())
        assert results.count(1) == 1
        assert sum(isinstance(result, LockTimeoutError) for result in results) == 1


PROGRAM = """
import logging, sys, time
from checkpoint_manager import CheckpointManager
logging.basicConfig(level=logging.INFO, format="%(message)s")
cm = CheckpointManager(sys.argv[1], key=bytes(32))

@cm.stage
def train() -> str:
    print("running", flush=True)
    time.sleep(float(sys.argv[2]))
    return sys.argv[3]

print(train(), flush=True)
"""


def start(store: Path, seconds: float, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(store), str(seconds), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def trained(cm: CheckpointManager, code: str, **options: Any) -> Any:
    """Return the program's function of this name as a stage, with other code."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(code, namespace)  # as the program itself is run
    return cm.stage(**options)(namespace["train"])


class TestOnceAcrossProcesses:
    def test_a_coroutine_waits_as_well_and_lets_others_run(
        self, tmp_path: Path, cm: CheckpointManager, log: pytest.LogCaptureFixture
    ) -> None:
        first = start(tmp_path / "store", 60, "first")
        assert first.stdout is not None
        assert first.stdout.readline() == "running\n"

        train = trained(cm, "async def train(): return 'second'")

        async def kill() -> None:
            while "train: waits for process" not in log.text:  # noqa: ASYNC110  # a line of the log sets no event
                await asyncio.sleep(0.01)
            first.kill()

        async def main() -> str:
            return (await asyncio.gather(train(), kill()))[0]

        assert asyncio.run(main()) == "second"
        assert log.text.count("waits for") == 1
        first.communicate()

    def test_several_that_reach_a_stage_run_it_once(self, tmp_path: Path) -> None:
        children = [start(tmp_path / "store", 0.3, str(number)) for number in range(4)]
        said = [child.communicate(timeout=60)[0].split() for child in children]
        assert sum("running" in words for words in said) == 1
        assert len({words[-1] for words in said}) == 1

    def test_if_the_one_that_runs_is_killed_another_takes_over(self, tmp_path: Path) -> None:
        first = start(tmp_path / "store", 60, "first")
        assert first.stdout is not None
        assert first.stdout.readline() == "running\n"
        second = start(tmp_path / "store", 0, "second")
        assert second.stderr is not None
        assert second.stderr.readline().startswith(f"train: waits for process {first.pid}")
        assert second.poll() is None
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert second.communicate(timeout=60)[0].split() == ["running", "second"]

    def test_one_that_does_not_wait_names_the_one_that_runs(self, tmp_path: Path, cm: CheckpointManager) -> None:
        first = start(tmp_path / "store", 60, "first")
        assert first.stdout is not None
        assert first.stdout.readline() == "running\n"
        with pytest.raises(LockTimeoutError, match=str(first.pid)):
            trained(cm, "def train(): return 1", wait=False)()
        cm.save_checkpoint("other", 1)
        cm.keys.rotate()  # which waits for writers, and not for those that run for hours
        first.kill()
        first.communicate()

    def test_threads_that_make_their_first_stage_at_once_share_one_report(self, tmp_path: Path) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # else, a thread would mostly be done with it before the next one begins
        try:
            for turn in range(5):
                cm = CheckpointManager(tmp_path / f"store{turn}", key=KEY)
                barrier = threading.Barrier(4)

                def work(number: int, cm: CheckpointManager = cm, barrier: threading.Barrier = barrier) -> None:
                    barrier.wait()
                    cm.stage(f"stage{number}")(lambda: number)()

                threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert len(cm.run_report().ran) == 4
        finally:
            sys.setswitchinterval(before)

    def test_threads_run_it_once(self, cm: CheckpointManager) -> None:
        results: list[int] = []
        counter = iter(range(10))

        @cm.stage
        def train() -> int:
            time.sleep(0.1)
            return next(counter)

        threads = [threading.Thread(target=lambda: results.append(train())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [0] * 4


class TestDecoding:
    def test_the_first_call_gives_what_later_ones_give(self, cm: CheckpointManager) -> None:
        stage = cm.stage("pair", encode=list, decode=list)(lambda: (1, 2))
        assert [stage(), stage()] == [[1, 2], [1, 2]]

        @cm.stage("other", encode=list, decode=tuple)
        async def pair() -> tuple[int, ...]:
            return (1, 2)

        assert [asyncio.run(pair()), asyncio.run(pair())] == [(1, 2), (1, 2)]

    def test_a_result_that_does_not_decode_is_not_saved(self, cm: CheckpointManager) -> None:
        def broken(_: object) -> object:
            raise KeyError("no such key")

        stage = cm.stage("pair", encode=list, decode=broken)(lambda: (1, 2))
        with pytest.raises(ResultNotSavedError) as caught:
            stage()
        assert caught.value.result == (1, 2)
        assert cm.history("pair") == []


class TestMisuse:
    @pytest.mark.parametrize("revision", [1.5, [1], (1,)])
    def test_a_revision_of_another_type_is_refused(self, cm: CheckpointManager, revision: Any) -> None:
        with pytest.raises(TypeError, match="revision must be an integer or text"):
            cm.stage(revision=revision)(same)
        with pytest.raises(TypeError, match="revision must be an integer or text"):
            cm.loop("sum", [], initial=0, revision=revision)

    @pytest.mark.parametrize("revision", [2**63, -(2**63), "\ud800"])
    def test_a_revision_that_can_not_be_stored_is_refused_before_the_work(self, cm: CheckpointManager, revision: Any) -> None:
        with pytest.raises(ValueError, match="revision must be an integer of at most 64 bits"):
            cm.stage(revision=revision)(same)

    def test_one_name_to_ignore_is_not_a_list_of_letters(self, cm: CheckpointManager) -> None:
        with pytest.raises(TypeError, match="ignore must be a list of names, not one name"):
            cm.stage(ignore="limit")(same)

    def test_a_wrapper_that_returns_a_coroutine_is_refused(self, cm: CheckpointManager) -> None:
        async def fetch() -> int:
            return 1

        with pytest.raises(TypeError, match="returns a coroutine, but is not an async function itself"):
            cm.stage("fetch")(lambda: fetch())()  # noqa: PLW0108  # its own function, which is not async

    def test_an_async_object_is_awaited(self, cm: CheckpointManager) -> None:
        assert asyncio.run(cm.stage("double", ignore=["self"])(Doubling())(2)) == 4

    def test_what_stages_do_not_have_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = stages.nothing  # type: ignore[attr-defined]


class Doubling:
    async def __call__(self, number: int) -> int:
        return number * 2


@pytest.mark.parametrize("is_async", [False, True])
def test_an_argument_that_a_call_changes_is_told_once(
    cm: CheckpointManager, caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    def add(rows: list[int], total: dict[str, int]) -> int:
        rows.append(9)
        return total["rows"]

    async def add_later(rows: list[int], total: dict[str, int]) -> int:
        return add(rows, total)

    stage = cm.stage("add")(add_later if is_async else add)
    for number in range(3):
        called: Any = stage([number], {"rows": 1})
        asyncio.run(called) if is_async else None
    assert caplog.messages == [
        "add: the argument rows was changed while it ran. Return what changes: a call that reuses a result changes nothing"
    ]


def test_what_a_call_leaves_as_it_is_is_not_said_to_have_changed(
    cm: CheckpointManager, caplog: pytest.LogCaptureFixture
) -> None:
    same = cm.stage("same")(lambda rows: rows)
    rows = [1, 2]
    cm.stage("outer")(lambda rows: [*same(rows), 3])(rows)  # the argument is the result of the inner one from then on
    cm.stage("keyed", key=len)(list.pop)(rows)
    assert caplog.messages == []
