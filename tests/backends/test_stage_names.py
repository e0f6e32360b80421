"""Stage names as attacks: none leaves its directory, none takes another one's file."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkpoint_manager.backends.stage_names import from_filename, is_hashed, to_filename, validate
from checkpoint_manager.errors import StageNameError
from checkpoint_manager.testing.strategies import stage_names

MAX_FILENAME_CHARACTERS = 150
RESERVED_ON_WINDOWS = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"
}


def assert_safe(filename: str) -> None:
    """Assert that any file system takes ``filename`` for one plain name, and for what it is."""
    assert re.fullmatch(r"[a-z0-9_.%-]+", filename), filename
    assert len(filename) <= MAX_FILENAME_CHARACTERS
    assert filename[0] not in ".-"
    assert filename[-1] != "."
    for suffix in ("", ".checkpoint", ".lock"):
        assert (filename + suffix).split(".")[0] not in RESERVED_ON_WINDOWS


def folded(filename: str) -> str:
    """Return what a file system at its most forgetful makes of a name: case, Unicode form, trailing dots and spaces."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", filename).casefold()).rstrip(". ")


# Properties


@given(stage_names())
def test_every_name_is_safe_on_every_platform(stage: str) -> None:
    assert_safe(to_filename(stage))


@given(stage_names())
def test_every_file_name_leads_back_to_its_stage_or_says_that_it_is_hashed(stage: str) -> None:
    filename = to_filename(stage)
    if is_hashed(filename):
        assert from_filename(filename) is None
        assert filename.endswith("%%" + sha256(stage.encode()).hexdigest())
    else:
        assert from_filename(filename) == stage


@given(stage_names(), stage_names())
@example("é", "e\u0301")
@example("a" * 255, "a" * 254)
@example("%41", "A")
def test_distinct_names_get_distinct_files(one: str, other: str) -> None:
    assert (folded(to_filename(one)) == folded(to_filename(other))) == (one == other)


@given(stage_names())
def test_case_and_unicode_form_twins_get_distinct_files(stage: str) -> None:
    twins = {stage, stage.upper(), stage.lower(), stage.swapcase(), stage.casefold()}
    twins |= {unicodedata.normalize(form, twin) for twin in twins for form in ("NFC", "NFD", "NFKC", "NFKD")}
    twins = {twin for twin in twins if len(twin) <= 255}
    assert len({folded(to_filename(twin)) for twin in twins}) == len(twins)


@given(st.text(max_size=160) | st.from_regex(r"([a-z0-9_.-]|%[0-9a-f]{2}){1,20}(%%[0-9a-f]{64})?", fullmatch=True))
@example("%41bc%2")
@example("a\n")
@example("con")
@example("%c3")
@example("%ed%a0%80")
def test_a_file_name_that_is_not_canonical_is_no_stage(filename: str) -> None:
    stage = from_filename(filename)
    assert stage is None or to_filename(stage) == filename


# Ordinary names stay readable


@pytest.mark.parametrize("stage", ["data_ingestion", "train", "step-2", "v1.2.json", "a", "0", "_x", "a-", "a..b", "console"])
def test_an_ordinary_name_is_its_own_file_name(stage: str) -> None:
    assert to_filename(stage) == stage
    assert from_filename(stage) == stage


# Attacks


