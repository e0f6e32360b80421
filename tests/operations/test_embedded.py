"""Arrays, frames and tensors in the data: stored beside it, and back in their places."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import jsonpatch
import numpy as np
import pandas as pd
import polars as pl
import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, Codec, FormatError, IntegrityError, PayloadError, Retention
from checkpoint_manager._format import attachment as attachment_format
from checkpoint_manager._format import payload
from checkpoint_manager._format.attachment import SEGMENT_BYTES
from checkpoint_manager._format.codecs import checked
from checkpoint_manager._format.embedded import INLINE_BYTES
from checkpoint_manager._operations.read_attachments import parts_of
from tests.strategies import same

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = bytes(32)
SMALL, LARGE = np.arange(3.0), np.arange(5000.0)


@pytest.fixture(params=["local", "memory", "sqlite"])
def cm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointManager]:
    places = {"local": tmp_path / "store", "memory": "memory:", "sqlite": f"sqlite:///{tmp_path / 'store.db'}"}
    with CheckpointManager(places[request.param], key=KEY) as cm:
        yield cm


@pytest.fixture
def memory() -> CheckpointManager:
    return CheckpointManager("memory:", key=KEY)


@pytest.fixture
def local(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "local", key=KEY)


def kept(cm: CheckpointManager, stage: str = "train") -> int:
    """Return how many attachments a stage has, whoever refers to them."""
    return len(cm._store.backend.attachments(stage))


class TestData:
    @pytest.mark.parametrize(
        "data",
        [
            LARGE,
            SMALL,
            {"weights": LARGE, "bias": SMALL},
            [(1, {"deep": [LARGE, {("a", 2): LARGE[::2]}]}), b"raw"],
            {"frame": pd.DataFrame({"a": range(3000), "b": ["x"] * 3000}), "few": pd.DataFrame({"a": [1.5]})},
            [pl.DataFrame({"a": list(range(3000))}), pl.DataFrame({"a": [None, 2]})],
            {"many": [np.full(600, number) for number in range(50)]},
            {"empty": np.zeros((0, 3)), "scalar": np.array(3), "numpy": np.float64(1.5), "!content": ["numpy", LARGE]},
            np.asfortranarray(np.arange(6000.0).reshape(60, 100)),
            np.zeros(SEGMENT_BYTES // 8 + 1),
            np.zeros(3, [("nothing", "U0"), ("b", "i4")])["nothing"],
            np.zeros(3, [(f"field_number_{number}", "i4") for number in range(600)]),
        ],
        ids=range(12),
    )
    def test_comes_back_type_for_type(self, memory: CheckpointManager, data: Any) -> None:
        memory.save_checkpoint("train", data)
        assert same(memory.load_checkpoint("train"), data)
        assert memory.verify().ok

    def test_on_each_backend(self, cm: CheckpointManager) -> None:
        data = {"weights": LARGE, "bias": SMALL, "table": pd.DataFrame({"a": range(2000)}), "epoch": 3}
        saved = cm.save_checkpoint("train", data, attachments={"log": b"a line"})
        found = cm.get_checkpoint("train")
        assert same(found.data, data)
        assert [*found.attachments] == ["log"] == [each.name for each in saved.attachments]
        assert saved.size is not None
        assert saved.size > LARGE.nbytes + 16_000
        assert saved == found.version == cm.get_version("train")
        assert cm.has_checkpoint("train")
        assert cm.verify().ok
        assert cm.verify(quick=True).ok
        assert kept(cm) == 2

    def test_what_is_loaded_is_the_callers_to_change(self, memory: CheckpointManager) -> None:
        memory.save_checkpoint("train", {"large": LARGE, "small": SMALL})
        loaded = memory.load_checkpoint("train")
        loaded["large"] += 1
        loaded["small"] += 1
        assert same(memory.load_checkpoint("train"), {"large": LARGE, "small": SMALL})

    @pytest.mark.parametrize("over", [0, 1])
    def test_a_content_of_a_few_kib_stands_in_the_data(self, memory: CheckpointManager, over: int) -> None:
        data = np.zeros(INLINE_BYTES - 128 + over, np.uint8)  # behind a header of 128 bytes
        memory.save_checkpoint("train", data)
        assert kept(memory) == over
        assert same(memory.load_checkpoint("train"), data)

    def test_a_codec_may_make_arrays_and_comes_before_the_library(self) -> None:
        class Model:
            weights = LARGE

        def model_of(made: dict[str, Any]) -> Model:
            model = Model()
            model.weights = made["weights"]
            return model

        codecs = [
            Codec(Model, "model", lambda model: {"weights": model.weights}, model_of),
            Codec(pd.DataFrame, "frame", lambda frame: frame.to_dict("list"), pd.DataFrame),
        ]
        cm = CheckpointManager("memory:", key=KEY, codecs=codecs)
        cm.save_checkpoint("train", [Model(), pd.DataFrame({"a": range(2000)})])
        model, frame = cm.load_checkpoint("train")
        assert same(model.weights, LARGE)
        assert frame.equals(pd.DataFrame({"a": range(2000)}))

    @pytest.mark.parametrize(
        ("data", "path", "says"),
        [
            ({"a": [np.array([None])]}, "$.a[0]", "an array of objects"),
            ({"a": np.ma.array([1])}, "$.a", "MaskedArray"),
            ({"a": np.zeros(2, np.dtype("f8", metadata={"unit": "m"}))}, "$.a", "another type"),
            ([pd.DataFrame({"a": [object()]})], "$[0]", "column a is of objects"),
            ([pd.Series([1])], "$[0]", r"value\.to_frame\(\)"),
            ([pl.Series([1])], "$[0]", r"value\.to_frame\(\)"),
            ([pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)})], "$[0]", "a column of objects"),
            ((LARGE, type("Special", (np.ndarray,), {})(2)), "$[1]", "Special"),
            ([np.zeros(1, np.longlong)], "$[0]", "another type"),
            ([np.zeros(1, np.dtype([("a", "i1"), ("b", "f8")], align=True))], "$[0]", "another type"),
            ([np.zeros(1, np.dtype((np.record, [("a", "i4")])))], "$[0]", "another type"),
            ([pd.DataFrame({True: [1], False: [2]})], "$[0]", "index of its columns"),
            ([pd.DataFrame([[1]], columns=pd.Index(["a"], dtype=object))], "$[0]", "index of its columns"),
            (
                [pd.DataFrame({"a": pd.arrays.FloatingArray(np.array([np.nan, 1]), np.array([False, True]))})],
                "$[0]",
                "beside NA",
            ),
            ([pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)], "$[0]", "flags"),
            ([pd.DataFrame([[1, 2]], columns=["a", "a"])], "$[0]", "same name"),
            ([pd.DataFrame(index=pd.Index([1], name=0))], "$[0]", "name of its index"),
            ([pd.DataFrame([[1, 2]], columns=["a", 1])], "$[0]", "names of its columns are of several types"),
            ([pd.DataFrame([[1]], columns=pd.Index([("a", 1)], tupleize_cols=False))], "$[0]", "names of its columns are"),
            ([np.ma.array([1, 2], mask=[True, False])], "$[0]", r"Save value\.data and value\.mask"),
            ([np.array(["a"], dtype=np.dtypes.StringDType())], "$[0]", "text of any length"),
            ([pd.DataFrame(index=pd.MultiIndex.from_arrays([[1, None], [1, 2]]))], "$[0]", "its index changes its type"),
            ([pd.DataFrame(index=pd.MultiIndex.from_arrays([[1, "a"], [1, 2]]))], "$[0]", "its index is of objects"),
            ([pd.DataFrame(index=pd.MultiIndex.from_product([[1], [2]], names=[0, 1]))], "$[0]", "name of its index"),
            ([pd.DataFrame([[1]], columns=pd.MultiIndex.from_product([[True], [False]]))], "$[0]", "index of its columns"),
            ([pl.DataFrame({"c": pl.Series([[]], dtype=pl.Array(pl.Int8, 0))})], "$[0]", "does not hold"),
            ([np.zeros(1, [("x" * 1_000_000, "i1")])], "$[0]", "more fields"),
            ([np.zeros(1, [("名", "i4")])], "$[0]", "names"),
        ],
        ids=range(28),
    )
    def test_what_would_not_come_back_is_refused_with_its_path(
        self, memory: CheckpointManager, data: Any, path: str, says: str
    ) -> None:
        with pytest.raises(PayloadError, match=says) as caught:
            memory.save_checkpoint("train", data)
        assert caught.value.path == path
        assert (kept(memory), memory.history("train")) == (0, [])

    @pytest.mark.parametrize(
        "frame",
        [
            pd.DataFrame(np.zeros((2, 3))),
            pd.DataFrame(np.zeros((2, 2)), columns=pd.RangeIndex(4, 8, 2, name="place")),
            pd.DataFrame({0: [1], 1: [2]}),
            pd.DataFrame({("a", 1): [1], ("b", 2): [2]}),
            pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2, name="r")),
            pd.DataFrame({"a": [1, 2]}, index=[1, 1]).rename_axis(columns="names"),
            pd.DataFrame({"a": [1]}, index=pd.Index([3], name="a")),
            pd.DataFrame({"x": range(4)}, index=pd.MultiIndex.from_product([["b", "a"], [1, 2]], names=["k", None])),
            pd.DataFrame({"x": [1, 2, 3]}, index=pd.MultiIndex.from_arrays([["a", None, "b"], range(3)], names=["x", "x"])),
            pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_arrays([range(2), range(2)])),
            pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_arrays([np.array([1], "i1"), pd.to_datetime(["2026-01-01"])])),
            pd.DataFrame(index=pd.MultiIndex.from_arrays([[1, 2], pd.to_datetime(["2026", "2027"]).tz_localize("UTC")])),
            pd.DataFrame(index=pd.MultiIndex.from_arrays([pd.Categorical(["a"], ["b", "a"], ordered=True), [np.nan]])),
            pd.DataFrame(index=pd.MultiIndex.from_arrays([pd.period_range("2026-01", periods=1), pd.interval_range(0, 1)])),
            pd.DataFrame(np.ones((1, 4)), columns=pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["p", "q"])),
            pd.DataFrame({"g": ["a", "b"], "h": ["x", "y"], "v": [1, 2]}).groupby(["g", "h"]).agg({"v": ["mean", "sum"]}),
            pd.DataFrame({"a": range(3)}, index=pd.date_range("2026", periods=3, freq="2W-TUE", tz="UTC")),
            pd.DataFrame({"a": range(3)}, index=pd.timedelta_range("1D", periods=3)),
            pd.DataFrame({"a": range(3)}, index=pd.period_range("2026-01", periods=3)),
            pd.DataFrame({"a": [1]}, index=pd.date_range("2026-01-31", periods=1, freq=pd.offsets.DateOffset(months=1))),
            pd.DataFrame({"t": pd.to_datetime(["2026-01-01"]).tz_localize("UTC")}),
            pd.DataFrame({"t": pd.to_datetime(["2026-01-01"]).tz_localize(ZoneInfo("UTC"))}),
            pd.DataFrame({"a": [1]}, index=pd.to_datetime(["2026-01-01"]).tz_localize("UTC")),
            pd.DataFrame({"p": pd.period_range("2026-01", periods=1), "i": pd.interval_range(0, 1, closed="left")}),
            pd.DataFrame({"c": pd.Categorical(["b", None], categories=["b", "a"], ordered=True)}),
            pd.DataFrame({"f": np.frombuffer(bytes.fromhex("000000000000f87f0000000000000080"), "f8")}),
            pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}),
            pd.DataFrame(),
            pd.DataFrame(index=[1, 2]),
        ],
        ids=range(29),
    )
    def test_a_frame_of_pandas_comes_back_with_its_indexes_and_zones(self, memory: CheckpointManager, frame: Any) -> None:
        memory.save_checkpoint("train", [frame])
        (back,) = memory.load_checkpoint("train")
        pd.testing.assert_frame_equal(frame, back, check_exact=True, check_index_type="exact", check_freq=len(frame) > 1)
        for one, other in ((frame.index, back.index), (frame.columns, back.columns)):
            assert (type(one), one.dtype, one.names) == (type(other), other.dtype, other.names)
            if one.nlevels > 1:
                assert [each.dtype for each in one.levels] == [each.dtype for each in other.levels]
                assert [type(each) for label in one for each in label] == [type(each) for label in other for each in label]
        for one, other in zip(frame.dtypes, back.dtypes, strict=True):
            assert type(getattr(one, "tz", None)) is type(getattr(other, "tz", None))
        if "f" in frame:
            assert frame["f"].to_numpy().tobytes() == back["f"].to_numpy().tobytes()

    def test_metadata_is_json(self, memory: CheckpointManager) -> None:
        with pytest.raises(PayloadError, match=r"metadata can't be saved: \$\.a is of type numpy\.ndarray"):
            memory.save_checkpoint("train", metadata={"a": SMALL})

    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    def test_without_numpy_the_error_names_it(
        self, memory: CheckpointManager, monkeypatch: pytest.MonkeyPatch, data: Any
    ) -> None:
        memory.save_checkpoint("train", [data])
        monkeypatch.setitem(sys.modules, "numpy", None)
        with pytest.raises(CheckpointError, match="the data needs numpy, which is not installed"):
            memory.load_checkpoint("train")

    def test_frames_of_pandas_need_pyarrow(self, memory: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(PayloadError, match=r"\$\.a needs pyarrow, which is not installed\. pip install pyarrow"):
            memory.save_checkpoint("train", {"a": pd.DataFrame({"a": [1]})})

    def test_json_is_saved_without_loading_what_arrays_need(self, tmp_path: Path) -> None:
        program = (
            "import sys\nfrom checkpoint_manager import CheckpointManager\n"
            f"cm = CheckpointManager({str(tmp_path / 'store')!r}, key=bytes(32))\n"
            "cm.save_checkpoint('train', {'epoch': 3})\ncm.load_checkpoint('train')\n"
            "print([name for name in sys.modules if name.endswith(('.embedded', '.contents', '.attach', 'numpy'))])"
        )
        assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"

    def test_progress_is_told_in_bytes(self, memory: CheckpointManager) -> None:
        told: list[Any] = []
        memory.save_checkpoint("train", {"w": LARGE}, progress=told.append)
        assert [(each.done, each.total, each.unit) for each in told] == [(LARGE.nbytes + 128, LARGE.nbytes + 128, "bytes")]


def optional(name: str) -> Any:
    """Return a module of a package that is too large to be a dependency of the tests."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name.partition('.')[0]} is not installed")
    return importlib.import_module(name)


