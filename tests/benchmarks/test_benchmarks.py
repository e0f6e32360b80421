"""The benchmarks still run, from the library as it is, without anything to compare with; their figures are not looked at."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import aims, bootstrap, chart, disks, environment, summary, timing
from benchmarks.__main__ import WORKLOADS
from benchmarks.contenders import floors, ours, programs, registry
from benchmarks.contenders.base import Contender
from benchmarks.payload import rows
from benchmarks.summary import Result, Row

ROOT = Path(__file__).parents[2]


def test_the_benchmarks_run_and_say_what_they_found(tmp_path: Path) -> None:
    """One run for all that is to be seen of it: it takes its seconds."""
    words = ["--no-install", "--scale", "tiny", "--peers", "AES-GCM", "--folder", tmp_path]
    command = [sys.executable, "-m", "benchmarks", *words, "--json", tmp_path / "results.json", "--svg", tmp_path / "chart.svg"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.svg", "results.json"]  # nothing else is left
    record = json.loads((tmp_path / "results.json").read_text())
    check_that_each_workload_measures_the_library(record)
    check_that_who_is_absent_is_named(record, done.stdout)
    assert {"cpu", "kernel", "filesystem", "python", "load"} <= set(record["environment"])
    assert record["environment"]["versions"]["orjson"]
    texts = {element.text for element in ET.parse(tmp_path / "chart.svg").iter() if element.tag.endswith("text")}
    assert {ours.OURS, "SQLite WAL + AES-GCM", "Save 1 KiB"} <= texts


def check_that_each_workload_measures_the_library(record: dict[str, Any]) -> None:
    measured = {
        key.partition("/")[0]
        for key, result in record["results"].items()
        if any(name.startswith(ours.OURS) and median > 0 for name, median in result["median"].items())
    }
    assert measured >= set(WORKLOADS) - {"memory"}
    assert "memory" in measured or not Path("/proc/self/clear_refs").exists()


def check_that_who_is_absent_is_named(record: dict[str, Any], printed: str) -> None:
    present = set(record["contenders"])
    assert "SQLite WAL + AES-GCM" in present
    assert record["absent"][programs.GIT] == "left out by --peers"
    assert present | set(record["absent"]) == {kind.name for kind in registry.ALL}
    assert all(kind.name in printed for kind in registry.ALL)


class Forgetful(Contender):
    name = "forgetful"

    def save(self, stage: str, value: object) -> None:
        pass

    def load(self, stage: str, version: object = None) -> object:
        return None


class Open(floors.JsonBare):
    name = "says that it encrypts"
    lacks = floors.JsonBare.lacks - {"encrypt"}


class Uninstalled(Contender):
    name = "uninstalled"

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        import no_such_module_here  # type: ignore[import-not-found]  # noqa: F401

        super().__init__(folder, durable=durable)


@pytest.mark.parametrize(("kind", "complaint"), [(Forgetful, "does not return what was saved"), (Open, "in the clear")])
def test_what_does_not_do_as_it_says_is_not_measured(kind: type[Contender], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=complaint):
        registry.gather(tmp_path, {}, kinds=[kind])


def test_what_is_not_installed_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    found = registry.gather(tmp_path, {}, kinds=[ours.Ours, Uninstalled, programs.Restic])
    assert set(found.present) == {ours.OURS}
    assert found.absent["uninstalled"] == "not installed: no_such_module_here"
    assert "apt-get install restic" in found.absent[programs.RESTIC]


def test_what_pip_said_is_the_reason(tmp_path: Path) -> None:
    found = registry.gather(tmp_path, {"no_such_module_here": "can't be installed: no wheel"}, kinds=[Uninstalled])
    assert found.absent == {"uninstalled": "can't be installed: no wheel"}


def test_each_requirement_of_the_extra_is_looked_for() -> None:
    assert set(bootstrap.requirements()) == set(bootstrap.MODULES)


@pytest.mark.parametrize("length", [1024, 5000, 100_000])
@pytest.mark.parametrize("nones", [True, False])
def test_payloads_are_of_the_length_that_is_asked_for(length: int, nones: bool) -> None:
    encoded = json.dumps(rows(length, nones=nones), separators=(",", ":"), ensure_ascii=False).encode()
    assert len(encoded) == length
    assert (b"null" in encoded) == nones


def test_no_row_of_a_payload_repeats_another_one() -> None:
    found = [json.dumps({**row, "id": 0, "parent": None}) for row in rows(500_000)["rows"]]
    assert len(set(found)) == len(found)


def test_a_disk_with_a_journal_is_mounted_where_that_may_be_done_and_is_gone_in_the_end(tmp_path: Path) -> None:
    with disks.journaled(tmp_path) as place:
        if isinstance(place, str):
            pytest.skip(place)
        assert environment.filesystem(place).startswith("ext4 ")
        with disks.journaled(place) as inner:
            assert inner == "the disk under test has a journal itself"
    assert not os.path.ismount(tmp_path / "journaled")


def test_turns_are_taken_by_all_and_the_first_round_does_not_count() -> None:
    turns: list[tuple[str, int]] = []
    entrants = [timing.Entrant(name, lambda number, name=name: turns.append((name, number)), lambda n: n) for name in "abc"]
    samples = timing.interleave(entrants, timing.Rounds(0, 5, 5))
    assert {name: len(times) for name, times in samples.items()} == {"a": 5, "b": 5, "c": 5}
    rounds = [[name for name, number in turns if number == wanted] for wanted in range(6)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1  # not always in the same order


def test_slow_ones_take_few_turns_but_some() -> None:
    quick = [timing.Entrant(f"quick {number}", lambda _: sum(range(100))) for number in range(10)]
    slow = timing.Entrant("slow", lambda _: time.sleep(0.01), yields=True)
    samples = timing.interleave([slow, *quick], timing.Rounds(0, 50, 50))
    assert all(len(samples[entrant.name]) == 50 for entrant in quick)
    assert 3 <= len(samples["slow"]) < 49


def test_percentiles_are_samples() -> None:
    samples = [float(number) for number in range(1, 101)]
    assert summary.percentile(samples, 0.99) == 99
    assert summary.row("x", samples).median == 50.5
    assert summary.row("x", samples[:19]).p99 is None


def field_of(*kinds: type[Contender]) -> registry.Field:
    return registry.Field({kind.name: kind for kind in kinds}, {kind.name: "" for kind in kinds}, {})


def test_aims_are_judged_by_ratios_of_one_run() -> None:
    def aim(ours_median: float) -> aims.Aim:
        result = Result(
            "save/1 KiB/None",
            "",
            "s",
            (Row(ours.OURS, ours_median, 1), Row(floors.BARE, 1.0, 1), Row(floors.LINK_FIRST, 1.0, 1)),
        )
        judged = aims.judge([result], field_of(ours.Ours, floors.Bare))
        return next(each for each in judged if "1 KiB" in each.text)

    assert (aim(1.2).decision, aim(1.3).decision) == ("met", "not met")
    assert math.isclose(aim(1.2).measured or 0, 1.2)
    assert all(each.decision == "" for each in aims.judge([], field_of()))


def test_an_aim_names_the_size_that_was_measured() -> None:
    judged = aims.judge([Result("arrays/save", "save 64 MiB", "s", (Row(ours.OURS, 1.0),))], field_of(ours.Ours))
    assert sum("64 MiB" in each.text for each in judged) == 9
    assert not any("1 GiB" in each.text for each in judged)


def test_the_quickest_encrypted_peer_is_the_one_to_beat() -> None:
    class Sealing(Contender):
        name = "sealing"

    class Plain(Contender):
        name = "plain"
        lacks = frozenset({"encrypt"})

    rows_ = (Row(ours.OURS, 1.0), Row("sealing", 0.9), Row("plain", 0.1))
    judged = aims.judge([Result("save/1 MB/None", "", "s", rows_)], field_of(ours.Ours, Sealing, Plain))
    found = next(each for each in judged if "sealing" in each.text)
    assert (found.measured, found.decision) == (0.9, "not met")


def test_figures_have_three_digits_and_a_unit() -> None:
    shown = [summary.figure(*each) for each in ((0.000_012, "s"), (0.0123, "s"), (2.0, "s"), (1234.0, "/s"), (1500.0, "bytes"))]
    assert shown == ["12.0 µs", "12.3 ms", "2.00 s", "1,234/s", "1.50 kB"]


def test_a_chart_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        chart.draw([], field_of(), "")
