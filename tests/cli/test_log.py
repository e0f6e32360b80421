"""``log``"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, StorageError
from checkpoint_manager._operations import save
from checkpoint_manager._store.store import Store
from tests.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager.backends.base import Session
    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_it_lists_the_versions_newest_first(cli: Cli, store: Path) -> None:
    CheckpointManager(store).restore_checkpoint("train", 1)
    result = cli("log", "train")
    rows = [line.split() for line in result.out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["4", "3", "2", "1"]
    assert "restored from 1" in result.out.splitlines()[1]
    assert "run=a7" in result.out.splitlines()[2]


def test_json_holds_all_that_is_known(cli: Cli, store: Path) -> None:
    document = cli("log", "train", "--json").json
    assert (document["command"], document["stage"]) == ("log", "train")
    version = document["versions"][0]
    known = {
        "stage",
        "version",
        "status",
        "created_at",
        "metadata",
        "origin",
        "size",
        "restored_from",
        "attachments",
        "arrays_size",
    }
    assert set(version) == {*known, "tags"}
    assert version["origin"]["pid"] == os.getpid()


def test_a_failure_says_what_was_raised_and_no_more(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)

    @cm.stage
    def train(limit: int) -> int:
        raise (ValueError("no rows\x1b[2J\nin b.csv") if limit else KeyError)

    with pytest.raises(ValueError, match="no rows"):
        train(1)
    with pytest.raises(KeyError):
        train(0)
    lines = cli("log", "train").out.splitlines()
    assert lines[1].endswith("  KeyError")
    assert lines[2].endswith(r"  ValueError: no rows\x1b[2J")
    document = cli("log", "train", "--json")
    assert document.json["versions"][1]["failure"] == {"type": "ValueError", "message": "no rows\x1b[2J\nin b.csv"}
    assert document.json["versions"][1]["metadata"] == {}  # the digests of the arguments are nobody's business
    assert document.json["versions"][2]["metadata"] == {"run": "a7"}
    assert "Traceback" not in document.out
    assert "Traceback (most recent call last)" in cli("show", "train@4").out


def test_progress_says_how_far_it_is(cli: Cli, store: Path) -> None:
    with CheckpointManager(store).loop("embed", range(2000), initial=0, every_items=400) as progress:
        for item in progress:
            if item == 1200:
                break
    result = cli("log", "embed")
    assert result.out.splitlines()[1].split()[:2] == ["3", "progress"]
    assert result.out.splitlines()[1].endswith("1,200 of 2,000 items")
    told = cli("log", "embed", "--json").json["versions"][0]["progress"]
    assert (told["done"], told["total"]) == (1200, 2000)


def test_no_such_stage(cli: Cli, store: Path) -> None:
    result = cli("log", "trian")
    assert (result.code, result.out) == (14, "")
    assert "no checkpoint of stage trian" in result.err


def test_a_piped_table_is_never_cut(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("train", metadata={"note": "x" * 500})
    assert f"note={'x' * 500}" in cli("log", "train").out


@pytest.mark.parametrize(
    "metadata",
    [
        {"@failure": 5},
        {"@failure": "boom"},
        {"@failure": {"type": "T"}},
        {"@failure": {"type": "T", "message": ["x"]}},
        {"@progress": "x"},
        {"@progress": {"done": "a", "total": None, "complete": False, "before": []}},
        {"@stage": {"version": 1, "arguments": [1]}},
    ],
    ids=str,
)
def test_a_note_of_another_shape_is_passed_over(cli: Cli, store: Path, metadata: dict[str, Any]) -> None:
    """Any program with the key may have written it; so may a bundle."""
    cm = CheckpointManager(store)
    save.save(cm._store, "odd", save.Draft(b"1", metadata, "failed"), None)
    assert cli("log", "odd").code == 0
    assert cli("log", "odd", "--json").json["versions"][0]["metadata"] == {}


def test_a_damaged_and_a_missing_version_stand_in_the_list(cli: Cli, store: Path) -> None:
    history = store / "history" / "train"
    (history / "000000000001.checkpoint").unlink()
    with (history / "000000000002.checkpoint").open("r+b") as file:
        file.truncate(10)
    result = cli("log", "train")
    assert result.code == 13
    assert [line.split()[:2] for line in result.out.splitlines()[1:]] == [
        ["3", "completed"],
        ["2", "damaged"],
        ["1", "missing"],
    ]
    assert "2 of 3 versions are damaged or missing" in result.err
    told = cli("log", "train", "--json")
    assert told.code == 13
    versions = told.json["versions"]
    assert [(version["version"], version["status"]) for version in versions][1:] == [(2, "damaged"), (1, "missing")]
    assert versions[2]["created_at"] is None


def test_what_is_asked_for_is_chosen(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    cm.save_checkpoint("train", 4, metadata={"run": "b8", "epoch": 4})
    cm.clear_checkpoint("train")

    def chosen(*options: str) -> list[int]:
        lines = cli("log", "train", *options).out.splitlines()[1:]
        numbers = [int(line.split()[0]) for line in lines]
        assert [version["version"] for version in cli("log", "train", "--json", *options).json["versions"]] == numbers
        return numbers

    assert chosen("--limit", "2") == [5, 4]
    assert chosen("--status", "cleared") == [5]
    assert chosen("--status", "cleared", "--status", "completed", "--limit", "3") == [5, 4, 3]
    assert chosen("--grep-metadata", "run=a7") == [3, 2, 1]
    assert chosen("--grep-metadata", "run=b8", "--grep-metadata", "epoch=4") == [4]
    assert chosen("--since", "1h") == [5, 4, 3, 2, 1]
    moment = cm.get_version("train", 4).created_at
    assert moment is not None
    assert chosen("--since", moment.isoformat()) == [5, 4]
    assert chosen("--grep-metadata", "run=c9") == []
    assert "no version of stage train meets these criteria" in cli("log", "train", "--status", "failed").err
    assert cli("log", "train", "--grep-metadata", "run").code == 2


def test_the_first_lines_of_a_long_history_do_not_wait_for_the_last(store: Path, tmp_path: Path) -> None:
    """The versions far down are read only by who asks for them: here they would be found damaged."""
    cm = CheckpointManager(store, durability="relaxed")
    for number in range(600):
        cm.save_checkpoint("long", number)
    (store / "history" / "long" / "000000000010.checkpoint").write_bytes(b"damaged")
    program = f"{sys.executable} -m checkpoint_manager log long --store {store}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{program} | head -3"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["VERSION", "600", "599"]
    versions = cm.iter_history("long")
    assert next(versions).number == 600
    assert sum(version.status == "damaged" for version in versions) == 1


@pytest.mark.parametrize("columns", [30, 50, 80])
def test_nothing_breaks_inside_a_word(cli: Cli, store: Path, columns: int) -> None:
    with Terminal("log", "train", "--store", str(store), columns=columns) as terminal:
        assert terminal.end() == 0

    def words(text: str) -> set[str]:
        without_ages = re.sub(r"\(\d+ s ago\)", "", " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()))
        return {word for word in without_ages.split() if not re.fullmatch(r"\(?\d+|s|ago\)", word)}

    assert words(terminal.shown) == words(cli("log", "train").out)


def test_json_is_written_while_it_is_read(program: Cli, cli: Cli, store: Path, tmp_path: Path) -> None:
    first = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m checkpoint_manager log train --json | head -n 2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert first.stderr == ""
    opening, newest = first.stdout.splitlines()
    assert json.loads(opening + "]}") == {"schema": 1, "command": "log", "stage": "train", "versions": []}
    assert json.loads(newest.rstrip(","))["version"] == 3
    whole = cli("log", "train", "--json").json
    assert [version["version"] for version in whole["versions"]] == [3, 2, 1]
    assert whole["complete"] is True
    assert cli("log", "train", "--status", "failed", "--json").json["versions"] == []


def test_json_with_a_damaged_version_in_the_middle_is_valid(cli: Cli, store: Path) -> None:
    (store / "history" / "train" / "000000000002.checkpoint").write_bytes(b"damaged")
    result = cli("log", "train", "--json")
    assert result.code == 13
    assert [version["status"] for version in result.json["versions"]] == ["completed", "damaged", "completed"]
    assert result.json["complete"] is True


@pytest.mark.parametrize("readable", [2, 0])
def test_json_that_an_error_ends_is_valid_or_not_there(
    readable: int, cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, read = Store.entry, []

    def fails_after_some(self: Store, stage: str, version: int, session: Session | None = None) -> Entry:
        read.append(version)
        if len(read) > readable:
            raise StorageError("too many open files", errno=errno.EMFILE)
        return entry(self, stage, version, session)

    monkeypatch.setattr(Store, "entry", fails_after_some)
    result = cli("log", "train", "--json")
    assert result.code == 20
    assert result.error["message"] == "too many open files"
    if readable:
        assert result.json["complete"] is False
        assert [version["version"] for version in result.json["versions"]] == [3, 2]
    else:
        assert result.out == ""


def test_the_reasons_of_changes_are_listed(cli: Cli, store: Path) -> None:
    assert cli("log", "train", "--reasons").err == "no reason was given for a tag or a deletion in stage train\n"
    for line in (
        "tag train@1 good --reason checked",
        "tag --all nightly --reason routine",
        "tag --delete train good --reason worse",
        "delete train 1 --yes --reason room",
        "prune train --keep-last 1 --yes --reason policy",
    ):
        assert cli(*line.split()).code == 0
    listed = cli("log", "train", "--reasons")
    columns = [re.split(r"  +", line) for line in listed.out.splitlines()]
    assert columns[0] == ["WHEN", "WHAT", "VERSIONS", "BY", "REASON"]
    assert [(what, versions, why) for _, what, versions, _, why in columns[1:]] == [
        ("deleted", "2", "policy"),
        ("deleted", "1", "room"),
        ("untagged good", "1", "worse"),
        ("tagged nightly", "3", "routine"),
        ("tagged good", "1", "checked"),
    ]
    (newest,) = cli("log", "train", "--reasons", "--limit", "1", "--since", "1d", "--json").json["reasons"]
    assert (newest["action"], newest["versions"], newest["text"]) == ("deleted", 1, "policy")


def test_a_deletion_of_several_versions_is_one_line(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    for number in range(4, 8):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [1, 2, 3], reason="gapless")
    cm.delete_versions("train", [4, 6], reason="gapped")
    out = cli("log", "train", "--reasons").out
    assert ("  1 to 3  " in out, "  2 of 4 to 6  " in out) == (True, True)


def test_the_reason_of_a_restore_or_a_clear_is_in_the_new_version(cli: Cli, store: Path) -> None:
    for line in ("restore train@1 --yes --reason why1", "clear train --yes --reason why2"):
        assert cli(*line.split()).code == 0
    cm = CheckpointManager(store)
    assert [version.metadata.get("reason") for version in cm.history("train")[:2]] == ["why2", "why1"]
    cm.tag("train", 2, "back")
    assert cli("restore", "--all", "--tag", "back", "--yes", "--reason", "why3").code == 0
    assert {stage: cm.get_version(stage).metadata["reason"] for stage in cm.stages()} == {"clean": "why3", "train": "why3"}


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("tag train@1 good --reason", 2, "requires an argument"),
        ("tag train --reason x", 2, "the tag is missing"),
        (f"delete train 1 --yes --reason {'x' * 501}", 2, "of 1 to 500 characters"),
        ("delete train --all --yes --reason x", 2, "the reasons are deleted with the stage"),
        ("log train --reasons --status failed", 2, "--reasons has no status"),
        ("log trian --reasons", 14, "did you mean train?"),
    ],
)
def test_a_reason_that_can_not_be_kept_is_refused(cli: Cli, store: Path, line: str, code: int, says: str) -> None:
    result = cli(*line.split(" "))
    assert (result.code, result.out, says in result.err) == (code, "", True), result.err
    assert len(CheckpointManager(store).history("train")) == 3