def _with_attribute(value: Any) -> Any:
    value.note = "bias"
    return value


class TestTensors:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int64", "uint16", "bool", "complex64"])
    def test_come_back(self, memory: CheckpointManager, dtype: str) -> None:
        torch = optional("torch")
        whole = torch.arange(5000).to(getattr(torch, dtype))
        values = [whole, torch.tensor(1).to(whole.dtype), whole[:0].reshape(0, 2), whole.reshape(50, 100)[3:4, 2]]
        data = {"w": values[0].reshape(50, 100).t(), "b": values[1:]}
        memory.save_checkpoint("train", data)
        assert same(memory.load_checkpoint("train"), data)

    def test_are_files_of_safetensors(self, memory: CheckpointManager) -> None:
        torch, safetensors = optional("torch"), optional("safetensors.torch")
        tensor = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
        memory.save_checkpoint("train", attachments={"t": tensor})
        attachment = memory.get_checkpoint("train").attachments["t"]
        assert (attachment.kind, attachment.detail) == ("torch", "2x3 bfloat16")
        assert same(safetensors.load(attachment.read()), {"tensor": tensor})

    def test_what_would_not_come_back_is_refused(self, memory: CheckpointManager) -> None:
        torch = optional("torch")
        plain = torch.zeros(2)
        for data, says in (
            ([torch.nn.Parameter(plain)], r"\$\[0\] is a tensor with a gradient"),
            ([plain.clone().requires_grad_()], "a tensor with a gradient"),
            ([plain.to_sparse()], "sparse"),
            ([_with_attribute(plain.clone())], "a gradient or attributes"),
            ([plain.to(torch.complex128)], "safetensors can't hold"),
            ({plain: 1}, "not as a key or in a set"),
            ([{plain}], r"\$\[0\]\[0\] is of type torch.Tensor"),
        ):
            with pytest.raises(PayloadError, match=says):
                memory.save_checkpoint("train", data)

    def test_are_arguments_and_results_of_stages(self, memory: CheckpointManager) -> None:
        torch = optional("torch")

        @memory.stage
        def doubled(tensor: Any) -> Any:
            return tensor * 2

        for _ in range(2):
            assert doubled(torch.arange(3000.0)).sum() == 3000 * 2999
        assert [each.what for each in memory.run_report().outcomes] == ["ran", "reused"]


