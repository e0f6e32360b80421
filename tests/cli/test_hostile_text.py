"""A store in which every text is hostile: no command crashes, writes anything that acts on a terminal, or prints broken JSON.

Names of stages, metadata, origins, labels of slots, tags, names of files that are not UTF-8, damaged files and planted ones.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, Passphrase
from checkpoint_manager._format.checkpoint_file import Writer
from checkpoint_manager._operations import save
from checkpoint_manager.cli.exit_codes import Exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

EVIL = "\x1b]0;owned\x07\x9b2J\x7f\u202e\u2028\u200b\r\nok: all is well\t\x00\x85"
NAMES = (EVIL, "-", "@latest", "\u202e'\"`$(id)\U000e0041")
NOTES: tuple[dict[str, Any], ...] = (
    {"@failure": 5},
    {"@failure": {"type": EVIL, "message": EVIL}},
    {"@progress": {"done": 10**15, "total": 1, "complete": True, "before": [2**62]}},
    {"@progress": [EVIL]},
    {"@stage": {"version": EVIL, "arguments": {EVIL: EVIL}}},
    {EVIL: EVIL, "deep": {"er": [EVIL, None, 1.5, {EVIL: []}]}},
    {"": "", "message": "\n\n", "status": "completed", "tags": ["good"]},
)
QUESTIONS = {"has", "doctor"}
"""Only these may exit with 1, which means "no"."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, a bundle of it, and a file of JSON, all of them hostile; and the home folder that opens them."""
    folder = tmp_path_factory.mktemp("hostile")
    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(folder / "home"))
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME"):
        patch.delenv(name, raising=False)
    patch.setattr(save, "origin", lambda _: Writer(EVIL, EVIL, 2**62, EVIL, EVIL))
    (folder / "home").mkdir()
    cm = CheckpointManager(os.path.join(os.fsencode(folder), b"st\xffore").decode(errors="surrogateescape"))
    for name in (*NAMES, "train"):
        for note in NOTES:
            save.save(cm._store, name, save.draft(name, {"data": EVIL, EVIL: note}, None), None)
            status = "failed" if "@failure" in note else "progress" if "@progress" in note else "completed"
            save.save(cm._store, name, save.Draft(b'{"x": 1}', note, status), None)
        cm.restore_checkpoint(name, 2)
    with_tags = [name for name in NAMES if _takes_a_tag(cm, name)]
    assert EVIL in with_tags
    cm.keys.add(Passphrase("correct horse"), label="alice")
    cm.export_bundle(folder / "all.bundle", key=Passphrase("words"))
    _plant(os.path.join(os.fsencode(folder), b"st\xffore"))
    patch.undo()
    return folder


def _takes_a_tag(cm: CheckpointManager, stage: str) -> bool:
    try:
        cm.tag(stage, 1, "good")
    except CheckpointError:
        return False
    return True


def _plant(store: bytes) -> None:
    """Damage versions, and put in their place and beside them what does not belong there."""
    history = os.path.join(store, b"history")
    for name in (b"\xff\xfe", b"\x1b[2J", b"planted", b"%1b%5b2J", b"caf\xe9", b"a\nb"):
        os.mkdir(os.path.join(history, name))
        for number, content in enumerate((b"x", b'{"format":"checkpoint-manager/2","x":1}\n', b"", b"{" * 5000), start=1):
            with open(os.path.join(history, name, b"%012d.checkpoint" % number), "wb") as file:
                file.write(content)
    train = os.path.join(history, b"train")
    _overwrite(os.path.join(train, b"000000000003.checkpoint"), b'{"format":"checkpoint-manager/9"}\n')
    _overwrite(os.path.join(train, b"000000000005.checkpoint"), b"\x1b[2J" * 100)
    os.unlink(os.path.join(train, b"000000000007.checkpoint"))
    for name in (b"\x1b]0;x\x07", b"\xff.checkpoint", b"999999999999.checkpoint", b"\xd9\xa1.checkpoint"):
        with open(os.path.join(train, name), "wb"), open(os.path.join(store, name), "wb"):
            pass
    os.mkfifo(os.path.join(store, b"\x9bfifo"))
    os.symlink(b"\x1b[31m", os.path.join(store, b"\xc2\x9blink"))


