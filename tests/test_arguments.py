"""Each argument of each public method is checked at the door: what is wrong is named, with what is expected, and no value."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import (
    ArgumentError,
    CheckpointError,
    CheckpointManager,
    IntegrityError,
    KeyFile,
    Keys,
    KeyUnavailableError,
    LocationError,
    Passphrase,
    PayloadError,
    Retention,
    StageNameError,
    TagError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(range(32))
SECRET = "hunter2-in-the-wrong-place"


class Odd:
    """Of no type that any argument may have; what it shows of itself is a secret."""

    def __repr__(self) -> str:
        return SECRET

    __str__ = __repr__


UNCHECKED = {
    ("save_checkpoint", "data"): "any value, checked as a payload",
    ("loop", "items"): "anything that can be iterated over; what can't is told by its error",
    ("loop", "initial"): "any JSON value, checked as a payload",
    ("loop", "key"): "any value, compared by its digest",
    ("stage", "name"): "a function or a name",
}
RIGHT: dict[str, Any] = {
    "stage_name": "train",
    "checkpoints": {"train": 1},
    "version": 1,
    "name": "good",
    "versions": [1],
    "policy": Retention(keep_last=1),
    "function": lambda data: data,
    "file": "x.bundle",
    "key": KEY,
    "selector": "train",
    "slot": "1f0c22ab",
    "checkpoint_dir": "memory:",
    "items": [1],
    "initial": 0,
}
"""A value for each argument that must be given."""


ALIASES = {
    "old": "version",
    "new": "version",
    "versions": "version",
    "also": "key",
    "policy": "the retention policy",
    "retention": "the retention policy",
}
"""What an element of an argument is called, and what is called the same in several methods."""


def arguments() -> list[Any]:
    found = []
    for owner in (CheckpointManager, Keys):
        for method, function in inspect.getmembers(owner, inspect.isfunction):
            if method.startswith("_") and not (owner is CheckpointManager and method == "__init__"):
                continue
            names = [name for name in inspect.signature(function).parameters if name != "self"]
            found += [
                pytest.param(owner, method, name, id=f"{owner.__name__}.{method}({name})")
                for name in names
                if (method, name) not in UNCHECKED
            ]
    return found


def call(cm: CheckpointManager, owner: type, method: str, given: dict[str, Any]) -> object:
    if method == "__init__":
        return CheckpointManager(**({"checkpoint_dir": "memory:", "key": KEY} | given))
    target = cm if owner is CheckpointManager else cm.keys
    parameters = list(inspect.signature(getattr(owner, method)).parameters.values())[1:]
    needed = {each.name: RIGHT[each.name] for each in parameters if each.default is each.empty}
    chosen = needed | given
    if {"at", "version"} <= {each.name for each in parameters} and "at" in given:
        chosen.pop("version", None)
    positional = [chosen.pop(each.name) for each in parameters if each.kind is each.POSITIONAL_ONLY and each.name in chosen]
    return getattr(target, method)(*positional, **chosen)


@pytest.mark.parametrize(("owner", "method", "name"), arguments())
@pytest.mark.parametrize("value", [Odd(), {1, 2}, b"x", 1.5j], ids=lambda value: type(value).__name__)
def test_what_can_not_be_is_named_and_told_apart_from_a_bug(
    tmp_path: Path, owner: type, method: str, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    cm.tag("train", 1, "good")
    with pytest.raises(CheckpointError) as caught:
        call(cm, owner, method, {name: [value] if name == "versions" else value})
    error = caught.value
    assert isinstance(error, ArgumentError | StageNameError | TagError | LocationError)
    assert SECRET not in str(error)
    if isinstance(error, ArgumentError):
        assert error.argument in {name, ALIASES.get(name)}
        assert isinstance(error, TypeError)
        assert isinstance(error, ValueError)
    assert [version.number for version in cm.history("train")] == [1]


def test_each_exception_is_one() -> None:
    for method, name in UNCHECKED:
        assert name in inspect.signature(getattr(CheckpointManager, method)).parameters


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lock_timeout": "5"}, "lock_timeout must be a number of seconds, 0 or more, not a str"),
        ({"lock_timeout": True}, "lock_timeout must be a number of seconds, 0 or more, not a bool"),
        ({"lock_timeout": float("inf")}, "lock_timeout must be a number of seconds, 0 or more, not inf"),
        ({"on_rollback": 5}, 'on_rollback must be "raise" or "warn", not an int'),
        ({"durability": "fast"}, 'durability must be "full" or "relaxed", and is another text'),
        ({"retention": 5}, "the retention policy must be a Retention, not an int"),
    ],
)
def test_opening(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        CheckpointManager("memory:", key=KEY, **given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metadata": [1]}, "metadata must be a dict, or None, not a list"),
        ({"expected_version": "2"}, "expected_version must be a number, or None, not a str"),
    ],
)
def test_saving(given: dict[str, Any], message: str) -> None:
    cm = CheckpointManager("memory:", key=KEY)
    with pytest.raises(ArgumentError) as caught:
        cm.save_checkpoint("train", 1, **given)
    assert str(caught.value) == message
    assert cm.stages() == []


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        (
            "update_checkpoint",
            {"stage_name": "s", "function": None},
            "function must be a function of the newest data, not None",
        ),
        (
            "save_checkpoint",
            {"stage_name": "s", "attachments": []},
            "attachments must be a dict of contents by name, not a list",
        ),
        ("loop", {"stage_name": "s", "items": [1], "initial": 0, "every_items": 0}, "every_items must be 1 or more, or None"),
        (
            "export_bundle",
            {"file": "a\0b", "key": KEY},
            "file can't be a path: it holds a null character or is not valid Unicode",
        ),
        (
            "import_bundle",
            {"file": "\ud800", "key": KEY},
            "file can't be a path: it holds a null character or is not valid Unicode",
        ),
    ],
)
def test_values(method: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        getattr(CheckpointManager("memory:", key=KEY), method)(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize("location", ["{}/new/store", "sqlite:///{}/new/store.db"], ids=["directory", "sqlite"])
class TestNothingIsMade:
    """Neither a store nor its folders, nor anything in the home of the user."""

    @pytest.fixture
    def refused(
        self, tmp_path: Path, home: Path, location: str
    ) -> Callable[[type[CheckpointError], dict[str, Any]], CheckpointError]:
        def refused(kind: type[CheckpointError], given: dict[str, Any]) -> CheckpointError:
            with pytest.raises(kind) as caught:
                CheckpointManager(location.format(tmp_path), **given)
            assert [*tmp_path.iterdir(), *home.iterdir()] == []
            return caught.value

        return refused

    @pytest.mark.parametrize(
        "given",
        [
            {"key": "text"},
            {"key": 7},
            {"key": b"short"},
            {"key": Passphrase(7)},  # type: ignore[arg-type]
            {"key": KeyFile(7)},  # type: ignore[arg-type]
            {"lock_timeout": -1},
            {"durability": "none"},
            {"on_rollback": "ignore"},
            {"retention": 7},
            {"codecs": [7]},
            {"index": {"x": True}},
        ],
        ids=str,
    )
    def test_for_an_argument_that_is_none(self, refused: Callable[..., CheckpointError], given: dict[str, Any]) -> None:
        error = refused(ArgumentError, given)
        assert isinstance(error, ArgumentError)
        assert error.argument in {next(iter(given)), ALIASES.get(next(iter(given)))}

    @pytest.mark.parametrize("key", [KeyFile("missing.key"), KeyFile("a\0b"), Path("missing.key"), Passphrase("")], ids=repr)
    def test_for_a_key_that_is_not_there(self, refused: Callable[..., CheckpointError], key: object) -> None:
        refused(KeyUnavailableError, {"key": key})

    @pytest.mark.parametrize("value", ["", "missing.key"], ids=["empty", "missing"])
    def test_for_an_environment_that_names_no_key(
        self, refused: Callable[..., CheckpointError], monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("CHECKPOINT_MANAGER_KEY_FILE", value)
        refused(KeyUnavailableError, {})
        refused(KeyUnavailableError, {"key": Passphrase("two sources")} if value else {})

    def test_for_what_the_place_lacks(self, refused: Callable[..., CheckpointError]) -> None:
        refused(LocationError, {"key": KEY, "index": {"status": True}})


class TestLocations:
    def test_an_empty_one_makes_no_store_in_this_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(LocationError, match="is empty"):
            CheckpointManager("", key=KEY)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("folder", ["history", "history/train", "history/new/deep", ".locks", "damaged/x"])
    @pytest.mark.parametrize("location", ["{}/store/{}", "sqlite:///{}/store/{}/store.db", "{}/link/{}"])
    def test_one_in_a_folder_of_another_store_is_refused(self, tmp_path: Path, folder: str, location: str) -> None:
        CheckpointManager(tmp_path / "store", key=KEY).save_checkpoint("train", 1)
        (tmp_path / "link").symlink_to("store")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(LocationError, match=f"belongs to the store {tmp_path / 'store'}. Choose a directory outside"):
            CheckpointManager(location.format(tmp_path, folder), key=KEY)
        assert sorted(tmp_path.rglob("*")) == before

    def test_one_that_was_begun_there_is_opened(self, tmp_path: Path) -> None:
        CheckpointManager(tmp_path / "inner", key=KEY).save_checkpoint("train", 1)
        CheckpointManager(tmp_path / "store", key=KEY).save_checkpoint("train", 1)
        (tmp_path / "inner").rename(tmp_path / "store" / "history" / "inner")
        inner = tmp_path / "store" / "history" / "inner"
        assert CheckpointManager(inner, key=KEY).load_checkpoint("train") == 1
        (inner / "keyring.json").unlink()
        with pytest.raises(IntegrityError, match="is gone, but there are checkpoints"):
            CheckpointManager(inner, key=KEY)

    def test_the_home_directory_is_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home").mkdir()
        CheckpointManager("~/ckpt", key=KEY).save_checkpoint("train", 1)
        assert (tmp_path / "home" / "ckpt" / "history").is_dir()
        assert not (tmp_path / "~").exists()
        with pytest.raises(LocationError, match="is not known"):
            CheckpointManager("~nobody-of-this-name/ckpt", key=KEY)


class TestPayloads:
    def test_all_faulty_values_are_named_at_once(self) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        with pytest.raises(PayloadError) as caught:
            cm.save_checkpoint(
                "train", {"a": {NotImplemented}, "b": [1, bytearray(b"x"), object()], "c": {"d": (range(1),)}, "ok": 1}
            )
        assert caught.value.paths == ("$.a[0]", "$.b[1]", "$.b[2]", "$.c.d[0]")
        assert caught.value.path == "$.a[0]"
        assert "; $.b[1] is of type bytearray (save bytes(value)" in str(caught.value)

    def test_up_to_ten(self) -> None:
        cm = CheckpointManager("memory:", key=KEY)
        with pytest.raises(PayloadError) as caught:
            cm.save_checkpoint("train", [object()] * 11)
        assert caught.value.paths == tuple(f"$[{index}]" for index in range(10))
        assert "; and there are more" in str(caught.value)
        with pytest.raises(PayloadError) as caught:
            cm.save_checkpoint("train", [object()] * 10)
        assert "more" not in str(caught.value)
