"""The errors: their tree, their attributes, and that they cross process boundaries."""

from __future__ import annotations

import errno
import pickle

import pytest

import checkpoint_manager
from checkpoint_manager import errors
from checkpoint_manager._filesystem.os_errors import HINTS_BY_ERRNO
from checkpoint_manager._lazy_log import get_logger
from checkpoint_manager._text import MAX_PRINTED_CHARACTERS, escaped, printable
from checkpoint_manager.reports import Finding, RepairStep

EXAMPLES = [
    errors.CheckpointError("m", stage="s", version=3),
    errors.ArgumentError("m", argument="a"),
    errors.CheckpointNotFoundError("m", stage="s", version=3),
    errors.AttachmentNotFoundError("m", stage="s", version=3),
    errors.VersionConflictError("m", stage="s", expected=2, actual=3),
    errors.PartlyRestoredError("m", left=(("/etl", "s"),)),
    errors.PayloadError("m", path="$.a", stage="s"),
    errors.StageNameError("m"),
    errors.TagError("m", stage="s", version=3),
    errors.LocationError("m"),
    errors.LockTimeoutError("m", stage="s", holder="process 7"),
    errors.KeyUnavailableError("m"),
    errors.WrongKeyError("m"),
    errors.IntegrityError("m", stage="s", version=3),
    errors.RollbackError("m", stage="s", version=3),
    errors.FormatError("m"),
    errors.FingerprintError("m", stage="s"),
    errors.ResultNotSavedError("m", stage="s", result={"a": 1}),
    errors.StorageError("m", errno=errno.ENOSPC, filename="/x", stage="s", version=3),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: errors.CheckpointError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error) == "m"
    assert again.__dict__ == error.__dict__
    assert getattr(again, "errno", None) == getattr(error, "errno", None)
    assert getattr(again, "filename", None) == getattr(error, "filename", None)


def test_the_tree_drawn_is_the_tree_that_is() -> None:
    assert {type(error).__name__ for error in EXAMPLES} == set(errors.__all__)
    drawn = str(errors.__doc__)
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.CheckpointError)
        kin = [
            base.__name__ for base in kind.__bases__ if base is not Exception and not issubclass(base, errors.CheckpointError)
        ]
        line = next(line for line in drawn.splitlines() if name in line)
        assert all(f"({base})" in line for base in kin)
        assert bool(kin) == ("(" in line)


def test_every_public_name_is_importable_and_every_error_public() -> None:
    for name in checkpoint_manager.__all__:
        assert getattr(checkpoint_manager, name) is not None
    assert set(errors.__all__) <= set(checkpoint_manager.__all__)
    assert sorted(checkpoint_manager.__all__) == checkpoint_manager.__all__


def test_an_error_of_the_system_without_a_message_is_empty() -> None:
    error = errors.StorageError("m")
    error.args = ()
    assert str(error) == ""


def test_each_next_step_is_a_sentence_for_a_person() -> None:
    assert all(len(step.split()) > 4 for step in HINTS_BY_ERRNO.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("train", "train"),
        ("Größe 日本 עברית", "Größe 日本 עברית"),
        ("a\\b'c", "a\\b'c"),
        ("a\nb", "'a\\nb'"),
        ("ä\x1b[2J", "'ä\\x1b[2J'"),
        ("\u202eab", "'\\u202eab'"),
        ("a\u2028b", "'a\\u2028b'"),
        ("a\u2066b", "'a\\u2066b'"),
        ("caf\udce9", "'caf\\udce9'"),
        ("a\x85b\x9b", "'a\\x85b\\x9b'"),
    ],
)
def test_text_from_outside_is_shown_on_one_line_without_anything_that_moves_the_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode().decode().isprintable()


def test_long_text_is_cut_in_its_middle() -> None:
    assert printable("a" * MAX_PRINTED_CHARACTERS) == "a" * MAX_PRINTED_CHARACTERS
    shown = printable("begin" + "\x1b" * 10**6 + "end")
    assert len(shown) < 5 * MAX_PRINTED_CHARACTERS
    assert shown.startswith("'begin")
    assert shown.endswith("end'")
    assert printable("abcdefgh", 5) == "ab…gh"


@pytest.mark.parametrize(
    "hostile", ["\x1b]0;own\x07", "\u202etxt.exe", "a\r\nERROR forged", "\udcff\udc00", "\x9b31m", "\u2028"]
)
def test_hostile_text_in_a_message_a_finding_or_a_log_line_is_escaped(hostile: str, caplog: pytest.LogCaptureFixture) -> None:
    """Even where whoever wrote the sentence forgot that the text comes from outside."""
    error = errors.StorageError(f"the file {hostile} is not there", hint=f"Look at {hostile}")
    for text in (str(error), error.message, error.hint, str(pickle.loads(pickle.dumps(error)))):
        assert text.isprintable()
        assert escaped(hostile) in text
    for found in (Finding(None, None, "damaged", hostile), RepairStep("remove", None, None, hostile)):
        assert found.detail == escaped(hostile)
    get_logger().warning("the holder is %s", hostile)
    get_logger().warning(f"the holder is {hostile}")  # on purpose
    assert [record.getMessage() for record in caplog.records] == [f"the holder is {escaped(hostile)}"] * 2
    assert all(line.isprintable() for line in caplog.text.splitlines())
    assert caplog.text.count("\n") == 2


def test_a_hint_for_the_command_line_stays_one() -> None:
    assert errors.CheckpointError("m", hint=errors.Hint.SEE_STAGES).hint is errors.Hint.SEE_STAGES
