"""Attachments: contents of any length come back as they were, and live as long as a version refers to them."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager import (
    ArgumentError,
    AttachmentNotFoundError,
    CheckpointError,
    CheckpointManager,
    FormatError,
    IntegrityError,
    PayloadError,
    Retention,
    StorageError,
    VersionConflictError,
)
from checkpoint_manager._format import attachment as attachment_format
from checkpoint_manager._format import checkpoint_file
from checkpoint_manager._format.attachment import SEGMENT_BYTES
from checkpoint_manager._operations.attach import attached
from checkpoint_manager._operations.save import draft, save

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(32)
_NAMES = st.text(min_size=1, max_size=255).filter(lambda name: name[0] != "@")


@pytest.fixture(params=["local", "memory", "sqlite", "postgres"])
def cm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointManager]:
    places = {"local": tmp_path / "store", "memory": "memory:", "sqlite": f"sqlite:///{tmp_path / 'store.db'}"}
    place = request.getfixturevalue("postgres_url") if request.param == "postgres" else places[request.param]
    with CheckpointManager(place, key=KEY) as cm:
        yield cm


@pytest.fixture
def local(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "local", key=KEY)


def kept(cm: CheckpointManager, stage: str = "train") -> int:
    """Return how many attachments a stage has, whoever refers to them."""
    return len(cm._store.backend.attachments(stage))


class TestContents:
    @pytest.mark.parametrize(
        "size", [0, 1, 16_384, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, 2 * SEGMENT_BYTES + 7]
    )
    def test_bytes_of_any_length_come_back(self, size: int) -> None:
        content = os.urandom(size)
        cm = CheckpointManager("memory:", key=KEY)
        version = cm.save_checkpoint("train", {"epoch": 1}, attachments={"raw": content})
        assert [(each.name, each.kind, each.size) for each in version.attachments] == [("raw", "bytes", size)]
        found = cm.get_checkpoint("train")
        assert found.data == {"epoch": 1}
        assert found.attachments["raw"].load() == content == found.attachments["raw"].read()
        with found.attachments["raw"].open() as file:
            assert file.read() == content
        assert cm.verify().ok

    def test_each_backend_keeps_them(self, cm: CheckpointManager, tmp_path: Path) -> None:
        (tmp_path / "run.log").write_bytes(b"a line\n" * 400_000)
        contents = {
            "log": tmp_path / "run.log",
            "open": io.BytesIO(b"of a file"),
            "raw": memoryview(b"raw"),
            "é \n": bytearray(b"x"),
        }
        cm.save_checkpoint("train", attachments=contents)
        found = cm.get_checkpoint("train").attachments
        assert list(found) == ["log", "open", "raw", "é \n"]
        assert [each.kind for each in found.values()] == ["file", "file", "bytes", "bytes"]
        assert found["log"].load() == b"a line\n" * 400_000
        assert [found[name].load() for name in ("open", "raw", "é \n")] == [b"of a file", b"raw", b"x"]
        assert cm.has_checkpoint("train")
        assert cm.verify().ok

    def test_a_file_can_be_read_from_anywhere(self) -> None:
        content = os.urandom(SEGMENT_BYTES + 1000)
        cm = CheckpointManager("memory:", key=KEY)
        cm.save_checkpoint("train", attachments={"raw": content})
        with cm.get_checkpoint("train").attachments["raw"].open() as file:
            assert file.readable()
            assert file.seekable()
            for place in (0, 5, SEGMENT_BYTES - 3, SEGMENT_BYTES, len(content) - 1, len(content), len(content) + 5):
                assert file.seek(place) == place
                assert file.read(10) == content[place : place + 10]
            assert file.seek(-4, os.SEEK_END) == len(content) - 4
            assert file.read() == content[-4:]
            file.seek(2)
            file.seek(3, os.SEEK_CUR)
            assert file.read(2) == content[5:7]
            with pytest.raises(ValueError, match="negative"):
                file.seek(-1)

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(12).reshape(3, 4),
            np.asfortranarray(np.arange(12.0).reshape(3, 4)),
            np.arange(24)[::2].reshape(3, 4),
            np.array(3.5),
            np.zeros((0, 3)),
            np.array(["a", "längeres"]),
            np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
            np.array(["2026-01-01"], dtype="datetime64[D]"),
            np.arange(3, dtype=">i2"),
            np.ones(3_000_000, dtype=np.float64),
            np.array([True, False]),
            np.array([1 + 2j]),
        ],
        ids=lambda array: f"{array.dtype}-{array.shape}",
    )
    def test_arrays_come_back(self, array: np.ndarray) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        cm.save_checkpoint("train", attachments={"a": array})
        back = cm.get_checkpoint("train").attachments["a"].load()
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert (back == array).all()
        assert back.flags.writeable

    @pytest.mark.parametrize(
        "frame",
        [
            pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 2.0], "c": ["x", None, "längeres"]}),
            pd.DataFrame(
                {"t": pd.date_range("2026-01-01", periods=3, tz="Europe/Berlin"), "d": pd.to_timedelta([1, 2, 3], "s")}
            ),
            pd.DataFrame({"k": pd.Categorical(["a", "b", "a"], ordered=True)}, index=pd.Index([3, 1, 2], name="id")),
            pd.DataFrame({"i": pd.array([1, None, 3], dtype="Int64"), "f": np.array([1, 2, 3], dtype="float32")}),
            pd.DataFrame({"a": []}, dtype="int64"),
            pd.DataFrame({"n": np.arange(250_000)}),
            pd.DataFrame({"a": [True, False]}, index=pd.date_range("2026-01-01", periods=2, name="day")),
        ],
        ids=lambda frame: "-".join(map(str, frame.dtypes)),
    )
    def test_frames_of_pandas_come_back(self, frame: pd.DataFrame) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        (info,) = cm.save_checkpoint("train", attachments={"f": frame}).attachments
        assert (info.kind, info.detail) == ("pandas", f"{len(frame)} rows, {len(frame.columns)} columns")
        pd.testing.assert_frame_equal(cm.get_checkpoint("train").attachments["f"].load(), frame, check_freq=False)

    @pytest.mark.parametrize(
        "frame",
        [
            pl.DataFrame({"a": [1, None, 3], "b": ["x", None, "längeres"], "c": [[1], [], [2, 3]]}),
            pl.DataFrame(
                {"k": pl.Series(["a", "b"], dtype=pl.Categorical), "e": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"]))}
            ),
            pl.DataFrame(
                {"t": pl.Series([1, 2]).cast(pl.Datetime("us", "Europe/Berlin")), "d": pl.Series([1, 2]).cast(pl.Int8)}
            ),
            pl.DataFrame({"s": [{"x": 1, "y": "a"}, {"x": 2, "y": None}]}),
            pl.DataFrame(),
        ],
        ids=lambda frame: "-".join(frame.columns),
    )
    def test_frames_of_polars_come_back(self, frame: pl.DataFrame) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        (info,) = cm.save_checkpoint("train", attachments={"f": frame}).attachments
        assert info.kind == "polars"
        back = cm.get_checkpoint("train").attachments["f"].load()
        assert back.schema == frame.schema
        assert back.equals(frame)

    @pytest.mark.parametrize(
        ("frame", "told"),
        [
            (pd.DataFrame({"a": [1, "x"]}), "column a is of objects"),
            (pd.DataFrame({"a": [(1, 2)]}), "column a is of objects"),
            (pd.DataFrame([[1, 2]], columns=["a", "a"]), "same name"),
            (pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, 2), (1, None)])), "index"),
            (pd.DataFrame({"a": [1 + 2j]}), "Arrow can't hold"),
            (pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}), "objects"),
            (pd.Series([1]), "Series"),
            (pl.Series([1]), "Series"),
            (np.float64(1), "float64"),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_a_frame_that_would_not_come_back_is_refused(self, frame: object, told: str) -> None:
        with pytest.raises(PayloadError, match=told):
            CheckpointManager("memory:", key=KEY).save_checkpoint("train", attachments={"f": frame})

    @pytest.mark.parametrize("kind", ["pandas", "polars"])
    @pytest.mark.parametrize("content", [b"", b"nonsense" * 100, b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 9])
    def test_what_is_not_a_frame_is_an_error(self, kind: str, content: bytes) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        cm.save_checkpoint("train", attachments={"f": content})
        attachment = cm.get_checkpoint("train").attachments["f"]
        attachment.kind = kind
        with pytest.raises(FormatError, match="can't be read"):
            attachment.load()

    def test_a_damaged_frame_is_damaged_and_not_of_another_form(self, local: CheckpointManager, tmp_path: Path) -> None:
        local.save_checkpoint("train", attachments={"f": pd.DataFrame({"a": [1]})})
        (segment,) = (tmp_path / "local").rglob("*.segment")
        whole = segment.read_bytes()
        segment.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IntegrityError):
            local.get_checkpoint("train").attachments["f"].load()

    def test_an_array_says_what_it_is(self) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        (info,) = cm.save_checkpoint("train", attachments={"a": np.zeros((2, 3))}).attachments
        assert (info.kind, info.detail) == ("numpy", "2x3 float64")
        assert repr(cm.get_checkpoint("train").attachments["a"]) == (
            "Attachment(name='a', kind='numpy', size=176, detail='2x3 float64')"
        )

    @given(st.dictionaries(_NAMES, st.tuples(st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=3))
    def test_whatever_is_attached_is_read(self, wanted: dict[str, tuple[int, int]]) -> None:
        """Arrays of many fields among them: the text that says their type is longer than what may be written."""
        arrays = {
            name: np.zeros(2, [(f"{'é' * length}{number}", "i1") for number in range(count)])
            for name, (count, length) in wanted.items()
        }
        cm = CheckpointManager("memory:", key=KEY)
        version = cm.save_checkpoint("train", 1, attachments=arrays)
        assert [each.name for each in version.attachments] == [*arrays]
        assert all(len(each.detail) <= 200 for each in version.attachments)
        found = cm.get_checkpoint("train")
        assert {name: each.load().dtype for name, each in found.attachments.items()} == {
            name: array.dtype for name, array in arrays.items()
        }
        assert found.version.metadata == {}

    def test_a_text_for_people_that_was_once_written_at_full_length_loses_nothing(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attachment_format, "shortened", lambda detail: detail)
        fields = np.dtype([(f"a_long_name_of_field_{number}", "f8") for number in range(30)])
        cm.save_checkpoint("train", {"a": np.zeros(300, fields)}, attachments={"w": b"weights", "s": np.zeros(3, fields)})
        monkeypatch.undo()
        assert cm.repair() == []
        cm.keys.rotate()
        cm.restore_checkpoint("train", 1)
        for number in (1, 2):
            found = cm.get_checkpoint("train", number)
            assert (found.attachments["w"].load(), found.data["a"].dtype) == (b"weights", fields)
            assert len(found.attachments["s"].detail) > 200
            assert found.version.metadata == {}

    def test_a_version_whose_attachments_can_not_be_told_loses_none(self, local: CheckpointManager) -> None:
        """They may be of a newer format: nothing is removed as unused, and no key is shown."""
        local.save_checkpoint("train", 1, attachments={"w": b"weights"})
        entry, data = local._store.load("train", 1)
        written = checkpoint_file.encode_entry(entry).replace(b'"kind":"bytes"', b'"kind":"BYTES"')
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint_file, "encode_entry", lambda _: written)
            local._store.replace("train", 1, entry, data)
        with pytest.raises(IntegrityError, match="not of this format"):
            local.get_version("train", 1)
        local.repair()
        assert kept(local) == 1

    def test_a_record_that_would_not_be_read_is_not_written(self, local: CheckpointManager) -> None:
        local.save_checkpoint("train", 1, attachments={"w": b"weights"})
        (record,) = local._store.entry("train", 1).attachments
        with pytest.raises(ValueError, match="not of this format"):
            attachment_format.encode_records([record._replace(kind="BYTES")])

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("text", "str"),
            (np.array([object()]), "objects"),
            (np.ma.array([1]), "MaskedArray"),
            (3, "int"),
            (io.StringIO("text"), "not bytes"),
            (Path("/"), "directory"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_can_not_be_attached_is_refused_and_leaves_nothing(
        self, cm: CheckpointManager, content: object, told: str
    ) -> None:
        with pytest.raises(PayloadError, match=told):
            cm.save_checkpoint("train", attachments={"good": b"x", "bad": content})
        assert cm.history("train") == []
        assert kept(cm) == 0

    @pytest.mark.parametrize("name", ["", 3, "x" * 256, "\ud800", "@mine"])
    def test_a_name_that_is_none_is_refused(self, name: object) -> None:
        with pytest.raises(PayloadError, match="name"):
            CheckpointManager("memory:", key=KEY).save_checkpoint("train", attachments={name: b""})  # type: ignore[dict-item]

    def test_what_is_no_dict_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="attachments"):
            CheckpointManager("memory:", key=KEY).save_checkpoint("train", attachments=[b""])  # type: ignore[arg-type]

    def test_too_many_are_refused(self) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        with pytest.raises(PayloadError, match="1001"):
            cm.save_checkpoint("train", attachments={str(number): b"" for number in range(1001)})
        with pytest.raises(PayloadError, match="too many"):
            cm.save_checkpoint("train", attachments={f"{number:0255}": b"" for number in range(1000)})
        with pytest.raises(PayloadError, match="too many"):  # each character is six in JSON
            cm.save_checkpoint(
                "train", metadata={"a": "x" * 500_000}, attachments={"\1" * 250 + str(number): b"" for number in range(320)}
            )
        assert kept(cm) == 0

    @pytest.mark.parametrize("told", ["became shorter", "became longer", "was replaced"])
    @pytest.mark.parametrize("segments", [0, 1])
    def test_a_file_that_changes_while_it_is_read_is_refused(
        self, local: CheckpointManager, tmp_path: Path, told: str, segments: int
    ) -> None:
        path, size = tmp_path / "changing", segments * SEGMENT_BYTES + 100
        path.write_bytes(bytes(size))
        changes = {
            "became shorter": lambda: os.truncate(path, size - 1),
            "became longer": lambda: os.truncate(path, size + 1),
            "was replaced": lambda: shutil.copy(path, tmp_path / "new").rename(path),
        }

        class Changing(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if not self.tell():
                    changes[told]()
                return super().read(size)

        with pytest.raises(PayloadError, match=f"attachment second of stage train {told}"):
            local.save_checkpoint("train", attachments={"first": Changing(b"x"), "second": path})
        assert (kept(local), local.history("train")) == (0, [])

    def test_a_file_whose_length_the_system_does_not_say(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", attachments={"status": Path("/proc/self/status")})
        assert b"Pid:" in cm.get_checkpoint("train").attachments["status"].read()

    @pytest.mark.skipif(sys.platform != "linux", reason="has no such file")
    def test_a_file_that_is_shorter_than_the_system_says_is_refused(self, local: CheckpointManager) -> None:
        with pytest.raises(PayloadError, match="became shorter"):
            local.save_checkpoint("train", attachments={"cores": Path("/sys/devices/system/cpu/online")})
        assert local.history("train") == []

    def test_a_file_that_is_not_there_is_the_systems_error(self, cm: CheckpointManager, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="gone"):
            cm.save_checkpoint("train", attachments={"log": tmp_path / "gone"})
        assert cm.history("train") == []

    def test_a_file_of_several_segments_comes_back(self, local: CheckpointManager, tmp_path: Path) -> None:
        content = os.urandom(1000) * (SEGMENT_BYTES // 1000 + 1)
        (tmp_path / "run.log").write_bytes(content)
        local.save_checkpoint("train", attachments={"log": tmp_path / "run.log"})
        found = local.get_checkpoint("train").attachments["log"]
        assert found.read() == content
        found.save_to(tmp_path / "restored.log")
        assert (tmp_path / "restored.log").read_bytes() == content

    def test_a_name_that_none_has_is_an_error_that_names_those_that_there_are(self, local: CheckpointManager) -> None:
        local.save_checkpoint("train", [np.arange(10_000)], attachments={"log": b"1", "raw": b"2"})
        local.save_checkpoint("train", 1)
        told = "version 1 of stage train has no attachment y. Choose one that it has: "
        for found, there in ((local.get_checkpoint("train", 1), "log, raw"), (local.get_json("train", 1), "/0, log, raw")):
            with pytest.raises(AttachmentNotFoundError, match=f"^{told}{there}$"):
                found.attachments["y"]
            assert (found.attachments.get("y"), "y" in found.attachments) == (None, False)
        with pytest.raises(KeyError, match=r"version 2 .* this one has none"):
            local.get_checkpoint("train").attachments["y"]

    def test_progress_is_told_in_bytes(self, cm: CheckpointManager) -> None:
        told: list[tuple[int, int, str]] = []
        contents = {"small": bytes(5), "unknown": io.BytesIO(bytes(7)), "large": bytes(SEGMENT_BYTES + 1)}
        cm.save_checkpoint("train", attachments=contents, progress=lambda p: told.append((p.done, p.total, p.unit)))
        total = SEGMENT_BYTES + 6
        assert told[0] == (5, total, "bytes")
        assert told[-1] == (total + 7, total + 7, "bytes")

    def test_a_quick_verification_only_looks(self, local: CheckpointManager, tmp_path: Path) -> None:
        local.save_checkpoint("train", attachments={"w": bytes(100)})
        (segment,) = (tmp_path / "local").rglob("*.segment")
        segment.write_bytes(bytes(segment.stat().st_size))
        assert local.verify(quick=True).ok
        assert [each.state for each in local.verify().problems] == ["incomplete"]
        segment.unlink()
        assert [each.state for each in local.verify(quick=True).problems] == ["incomplete"]

    def test_the_size_of_a_version_counts_them(self, cm: CheckpointManager) -> None:
        version = cm.save_checkpoint("train", 1, attachments={"w": bytes(100)})
        assert (version.size, version.total_size) == (1, 101)

    def test_an_error_of_the_source_is_the_callers_and_leaves_nothing(self, cm: CheckpointManager) -> None:
        class Source(io.BytesIO):
            def read(self, _: int | None = -1) -> bytes:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            cm.save_checkpoint("train", attachments={"first": b"x", "second": Source()})
        assert (kept(cm), cm.history("train")) == (0, [])

    def test_an_unknown_kind_can_still_be_read(self) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        cm.save_checkpoint("train", attachments={"a": b"content"})
        attachment = cm.get_checkpoint("train").attachments["a"]
        attachment.kind = "arrow"
        with pytest.raises(FormatError, match="arrow"):
            attachment.load()
        assert attachment.read() == b"content"

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x09\x00....", b"nonsense" * 100])
    def test_what_is_not_an_array_is_an_error(self, content: bytes) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        cm.save_checkpoint("train", attachments={"a": content})
        attachment = cm.get_checkpoint("train").attachments["a"]
        attachment.kind = "numpy"
        with pytest.raises(FormatError, match="can't be read as one of numpy"):
            attachment.load()

    def test_pickled_objects_are_never_loaded(self) -> None:
        header = io.BytesIO()
        np.lib.format.write_array(header, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        cm = CheckpointManager("memory:", key=KEY)
        cm.save_checkpoint("train", attachments={"a": header.getvalue()})
        attachment = cm.get_checkpoint("train").attachments["a"]
        attachment.kind = "numpy"
        with pytest.raises(FormatError, match="objects"):
            attachment.load()

    def test_without_numpy_the_error_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        cm.save_checkpoint("train", attachments={"a": np.zeros(3)})
        attachment = cm.get_checkpoint("train").attachments["a"]
        monkeypatch.setitem(sys.modules, "numpy", None)
        with pytest.raises(CheckpointError, match="needs numpy, which is not installed"):
            attachment.load()


class TestSaving:
    def test_to_a_file_that_appears_whole_and_private(self, cm: CheckpointManager, tmp_path: Path) -> None:
        cm.save_checkpoint("train", attachments={"log": b"content"})
        attachment = cm.get_checkpoint("train").attachments["log"]
        attachment.save_to(tmp_path / "restored.log")
        assert (tmp_path / "restored.log").read_bytes() == b"content"
        assert stat.S_IMODE((tmp_path / "restored.log").stat().st_mode) == 0o600
        with pytest.raises(StorageError, match="exists already"):
            attachment.save_to(tmp_path / "restored.log")
        (tmp_path / "restored.log").write_bytes(b"older and longer")
        attachment.save_to(tmp_path / "restored.log", overwrite=True)
        assert (tmp_path / "restored.log").read_bytes() == b"content"

    def test_to_a_file_that_is_durable(self, local: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        local.save_checkpoint("train", attachments={"log": b"content"})
        found, synced = local.get_checkpoint("train").attachments["log"], list[int]()
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
        found.save_to(tmp_path / "restored.log")
        assert synced == [(tmp_path / "restored.log").stat().st_ino, tmp_path.stat().st_ino]

    def test_an_error_of_the_system_while_it_is_written_is_of_the_file(self, local: CheckpointManager, tmp_path: Path) -> None:
        local.save_checkpoint("train", attachments={"log": bytes(SEGMENT_BYTES + 5)})
        found = local.get_checkpoint("train").attachments["log"]
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT_BYTES + 1, limits[1]))
            with pytest.raises(StorageError, match=r"can't save the attachment log to: .*/restored\.log: File too large"):
                found.save_to(tmp_path / "restored.log")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.suffix == ".log"]

    def test_a_damaged_content_leaves_no_file(self, local: CheckpointManager, tmp_path: Path) -> None:
        local.save_checkpoint("train", attachments={"log": b"content"})
        (segment,) = (tmp_path / "local").rglob("*.segment")
        segment.write_bytes(b"x" * segment.stat().st_size)
        with pytest.raises(IntegrityError):
            local.get_checkpoint("train").attachments["log"].save_to(tmp_path / "restored.log")
        assert list(tmp_path.glob("*.log")) == list(tmp_path.glob(".*")) == []

    def test_to_a_directory_that_is_not_there(self, cm: CheckpointManager, tmp_path: Path) -> None:
        cm.save_checkpoint("train", attachments={"log": b"content"})
        with pytest.raises(StorageError):
            cm.get_checkpoint("train").attachments["log"].save_to(tmp_path / "gone" / "restored.log")


class TestLife:
    def test_a_restore_refers_to_what_is_there(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 1, attachments={"w": b"first"})
        cm.save_checkpoint("train", 2, attachments={"w": b"second"})
        assert cm.restore_checkpoint("train", 1).attachments[0].name == "w"
        assert cm.get_checkpoint("train").attachments["w"].load() == b"first"
        assert kept(cm) == 2
        cm.delete_versions("train", [1])
        assert cm.get_checkpoint("train").attachments["w"].load() == b"first"
        assert cm.verify().ok

    def test_an_attachment_of_the_stage_is_not_copied(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 1, attachments={"w": b"same"})
        cm.save_checkpoint("train", 2, attachments={"again": cm.get_checkpoint("train").attachments["w"]})
        assert cm.get_checkpoint("train").attachments["again"].load() == b"same"
        assert kept(cm) == 1

    def test_an_attachment_of_another_stage_is_copied(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 1, attachments={"w": np.arange(5)})
        cm.save_checkpoint("test", 2, attachments={"w": cm.get_checkpoint("train").attachments["w"]})
        assert (cm.get_checkpoint("test").attachments["w"].load() == np.arange(5)).all()
        assert (kept(cm, "train"), kept(cm, "test")) == (1, 1)

    def test_one_that_was_deleted_meanwhile_can_not_be_referred_to(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 1, attachments={"w": b"gone"})
        old = cm.get_checkpoint("train").attachments["w"]
        cm.save_checkpoint("train", 2)
        cm.delete_versions("train", [1])
        with pytest.raises(IntegrityError, match="gone"):
            cm.save_checkpoint("train", 3, attachments={"w": old})
        assert cm.history("train")[0].number == 2

    def test_deleting_pruning_and_retention_remove_what_nobody_refers_to(self, cm: CheckpointManager) -> None:
        for number in range(4):
            cm.save_checkpoint("train", number, attachments={"w": b"%d" % number})
        cm.delete_versions("train", [1])
        assert kept(cm) == 3
        cm.prune(Retention(keep_last=1))
        assert kept(cm) == 1
        assert cm.get_checkpoint("train").attachments["w"].load() == b"3"
        cm.delete_stage("train")
        assert kept(cm) == 0
        assert cm.verify().ok

    def test_retention_after_a_save(self, tmp_path: Path) -> None:
        cm = CheckpointManager(tmp_path / "store", key=KEY, retention=Retention(keep_last=2))
        for number in range(20):
            cm.save_checkpoint("train", number, attachments={"w": b"%d" % number})
        assert kept(cm) == len(cm.history("train")) < 20
        assert cm.verify().ok

    def test_nothing_is_removed_while_a_version_can_not_be_read(self, local: CheckpointManager, tmp_path: Path) -> None:
        for number in range(3):
            local.save_checkpoint("train", number, attachments={"w": b"%d" % number})
        path = tmp_path / "local" / "history" / "train" / "000000000002.checkpoint"
        whole = path.read_bytes()
        path.write_bytes(b"damaged")
        local.delete_versions("train", [1])
        assert kept(local) == 3
        path.write_bytes(whole)
        assert [each.state for each in local.verify().problems] == ["leftover"]
        assert [step.action for step in local.repair(dry_run=True)] == ["remove"]
        assert kept(local) == 3
        local.repair()
        assert kept(local) == 2
        assert local.verify().ok

    def test_a_rotation_leaves_the_contents_as_they_are(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 1, attachments={"w": b"content"})
        before = cm._store.backend.attachments("train")
        cm.keys.rotate()
        assert cm._store.backend.attachments("train") == before
        assert cm.get_checkpoint("train").attachments["w"].load() == b"content"
        assert cm.verify().ok

    def test_a_save_that_conflicts_leaves_nothing(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 1)
        with pytest.raises(VersionConflictError):
            cm.save_checkpoint("train", 2, expected_version=0, attachments={"w": b"content"})
        assert kept(cm) == 0

    def test_what_is_being_written_is_left_alone(self, cm: CheckpointManager) -> None:
        """A repair meets an attachment that no version refers to yet."""
        steps: list[object] = []

        class Source(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if not steps:
                    worker = threading.Thread(target=lambda: steps.append(cm.repair()))
                    worker.start()
                    worker.join()
                return super().read(size)

        cm.save_checkpoint("train", 0)
        cm.save_checkpoint("train", 1, attachments={"first": b"first", "second": Source(b"second")})
        assert steps == [[]]
        assert cm.get_checkpoint("train").attachments["first"].load() == b"first"

    def test_has_checkpoint_looks_whether_they_are_there(self, local: CheckpointManager, tmp_path: Path) -> None:
        local.save_checkpoint("train", 1, attachments={"w": bytes(100)})
        (segment,) = (tmp_path / "local").rglob("*.segment")
        whole = segment.read_bytes()
        assert local.has_checkpoint("train")
        segment.write_bytes(whole[:-1])
        assert not local.has_checkpoint("train")
        segment.unlink()
        assert not local.has_checkpoint("train")
        segment.write_bytes(whole)
        assert local.has_checkpoint("train")

    def test_a_bundle_takes_them_along(self, cm: CheckpointManager, tmp_path: Path) -> None:
        large = os.urandom(SEGMENT_BYTES + 5)
        cm.save_checkpoint("train", 1, attachments={"w": large, "v": b"v"})
        cm.save_checkpoint("train", 2, attachments={"again": cm.get_checkpoint("train").attachments["w"]})
        cm.export_bundle(tmp_path / "bundle", key=KEY)
        other = CheckpointManager(tmp_path / "other", key=KEY)
        other.import_bundle(tmp_path / "bundle", key=KEY, rename={"train": "renamed"})
        assert kept(other, "renamed") == 2
        assert other.get_checkpoint("renamed").attachments["again"].load() == large
        assert other.verify().ok
        cm.save_checkpoint("train", 3, attachments={"w": cm.get_checkpoint("train", 1).attachments["w"], "new": b"new"})
        cm.export_bundle(tmp_path / "bundle", key=KEY, overwrite=True)
        other.import_bundle(tmp_path / "bundle", key=KEY, rename={"train": "renamed"})
        assert kept(other, "renamed") == 3
        assert {name: each.load() for name, each in other.get_checkpoint("renamed").attachments.items()} == {
            "w": large,
            "new": b"new",
        }
        assert other.verify().ok

    def test_a_copy_of_a_store_has_them(self, cm: CheckpointManager, tmp_path: Path) -> None:
        cm.save_checkpoint("train", 1, attachments={"w": b"content"})
        cm.copy_to(tmp_path / "copy", key=KEY)
        copy = CheckpointManager(tmp_path / "copy", key=KEY)
        assert copy.get_checkpoint("train").attachments["w"].load() == b"content"
        assert copy.verify().ok

    def test_an_export_of_a_damaged_one_leaves_no_file(self, local: CheckpointManager, tmp_path: Path) -> None:
        local.save_checkpoint("train", attachments={"log": b"content"})
        (segment,) = (tmp_path / "local").rglob("*.segment")
        segment.unlink()
        with pytest.raises(IntegrityError):
            local.export_bundle(tmp_path / "bundle", key=KEY)
        assert not (tmp_path / "bundle").exists()


KILLED = """
    import os, signal, sys
    from checkpoint_manager import CheckpointManager
    class Source:
        def __init__(self): self.left = 60  # of 1 MiB: the first segment is written when the third is complete
        def read(self, size):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            return bytes(size)
    cm = CheckpointManager(sys.argv[1], key=bytes(32))
    cm.save_checkpoint("train", 2, attachments={"w": Source()})
