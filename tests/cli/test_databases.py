"""The commands, on stores in databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/x.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def damage(url: str) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute("UPDATE version SET content = x'00' WHERE number = 1")
        return
    server, _, schema = url.partition("?schema=")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"UPDATE {schema}.version SET content = 'x' WHERE number = 1")


def test_every_command_takes_a_url(cli: Cli, url: str) -> None:
    def run(*words: str, code: int = 0) -> Result:
        result = cli(*words, "--store", url)
        assert result.code == code, (words, result)
        return result

    Path("data.json").write_text("[1]")
    run("init")
    assert run("save", "train", "data.json").out == "1\n"
    run("save", "train", "data.json", "--metadata", "run=a7")
    run("has", "train")
    assert "train" in run("status").out
    assert "run=a7" in run("find", "--metadata", "run=a7").out
    run("tag", "train@1", "good")
    for words in (["log", "train"], ["show", "train"], ["diff", "train"], ["verify"], ["doctor"], ["list"], ["key", "list"]):
        run(*words)
    damage(url)
    run("verify", code=13)
    run("repair", "--yes")
    run("verify")
    assert [row.split()[0] for row in run("log", "train").out.splitlines()[1:]] == ["2"]
