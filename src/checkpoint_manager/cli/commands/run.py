"""``run``: any command as a stage, so that shell scripts and Makefiles resume too."""

from __future__ import annotations

import base64
import fcntl
import itertools
import os
import re
import shlex
import stat
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from checkpoint_manager import stages
from checkpoint_manager._text import printable
from checkpoint_manager.cli.commands.run_files import INHERITED, changed_output, digest_of, digests_of, stdin_of, storable
from checkpoint_manager.cli.commands.run_process import CommandFailedError, Process, storable_word
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.options import Age, Seconds, store_options
from checkpoint_manager.cli.output import say, write_bytes, write_json
from checkpoint_manager.cli.selector import refuse_a_selector, stage_names
from checkpoint_manager.errors import CheckpointError
from checkpoint_manager.stages.report import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta
    from typing import TextIO

    from checkpoint_manager import Outcome
    from checkpoint_manager.cli.access import Access

_A_DAY, _MOST_SECONDS = 86_400.0, 10_000_000.0
_STDIN = "-"
_PLAIN = re.compile(r"\w[\w.-]*", re.ASCII)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII)


class _StageFirst(click.Command):
    """A command whose stage comes before the ``--``: click takes the first word after it, if there is none before."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            UsageError: The stage is left out.
        """
        before = list(itertools.takewhile(lambda word: word != "--", args))
        command = args[len(before) + 1 :]
        try:
            rest = super().parse_args(ctx, args)
        except click.MissingParameter:  # a command of one word
            _refuse_without_stage(ctx, before, command)
            raise
        _refuse_without_stage(ctx, before, command)
        return rest


def _refuse_without_stage(ctx: click.Context, before: list[str], command: list[str]) -> None:
    """Raise if the first word of the command was taken for the stage. A stage that begins with a dash does stand there."""
    stage = ctx.params.get("stage")
    if stage and command[:1] == [stage] and stage not in before and not stage.startswith("-"):
        program = os.path.basename(stage)
        name = program if _PLAIN.fullmatch(program) else "STAGE"
        example = printable(f"checkpoint-manager run {name} -- {shlex.join(command)}")
        raise UsageError("the stage is left out", hint=f"It comes before the command: {example}")


