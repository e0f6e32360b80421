"""``dashboard``: what the command tells, and how it opens the browser. The pages are in tests/dashboard."""

from __future__ import annotations

import os
import queue
import re
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from checkpoint_manager import CheckpointManager, KeyFile, Retention
from checkpoint_manager._store.key_sources import create_key_file
from checkpoint_manager.cli.commands import dashboard
from checkpoint_manager.cli.commands.doctor import environment
from checkpoint_manager.dashboard import start
from checkpoint_manager.dashboard.auth import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from checkpoint_manager.cli.commands.doctor.check import Check
    from checkpoint_manager.dashboard.server import Place
    from checkpoint_manager.dashboard.stores import ShownStore
    from checkpoint_manager.dashboard.views.call import Site
    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--port", "1", "--unix", "x"], "name different places"),
        (["--listen", "0.0.0.0"], "needs TLS"),
        (["--scan", "empty"], "there is no store in empty, nor below"),
    ],
)
def test_what_is_not_right_is_told(cli: Cli, tmp_path: Path, options: list[str], told: str) -> None:
    (tmp_path / "empty").mkdir()
    CheckpointManager(tmp_path / "store").save_checkpoint("train", 1)
    store = [] if "--scan" in options else ["--store", "store"]
    result = cli("dashboard", "--no-browser", *store, *options)
    assert (result.code in {2, 10}, told in result.err) == (True, True)


def _other_key(folder: Path) -> str:
    create_key_file(folder / "other.key")
    return f"file:{folder / 'other.key'}"


def test_a_key_that_opens_no_store_starts_no_server(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "serve", lambda *_: pytest.fail("it serves"))
    for name in ("one", "other"):
        CheckpointManager(tmp_path / name).save_checkpoint("train", 1)
    key = _other_key(tmp_path)
    for stores in (["--store", "one"], ["--scan", "."]):
        result = cli("dashboard", *stores, "--port", "0", "--no-browser", "--key", key)
        assert (result.code, result.out) == (12, "")
        assert result.err == cli("status", "--store", "one", "--key", key).err
    result = cli("dashboard", "--store", "one", "--port", "0", "--no-browser", "--key", "file:absent.key")
    assert (result.code, result.out) == (12, "")


def test_a_store_that_the_key_does_not_open_is_shown_beside_one_that_it_opens(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "serve", lambda _, place, tell: (tell(), place.listener.close()))
    key = _other_key(tmp_path)
    CheckpointManager(tmp_path / "one").save_checkpoint("train", 1)
    CheckpointManager(tmp_path / "two", key=KeyFile(str(tmp_path / "other.key"))).save_checkpoint("train", 1)
    assert cli("dashboard", "--scan", ".", "--port", "0", "--no-browser", "--key", key).code == 0


def test_a_store_that_does_not_open_for_another_reason_is_shown(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "serve", lambda _, place, tell: (tell(), place.listener.close()))
    CheckpointManager(tmp_path / "store").save_checkpoint("train", 1)
    (tmp_path / "store" / "keyring.json").write_text("{}")
    assert cli("dashboard", "--store", "store", "--port", "0", "--no-browser").code == 0


def test_links_are_told_and_opened_by_a_file_of_this_user(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(dashboard.webbrowser, "open", lambda address: (opened.put(address), threading.Event().wait()))

    def serve(site: Site, place: Place, started: Callable[[], None]) -> None:
        started()
        site.activity.note("refused", "a login")
        assert next(iter(site.examine(str(tmp_path / "store")))).topic == "Python"
        assert next(iter(site.stores.values())).cm.stages() == ["train"]
        place.listener.close()

    monkeypatch.setattr(start, "serve", serve)
    CheckpointManager(tmp_path / "store").save_checkpoint("train", 1)
    result = cli("dashboard", "--store", str(tmp_path / "store"), "--allow-read", "--allow-change", "--port", "0")
    first, second = result.out.split()
    assert "one can see metadata, read data and make changes:" in result.err
    assert "refused: a login" in result.err
    path = opened.get(timeout=20).removeprefix("file://")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path) as file:
        assert first in file.read()
    os.unlink(path)
    assert second.startswith("http://127.0.0.1:")


