"""What other writers do between a look and a write, where the lock does not exclude them: each race, step by step."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, CheckpointNotFoundError, Retention, VersionConflictError
from tests.loose import LooseBackend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = b"the key of both hosts, 32 bytes."


@pytest.fixture
def backend() -> LooseBackend:
    return LooseBackend()


@pytest.fixture
def here(backend: LooseBackend, home: Path) -> CheckpointManager:
    cm = CheckpointManager(backend, key=KEY)
    for number in range(1, 4):
        cm.save_checkpoint("train", {"n": number})
    return cm


@pytest.fixture
def there(backend: LooseBackend, here: CheckpointManager) -> CheckpointManager:
    return CheckpointManager(backend, key=KEY)


def numbers(cm: CheckpointManager) -> list[int]:
    return [version.number for version in cm.history("train")]


def test_a_number_that_was_taken_and_deleted_meanwhile_is_not_used(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    """The put-if-absent of 4 succeeds, and the record calls 4 deleted: the save would be lost."""

    def save_twice_and_delete_the_first() -> None:
        there.save_checkpoint("train", {"n": 40})
        there.save_checkpoint("train", {"n": 50})
        there.delete_versions("train", [4])

    backend.before("append", save_twice_and_delete_the_first)
    saved = here.save_checkpoint("train", {"n": 4})
    assert backend.is_done
    assert saved.number == 6
    for cm in (here, there, CheckpointManager(backend, key=KEY)):
        assert cm.load_checkpoint("train") == {"n": 4}
        assert numbers(cm) == [6, 5, 3, 2, 1]
        assert cm.verify().ok
    assert backend.versions("train") == [1, 2, 3, 5, 6]


def test_an_expected_version_is_one_that_nobody_follows_meanwhile(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    backend.before("append", lambda: there.save_checkpoint("train", {"n": 40}))
    with pytest.raises(VersionConflictError):
        here.save_checkpoint("train", {"n": 4}, expected_version=3)
    assert here.load_checkpoint("train") == {"n": 40}
    assert numbers(here) == [4, 3, 2, 1]


def test_an_update_is_made_again_of_what_another_writer_saved(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    def one_more(data: Any) -> dict[str, int]:
        return {"n": data["n"] + 1}

    backend.before("append", lambda: there.update_checkpoint("train", one_more))
    here.update_checkpoint("train", one_more)
    assert backend.is_done
    assert here.load_checkpoint("train") == there.load_checkpoint("train") == {"n": 5}
    assert numbers(here) == [5, 4, 3, 2, 1]


def test_an_update_that_never_comes_to_pass_ends(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    backend.before("append", *[lambda: there.save_checkpoint("train", {"n": 0})] * 100)
    with pytest.raises(VersionConflictError):
        here.update_checkpoint("train", lambda _: {"n": 1})


def test_what_was_put_while_the_key_was_rotated_is_sealed_again(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    backend.before("append", there.keys.rotate)
    here.save_checkpoint("train", {"n": 4})
    for cm in (here, there, CheckpointManager(backend, key=KEY)):
        assert cm.load_checkpoint("train") == {"n": 4}
        assert cm.verify().ok


def test_what_is_deleted_before_it_is_sealed_again_is_saved_above(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    def save_and_delete() -> None:
        there.save_checkpoint("train", {"n": 50})
        there.delete_versions("train", [4])

    backend.before("append", there.keys.rotate)
    backend.before("replace", save_and_delete)
    here.save_checkpoint("train", {"n": 4})
    assert numbers(here) == [6, 5, 3, 2, 1]
    assert here.load_checkpoint("train") == {"n": 4}
    assert here.verify().ok


def tag(cm: CheckpointManager) -> object:
    return cm.tag("train", 1, "other")


def delete(cm: CheckpointManager) -> object:
    return cm.delete_versions("train", [1])


@pytest.mark.parametrize(
    ("record", "mine", "other"),
    [
        ("tags", lambda cm: cm.tag("train", 2, "good"), tag),
        ("tags", lambda cm: cm.untag("train", "before"), tag),
        ("gaps", lambda cm: cm.delete_versions("train", [2]), delete),
        ("gaps", lambda cm: cm.prune(Retention(keep_last=1)), delete),
        ("gaps", lambda cm: cm.delete_stage("train"), delete),
        ("tags", lambda cm: cm.keys.rotate(), tag),
        ("gaps", lambda cm: cm.keys.rotate(), delete),
    ],
    ids=["tag", "untag", "delete", "prune", "delete a stage", "rotate tags", "rotate gaps"],
)
def test_what_two_writers_change_in_a_record_is_both_there(
    backend: LooseBackend,
    here: CheckpointManager,
    there: CheckpointManager,
    record: str,
    mine: Callable[[CheckpointManager], object],
    other: Callable[[CheckpointManager], object],
) -> None:
    there.save_checkpoint("train", {"n": 4})
    there.tag("train", 3, "before")
    if record == "gaps":
        there.untag("train", "before")
        if mine is not delete:
            there.save_checkpoint("train", {"n": 5})
            there.delete_versions("train", [4])
    backend.before(f"write {record}", lambda: other(there))
    mine(here)
    assert backend.is_done
    again = CheckpointManager(backend, key=KEY)
    if record == "tags":
        assert again.tags("train")["other"] == 1
    else:
        assert 1 not in numbers(again)
    assert again.verify().ok


def test_a_version_that_two_writers_delete_at_once_is_deleted_once(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    backend.before("write gaps", lambda: there.delete_versions("train", [1, 2]))
    here.delete_versions("train", [2])
    assert numbers(CheckpointManager(backend, key=KEY)) == [3]
    assert here.verify().ok


def test_a_version_that_is_tagged_while_it_is_deleted_stays(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    there.save_checkpoint("train", {"n": 4})
    there.delete_versions("train", [1])
    backend.before("write gaps", lambda: there.tag("train", 3, "good"))
    with pytest.raises(CheckpointError, match="tag"):
        here.delete_versions("train", [2, 3])
    again = CheckpointManager(backend, key=KEY)
    assert numbers(again) == [4, 3, 2]
    assert again.load_checkpoint("train", version="good") == {"n": 3}
    assert again.verify().ok
    again.untag("train", "good")
    again.delete_versions("train", [2, 3])
    assert again.verify().ok


def test_a_version_that_is_deleted_while_it_is_tagged_has_no_tag(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    backend.before("write tags", lambda: there.delete_versions("train", [1]))
    with pytest.raises(CheckpointNotFoundError):
        here.tag("train", 1, "good")
    again = CheckpointManager(backend, key=KEY)
    assert again.tags("train") == {}
    assert again.verify().ok


@pytest.mark.parametrize(
    ("moment", "act"),
    [("write tags", lambda cm: cm.untag("train", "good")), ("write gaps", lambda cm: cm.tag("train", 1, "late"))],
    ids=["untagged", "tagged"],
)
def test_a_stage_that_is_deleted_while_its_tags_change_has_none(
    backend: LooseBackend,
    here: CheckpointManager,
    there: CheckpointManager,
    moment: str,
    act: Callable[[CheckpointManager], object],
) -> None:
    here.tag("train", 2, "good")
    backend.before(moment, lambda: act(there))
    here.delete_stage("train")
    assert backend.is_done
    here.save_checkpoint("train", {"n": 5})
    assert numbers(here) == [5, 4]  # 4 is the delete marker
    assert here.tags("train") == {}
    assert here.verify().ok


def test_an_attachment_that_is_saved_while_another_is_removed_stays(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    here.save_checkpoint("train", {"n": 4}, attachments={"weights": b"old"})
    here.save_checkpoint("train", {"n": 5})
    backend.before("delete_attachments", lambda: there.save_checkpoint("train", {"n": 6}, attachments={"weights": b"new"}))
    here.delete_versions("train", [4])
    assert backend.is_done
    assert there.get_checkpoint("train").attachments["weights"].read() == b"new"
    assert here.verify().ok


def test_a_copy_of_what_is_deleted_meanwhile_is_not_acknowledged_without_its_attachments(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    here.save_checkpoint("train", {"n": 4}, attachments={"weights": b"old"})
    here.save_checkpoint("train", {"n": 5})
    backend.before("append", lambda: there.delete_versions("train", [4]))
    with pytest.raises(CheckpointError, match="attachment"):
        here.restore_checkpoint("train", 4)


def test_a_reader_that_meets_a_deletion_between_two_looks_is_not_told_of_a_rollback(
    backend: LooseBackend, here: CheckpointManager, there: CheckpointManager
) -> None:
    def save_and_delete() -> None:
        there.save_checkpoint("train", {"n": 4})
        there.delete_versions("train", [3])

    fresh = CheckpointManager(backend, key=KEY)
    backend.before("read gaps", save_and_delete)
    assert fresh.load_checkpoint("train") == {"n": 4}
    assert backend.is_done


def test_of_two_hosts_that_begin_a_store_at_once_one_makes_the_keyring(home: Path) -> None:
    backend = LooseBackend()
    backend.before("write keyring", lambda: CheckpointManager(backend, key=KEY).save_checkpoint("train", {"n": 1}))
    assert CheckpointManager(backend, key=KEY).load_checkpoint("train") == {"n": 1}


class _LostLease(contextlib.AbstractContextManager[None]):
    lost = "its lease could not be renewed for 30 s"

    def __exit__(self, *_: object) -> None:
        pass


class LosesLeases(LooseBackend):
    def lock(self, *_: Any, purpose: str = "write", **__: Any) -> Any:
        return _LostLease() if purpose == "run" else contextlib.nullcontext()


def test_a_stage_whose_lease_was_lost_tells_and_keeps_its_result(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    cm = CheckpointManager(LosesLeases(), key=KEY)

    @cm.stage
    def train() -> int:
        return 7

    assert train() == 7
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "could not be renewed" in warning
    assert "another process may have run it too" in warning
    assert cm.load_checkpoint("train") == 7