class TestOperations:
    def test_a_restore_refers_to_what_is_there(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", {"w": LARGE})
        cm.save_checkpoint("train", {"w": LARGE + 1})
        cm.restore_checkpoint("train", 1)
        assert kept(cm) == 2
        cm.delete_versions("train", [1])
        assert same(cm.load_checkpoint("train"), {"w": LARGE})
        cm.prune(Retention(keep_last=1))
        assert kept(cm) == 1
        cm.delete_stage("train")
        assert kept(cm) == 0

    def test_an_update_gives_and_takes_arrays(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", {"w": LARGE})
        cm.update_checkpoint("train", lambda data: {"w": data["w"] + 1})
        assert same(cm.load_checkpoint("train"), {"w": LARGE + 1})

    @pytest.mark.parametrize("where", ["local", "memory", "sqlite", "postgres", "s3"])
    def test_several_segments_are_written_and_read_under_a_lock(
        self, where: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By threads of their own, in which a backend's session must not wait for itself."""
        monkeypatch.setattr(attachment_format, "SEGMENT_BYTES", 16_384)  # in place of 16 MiB
        places = {"local": str(tmp_path / "store"), "memory": "memory:", "sqlite": f"sqlite:///{tmp_path / 'store.db'}"}
        if where == "postgres":
            places[where] = request.getfixturevalue("postgres_url")
        elif where == "s3":
            places[where] = request.getfixturevalue("s3").url()
        with CheckpointManager(places[where], key=KEY) as cm:
            cm.save_checkpoint("train", {"w": LARGE, "few": SMALL})
            cm.update_checkpoint("train", lambda data: {**data, "w": data["w"] + 1})
            assert same(cm.load_checkpoint("train"), {"w": LARGE + 1, "few": SMALL})
            cm.delete_versions("train", [1])
            assert cm.verify().ok
            assert kept(cm) == 1

    def test_an_update_that_fails_leaves_nothing(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        cm.save_checkpoint("train", {"w": LARGE})
        monkeypatch.setattr(type(cm._store.backend), "append", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cm.update_checkpoint("train", lambda data: {"w": data["w"] + 1})
        assert kept(cm) == 1

    def test_a_rotation_and_a_bundle_take_them_along(self, cm: CheckpointManager, tmp_path: Path) -> None:
        data = {"w": LARGE, "f": pd.DataFrame({"a": range(2000)})}
        cm.save_checkpoint("train", data, attachments={"log": b"x"})
        cm.keys.rotate()
        assert same(cm.load_checkpoint("train"), data)
        cm.export_bundle(tmp_path / "all.bundle", key=KEY)
        there = CheckpointManager(tmp_path / "there", key=KEY)
        there.import_bundle(tmp_path / "all.bundle", key=KEY)
        assert same(there.load_checkpoint("train"), data)
        assert there.verify().ok

    def test_a_difference_is_that_of_the_contents(self, memory: CheckpointManager) -> None:
        memory.save_checkpoint("train", {"first": LARGE[1:], "next": LARGE, "same": LARGE, "small": SMALL})
        memory.save_checkpoint("train", {"first": LARGE[2:], "next": LARGE + 1, "same": LARGE, "small": SMALL + 1})
        diff = memory.diff("train")
        assert [change.where for change in diff.changes] == ["$.first", "$.next", "$.small"]
        first, second, _ = diff.as_text().splitlines()
        assert first == "~ $.first: 4999 float64 of numpy → 4998 float64 of numpy"
        assert re.fullmatch(r"~ \$\.next: 5000 float64 of numpy \(\w{8}…\) → 5000 float64 of numpy \(\w{8}…\)", second)
        assert diff.as_text(redact=True) == (
            "~ $.first: 4999 float64 of numpy → 4998 float64 of numpy\n"
            "~ $.next: 5000 float64 of numpy → 5000 float64 of numpy\n"
            "~ $.small: 3 float64 of numpy → 3 float64 of numpy"
        )
        old, new = (memory.get_json("train", number).data for number in (1, 2))
        assert jsonpatch.apply_patch(old, diff.as_patch()) == new
        assert old["next"] == {"!content": ["numpy", "5000 float64", LARGE.nbytes + 128]} == diff.as_dicts()[1]["new"]

    def test_lost_arrays_are_named_as_such(self, local: CheckpointManager, tmp_path: Path) -> None:
        local.save_checkpoint("train", {"w": LARGE})
        local.save_checkpoint("train", {"w": LARGE + 1})
        for segment in (tmp_path / "local").rglob("*.segment"):
            segment.unlink()
        assert not local.has_checkpoint("train")
        with pytest.raises(IntegrityError, match=r"the arrays in the data of version 2 of stage train .* is missing"):
            local.load_checkpoint("train")
        with pytest.raises(IntegrityError, match=r"the arrays in the data of stage train .* is gone"):
            local.restore_checkpoint("train", 1)
        assert not local.verify(quick=True).ok
        with pytest.raises(IntegrityError, match=r"the arrays in the data of version 1 of stage train .* is missing"):
            local.diff("train")

    def test_forms_that_are_not_valid_are_no_parts(self) -> None:
        """Whoever has the key, or made a bundle, may have written them."""
        bad = ["?", "é", "AAA", -1, 10**18, 5]
        data = {"bad": [{"!content": ["numpy", "", each]} for each in bad], "good": {"!content": ["bytes", "", "AAAA"]}}
        found = parts_of(data, None)
        assert {name: each.read() for name, each in found.items()} == {"/good": bytes(3)}

    def test_data_without_its_attachment_is_refused(self, memory: CheckpointManager) -> None:
        data, embedded, _ = payload.encode([LARGE])
        assert embedded
        with pytest.raises(FormatError, match="not valid"):
            payload.decode(data)

    @pytest.mark.parametrize(
        "json",
        [
            '{"!set":[X]}',
            '{"!frozenset":[7,X]}',
            '{"!set":[{"!tuple":[{"!frozenset":[X]}]}]}',
            '{"!dict":[[X,1]]}',
            '[Y,{"!dict":[[{"!tuple":[1,X]},Y]]}]',
        ],
    )
    def test_an_array_in_a_set_or_key_is_refused_even_if_a_codec_makes_it_hashable(self, json: str) -> None:
        def decode(made: Any) -> Any:
            made = made if isinstance(made, np.ndarray) else np.array(made)
            return made.tobytes()

        codecs = checked([Codec(type("Frozen", (), {}), "frozen", lambda _: None, decode)])
        array = payload.encode([SMALL])[0].decode().removeprefix("values/2\n[").removesuffix("]")
        data = json.replace("X", f'{{"!codec":["frozen",{array}]}}').replace("Y", array)
        assert payload.decode(f"values/2\n[{array},{json.replace('X', '1').replace('Y', '2')}]".encode(), codecs)
        with pytest.raises(FormatError, match=r"the data holds a !content that is not valid"):
            payload.decode(f"values/2\n{data}".encode(), codecs)


class TestStages:
    def test_results_may_be_arrays_and_frames(self, cm: CheckpointManager) -> None:
        @cm.stage
        def rows(count: int) -> pd.DataFrame:
            return pd.DataFrame({"a": range(count)})

        @cm.stage
        def column(frame: pd.DataFrame) -> np.ndarray:
            return frame["a"].to_numpy()

        @cm.stage
        def both(count: int) -> dict[str, np.ndarray | pl.DataFrame]:
            return {"a": np.arange(count), "b": pl.DataFrame({"b": [count]})}

        for _ in range(2):
            assert same(column(rows(3000)), np.arange(3000))
            assert same(both(2000), {"a": np.arange(2000), "b": pl.DataFrame({"b": [2000]})})
        assert [each.what for each in cm.run_report().outcomes] == ["ran"] * 3 + ["reused"] * 3
        assert cm.downstream("rows") == ["column"]
        assert cm.stale_stages() == {}
        cm.clear_checkpoint("rows")
        column(rows(3000))
        assert cm.stale_stages() == {}  # the same data again

    def test_other_contents_make_what_follows_stale(self, memory: CheckpointManager) -> None:
        offset = 0

        @memory.stage
        def rows(count: int) -> np.ndarray:
            return np.arange(count) + offset

        @memory.stage
        def total(array: np.ndarray) -> int:
            return int(array.sum())

        total(rows(3000))
        memory.clear_checkpoint("rows")
        offset = 1
        rows(3000)
        assert [*memory.stale_stages()] == ["total"]

    def test_a_changed_array_is_no_longer_the_result(self, memory: CheckpointManager) -> None:
        @memory.stage
        def rows(count: int) -> np.ndarray:
            return np.arange(count)

        @memory.stage
        def total(array: np.ndarray) -> int:
            return int(array.sum())

        array = rows(3000)
        array[0] = 7
        assert total(array) == 3000 * 2999 // 2 + 7
        assert memory.downstream("rows") == []

    def test_what_encode_makes_may_hold_arrays(self, memory: CheckpointManager) -> None:
        class Model:
            def __init__(self, weights: np.ndarray) -> None:
                self.weights = weights

        @memory.stage(encode=lambda model: {"w": model.weights}, decode=lambda made: Model(made["w"]))
        def fit(count: int) -> Any:
            return Model(np.arange(count))

        for _ in range(2):
            assert same(fit(3000).weights, np.arange(3000))
        assert kept(memory, "fit") == 1

    def test_a_loop_continues_with_the_arrays_between_two_items(self, cm: CheckpointManager) -> None:
        initial = {"w": np.zeros(2000), "few": np.zeros(2)}
        seen: list[int] = []

        def run(fails_at: int | None = None) -> Any:
            with cm.loop("sum", range(5), initial=initial, every_items=1) as loop:
                for number in loop:
                    seen.append(number)
                    loop.state["w"] += number
                    loop.state["few"] += number
                    if number == fails_at:
                        raise KeyError  # in the middle of an item, whose change must not be there
            return loop

        with pytest.raises(KeyError):
            run(fails_at=3)
        assert initial["w"].sum() == 0
        assert [each.status for each in cm.history("sum")] == ["progress"] * 3
        loop = run()
        assert seen == [0, 1, 2, 3, 3, 4]
        assert same(loop.result, {"w": np.full(2000, 10.0), "few": np.full(2, 10.0)})
        assert same(cm.load_checkpoint("sum"), loop.result)
        assert kept(cm, "sum") == 1
        again = run()
        assert again.reused
        assert same(again.result, loop.result)

    def test_the_last_copy_of_a_loops_arrays_is_saved(self, memory: CheckpointManager) -> None:
        def run() -> None:
            with memory.loop("sum", range(5), initial=np.zeros(2000), every_seconds=3600) as loop:
                for number in loop:
                    loop.state += number
                    loop.save()
                    if number == 2:
                        raise KeyError

        with pytest.raises(KeyError):
            run()
        assert same(memory.load_checkpoint("sum", 2), np.full(2000, 1.0))