def _send(site: Site, place: Place, store: ShownStore, page: str) -> str:
    """Log in, send the form of a page of a store, and return what it answers."""
    client = TestClient(start.application(site, place), place.address)
    sent = {"origin": place.address}
    client.post("/login", data={"token": site.logins.new_token(Role(change=True))}, headers=sent)
    form = re.search(r'name="form" value="([^"]+)"', client.get(f"/s/{store.id}/health").text)
    assert form is not None
    return client.post(f"/s/{store.id}{page}", data={"form": form[1]}, headers=sent).text


def _damage(store: Path) -> None:
    path = store / "history/train/000000000001.checkpoint"
    path.chmod(0o600)
    path.write_bytes(b"nothing of this opens" * 20)


def test_pages_advise_commands_for_the_store_that_they_show(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[str] = []

    def serve(site: Site, place: Place, _: Callable[[], None]) -> None:
        client = TestClient(start.application(site, place), place.address)
        role = Role(change=True)
        client.post("/login", data={"token": site.logins.new_token(role)}, headers={"origin": place.address})
        broken = next(store for store in site.stores.values() if store.name == "broken")
        addresses = (f"/s/{broken.id}/{page}?stage=train&version=1" for page in ("stage", "version"))
        pages.extend(client.get(address).text for address in addresses)
        pages.append(_send(site, place, broken, "/examine"))
        place.listener.close()

    monkeypatch.setattr(start, "serve", serve)
    for name in ("broken", "whole"):
        CheckpointManager(tmp_path / name).save_checkpoint("train", 1)
    _damage(tmp_path / "broken")
    result = cli("dashboard", "--scan", str(tmp_path), "--port", "0", "--no-browser")
    assert result.code == 0, result.err
    for page in pages[:2]:
        assert f"checkpoint-manager repair --store {tmp_path / 'broken'}" in page
        assert "verify()" not in page
    assert f"checkpoint-manager verify --store {tmp_path / 'broken'}" in pages[2]  # of the doctor
    assert len(pages) == 3


def test_two_set_ups_that_are_checked_at_once_advise_commands_for_their_own_stores(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, advised = threading.Barrier(2), dict[str, set[str]]()

    def look_when_both_have_begun() -> Iterator[Check]:
        both.wait(timeout=20)
        yield from ()

    def serve(site: Site, place: Place, _: Callable[[], None]) -> None:
        with ThreadPoolExecutor(2) as pool:
            pages = pool.map(lambda store: _send(site, place, store, "/examine"), site.stores.values())
            for store, page in zip(site.stores.values(), pages, strict=True):
                advised[store.location] = set(re.findall(r"checkpoint-manager verify --store ([^\s<,]+)", page))
        place.listener.close()

    monkeypatch.setattr(start, "serve", serve)
    monkeypatch.setattr(environment, "look_at_last_seen", look_when_both_have_begun)
    for name in ("one", "other"):
        CheckpointManager(tmp_path / name).save_checkpoint("train", 1)
        _damage(tmp_path / name)
    result = cli("dashboard", "--scan", str(tmp_path), "--port", "0", "--no-browser")
    assert result.code == 0, result.err
    assert advised == {str(tmp_path / name): {str(tmp_path / name)} for name in ("one", "other")}


def test_what_is_logged_in_the_background_names_the_store_of_the_command_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(site: Site, place: Place, _: Callable[[], None]) -> None:
        (store,) = site.stores.values()
        for _ in range(2):
            store.cm.save_checkpoint("train", 1)
        _damage(tmp_path / "store")
        assert store.retention_plans.make((Retention(keep_last=1), "train"), 20) is not None
        place.listener.close()

    monkeypatch.setattr(start, "serve", serve)
    CheckpointManager(tmp_path / "store").close()
    result = cli("dashboard", "--store", str(tmp_path / "store"), "--port", "0", "--no-browser")
    assert f"checkpoint-manager verify --store {tmp_path / 'store'}" in result.err


def test_where_the_extra_is_missing_it_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "checkpoint_manager.dashboard.server", raising=False)
    monkeypatch.delattr("checkpoint_manager.dashboard.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = cli("dashboard", "--no-browser")
    assert (result.code, result.out) == (2, "")
    assert "the dashboard needs uvicorn. Run: pip install 'checkpoint-manager[cli,dashboard]'" in result.err