"""


@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
def test_what_a_killed_writer_left_is_reported_and_removed(scheme: str, tmp_path: Path) -> None:
    place = f"{scheme}{tmp_path / 'store'}"
    with CheckpointManager(place, key=KEY) as cm:
        cm.save_checkpoint("train", 1, attachments={"w": b"content"})
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), place], check=False)
        assert done.returncode == -signal.SIGKILL
        assert [version.number for version in cm.history("train")] == [1]
        assert {each.state for each in cm.verify().problems} == {"leftover"}
        cm.repair()
        assert kept(cm) == 1
        assert cm.verify().ok


def test_what_was_left_by_a_writer_that_was_killed_in_the_first_save_is_removed_by_the_next(tmp_path: Path) -> None:
    """What is under way in another process stays."""
    place = str(tmp_path / "store")
    subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), place], check=False)
    with CheckpointManager(place, key=KEY) as other, CheckpointManager(place, key=KEY) as cm:
        assert kept(cm) == 1
        with attached(other._store, "train", draft("train", 1, None), {"w": b"under way"}) as whole:
            cm.save_checkpoint("train", 2, attachments={"w": b"content"})
            assert kept(cm) == 2
            save(other._store, "train", whole)
        found = [cm.get_checkpoint("train", number).attachments["w"].load() for number in (1, 2)]
        assert found == [b"content", b"under way"]


def test_memory_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    """200 MB through a process that has 64 MB more than the empty one."""
    program = f"""
        import resource
        from checkpoint_manager import CheckpointManager
        class Source:
            left = 200_000_000
            def read(self, size):
                size = min(size, self.left)
                self.left -= size
                return bytes(size)
        cm = CheckpointManager({str(tmp_path / "store")!r}, key=bytes(32))
        cm.save_checkpoint("train", attachments={{"w": b"first"}})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cm.save_checkpoint("train", attachments={{"w": Source()}})
        cm.get_checkpoint("train").attachments["w"].save_to({str(tmp_path / "out")!r})
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 64
    assert (tmp_path / "out").stat().st_size == 200_000_000


def test_many_files_take_few_descriptors(tmp_path: Path) -> None:
    program = f"""
        import resource
        from pathlib import Path
        from checkpoint_manager import CheckpointManager
        path = Path({str(tmp_path / "small")!r})
        path.write_bytes(b"content")
        cm = CheckpointManager({str(tmp_path / "store")!r}, key=bytes(32))
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        cm.save_checkpoint("train", attachments={{str(number): path for number in range(100)}})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    found = CheckpointManager(tmp_path / "store", key=KEY).get_checkpoint("train").attachments
    assert {each.read() for each in found.values()} == {b"content"}
    assert len(found) == 100
