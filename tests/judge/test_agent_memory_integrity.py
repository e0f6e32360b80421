"""An outside judge: the nine edits of ``agent-memory-integrity``, made behind the store's back, found by verify and by reading.

The judge seeds a store through its own interface, edits the files, checks that its edit landed, opens the store again and asks
whether it noticed. Here it edits as well as anyone could who knows the directory: the head follows each edit.
"""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from checkpoint_manager import CheckpointError, CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable

if not os.environ.get("TESTS_REQUIRE_PROGRAMS"):
    pytest.importorskip("agmi")

from agmi.adapters.base import MemoryAdapter, Record
from agmi.attacks.at_rest import AT_REST_ATTACKS_WITH_SNAPSHOT, Attack

KEY = bytes(range(32))


def audit(cm: CheckpointManager) -> bool:
    return cm.verify().ok


def read(cm: CheckpointManager) -> bool:
    """Read as a program does: what is the newest, and each version up to it."""
    try:
        newest = cm.get_checkpoint("train").version.number
        for number in range(1, newest + 1):
            cm.load_checkpoint("train", version=number)
    except CheckpointError:
        return False
    return True


class Directory(MemoryAdapter):  # type: ignore[misc]  # the judge has no types
    """The files of a store, for the judge.

    Args:
        root: Where the store is.
        notices: What is asked whether the store is intact.
        keep_header: What is put in the place of a version keeps the header that stood there.
    """

    name = "checkpoint_manager"
    supports_replay = supports_metadata = supports_snapshot = True

    def __init__(self, root: Path, notices: Callable[[CheckpointManager], bool], *, keep_header: bool) -> None:
        self.root = root
        self.notices = notices
        self.keep_header = keep_header
        self.cm: CheckpointManager | None = None

    def setup(self) -> None:
        self.reload()

    def teardown(self) -> None:
        self.cm = None

    def reload(self) -> None:
        self.cm = CheckpointManager(self.root, key=KEY)

    def verify(self) -> bool:
        assert self.cm is not None
        return self.notices(self.cm)

    def seed(self, n: int) -> None:
        self._save("train", n)

    def seed_other(self, n: int) -> None:
        self._save("other", n)

    def append_genuine(self) -> None:
        self._save("train", 1)

    def _save(self, stage: str, n: int) -> None:
        assert self.cm is not None
        for number in range(n):
            self.cm.save_checkpoint(stage, {"text": f"{stage} {number}"}, metadata={"source": stage})

    # Behind the store's back

    def read_all_raw(self) -> list[Record]:
        return self._read("train")

    def read_other_raw(self) -> list[Record]:
        return self._read("other")

    def _read(self, stage: str) -> list[Record]:
        return [self._record(stage, path) for path in sorted((self.root / "history" / stage).glob("*.checkpoint"))]

    def _record(self, stage: str, path: Path) -> Record:
        header, _, body = path.read_bytes().partition(b"\n")
        number = int(path.name.partition(".")[0])
        fields = {"id": number, "stage": stage, "header": header.decode(), "body": base64.b64encode(body).decode()}
        return Record(number, fields)

    def write_raw(self, record: Record) -> None:
        header = record.fields["header"]
        if self.keep_header and self._path(record.seq).exists():
            header = self._record("train", self._path(record.seq)).fields["header"]
        self._put(record.seq, header, record.fields["body"])

    def _put(self, number: int, header: str, body: str) -> None:
        self._path(number).unlink(missing_ok=True)
        self._path(number).write_bytes(header.encode() + b"\n" + base64.b64decode(body))
        self._path(number).chmod(0o600)
        self._follow()

    def _path(self, number: int) -> Path:
        return self.root / "history" / "train" / f"{number:012}.checkpoint"

    def _follow(self) -> None:
        """Let the head follow: a good attacker knows that it is there."""
        head = self.root / "train.checkpoint"
        head.unlink(missing_ok=True)
        newest = max((self.root / "history" / "train").glob("*.checkpoint"))
        os.link(newest, head)

    def delete_raw(self, seq: int) -> None:
        self._path(seq).unlink()
        self._follow()

    def mutate_payload(self, record: Record) -> Record:
        body = bytearray(base64.b64decode(record.fields["body"]))
        body[len(body) // 2] ^= 1
        record.fields["body"] = base64.b64encode(body).decode()
        return record

    def forge_record(self, template: Record) -> Record:
        header = orjson.dumps(orjson.loads(template.fields["header"]) | {"version": template.seq + 1}).decode()
        return self.mutate_payload(Record(template.seq + 1, {**template.fields, "header": header}))

    def replay_onto(self, victim_seq: int, donor: Record) -> None:
        self.write_raw(Record(victim_seq, donor.fields))

    def read_meta(self, seq: int) -> dict[str, object]:
        fields: dict[str, object] = orjson.loads(self._record("train", self._path(seq)).fields["header"])
        return fields

    def write_meta(self, seq: int, meta: dict[str, object]) -> None:
        self._put(seq, orjson.dumps(meta).decode(), self._record("train", self._path(seq)).fields["body"])

    def snapshot_store(self) -> object:
        return self._copy_store(self.root)

    def restore_store(self, token: object) -> None:
        self._restore_store(token, self.root)
        shutil.rmtree(Path(str(token)).parent)

    # How the judge tells records apart

    def identity_of(self, record: Record) -> str:
        return f"{record.fields['stage']} {record.seq}"

    def payload_of(self, record: Record) -> str:
        return str(record.fields["body"])

    def owner_of(self, record: Record) -> str:
        return str(record.fields["stage"])


@pytest.mark.parametrize("keep_header", [False, True], ids=["whole file", "header kept"])
@pytest.mark.parametrize("notices", [audit, read])
@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_each_edit_is_noticed(
    attack: type[Attack], notices: Callable[[CheckpointManager], bool], tmp_path: Path, *, keep_header: bool
) -> None:
    result = attack().run(Directory(tmp_path / "store", notices, keep_header=keep_header))
    assert (result.status, result.error, result.guard) == ("safe", None, None)


def test_the_judge_knows_nine_edits() -> None:
    assert len(AT_REST_ATTACKS_WITH_SNAPSHOT) == 9


@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_the_judge_sees_a_store_that_notices_nothing(attack: type[Attack], tmp_path: Path) -> None:
    result = attack().run(Directory(tmp_path / "store", lambda _: True, keep_header=False))
    assert result.status == "VULNERABLE"