@click.command(cls=_StageFirst)
@click.argument("stage", shell_complete=stage_names)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--capture", is_flag=True, help="Save the command's stdout, and print it again when the result is reused.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE",
    help="A file that the command reads: run again if its content changed. - stands for stdin.",
)
@click.option(
    "--output", "outputs", multiple=True, metavar="FILE", help="A file that it writes: run again if it is not what it was."
)
@click.option("--env", "names", multiple=True, metavar="NAME", help="An environment variable that it reads: compare its value.")
@click.option(
    "--retries", type=click.IntRange(0), default=0, metavar="N", help="If it fails, try up to N more times. Default: 0."
)
@click.option(
    "--backoff",
    type=Seconds(0, _A_DAY),
    default=1.0,
    metavar="SECONDS",
    help="How long to wait before the first retry, and twice as long before each further one, up to a minute. Default: 1.",
)
@click.option(
    "--timeout",
    type=Seconds(0.001, _MOST_SECONDS),
    metavar="SECONDS",
    help="Stop the command after that time: with SIGTERM, and with SIGKILL ten seconds later.",
)
@click.option("--expires", type=Age(), metavar="AGE", help="Run again if the result is older than this: 12h, 1d, 2w.")
@click.option("--again", is_flag=True, help="Run it even if it is done.")
@click.option("--no-wait", is_flag=True, help="If another process is running it, exit with 11 instead of waiting.")
@click.option("--with-key", is_flag=True, help="Pass the environment variables that name the store's key on to the command.")
@store_options
def run(  # noqa: PLR0913  # options, by name
    access: Access,
    stage: str,
    command: tuple[str, ...],
    *,
    capture: bool,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    names: tuple[str, ...],
    retries: int,
    backoff: float,
    timeout: float | None,
    expires: timedelta | None,
    again: bool,
    no_wait: bool,
    with_key: bool,
) -> int:
    """Run a COMMAND as a STAGE: only if it is not done yet, and only once, however many processes ask for it.

    It is done if the same command has ended with exit code 0 before. Only the command line is compared, unless you name what
    else matters: with --input, --output or --env, the contents of these files, the values of these variables, the working
    folder and stdin (where it is not a terminal) must be the same, too. Each may be given several times.

    A command that fails is recorded as a failed version, with its exit code and the last lines of its stderr, and runs again
    next time; its exit code is passed on. With --json, the command's stdout goes to stderr.

    With --retries, each failed attempt is recorded, gets the same stdin, and leaves nothing in the captured output. A command
    that can't be started, or that a signal to this program has ended, is not tried again. With --timeout, a command that takes
    longer fails with exit code 124. It runs in a process group of its own, which is stopped as a whole, and so can't read from
    a terminal.

    Another process that runs the same command is waited for: for --lock-timeout seconds if that is given, or else for a day. If
    this program is killed, its command goes on, and no other one begins until it has ended. The command does not get the
    environment variables that name the store's key.

    \b
    Examples:
      checkpoint-manager run clean -- python clean.py --limit 100
      checkpoint-manager run clean --input clean.py --input raw.csv --output rows.csv -- python clean.py
      checkpoint-manager run rows --capture -- curl -s https://example.org/rows.json > rows.json
    """
    if not command[0]:
        raise UsageError("the command is empty", hint="Write it after --, as in: checkpoint-manager run STAGE -- COMMAND")
    is_compared = bool(inputs or outputs or names)
    stdin = stdin_of() if is_compared or retries else INHERITED
    around = {**_compared(inputs, outputs, names), "stdin": stdin.digest} if is_compared else {}
    cm = access.open()
    refuse_a_selector(cm, stage, "run makes a version of its own")
    if again:
        cm.clear_checkpoint(stage)
    runner, backend = cm._runner, cm._store.backend  # noqa: SLF001  # of this very package: the command holds the run's lock
    environment = {name: value for name, value in os.environ.items() if with_key or not _is_secret(name)}

    options = stages.Options(
        code=False,
        ignore=["shown"],
        wait=0 if no_wait else _patience(access),
        retries=retries,
        backoff=backoff,
        expires=expires,
        check=lambda result: changed_output(result, outputs),
        beside=around,
    )
    words, shown, locks = list(command), list[int](), list[int]()
    is_shown = not access.as_json and not (capture and retries)  # what a failed attempt wrote is not part of the output
    process = Process(words, environment, stdin, timeout=timeout, is_captured=capture, is_shown=is_shown)
    step = _Step(process, stage, outputs, options.pauses, backend.lock_descriptors, locks)
    execute = stages.make_stage(runner, stage, options)(_executor(step))
    try:
        result = execute([storable_word(word) for word in words], capture=capture, shown=shown)
    except CommandFailedError as failed:
        _tell(access, runner.outcomes[-1], failed.code, {})
        return failed.code
    finally:
        for lock in locks:  # what the command has left in the background holds it, too
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)
    if not inputs and not access.as_json and runner.outcomes[-1].why == "first run":
        what = "the files that it reads are not compared" if around else "only the command line is compared"
        say(f"{what}. To run again when a file changes, name it with --input")
    output = _output_of(stage, result) if capture else {}
    if not shown and not access.as_json:
        write_bytes(_bytes_of(output))
    _tell(access, runner.outcomes[-1], 0, output)
    return 0


class _Step(NamedTuple):
    """A command that is run as a stage.

    Attributes:
        process: How it is run.
        stage: The stage.
        outputs: The files that it writes.
        pauses: How long to wait before each retry, in seconds.
        held: Returns the descriptors that hold the lock of the run.
        locks: Receives copies of them, which the command inherits.
    """

    process: Process
    stage: str
    outputs: tuple[str, ...]
    pauses: Sequence[float]
    held: Callable[[], Iterable[int]]
    locks: list[int]


