"""``init``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_it_makes_a_store_and_leaves_one_that_is_there(cli: Cli, tmp_path: Path) -> None:
    assert cli("init").code == 0
    assert (tmp_path / "checkpoints" / "keyring.json").exists()
    before = (tmp_path / "checkpoints" / "keyring.json").read_bytes()
    result = cli("init", "--json")
    assert result.json["stages"] == []
    assert (tmp_path / "checkpoints" / "keyring.json").read_bytes() == before


def test_with_a_passphrase(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse battery staple\n")
    (tmp_path / "secret").chmod(0o600)
    assert cli("init", "--store", "other", "--key", "passphrase-file:secret").code == 0
    assert [
        slot["kind"]
        for slot in cli("key", "list", "--store", "other", "--key", "passphrase-file:secret", "--json").json["slots"]
    ] == ["passphrase"]


def test_it_says_whether_it_made_one(cli: Cli, tmp_path: Path, home: Path) -> None:
    assert "made the store checkpoints" in cli("init").err
    result = cli("init")
    assert result.code == 0
    assert "was there already, with 0 stages" in result.err
    assert cli("init", "--json").json["made"] is False
    assert cli("init", "--store", "new", "--json").json["made"] is True


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("--key bogus", 2),
        ("--key fd:x", 2),
        ("--key file:a --key file:b", 2),
        ("--index nosuch", 2),
        ("--index status", 2),
        ("--lock-timeout nan", 2),
        ("surplus", 2),
        ("--key file:missing.key", 12),
        ("--key passphrase-file:missing.txt", 12),
        ("--key cmd:false", 12),
        ("--key fd:987654", 12),
    ],
)
@pytest.mark.parametrize("place", ["new/store", "sqlite:///new/store.db"])
def test_what_is_wrong_about_an_option_is_told_before_anything_is_made(
    cli: Cli, tmp_path: Path, home: Path, place: str, options: str, code: int
) -> None:
    result = cli("init", "--store", place, *options.split())
    assert (result.code, result.out) == (code, "")
    assert [*tmp_path.iterdir(), *home.iterdir()] == []
