"""The pictures in the README show what the program shows today."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.pictures import dashboard, terminal

if TYPE_CHECKING:
    from pathlib import Path

ROOT = terminal.PICTURE.parents[2]


def shown(picture: str) -> list[tuple[str, str]]:
    """Return the texts of a picture, each with its colour; not how this version of rich writes the rest."""
    colours = dict(re.findall(r"\.terminal-(r\d+) \{ fill: (#\w+)", picture))
    texts = ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
    return [
        (colours.get(text.get("class", "").removeprefix("terminal-"), ""), text.text or "")
        for text in texts
        if (text.text or "").strip()
    ]


def test_it_shows_what_the_program_shows_today(tmp_path: Path) -> None:
    today = terminal.drawn(terminal.played(tmp_path))
    assert shown(today) == shown(terminal.PICTURE.read_text()), "draw it again: python -m tests.pictures.terminal"
    assert len({colour for colour, _ in shown(today)}) >= 4


def test_the_dashboard_shows_what_its_page_says_today(tmp_path: Path) -> None:
    today = dashboard.outline(dashboard.page(tmp_path))
    assert today == dashboard.TEXT.read_text(), "draw it again: python -m tests.pictures.dashboard"
    assert f"]({dashboard.PICTURE.relative_to(ROOT)})" in (ROOT / "README.md").read_text()
    assert dashboard.PICTURE.read_bytes().startswith(b"\x89PNG")


def test_it_is_in_the_readme_and_loads_nothing_from_elsewhere() -> None:
    assert f"]({terminal.PICTURE.relative_to(ROOT)})" in (ROOT / "README.md").read_text()
    picture = re.sub(r"<!--.*?-->", "", terminal.PICTURE.read_text())
    assert set(re.findall(r"\w+://[^\"' )]+", picture)) == {"http://www.w3.org/2000/svg"}