def _executor(step: _Step) -> Callable[..., dict[str, Any]]:
    """Return the function that is the stage. Its name and those of its arguments are saved with each result."""
    attempts = itertools.count(1)

    def execute(command: list[str | dict[str, str]], *, capture: bool, shown: list[int]) -> dict[str, Any]:
        step.locks.extend([] if step.locks else map(os.dup, step.held()))
        attempt = next(attempts)
        try:
            output = step.process.run(step.locks)
        except CommandFailedError as failed:
            if attempt <= len(step.pauses) and not failed.is_final:
                pause = duration(step.pauses[attempt - 1])
                again = f"attempt {attempt + 1} of {len(step.pauses) + 1} begins in {pause}"
                say(f"{printable(step.stage)}: failed with exit code {failed.code}; {again}")
            raise
        shown.extend([len(output)] if step.process.is_shown else [])
        written = {"outputs": _written(step.outputs, step.process.words)} if step.outputs else {}
        return {"command": command, "exit_code": 0, **written, **_as_json(output, capture=capture)}

    return execute


def _compared(inputs: tuple[str, ...], outputs: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Any]:
    """Return what is compared besides the command line and stdin, by name.

    Raises:
        UsageError: An input can't be read.
    """
    files = {f"input {path}": digest for path, digest in digests_of(path for path in inputs if path != _STDIN).items()}
    variables = {f"variable {name}": os.environ.get(name) for name in names}
    return {**files, **variables, "the outputs": sorted(outputs), "the working folder": os.getcwd()}


def _written(outputs: tuple[str, ...], command: list[str]) -> dict[str, str]:
    """Return the digests of the files that a command has written.

    Raises:
        CommandFailedError: One is missing.
    """
    found = {}
    for path in outputs:
        content = digest_of(path)
        if content is None:
            say(f"error: the command ended with exit code 0 and did not write the output {printable(path)}")
            raise CommandFailedError(1, command, f"the output {printable(path)} was not written")
        found[storable(path)] = content
    return found


def _is_file_or_pipe(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:  # closed, or not a file
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)


def _patience(access: Access) -> float:
    """Return how long to wait for another process that runs the same command, in seconds."""
    source = click.get_current_context().get_parameter_source("lock_timeout")
    return access.lock_timeout if source is ParameterSource.COMMANDLINE else _A_DAY


def _is_secret(name: str) -> bool:
    """Return whether a variable may name the store's key, or be meant to: a mistyped one may hold a passphrase, too."""
    return name.startswith("CHECKPOINT_MANAGER_") and name not in {"CHECKPOINT_MANAGER_RUN", "CHECKPOINT_MANAGER_STORE"}


def _as_json(output: bytes, *, capture: bool) -> dict[str, str]:
    if not capture:
        return {}
    try:
        return {"stdout": output.decode()}
    except UnicodeDecodeError:
        return {"stdout_base64": base64.b64encode(output).decode()}


def _output_of(stage: str, result: object) -> dict[str, str]:
    """Return the part of a stage's result that holds what its command wrote to stdout.

    Raises:
        CheckpointError: The result is not that of a command: another program has saved it.
    """
    match result:
        case {"stdout": str(text)}:
            return {"stdout": text}
        case {"stdout_base64": str(text)} if _BASE64.fullmatch(text):
            return {"stdout_base64": text}
    message = f"the result of stage {printable(stage)} was not saved by this program"
    raise CheckpointError(message, hint="Run it again with --again, or choose another stage", stage=stage)


def _bytes_of(output: dict[str, str]) -> bytes:
    if "stdout" in output:
        return output["stdout"].encode()
    return base64.b64decode(output.get("stdout_base64", ""))


def _tell(access: Access, outcome: Outcome, code: int, output: dict[str, str]) -> None:
    if access.as_json:
        fields = {"stage": outcome.stage, "what": outcome.what, "version": outcome.version, "why": outcome.why}
        write_json("run", {**fields, "exit_code": code, **output})
        return
    sys.stdout.flush()
    stage, version = printable(outcome.stage), f"version {outcome.version}"
    if outcome.what == "reused":
        is_lost = not output and _is_file_or_pipe(sys.stdout)
        say(f"{stage}: reused {version}{'; the command did not run, and printed nothing: see --capture' if is_lost else ''}")
        return
    ended = "ran in" if code == 0 else f"failed with exit code {code} after"
    saved = f", saved {version}" if outcome.version else ""
    say(f"{stage}: {ended} {duration(outcome.seconds)}{saved} ({outcome.why})")
