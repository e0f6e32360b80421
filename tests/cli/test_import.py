"""``import``: what is exported arrives in another store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager, KeyFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_a_store_is_moved_and_kept_up_to_date(
    cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]
) -> None:
    result = cli("export", "x.bundle", *words)
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()[1:]] == [["clean", "1", "1"], ["train", "3", "3"]]
    assert "2 stages, 4 versions" in result.err
    planned = cli("import", "x.bundle", *words, *there, "--dry-run")
    assert [line.split() for line in planned.out.splitlines()[1:]] == [["clean", "1", "1", "1"], ["train", "3", "3", "3"]]
    assert "would be added: 2 stages, 4 of 4 versions, " in planned.err
    assert cli("list", *there).out == ""
    imported = cli("import", "x.bundle", *words, *there)
    assert (imported.code, imported.out) == (0, planned.out)
    assert "added: 2 stages, 4 of 4 versions, " in imported.err
    assert cli("show", "train", *there).out == cli("show", "train").out
    assert cli("verify", *there).out == "4 whole\n"
    assert "\nnothing in the bundle is new: 2 stages, 4 versions, " in f"\n{cli('import', 'x.bundle', *words, *there).err}"
    CheckpointManager(store).save_checkpoint("train", "newer")
    assert cli("export", "train", "x.bundle", *words).code == 16  # it is there already
    assert cli("export", "train", "x.bundle", *words, "--overwrite").code == 0
    assert cli("import", "x.bundle", *words, *there, "--json").json["added"] == 1


def test_tags_come_along_and_are_never_moved_silently(
    cli: Cli, store: Path, words: tuple[str, str], there: tuple[str, ...]
) -> None:
    for version, name in (("1", "first"), ("2", "good")):
        assert cli("tag", f"train@{version}", name).code == 0
    exported = cli("export", "train", "x.bundle", *words)
    assert "1 stage, 3 versions and 2 tags" in exported.err
    planned = cli("import", "x.bundle", *words, *there, "--dry-run")
    assert "would be added: 1 stage, 3 of 3 versions and 2 tags, " in planned.err
    assert "added: 1 stage, 3 of 3 versions and 2 tags, " in cli("import", "x.bundle", *words, *there).err
    assert cli("tag", "train", *there).out == cli("tag", "train").out
    assert cli("tag", "train@3", "good", "--force", *there).code == 0
    assert cli("tag", "train", "first", "--delete", *there).code == 0
    before = cli("tag", "train", *there).out
    said = cli("import", "x.bundle", *words, *there, "--dry-run")
    assert "stage train: these tags name other versions here and were not moved: good" in said.err
    assert "would be added: 1 stage, 0 of 3 versions and 1 tag, " in said.err
    assert cli("tag", "train", *there).out == before
    stage = cli("import", "x.bundle", *words, *there, "--json").json["stages"][0]
    assert (stage["added"], stage["tags"], stage["tags_kept"]) == (0, ["first"], ["good"])
    assert cli("verify", *there).out == "3 whole\n"


def test_json(cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]) -> None:
    exported = cli("export", "train", "x.bundle", *words, "--json").json
    size = (tmp_path / "x.bundle").stat().st_size
    stage = {"stage": "train", "versions": 3, "newest": 3, "tags": []}
    rest = {"file": "x.bundle", "bytes": size, "versions": 3, "stages": [stage]}
    assert exported == {"schema": 1, "command": "export"} | rest
    imported = cli("import", "x.bundle", *words, *there, "--rename", "train", "fit", "--json").json
    assert imported["stages"] == [stage | {"stage": "fit", "added": 3, "tags_kept": []}]
    assert (imported["bytes"], imported["added"], imported["dry_run"]) == (size, 3, False)


def test_exit_codes_of_bundles_that_are_refused(
    cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]
) -> None:
    assert cli("export", "trian", "x.bundle", *words).code == 14
    assert cli("import", "x.bundle", *words, *there).code == 20
    cli("export", "x.bundle", *words)
    assert cli("import", "x.bundle", *words, *there, "--rename", "trian", "x").code == 14
    assert cli("import", "x.bundle", *words, "--store", str(tmp_path / "nowhere")).code == 10
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "there.key").rename(tmp_path / "moved.key")
    there = (*there[:3], f"file:{tmp_path / 'moved.key'}")
    CheckpointManager(tmp_path / "there", key=KeyFile(there[3].removeprefix("file:"))).save_checkpoint("train", "own")
    parted = cli("import", "x.bundle", *words, *there)
    assert parted.code == 16
    assert "--rename" in parted.err
    whole = (tmp_path / "x.bundle").read_bytes()
    (tmp_path / "x.bundle").write_bytes(whole[:-1])
    assert cli("import", "x.bundle", *words, *there).code == 13
    (tmp_path / "words.txt").write_text("other words")
    assert cli("import", "x.bundle", *words, *there).code == 12
