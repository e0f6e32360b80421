"""Notes: what the library writes into the metadata of a version, and how it is read back.

Six keys of a version's metadata are the library's:

=============  =========================================================================================================
``@stage``     what the version is the result of: ``version`` (the revision), ``arguments`` (digests by name), ``function``
               (where the function comes from, see ``stages.identity``), ``code`` (``digest``, and by names ``functions`` and
               ``constants``: the digest of each, see ``stages.code``) and ``within`` (the note of the call that a loop runs in)
``@progress``  how far a ``progress`` version is: ``done``, ``total`` (or null), ``complete`` (nothing is left to loop over)
               and ``before`` (the ``progress`` versions of the same run that were there before it, ascending)
``@failure``   of a ``failed`` version, the ``type`` and ``message`` of the exception, and ``attempt`` and ``attempts`` where a
               stage is retried; the data has the traceback as well
``@inputs``    the results of stages that it was made of, a list of ``argument`` (which one it was, or was in; empty if the
               function called the stage itself), ``stage``, ``version``, ``call`` (what tells the arguments of that call) and
               ``data`` (the digest of that version's data)
``@run``       the run of a pipeline that saved it: ``id``, ``seconds`` (how long the function or loop took), ``why`` it ran and
               ``stages`` (those that its program had defined, in their order; absent if these are many, or none)
``@deleted``   true in a ``cleared`` version that is a delete marker: the whole stage was deleted, up to the version before it
=============  =========================================================================================================

Any program with the key may have written these keys. So they are read here alone, and a note of another shape counts as none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkpoint_manager._arguments import wrong
from checkpoint_manager._format.note_keys import FAILURE, INPUTS, NOTE, PROGRESS, RUN
from checkpoint_manager.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

_LARGEST = 2**63 - 1
MOST_STAGES, MOST_CHARACTERS_OF_STAGES = 50, 1000
"""A program with more stages, or longer names, is taken for one that makes them as it goes on, and they are not kept."""
_REVISION_TYPES = {int, str, bool}


@dataclass(frozen=True, slots=True)
class CodeNote:
    """The code that a version is the result of.

    Attributes:
        digest: Of all of it.
        functions: The digests of the single functions, as far as they are kept, by name.
        constants: The digests of the constants that they name; None for what was saved before these were compared.
    """

    digest: str
    functions: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] | None = None

    def as_metadata(self) -> dict[str, Any]:
        """Return the value that is kept under ``code``."""
        found: dict[str, Any] = {"digest": self.digest, "functions": dict(self.functions)}
        return found if self.constants is None else {**found, "constants": dict(self.constants)}

    def is_same(self, other: CodeNote) -> bool:
        """Return whether the code is the same, as far as both tell."""
        is_unknown = self.constants is None or other.constants is None
        return self.digest == other.digest and (is_unknown or self.constants == other.constants)

    def changes(self, other: CodeNote) -> list[str]:
        """Return the names of the functions and constants that differ, sorted."""
        mine, others = ({**each.functions, **(each.constants or {})} for each in (self, other))
        return sorted(name for name in {*mine, *others} if mine.get(name) != others.get(name))


@dataclass(frozen=True, slots=True)
class Note:
    """The run that a version is the result or progress of.

    Attributes:
        revision: The caller's ``revision=``.
        arguments: The digest of each argument, by its name.
        function: Where the function comes from; empty for a loop, and for what was saved before this was recorded.
        within: The note of the call of a stage that a loop runs in.
        code: The function's code; None if it is not compared, and for what was saved before it was.
    """

    revision: int | str
    arguments: Mapping[str, str] = field(default_factory=dict)
    function: str = ""
    within: Note | None = None
    code: CodeNote | None = None

    def as_metadata(self) -> dict[str, Any]:
        """Return the value that is kept under ``@stage``."""
        note: dict[str, Any] = {"version": self.revision, "arguments": dict(self.arguments)}
        if self.function:
            note["function"] = self.function
        if self.within is not None:
            note["within"] = self.within.as_metadata()
        if self.code is not None:
            note["code"] = self.code.as_metadata()
        return note

    @property
    def digest(self) -> str:
        """32 hex digits, the same only for notes that are equal but for the code: revision 1 is neither "1" nor True."""
        return hashlib.sha256(json.dumps(self._without_code().as_metadata(), sort_keys=True).encode()).hexdigest()[:32]

    def _without_code(self) -> Note:
        within = None if self.within is None else self.within._without_code()  # noqa: SLF001  # of this very class
        return Note(self.revision, self.arguments, self.function, within)

    @property
    def call(self) -> str:
        """32 hex digits that tell the call, or the loop, from others of the stage, whatever its function and code are."""
        told = [dict(self.arguments), "" if self.within is None else self.within.call]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def whole_code(self) -> CodeNote | None:
        """The code that counts: the function's own, or of a loop that of the function around it."""
        return self.within.code if self.within is not None else self.code

    def has_code_of(self, other: Note) -> bool:
        """Return whether the code is the same, or unknown for one of the two."""
        mine, others = self.whole_code, other.whole_code
        return mine is None or others is None or mine.is_same(others)