@pytest.mark.parametrize(
    ("stage", "filename"),
    [
        pytest.param("..", "%2e%2e", id="parent"),
        pytest.param(".", "%2e", id="here"),
        pytest.param("...", "%2e.%2e", id="three dots"),
        pytest.param("../x", "%2e.%2fx", id="traversal"),
        pytest.param("a/../../x", "a%2f..%2f..%2fx", id="traversal inside"),
        pytest.param("..\\x", "%2e.%5cx", id="traversal on Windows"),
        pytest.param("/abs", "%2fabs", id="absolute"),
        pytest.param("~/x", "%7e%2fx", id="home"),
        pytest.param("C:\\x", "%43%3a%5cx", id="drive"),
        pytest.param("\\\\host\\share", "%5c%5chost%5cshare", id="UNC"),
        pytest.param("a\\b", "a%5cb", id="backslash"),
        pytest.param("a:b", "a%3ab", id="alternate stream"),
        pytest.param("a\0b", "a%00b", id="NUL"),
        pytest.param("a\nb", "a%0ab", id="newline"),
        pytest.param("\x1b[2J", "%1b%5b2%4a", id="terminal escape"),
        pytest.param("a.", "a%2e", id="trailing dot"),
        pytest.param("a ", "a%20", id="trailing space"),
        pytest.param(" ", "%20", id="space"),
        pytest.param("-rf", "%2drf", id="option"),
        pytest.param(".hidden", "%2ehidden", id="hidden"),
        pytest.param("%2e%2e", "%252e%252e", id="encoded already"),
        pytest.param("%%", "%25%25", id="hash mark"),
        pytest.param("*?<>|\"'", "%2a%3f%3c%3e%7c%22%27", id="wildcards"),
        pytest.param("$HOME", "%24%48%4f%4d%45", id="variable"),
        pytest.param("a\u202egpj", "a%e2%80%aegpj", id="right-to-left mark"),
        pytest.param("\ufeffa", "%ef%bb%bfa", id="byte order mark"),
        pytest.param("a\u2044b\uff0fc", "a%e2%81%84b%ef%bc%8fc", id="slash look-alikes"),
        pytest.param("\u0663", "%d9%a3", id="digit of another script"),
        pytest.param("con", "%63on", id="device"),
        pytest.param("con.tar.gz", "%63on.tar.gz", id="device with extensions"),
        pytest.param("CON", "%43%4f%4e", id="device in upper case"),
        pytest.param("COM1.json", "%43%4f%4d1.json", id="port with extension"),
        pytest.param("com¹", "com%c2%b9", id="port with a superscript"),
        pytest.param("nul ", "nul%20", id="device and space"),
        pytest.param("conin$", "conin%24", id="console"),
    ],
)
def test_a_treacherous_name_is_encoded(stage: str, filename: str) -> None:
    assert to_filename(stage) == filename
    assert from_filename(filename) == stage
    assert_safe(filename)


@pytest.mark.parametrize("stage", sorted(RESERVED_ON_WINDOWS))
@pytest.mark.parametrize("extension", ["", ".json", ".", ". ", ".a.b"])
def test_a_reserved_device_is_never_a_file_name(stage: str, extension: str) -> None:
    for spelling in (stage, stage.upper(), stage.title()):
        filename = to_filename(spelling + extension)
        assert_safe(filename)
        assert from_filename(filename) == spelling + extension


def test_255_emoji_is_hashed_after_whole_characters() -> None:
    filename = to_filename("\U0001f600" * 255)
    assert filename == "%f0%9f%98%80" * 7 + "%%" + sha256(("\U0001f600" * 255).encode()).hexdigest()
    assert len(filename) == MAX_FILENAME_CHARACTERS
    assert is_hashed(filename)


def test_a_long_name_is_hashed_only_where_it_has_to_be() -> None:
    assert to_filename("a" * 150) == "a" * 150
    assert to_filename("a" * 151) == "a" * 84 + "%%" + sha256(b"a" * 151).hexdigest()
    assert not is_hashed("a" * 150)


def test_long_names_that_differ_in_the_last_character_are_distinct() -> None:
    names = ["x" * 254 + end for end in "aAáb."] + ["x" * 255, "x" * 254]
    assert len({to_filename(name) for name in names}) == len(names)


