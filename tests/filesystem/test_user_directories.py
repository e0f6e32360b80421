"""Where the user's own files belong."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
import pytest

from checkpoint_manager._filesystem import user_directories


def _found(find: str) -> Path | None:
    directory = getattr(user_directories, find)()
    return directory and Path(directory)


@pytest.mark.parametrize("platform", ["linux", "another"])
@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/home/ann"},
        {"HOME": "/home/ann/"},
        {"HOME": "/"},
        {"HOME": "/home/ann", "XDG_STATE_HOME": "/state", "XDG_DATA_HOME": "/data/"},
        {"HOME": "/home/ann", "XDG_STATE_HOME": "", "XDG_DATA_HOME": "~/data"},
        {"HOME": "/home/ann", "XDG_STATE_HOME": "state", "XDG_DATA_HOME": "./data"},
        {"HOME": "/home/ann", "ANDROID_ROOT": "/system"},
        {"HOME": "ann"},
        {"HOME": ""},
        {},
    ],
    ids=str,
)
def test_they_are_where_platformdirs_finds_them(
    environment: dict[str, str], platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    expected = platformdirs.user_state_path("checkpoint_manager"), platformdirs.user_data_path("checkpoint_manager")
    monkeypatch.setattr(sys, "platform", platform)
    assert (_found("state_directory"), _found("data_directory")) == expected


@pytest.mark.parametrize("answer", [RuntimeError(), "~/.local/state/checkpoint_manager"], ids=str)
def test_there_is_none_without_a_home_directory(answer: RuntimeError | str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: str) -> str:
        if isinstance(answer, str):  # as older versions of platformdirs
            return answer
        raise answer

    monkeypatch.setenv("HOME", "nowhere")
    monkeypatch.setattr(platformdirs, "user_state_dir", find)
    assert _found("state_directory") is None