def _overwrite(path: bytes, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.truncate()
        file.write(content)


COMMANDS: dict[str, tuple[str, ...]] = {
    "init": ("init",),
    "list": ("list",),
    "status": ("status",),
    "log": ("log", "STAGE"),
    "show": ("show", "STAGE"),
    "show one": ("show", "STAGE@2"),
    "show meta": ("show", "STAGE@4", "--meta"),
    "show path": ("show", "STAGE@1", "--path", "/nothing\x1b"),
    "has": ("has", "STAGE"),
    "save": ("save", "STAGE", "evil.json"),
    "tags": ("tag",),
    "tag": ("tag", "STAGE@1", "\x1b[31mtag"),
    "diff": ("diff", "STAGE", "1", "2"),
    "diff patch": ("diff", "STAGE", "1", "2", "--patch"),
    "restore": ("restore", "STAGE@1", "--dry-run"),
    "restore it": ("restore", "STAGE@1", "--yes"),
    "run": ("run", "STAGE", "--", "printf", "%s", "\x1b[31m"),
    "run captured": ("run", "STAGE", "--capture", "--", "printf", "x"),
    "clear": ("clear", "STAGE", "--yes"),
    "clear what follows": ("clear", "STAGE", "--downstream", "--dry-run"),
    "stale": ("list", "--stale"),
    "report": ("report",),
    "report one": ("report", "--run", "\x1b[31m"),
    "clear all": ("clear", "--all", "--yes"),
    "delete": ("delete", "STAGE", "1", "2", "--yes"),
    "prune": ("prune", "--keep-last", "2", "--dry-run"),
    "prune one": ("prune", "STAGE", "--keep-within", "1d", "--yes"),
    "verify": ("verify",),
    "verify one": ("verify", "STAGE"),
    "repair": ("repair", "--dry-run"),
    "repair it": ("repair", "--yes"),
    "accept": ("repair", "--accept-rollback", "--yes"),
    "export": ("export", "STAGE", "out\x1b.bundle", "--bundle-key", "cmd:echo words", "--overwrite"),
    "import": ("import", "all.bundle", "--bundle-key", "cmd:echo words", "--dry-run"),
    "import it": ("import", "all.bundle", "--bundle-key", "cmd:echo words", "--store", "other\x1b"),
    "import no bundle": ("import", "evil.json", "--bundle-key", "cmd:echo words"),
    "slots": ("key", "list"),
    "remove": ("key", "remove", "\x1b[31m", "--yes"),
    "rotate": ("key", "rotate", "--also", "cmd:echo 'correct horse'"),
    "doctor": ("doctor",),
    "no command": ("\x1b[31m",),
    "no option": ("status", "--\x1b[31m"),
    "no key": ("status", "--key", "cmd:\x1b[31m"),
    "no source": ("status", "--key", "\x1b[31m:x"),
    "no time": ("show", "STAGE", "--at", "\x1b[31m"),
    "no pointer": ("show", "STAGE", "--path", "\x1b[31m"),
    "no store": ("status", "--store", "nowhere\x1b[31m"),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["", "json"])
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_acts_on_a_terminal_and_json_is_valid(
    command: str, as_json: bool, hostile: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(hostile / "home", tmp_path / "home")
    store = b"st\xffore".decode(errors="surrogateescape")
    (tmp_path / "evil.json").write_bytes(b'{"\\u001b[2J": "\\u009b"}')
    shutil.copyfile(hostile / "all.bundle", tmp_path / "all.bundle")
    CheckpointManager(tmp_path / "other\x1b")
    stages = [*NAMES, "train", "planted", "caf\udce9"] if any("STAGE" in word for word in COMMANDS[command]) else [""]
    _copy(hostile, tmp_path)
    for stage in stages:
        words = [word.replace("STAGE", stage) for word in COMMANDS[command]]
        at = words.index("--") if "--" in words and command.startswith("run") else len(words)
        options = [] if "--store" in words else ["--store", store]
        words[at:at] = [*options, *(["--json"] if as_json else [])]
        check(cli(*words), words, as_json=as_json)


def _copy(hostile: Path, folder: Path) -> None:
    """Copy the store, the FIFO in it too."""
    source, target = os.path.join(os.fsencode(hostile), b"st\xffore"), os.path.join(os.fsencode(folder), b"st\xffore")
    shutil.copytree(source, target, symlinks=True, ignore=lambda _, names: [name for name in names if name.endswith(b"fifo")])
    os.mkfifo(os.path.join(target, b"\x9bfifo"))


def check(result: Result, words: list[str], *, as_json: bool) -> None:
    told = f"{words}: {result.code}\n{result.out!r}\n{result.err!r}"
    assert result.code in set(Exit) - {Exit.INTERNAL}, told
    assert result.code != Exit.NO or words[0] in QUESTIONS, told
    for text in (result.out, result.err):
        assert not [each for each in text if each != "\n" and unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"}], told
    if not as_json:
        return
    if result.out:
        assert result.out.count("\n") == 1 or words[0] == "log", told  # whose versions are a line each
        assert orjson.loads(result.out)["schema"] == 1
    else:
        assert orjson.loads(result.err.splitlines()[-1])["error"]["exit_code"] == result.code, told
