"""The program shows what any field of a version may hold: as valid JSON, or as text that acts on no terminal."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager.cli.exit_codes import Exit
from tests.attacks import fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_a_field_that_holds_anything_is_shown(cli: Callable[..., Any], tmp_path: Path, more: tuple[str, ...]) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    cm = CheckpointManager(tmp_path / "checkpoints")
    honest = [(version, data, path) for version, data in fields.honest() for path in fields.paths(version)]
    for number, (version, data, path) in enumerate(dice.sample(honest, 6)):
        cm.save_checkpoint(f"stage{number}", 1)
        fields.plant(cm, f"stage{number}", version, data, path, dice.choice(fields.NASTY))
    commands = [
        ["list"],
        ["status"],
        ["verify"],
        ["report"],
        ["repair", "--dry-run"],
        ["prune", "--keep-last", "1", "--dry-run"],
    ]
    commands += [[*command, f"stage{number}"] for number in range(6) for command in (["log"], ["show"], ["show", "--meta"])]
    for command in commands:
        result = cli(*command, *more)
        assert result.code not in {1, Exit.INTERNAL}, (command, result.err, f"seed {seed}")
        assert all(line.isprintable() for line in (result.out + result.err).splitlines()), (command, f"seed {seed}")
        if more and result.out:
            json.loads(result.out)
