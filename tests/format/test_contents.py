"""Contents that no library wrote: refused as such, before memory is taken for what they claim."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from checkpoint_manager import CheckpointManager, FormatError, PayloadError
from checkpoint_manager._format import contents
from checkpoint_manager._format.arrow_stream import StreamCheck

HUGE = 2**37


def array(header: str, elements: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a ``.npy`` with a header."""
    length = len(header) if length is None else length
    return b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + header.encode() + elements


def array_of(descr: object, shape: object, elements: bytes = b"") -> bytes:
    return array(str({"descr": descr, "fortran_order": False, "shape": shape}), elements)


def tensor(header: str, elements: bytes = b"") -> bytes:
    """Return a file of safetensors with a header."""
    return len(header).to_bytes(8, "little") + header.encode() + elements


def tensor_of(dtype: object, shape: object, end: object, elements: bytes = b"") -> bytes:
    return tensor(json.dumps({"tensor": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}), elements)


def frame(notes: str) -> bytes:
    """Return a frame with notes of ours."""
    table = pa.Table.from_pandas(pd.DataFrame({"a": [1]}))
    table = table.replace_schema_metadata({**table.schema.metadata, b"checkpoint-manager": notes.encode()})
    written = io.BytesIO()
    with pa.ipc.new_stream(written, table.schema) as stream:
        stream.write_table(table)
    return written.getvalue()


@pytest.fixture
def small_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for a torch without the newer types, which is too large for the tests: a header is refused before it is used."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(uint8=SimpleNamespace(itemsize=1)))


def refused(kind: str, content: bytes) -> str:
    """Return why a content is refused: one in memory, and one in a file that gives no more than what is asked."""
    messages = set()
    for file in (io.BytesIO(content), io.BufferedReader(io.BytesIO(content))):  # type: ignore[arg-type]
        with pytest.raises(FormatError, match="the data can't be read as one of") as caught:
            contents.value_of(kind, file, "the data")
        messages.add(caught.value.message)
    (message,) = messages
    return message


