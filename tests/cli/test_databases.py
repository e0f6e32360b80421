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


def test_an_index_is_chosen_and_used(cli: Cli, postgres_url: str, tmp_path: Path) -> None:
    fields = ("--index", "status", "--index", "metadata.run")
    assert cli("init", "--store", postgres_url, *fields).code == 0
    Path("data.json").write_text("[1]")
    cli("save", "train", "data.json", "--metadata", "run=a7", "--store", postgres_url)
    server, _, schema = postgres_url.partition("?schema=")
    with psycopg.connect(server) as connection:
        query = f"SELECT stage, number, metadata_run, status FROM {schema}.checkpoints"
        assert connection.execute(query).fetchall() == [("train", 1, "a7", "completed")]
    assert "run=a7" in cli("find", "--metadata", "run=a7", "--store", postgres_url).out
    assert "keeps an index of status" in cli("init", "--store", postgres_url, "--index", "status").err
    assert cli("init", "--store", postgres_url, "--index", "none").code == 0
    refused = cli("init", "--store", postgres_url, "--index", "stage")
    assert (refused.code, "can't be indexed" in refused.err) == (2, True)
    elsewhere = cli("init", "--store", f"sqlite:///{tmp_path}/x.db", "--index", "status")
    assert elsewhere.code != 0
    assert "can't keep an index" in elsewhere.err