def test_a_name_that_poses_as_a_hashed_one_is_encoded() -> None:
    hashed = to_filename("a" * 200)
    assert to_filename(hashed) != hashed
    assert from_filename(hashed) is None


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("", id="empty"),
        pytest.param("a" * 256, id="256 characters"),
        pytest.param("a" * 10**7, id="ten million characters"),
        pytest.param("a\ud800", id="high surrogate"),
        pytest.param("\udfff", id="low surrogate"),
        pytest.param("\ud83d\ude00", id="surrogate pair as two characters"),
        pytest.param(None, id="None"),
        pytest.param(3, id="int"),
        pytest.param(b"train", id="bytes"),
        pytest.param(("train",), id="tuple"),
    ],
)
def test_a_name_that_can_not_be_stored_is_refused(stage: object) -> None:
    with pytest.raises(StageNameError) as caught:
        validate(stage)
    message = str(caught.value)
    assert "stage name" in message
    assert len(message) < 400
    assert message.replace("…", "").isascii()
    assert caught.value.__context__ is None
    with pytest.raises(StageNameError):
        to_filename(stage)  # type: ignore[arg-type]


@given(stage_names())
def test_every_other_name_is_taken_as_it_is(stage: str) -> None:
    assert validate(stage) == stage


def test_a_name_of_a_str_subclass_becomes_plain() -> None:
    class Stage(StrEnum):
        TRAIN = "train"

        def __str__(self) -> str:
            return "../x"

    assert type(validate(Stage.TRAIN)) is str
    assert validate(Stage.TRAIN) == to_filename(Stage.TRAIN) == "train"


@pytest.mark.parametrize(
    "filename",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="here"),
        pytest.param("..", id="parent"),
        pytest.param(".hidden", id="hidden"),
        pytest.param("-rf", id="option"),
        pytest.param("a.", id="trailing dot"),
        pytest.param("Train", id="upper case"),
        pytest.param("a b", id="space"),
        pytest.param("a/b", id="slash"),
        pytest.param("%61", id="encoded without need"),
        pytest.param("%2Fx", id="upper-case digits"),
        pytest.param("%2", id="cut short"),
        pytest.param("%", id="percent"),
        pytest.param("%c3", id="half a character"),
        pytest.param("%c0%af", id="overlong slash"),
        pytest.param("%ed%a0%80", id="surrogate"),
        pytest.param("%f4%90%80%80", id="beyond Unicode"),
        pytest.param("é", id="not ASCII"),
        pytest.param("train\n", id="newline behind"),
        pytest.param("con", id="device"),
        pytest.param("a" * 151, id="too long"),
        pytest.param("%2e" * 60, id="too long, encoded"),
    ],
)
def test_a_planted_file_name_is_no_stage(filename: str) -> None:
    assert from_filename(filename) is None
    assert not is_hashed(filename)


_DIGEST = sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    "filename",
    [
        pytest.param("%%" + _DIGEST, id="no prefix"),
        pytest.param("a" * 72 + "%%" + _DIGEST, id="prefix shorter than any"),
        pytest.param("a" * 85 + "%%" + _DIGEST, id="prefix longer than any"),
        pytest.param("a" * 84 + "%%" + _DIGEST.upper(), id="upper-case digits"),
        pytest.param("a" * 84 + "%%" + _DIGEST[1:], id="short digest"),
        pytest.param("a" * 84 + "%%" + _DIGEST + "\n", id="newline behind"),
        pytest.param("a" * 84 + "%%" + _DIGEST + "%%" + _DIGEST, id="two digests"),
        pytest.param("A" * 84 + "%%" + _DIGEST, id="upper-case prefix"),
        pytest.param("." + "a" * 83 + "%%" + _DIGEST, id="hidden"),
        pytest.param("a" * 82 + "%c3" + "%%" + _DIGEST, id="prefix with half a character"),
        pytest.param("a" * 81 + "%61" + "%%" + _DIGEST, id="prefix encoded without need"),
    ],
)
def test_a_planted_hash_is_not_taken_for_one_of_ours(filename: str) -> None:
    assert not is_hashed(filename)
    assert from_filename(filename) is None
