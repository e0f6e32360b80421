"""What several users of a store may do at once, in each place."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(32)


@pytest.mark.parametrize("kind", ["directory", "sqlite", "postgresql", "bucket"])
def test_what_is_saved_while_the_key_is_rotated_can_be_read(kind: str, new_place: Callable[[str], str]) -> None:
    url = new_place(kind)
    with CheckpointManager(url, key=KEY) as owner:
        owner.save_checkpoint("train", "first")
        acknowledged = {1: "first"}

        def write(writer: int) -> None:
            with CheckpointManager(url, key=KEY) as cm:
                for number in range(5):
                    acknowledged[cm.save_checkpoint("train", f"{writer}.{number}").number] = f"{writer}.{number}"

        writers = [threading.Thread(target=write, args=(writer,)) for writer in range(2)]
        for each in writers:
            each.start()
        owner.keys.rotate()
        for each in writers:
            each.join()
        assert [version.number for version in reversed(owner.history("train"))] == sorted(acknowledged) == list(range(1, 12))
        assert all(owner.load_checkpoint("train", number) == data for number, data in acknowledged.items())
        assert owner.verify().ok
