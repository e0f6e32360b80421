"""A stage's result that is passed to another stage: recognised by the version that it is, and noted in what is made of it."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import gc
import subprocess
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, Codec, FingerprintError
from checkpoint_manager._format.notes import read_inputs
from checkpoint_manager.stages import results

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(32)

SCRIPT = """
import sys
from checkpoint_manager import CheckpointManager

cm = CheckpointManager("store", key=bytes(32))

class Model:
    def __init__(self, weights):
        self.weights = weights

@cm.stage
def rows(count):
    return list(range(count))

@cm.stage(encode=lambda model: model.weights, decode=Model)
def train(rows):
    return Model([sum(rows) / 2])

@cm.stage
def evaluate(model):
    return model.weights[0]

print(evaluate(train(rows(int(sys.argv[1])))))
print(*(f"{each.stage} {each.what}" for each in cm.run_report().outcomes), sep=", ")
"""


class Model:
    """Of a type that can't be compared, but holds only what can."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights


class Handle:
    """Of a type that can't be compared, nor referred to weakly."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Connection(Handle):
    """Of which no snapshot can be taken."""

    def __reduce__(self) -> str:
        raise TypeError("it is open")

    def __getattribute__(self, name: str) -> object:
        return object.__getattribute__(self, name)


def size(pages: list[Any]) -> int:
    return len(pages)


def total(rows: list[int]) -> int:
    return sum(rows)


def one(value: object) -> int:
    return 0 if value is one else 1


def opened(number: int) -> Handle:
    return Handle(number)


def connected(number: int) -> Connection:
    return Connection(number)


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def inputs(cm: CheckpointManager, stage: str, version: int | str = "latest") -> list[tuple[str, str, int]]:
    noted = cm.get_version(stage, version).metadata.get("@inputs", [])
    return [(each["argument"], each["stage"], each["version"]) for each in noted]


def train_stage(cm: CheckpointManager) -> Callable[..., Model]:
    return cm.stage("train", encode=lambda model: model.weights, decode=Model)(lambda rows: Model([sum(rows) / 2]))


def test_in_the_first_run_a_reused_one_and_a_fresh_process(cm: CheckpointManager, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(count: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "script.py", str(count)], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    assert run(4) == ["3.0", "rows ran, train ran, evaluate ran"]
    assert run(4) == ["3.0", "rows reused, train reused, evaluate reused"]
    assert run(5) == ["5.0", "rows ran, train ran, evaluate ran"]
    assert run(4) == ["3.0", "rows reused, train reused, evaluate reused"]
    assert inputs(cm, "rows") == []
    assert inputs(cm, "train", 1) == [("rows", "rows", 1)]
    assert inputs(cm, "train", 2) == [("rows", "rows", 2)]
    assert inputs(cm, "evaluate", 2) == [("model", "train", 2)]
    cm.clear_checkpoint("rows")
    assert run(4) == ["3.0", "rows ran, train reused, evaluate reused"]  # it is the same content


def test_within_one_process(cm: CheckpointManager) -> None:
    train, evaluate = train_stage(cm), cm.stage("evaluate")(lambda model: model.weights[0])
    assert evaluate(train([1, 2])) == evaluate(train([1, 2])) == evaluate(train([3])) == 1.5
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "ran", "reused", "reused", "ran", "reused"]
    assert inputs(cm, "evaluate") == [("model", "train", 1)]


def test_results_in_lists_dicts_and_dataclasses(cm: CheckpointManager) -> None:
    train, clean = train_stage(cm), cm.stage("clean")(lambda name: [name, name])
    merge = cm.stage("merge")(lambda *models, **named: len(models) + len(named))
    merge([train([1]), train([2])], {"a": [clean("a"), clean("b")]}, last=(clean("c"),))
    assert inputs(cm, "merge") == [
        *(("models", "train", version) for version in (1, 2)),
        *(("models", "clean", version) for version in (1, 2)),
        ("named", "clean", 3),
    ]


def test_long_lists_of_texts_that_are_results(cm: CheckpointManager) -> None:
    fetch, join = cm.stage("fetch")(lambda number: f"page {number}"), cm.stage("join")(size)
    join([fetch(1), *map(str, range(5000))])
    assert inputs(cm, "join") == [("pages", "fetch", 1)]


def test_what_is_changed_after_its_return_is_not_the_stored_result(cm: CheckpointManager) -> None:
    train, evaluate = train_stage(cm), cm.stage("evaluate")(lambda model: model.weights[0])
    model = train([1, 2])
    model.weights.append(9.0)
    with pytest.raises(FingerprintError, match=r"argument model .* Model \(a result of a stage that was changed since\)"):
        evaluate(model)
    assert evaluate(train([1, 2])) == 1.5

    rows = cm.stage("rows")(lambda: [1, 2])()
    rows.append(3)
    cm.stage("total")(total)(rows)
    assert inputs(cm, "total") == []


def test_a_copy_a_part_and_what_python_has_once_are_not_recognised(cm: CheckpointManager) -> None:
    train, use = train_stage(cm), cm.stage("use")(one)
    with pytest.raises(FingerprintError):
        use(copy.copy(train([1])))
    rows = cm.stage("rows")(lambda: [[1], [2]])()
    for value in (list(rows), rows[0]):
        use(value)
        assert inputs(cm, "use") == []
    same = cm.stage("same")(lambda value: value)
    for value in (None, True, 5, "", "x"):
        use(same(value))
        assert inputs(cm, "use") == []
    use(same(1234.5))
    assert inputs(cm, "use") == [("value", "same", 6)]


def test_an_object_that_can_not_be_referred_to_weakly_is_told_by_its_content(cm: CheckpointManager) -> None:
    stage = cm.stage("open", encode=lambda handle: handle.number, decode=Handle)(opened)
    use = cm.stage("use")(lambda handle: handle.number)
    handle = stage(7)
    assert use(handle) == 7
    handle.number = 8
    with pytest.raises(FingerprintError):
        use(handle)


def test_an_object_that_may_have_changed_unseen_is_refused(cm: CheckpointManager) -> None:
    stage = cm.stage("open", encode=lambda handle: handle.number, decode=Connection)(connected)
    with pytest.raises(FingerprintError, match="Connection"):
        cm.stage("use")(lambda handle: handle.number)(stage(7))


@pytest.mark.parametrize("value", [(1, 2), {"a", "b"}, b"bytes", {1: "a"}, 2.5, Decimal("1.50"), dt.date(2026, 11, 27)])
def test_values_that_json_does_not_have(cm: CheckpointManager, value: Any) -> None:
    stage, use = cm.stage("value")(lambda: value), cm.stage("use")(one)
    for _ in range(2):
        use(stage())
    assert inputs(cm, "use") == [("value", "value", 1)]
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "ran", "reused", "reused"]


def test_what_a_codec_saves(tmp_path: Path) -> None:
    codec = Codec(Model, "model", lambda model: model.weights, Model)
    cm = CheckpointManager(tmp_path / "store", key=KEY, codecs=[codec])
    train, use = cm.stage("train")(lambda: Model([1.5])), cm.stage("use")(one)
    for _ in range(2):
        use(train())
    assert inputs(cm, "use") == [("value", "train", 1)]
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "ran", "reused", "reused"]
    model = train()
    model.weights.append(2.5)
    use(model)
    assert inputs(cm, "use") == []


def test_encode_is_called_only_to_save(cm: CheckpointManager) -> None:
    calls: list[int] = []

    def encode(model: Model) -> list[float]:
        calls.append(1)
        return model.weights

    train = cm.stage("train", encode=encode, decode=Model)(lambda: Model([1.5]))
    evaluate = cm.stage("evaluate")(lambda model: model.weights[0])
    assert evaluate(train()) == evaluate(train()) == 1.5
    assert calls == [1]


def test_results_are_not_kept_alive(cm: CheckpointManager) -> None:
    train = train_stage(cm)
    before = len(results._objects)
    models = [train([number]) for number in range(10)]
    assert len(results._objects) == before + 10
    del models
    gc.collect()
    assert len(results._objects) == before


def test_addresses_are_bounded(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_MOST_ADDRESSES", 3)
    rows, use = cm.stage("rows")(lambda number: [number]), cm.stage("use")(one)
    kept = [rows(number) for number in range(5)]
    for each in kept:
        use(each)
    assert [len(inputs(cm, "use", version)) for version in range(1, 6)] == [0, 0, 1, 1, 1]


def test_a_list_in_the_place_of_a_forgotten_result_is_not_it(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, use = cm.stage("rows")(lambda: [1, 2, 3]), cm.stage("use")(one)
    other = [4, 5, 6]
    rows()
    known = next(iter(results._addresses.values()))
    monkeypatch.setitem(results._addresses, id(other), known)  # as if Python had used the address again
    use(other)
    assert inputs(cm, "use") == []


def test_loops_and_their_items(cm: CheckpointManager) -> None:
    rows, add = cm.stage("rows")(lambda: [1, 2, 3]), cm.stage("total")(total)

    def double() -> list[int]:
        with cm.loop("double", rows(), initial=list[int]()) as loop:
            for item in loop:
                loop.state.append(2 * item)
        return loop.result

    for _ in range(2):
        assert add(double()) == 12
    assert inputs(cm, "double") == [("items", "rows", 1)]
    assert inputs(cm, "total") == [("rows", "double", cm.get_version("double").number)]
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "ran", "ran", "reused", "reused", "reused"]


def test_a_stage_that_is_called_inside_a_function(cm: CheckpointManager) -> None:
    rows, clean = cm.stage("rows")(lambda count: list(range(count))), cm.stage("clean")(lambda rows: rows[1:])
    pipeline = cm.stage("pipeline")(lambda: sum(clean(rows(4)) + clean(rows(3))))
    rows(3)
    assert pipeline() == 9
    assert inputs(cm, "pipeline") == [("", "rows", 2), ("", "clean", 1), ("", "rows", 1), ("", "clean", 2)]


def test_of_a_stage_that_is_called_for_each_item_the_newest_version_is_noted(cm: CheckpointManager) -> None:
    embed = cm.stage("embed")(lambda item: [item])

    def embed_all(until: int) -> None:
        with cm.loop("all", range(5), initial=list[Any](), every_items=1) as loop:
            for item in loop:
                if item <= until:
                    loop.state.append(embed(item))
                if item == until:
                    raise KeyError

    with pytest.raises(KeyError):
        embed_all(3)
    embed_all(0)
    assert inputs(cm, "all") == [("", "embed", 3)]  # of the items that were done before the exception
    many = cm.stage("many")(lambda: sum(sum(embed(item)) for item in range(120)))
    many()
    assert inputs(cm, "many") == [("", "embed", 120)]


def test_async_stages(cm: CheckpointManager) -> None:
    @cm.stage
    async def fetch(number: int) -> list[int]:
        await asyncio.sleep(0)
        return [number]

    @cm.stage
    async def merge(pages: list[list[int]]) -> int:
        return len(pages)

    async def main() -> None:
        await merge(await asyncio.gather(*(fetch(number) for number in range(1000, 1005))))

    asyncio.run(main())
    assert sorted(inputs(cm, "merge")) == [("pages", "fetch", version) for version in range(1, 6)]


def test_results_of_another_store_are_compared_and_not_noted(cm: CheckpointManager, tmp_path: Path) -> None:
    other = CheckpointManager(tmp_path / "other", key=KEY)
    evaluate = other.stage("evaluate")(lambda model: model.weights[0])
    train = train_stage(cm)
    assert evaluate(train([1, 2])) == evaluate(train([1, 2])) == 1.5
    assert inputs(other, "evaluate") == []
    assert [outcome.what for outcome in other.run_report().outcomes] == ["ran", "reused"]


def test_with_key_fingerprint_and_ignore(cm: CheckpointManager) -> None:
    train = train_stage(cm)
    by_key = cm.stage("key", key=lambda value: value.weights)(one)
    registered = cm.stage("registered", fingerprint={Model: lambda model: model.weights})(one)
    ignoring = cm.stage("ignoring", ignore=["value"])(one)
    for stage in (by_key, registered, ignoring):
        stage(train([1, 2]))
    assert inputs(cm, "key") == inputs(cm, "registered") == [("value", "train", 1)]
    assert inputs(cm, "ignoring") == []


def test_threads_remember_and_recognise_at_the_same_time(cm: CheckpointManager) -> None:
    rows, use = cm.stage("rows")(lambda number: [number, number]), cm.stage("use")(lambda rows: rows[0])
    faults: list[int] = []

    def work(start: int) -> None:
        faults.extend(number for number in range(start, start + 20) if use(rows(number)) != number)

    threads = [threading.Thread(target=work, args=(1000 * start,)) for start in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert all(len(inputs(cm, "use", version.number)) == 1 for version in cm.history("use"))


@pytest.mark.parametrize(
    "noted", [5, [5], [{}], [{"argument": "x", "stage": 5, "version": 1}], [{"argument": "x", "stage": "s", "version": -1}]]
)
def test_what_another_program_noted_is_not_believed(noted: Any) -> None:
    assert read_inputs({"@inputs": noted}) == ()