class TestWhatNoLibraryWrote:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x93NUMPY\x09\x00",
            array("(" * 4),
            array("[" * 5000),
            array("-" * 9000 + "1"),
            array("-" * 900_000 + "1"),
            array("1" + "+1" * 4900),
            array_of((), (1,)),
            array_of("<f8", (-1, -1), bytes(8)),
            array_of("|O", (1,), bytes(8)),
            array("{}", length=2**32 - 1),
        ],
        ids=range(11),
    )
    def test_an_array(self, content: bytes) -> None:
        refused("numpy", content)

    @pytest.mark.usefixtures("small_torch")
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            tensor("[" * 900_000),
            tensor("[]"),
            tensor(" " * 1_000_001),
            tensor_of("U8", [-1, -8], 8, bytes(8)),
            tensor_of("U8", [2.0], 2, bytes(2)),
            tensor_of("U8", [True], 1, bytes(1)),
            tensor_of("U8", 1, 1, bytes(1)),
            tensor_of("U8", {}, 1, bytes(1)),
            tensor_of("F8_E4M3", [1], 1, bytes(1)),
            tensor_of([], [1], 1, bytes(1)),
            tensor_of("U8", [1], 2, bytes(1)),
        ],
        ids=range(12),
    )
    def test_a_tensor(self, content: bytes) -> None:
        refused("torch", content)

    @pytest.mark.parametrize("notes", ['{"columns":null,"utc":[99]}', "[" * 100_000, "[]", '{"utc":[0],"columns":null}'])
    def test_a_frame_with_other_notes(self, notes: str) -> None:
        refused("pandas", frame(notes))

    @pytest.mark.parametrize("kind", ["pandas", "polars"])
    def test_a_frame_cut_short(self, kind: str) -> None:
        whole = frame('{"columns":null,"utc":[]}')
        for end in (0, 4, 9, len(whole) // 2):
            refused(kind, whole[:end])

    @pytest.mark.parametrize("kind", ["pandas", "polars"])
    @pytest.mark.parametrize("codec", ["zstd", "lz4"])
    @pytest.mark.parametrize("values", [[0] * 100_000, ["x"] * 100_000], ids=["numbers", "a dictionary"])
    def test_a_compressed_frame(self, kind: str, codec: str, values: list[Any]) -> None:
        """A kilobyte may become any number of bytes, and claim any."""
        column = pa.array(values).dictionary_encode() if values[0] else pa.array(values)
        table, written = pa.table({"a": column}), io.BytesIO()
        with pa.ipc.new_stream(written, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as stream:
            stream.write_table(table)
        assert "it is compressed" in refused(kind, written.getvalue())

    @pytest.mark.parametrize("kind", ["pandas", "polars"])
    @pytest.mark.parametrize(("version", "note"), [("V4", "zstd"), ("V4", None), ("V5", "zstd")])
    def test_a_frame_that_is_compressed_as_in_a_draft_of_the_format(self, kind: str, version: str, note: str | None) -> None:
        """Before version 5, metadata of a message told of it, and pyarrow still believes that."""
        options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion[version])
        batch, written = pa.record_batch({"a": [1]}), io.BytesIO()
        with pa.ipc.new_stream(written, batch.schema, options=options) as stream:
            stream.write_batch(batch, custom_metadata=note and {"ARROW:experimental_compression": note})
        assert "this library writes" in refused(kind, written.getvalue())

    def test_a_frame_of_more_rows_than_bits(self) -> None:
        table, written = pa.table({"a": pa.nulls(10**6)}), io.BytesIO()
        with pa.ipc.new_stream(written, table.schema) as stream:
            stream.write_table(table)
        assert "more rows than bits" in refused("pandas", written.getvalue())

    @pytest.mark.parametrize("at_once", [1, 7, 100_000])
    def test_a_stream_is_checked_in_pieces_of_any_length(self, at_once: int) -> None:
        table, written = pa.table({"a": ["x", None] * 5000, "b": pa.array(["y"] * 10_000).dictionary_encode()}), io.BytesIO()
        with pa.ipc.new_stream(written, table.schema) as stream:
            stream.write_table(table, max_chunksize=4000)
        whole = written.getvalue()
        check = StreamCheck(len(whole))
        for start in range(0, len(whole), at_once):
            check.feed(whole[start : start + at_once])
        assert check._ended

    @pytest.mark.parametrize(
        "stream", [b"\xff" * 4 + bytes(3) + b"\x01", b"ARROW1\0\0", b"\xff" * 4 + b"\x04\0\0\0" + b"\xff" * 4]
    )
    def test_what_is_not_a_stream(self, stream: bytes) -> None:
        with pytest.raises(ValueError, match=r"it is not a stream|it has a message"):
            StreamCheck(1000).feed(stream)

    @pytest.mark.parametrize("kind", ["pandas", "polars"])
    @pytest.mark.parametrize("changed", [0x7F, 0xFF])
    def test_a_frame_with_another_byte_is_refused_or_another_frame(self, kind: str, changed: int) -> None:
        """Not a panic of Rust, nor a lack of the memory that a length claims."""
        written = io.BytesIO()
        pl.DataFrame({"a": [1]}).write_ipc_stream(written)
        whole = frame('{"columns":null,"utc":[]}') if kind == "pandas" else written.getvalue()
        read: Any = contents.value_of(kind, io.BytesIO(whole), "the data")
        assert read["a"].to_list() == [1]
        for place in range(len(whole)):
            content = bytearray(whole)
            content[place] = changed
            with contextlib.suppress(FormatError):
                contents.value_of(kind, io.BufferedReader(io.BytesIO(content)), "the data")  # type: ignore[arg-type]


class TestReading:
    """What the arrays claim is more than the address space of a machine has, so that taking the memory would fail."""

    def test_none_is_taken_for_an_array_that_is_not_there(self) -> None:
        assert "its length is not that of its shape" in refused("numpy", array_of("<f8", (HUGE,)))

    @pytest.mark.usefixtures("small_torch")
    def test_none_is_taken_for_a_tensor_that_is_not_there(self) -> None:
        assert "its length is not that of its shape" in refused("torch", tensor_of("U8", [HUGE], HUGE))

    def test_none_is_taken_for_elements_of_no_length(self) -> None:
        read: Any = contents.value_of("numpy", io.BytesIO(array_of("|S0", (HUGE,))), "the data")
        assert (read.shape, read.nbytes) == ((HUGE,), 0)

    def test_a_file_that_ends_before_its_length_is_refused(self) -> None:
        class Short(io.BytesIO):
            def readinto(self, buffer: Any, /) -> int:
                return super().readinto(memoryview(buffer)[1:])

        with pytest.raises(FormatError, match="it ends early"):
            contents.value_of("numpy", Short(array_of("<i2", (2,), bytes(4))), "the data")

    @pytest.mark.parametrize("kind", ["numpy", "pandas", "polars"])
    @pytest.mark.parametrize("error", [TimeoutError, MemoryError])
    def test_what_is_raised_during_the_read_is_not_of_the_content(self, kind: str, error: type[Exception]) -> None:
        class Interrupted(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise error("by a handler of a signal")

        with pytest.raises(error, match="by a handler of a signal"):
            contents.value_of(kind, Interrupted(), "the data")


class TestTypesOfOtherNames:
    @pytest.mark.parametrize("module", ["torch", "torch.nn", "numpy", None, 3])
    def test_a_class_that_names_another_module_is_refused(self, module: object) -> None:
        kind = type("Tensor", (), {})
        kind.__module__ = module  # type: ignore[assignment]
        cm = CheckpointManager("memory:", key=bytes(32))
        with pytest.raises(PayloadError, match=r"\$\[0\] is of type"):
            cm.save_checkpoint("train", [kind()])
        with pytest.raises(PayloadError):
            cm.save_checkpoint("train", attachments={"a": kind()})  # type: ignore[dict-item]
