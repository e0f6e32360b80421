"""The commands, on a store in each place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.s3 import version_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


PLACES = ["directory", "sqlite", "postgresql", "bucket"]


def damage(url: str, request: pytest.FixtureRequest) -> None:
    if "://" not in url:
        version = Path(url, "history", "train", f"{1:012d}.checkpoint")
        version.chmod(0o600)
        version.write_bytes(b"x")
        return
    if url.startswith("s3"):
        request.getfixturevalue("s3").put(version_key(url, "train", 1), b"x")
        return
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute("UPDATE version SET content = x'00' WHERE number = 1")
        return
    server, _, schema = url.partition("?schema=")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"UPDATE {schema}.version SET content = 'x' WHERE number = 1")


@pytest.mark.parametrize("kind", PLACES)
def test_the_commands_are_the_same_in_every_place(
    cli: Cli, kind: str, new_place: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    url = new_place(kind)

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
    Path("secret").write_text("seven words that only we two know")
    run("export", "train.bundle", "--bundle-key", "passphrase-file:secret")
    run("key", "rotate", "--yes")
    run("restore", "train@1", "--yes")
    run("prune", "train", "--keep-last", "2", "--yes")
    other = new_place("directory" if kind == "sqlite" else "sqlite")
    assert cli("init", "--store", other).code == 0
    assert cli("import", "train.bundle", "--bundle-key", "passphrase-file:secret", "--store", other).code == 0
    assert [row.split()[0] for row in cli("log", "train", "--store", other).out.splitlines()[1:]] == ["2", "1"]
    damage(url, request)
    run("verify", code=13)
    run("repair", "--yes")
    run("verify")
    assert [row.split()[0] for row in run("log", "train").out.splitlines()[1:]] == ["3", "2"]


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