@dataclass(frozen=True, slots=True)
class ProgressNote:
    """The progress that a ``progress`` version records; its fields are those of ``@progress``."""

    done: int
    total: int | None
    complete: bool
    before: tuple[int, ...] = ()

    def as_metadata(self) -> dict[str, Any]:
        """Return the value that is kept under ``@progress``."""
        return {"done": self.done, "total": self.total, "complete": self.complete, "before": list(self.before)}


@dataclass(frozen=True, slots=True)
class FailureNote:
    """The exception that a ``failed`` version records; its fields are those of ``@failure``."""

    type: str
    message: str
    attempt: int = 1
    attempts: int = 1

    def as_metadata(self) -> dict[str, Any]:
        """Return the value that is kept under ``@failure``."""
        note: dict[str, Any] = {"type": self.type, "message": self.message}
        return note if self.attempts == 1 else {**note, "attempt": self.attempt, "attempts": self.attempts}


@dataclass(frozen=True, slots=True)
class InputNote:
    """A result that a version was made of.

    Attributes:
        argument: The argument that it was, or was in; empty if the function called the stage itself.
        stage: The stage whose result it is.
        version: The version of that stage.
        call: The call that it is a result of, see :attr:`Note.call`; empty where it stands for many.
        data: The digest of its data; empty where it stands for many.
    """

    argument: str
    stage: str
    version: int
    call: str = ""
    data: str = ""

    def as_metadata(self) -> dict[str, Any]:
        """Return an element of the list that is kept under ``@inputs``."""
        found = {"argument": self.argument, "stage": self.stage, "version": self.version}
        return {**found, "call": self.call, "data": self.data} if self.call else found


@dataclass(frozen=True, slots=True)
class RunNote:
    """The run of a pipeline that saved a version; its fields are those of ``@run``."""

    id: str
    seconds: float
    why: str
    stages: tuple[str, ...] = ()

    def as_metadata(self) -> dict[str, Any]:
        """Return the value that is kept under ``@run``."""
        note: dict[str, Any] = {"id": self.id, "seconds": self.seconds, "why": self.why}
        return {**note, "stages": list(self.stages)} if self.stages else note


def check_revision(revision: object) -> None:
    """Refuse a revision that could not be read back.

    Raises:
        TypeError: It is neither text nor an integer.
        ValueError: It is an integer of more than 64 bits, or text with half a surrogate pair.
    """
    if type(revision) not in _REVISION_TYPES:
        raise wrong("revision", revision, "an integer or text")
    if not _is_revision(revision):
        message = "revision must be an integer of at most 64 bits, or text that is valid Unicode"
        raise ArgumentError(message, argument="revision")


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caller's metadata of a version, without the notes of the library."""
    return {name: value for name, value in metadata.items() if not name.startswith("@")}


def read_note(metadata: Mapping[str, Any]) -> Note | None:
    """Return the run that a version is the result of; None if it has no valid note."""
    return _note(metadata.get(NOTE))


def read_group(metadata: Mapping[str, Any]) -> str:
    """Return what tells the arguments that a version of a function's stage is a result of; empty for any other version."""
    note = read_note(metadata)
    if note is None or not note.function:
        return ""
    told = json.dumps([note.function, dict(note.arguments)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _note(value: object, *, inner: bool = False) -> Note | None:
    if not isinstance(value, dict) or not {"version", "arguments"} <= value.keys() <= _KEYS:
        return None
    revision, arguments, function = value["version"], value["arguments"], value.get("function", "")
    if not _is_revision(revision) or not isinstance(function, str) or not _is_texts_by_name(arguments):
        return None
    code, within = None, None
    if "code" in value:
        code = _code(value["code"])
        if code is None:
            return None
    if "within" in value:
        within = None if inner else _note(value["within"], inner=True)
        if within is None:
            return None
    return Note(revision, arguments, function, within, code)


_KEYS = {"version", "arguments", "function", "within", "code"}


def _code(value: object) -> CodeNote | None:
    if not isinstance(value, dict) or value.keys() - {"constants"} != {"digest", "functions"}:
        return None
    digest, functions, constants = value["digest"], value["functions"], value.get("constants")
    if not isinstance(digest, str) or not _is_texts_by_name(functions):
        return None
    return CodeNote(digest, functions, constants) if constants is None or _is_texts_by_name(constants) else None


def read_progress(metadata: Mapping[str, Any]) -> ProgressNote | None:
    """Return the progress that a version records; None if it has no valid note."""
    value = metadata.get(PROGRESS)
    if not isinstance(value, dict):
        return None
    done: Any = value.get("done")
    total, complete, before = value.get("total"), value.get("complete"), value.get("before")
    if not _is_count(done) or not (total is None or _is_count(total)) or not isinstance(complete, bool):
        return None
    if not isinstance(before, list) or not all(_is_count(number) for number in before):
        return None
    return ProgressNote(done, total, complete, tuple(before))


def read_failure(metadata: Mapping[str, Any]) -> FailureNote | None:
    """Return the exception that a version records; None if it has no valid note."""
    value = metadata.get(FAILURE)
    if not isinstance(value, dict):
        return None
    kind, message = value.get("type"), value.get("message")
    attempt, attempts = value.get("attempt", 1), value.get("attempts", 1)
    if not isinstance(kind, str) or not isinstance(message, str) or not _is_count(attempt) or not _is_count(attempts):
        return None
    return FailureNote(kind, message, attempt, attempts)


def read_run(metadata: Mapping[str, Any]) -> RunNote | None:
    """Return the run that saved a version; None if it has no valid note."""
    value = metadata.get(RUN)
    if not isinstance(value, dict):
        return None
    name, seconds, why = value.get("id"), value.get("seconds"), value.get("why")
    if not isinstance(name, str) or not isinstance(why, str) or type(seconds) not in {int, float}:
        return None
    stages = value.get("stages", [])
    return RunNote(name, float(seconds), why, tuple(stages) if is_list_of_stages(stages) else ())  # type: ignore[arg-type]  # checked above


def is_list_of_stages(value: object) -> bool:
    """Return whether a value is a list of the stages of a program, and as short as this library writes one."""
    return (
        isinstance(value, list)
        and len(value) <= MOST_STAGES
        and all(isinstance(name, str) and name for name in value)
        and sum(map(len, value)) <= MOST_CHARACTERS_OF_STAGES
    )


def never_run(told: Iterable[tuple[datetime, tuple[str, ...]]], there: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the stages that programs have defined and that are not there, each with the list that names it.

    A program changes: of the lists that have a stage in common, only the newest counts. Times are those of the hosts' clocks.

    Args:
        told: The lists of stages, each with when it was told.
        there: The stages that have a version.
    """
    newest: dict[tuple[str, ...], datetime] = {}
    for when, stages in told:
        newest[stages] = max(when, newest.get(stages, when))
    counted, found = set[str](), dict[str, tuple[str, ...]]()
    for stages in sorted(newest, key=lambda each: newest[each], reverse=True):
        if counted.isdisjoint(stages):
            found |= {name: stages for name in stages if name not in there}
            counted |= set(stages)
    return found


def read_inputs(metadata: Mapping[str, Any]) -> tuple[InputNote, ...]:
    """Return the results that a version was made of; none if it has no valid list of them."""
    value = metadata.get(INPUTS)
    found = [_input(each) for each in value] if isinstance(value, list) else []
    return tuple(each for each in found if each is not None) if all(found) else ()


def _input(value: object) -> InputNote | None:
    if not isinstance(value, dict) or not _is_count(value.get("version")):
        return None
    texts = [value.get("argument"), value.get("stage"), value.get("call", ""), value.get("data", "")]
    if not all(isinstance(text, str) for text in texts):
        return None
    argument, stage, call, data = texts
    return InputNote(argument, stage, value["version"], call, data)


def _is_revision(value: object) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, int) and -_LARGEST <= value <= _LARGEST


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_texts_by_name(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
