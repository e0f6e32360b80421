"""Where the key comes from: the argument, the environment, or the user's own key file.

At most one source may be set. Two at once are refused, not ranked, because one of them is a mistake, and a guess could open the
store with the wrong key. A key file is one line, after comments that start with ``#``::

    checkpoint-manager-key-1:<32 random bytes as URL-safe Base64 (RFC 4648, section 5) with padding>

A passphrase that comes from a file, a command or a descriptor is its first line, without the line end. A file that holds a key
or a passphrase must belong to this user or to root, and nobody else may write to it.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Any, TypeAlias

from checkpoint_manager._arguments import wrong
from checkpoint_manager._filesystem import files, permissions, user_directories
from checkpoint_manager._filesystem.os_errors import is_refusal
from checkpoint_manager._format.hidden import Hidden, SecretBytes
from checkpoint_manager._format.key_slot import Secret
from checkpoint_manager._format.seal import KEY_BYTES, generate_key
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._loading import load
from checkpoint_manager._text import printable
from checkpoint_manager.credentials import KeyFile, Passphrase
from checkpoint_manager.errors import ArgumentError, Hint, KeyUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

StrPath: TypeAlias = str | os.PathLike[str]

KEY_FILE = "CHECKPOINT_MANAGER_KEY_FILE"
PASSPHRASE = "CHECKPOINT_MANAGER_PASSPHRASE"  # noqa: S105  # the variable's name
PASSPHRASE_FILE = "CHECKPOINT_MANAGER_PASSPHRASE_FILE"  # noqa: S105  # likewise
PASSPHRASE_COMMAND = "CHECKPOINT_MANAGER_PASSPHRASE_COMMAND"  # noqa: S105  # likewise
VARIABLES = (KEY_FILE, PASSPHRASE, PASSPHRASE_FILE, PASSPHRASE_COMMAND)

_PREFIX = "checkpoint-manager-key-1:"
_FOR_URLS, _STANDARD = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
"""A key file is written in the alphabet for URLs; :mod:`binascii` knows the other one."""
_MAX_FILE_BYTES = 64 * 1024
_EXPLANATION = (
    "# A key of checkpoint_manager. Anyone who has it can read and write the checkpoints it opens; without it, nobody can.\n"
    "# Keep a copy in a safe place, apart from the checkpoints.\n"
)
_GIVEN = "key="
_GIVE_ONE = "Give a passphrase; a sentence of several words is best"


def conceal(key: object) -> Any:  # noqa: ANN401  # takes the place of a caller's argument, whose type is narrower
    """Return a caller's key, hidden if a traceback could show it, even if its type is refused later. Never raises.

    A function that takes a key from a caller begins with ``key = conceal(key)``.
    """
    return key if key is None or isinstance(key, Passphrase | KeyFile | os.PathLike | Hidden) else Hidden(key)


def find_secret(key: object) -> Secret | None:
    """Return the secret of the one source that is set, or None if none is.

    Args:
        key: What the caller gave: a Passphrase, a KeyFile, a path, 32 bytes, or None.

    Raises:
        TypeError: ``key`` is something else.
        KeyUnavailableError: Two sources are set, or the one that is set can't be read; a variable is set and empty.
    """
    key = conceal(key)
    if key is None:
        for name in VARIABLES:
            if os.environ.get(name) == "":  # a secret that was not injected is not a reason to take another key
                message = f"the environment variable {name} is set but empty"
                raise KeyUnavailableError(message, hint="Set it, or unset it to use the key file of this user")
    sources: dict[str, Callable[[], Secret]] = {} if key is None else {"the argument key=": _argument(key)}
    readers: dict[str, Callable[[], Secret]] = {
        KEY_FILE: lambda: read_key_file(os.environ[KEY_FILE]),
        PASSPHRASE: lambda: _secret_of(Passphrase(os.environ[PASSPHRASE]), PASSPHRASE),
        PASSPHRASE_FILE: lambda: _secret_of(read_passphrase_file(os.environ[PASSPHRASE_FILE]), PASSPHRASE_FILE),
        PASSPHRASE_COMMAND: lambda: _secret_of(
            read_passphrase_command(Hidden(os.environ[PASSPHRASE_COMMAND]), PASSPHRASE_COMMAND), PASSPHRASE_COMMAND
        ),
    }
    sources |= {f"the environment variable {name}": read for name, read in readers.items() if os.environ.get(name)}
    if len(sources) > 1:
        message = f"the key is given twice, by {' and by '.join(sources)}"
        raise KeyUnavailableError(message, hint="Keep only the one that is meant")
    return next((read() for read in sources.values()), None)


def given_secret(key: object) -> Secret:
    """Return the secret that a caller gave, whatever the environment says.

    Raises:
        TypeError: It is not of a type that a key can have.
        KeyUnavailableError: It can't be read.
    """
    key = conceal(key)
    return _argument(key)()


def _argument(key: object) -> Callable[[], Secret]:
    match key:
        case Passphrase():
            return lambda: _secret_of(key, _GIVEN)
        case KeyFile() if not isinstance(key.path, str | bytes | os.PathLike):
            raise wrong("key", key.path, "a KeyFile with the path of a file")
        case KeyFile():
            return lambda: read_key_file(os.fsdecode(key.path))
        case os.PathLike():
            return lambda: read_key_file(os.fsdecode(key))
        case Hidden() if isinstance(key.raw, str):
            message = (
                "key must be a Passphrase, a KeyFile, a path or 32 bytes, not a str, which could be a path or a passphrase"
            )
            raise ArgumentError(message, hint='Write KeyFile("…") or Passphrase("…")', argument="key")
        case Hidden() if not isinstance(key.raw, bytes):
            raise wrong("key", key.raw, "a Passphrase, a KeyFile, a path or 32 bytes")
        case Hidden() if len(key.raw) == KEY_BYTES:
            return lambda: Secret("key-file", key)
        case Hidden():
            raise ArgumentError(f"key as bytes must be exactly {KEY_BYTES} random bytes, not {len(key.raw)}", argument="key")
        case _:
            raise wrong("key", key, "a Passphrase, a KeyFile, a path or 32 bytes")


def _secret_of(passphrase: Passphrase, source: str) -> Secret:
    """Return the secret of a passphrase.

    Raises:
        KeyUnavailableError: It is empty, or not valid Unicode.
    """
    if not isinstance(passphrase.text, str):
        raise wrong("key", passphrase.text, "a Passphrase of a str")
    _refuse_if_empty(passphrase, source)
    try:
        name = "the passphrase given" if source == _GIVEN else f"the passphrase of {source}"
        return Secret.from_passphrase(passphrase.text, name)
    except UnicodeEncodeError:  # it carries the passphrase: what is raised below must not have it as its context
        pass
    raise KeyUnavailableError(f"the passphrase of {source} is not valid Unicode text", hint=_GIVE_ONE)


def _refuse_if_empty(passphrase: Passphrase, source: str) -> None:
    if not passphrase.text:
        raise KeyUnavailableError(f"the passphrase of {source} is empty", hint=_GIVE_ONE)


# Passphrases from outside


def read_passphrase_file(path: StrPath) -> Passphrase:
    """Return the passphrase in the first line of a file.

    Raises:
        KeyUnavailableError: It can't be read, or is empty.
    """
    return _first_line(_read(path, "passphrase file"), f"the passphrase file {path}")


def read_passphrase_command(command: Hidden[str], source: str) -> Passphrase:
    """Return the passphrase in the first line that a command prints. It runs without a shell.

    Args:
        command: The command, quoted as for a shell. It may itself hold the passphrase.
        source: What named it, for messages.

    Raises:
        KeyUnavailableError: It can't be run, fails, or prints nothing.
    """
    command = conceal(command)
    output, problem = load("checkpoint_manager._store.passphrase_command").run(command)
    if problem:
        hint = "Try it in a shell: it must print the passphrase and exit with 0"
        raise KeyUnavailableError(f"the command of {source} {problem}", hint=hint)
    return _first_line(output, f"the command of {source}")


def read_passphrase_descriptor(number: int) -> Passphrase:
    """Return the passphrase in the next line of an open descriptor, and read no byte beyond that line.

    Raises:
        KeyUnavailableError: It is not open, is a terminal (which would show what is typed), or holds nothing.
    """
    try:
        shows = os.isatty(number)
    except OverflowError:
        shows = False
    if shows:
        message = f"descriptor {number} is a terminal, which would show the passphrase"
        raise KeyUnavailableError(message, hint="Let the passphrase be asked for instead")
    line, problem = _read_line(number)
    if problem:
        hint = f"Open it for the program, as in {number}<passphrase.txt"
        raise KeyUnavailableError(f"descriptor {number} can't be read: {problem}", hint=hint)
    return _first_line(line, f"descriptor {number}")


def _read_line(number: int) -> tuple[SecretBytes, str]:
    """Return the next line of a descriptor, and what went wrong or the empty string. Never raises: it holds the line."""
    line = bytearray()
    try:
        while (byte := os.read(number, 1)) not in {b"", b"\n"}:  # one at a time: what follows is for someone else
            line += byte
            if len(line) > _MAX_FILE_BYTES:
                return Hidden(b""), f"its first line is longer than {_MAX_FILE_BYTES} bytes"
    except OverflowError:
        return Hidden(b""), "there is no descriptor of this number"
    except OSError as error:
        if not is_refusal(error):
            raise
        return Hidden(b""), str(error.strerror)
    return Hidden(bytes(line)), ""


def _first_line(data: SecretBytes, source: str) -> Passphrase:
    try:
        passphrase = Passphrase(data.raw.split(b"\n", 1)[0].removesuffix(b"\r").decode())
    except UnicodeDecodeError:  # it carries what was read: what is raised below must not have it as its context
        passphrase = None
    if passphrase is None:
        raise KeyUnavailableError(f"the passphrase of {source} is not UTF-8 text", hint="Save it as UTF-8")
    _refuse_if_empty(passphrase, source)
    return passphrase


# Key files


def default_key_path() -> str:
    """Return where this user's own key file is, or will be.

    Raises:
        KeyUnavailableError: This user has no home directory, and XDG_DATA_HOME is not set.
    """
    directory = user_directories.data_directory()
    if directory is None:
        message = "no key is set, and this user has no home directory for a key file"
        raise KeyUnavailableError(message, hint=Hint.GIVE_A_KEY)
    return os.path.join(directory, "default.key")


def is_there(path: StrPath) -> bool:
    """Return whether a key file exists.

    Raises:
        KeyUnavailableError: The operating system does not say.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        if not is_refusal(error):
            raise
        message = f"can't look for the key file {path}: {error.strerror}"
        raise KeyUnavailableError(message, hint="Give this user access to its folder") from error
    return True


def read_key_file(path: StrPath) -> Secret:
    """Return the key that a file holds.

    Raises:
        KeyUnavailableError: It can't be read, or is not a key file.
    """
    material = _key_in(_read(path, "key file"))
    if material is None:
        message = f"{path} is not a key file of checkpoint_manager"
        raise KeyUnavailableError(message, hint=f"Give a file that holds one line that starts with {_PREFIX}")
    if len(material.raw) != KEY_BYTES:
        raise KeyUnavailableError(f"the key file {path} is damaged", hint="Restore it from your copy")
    return Secret("key-file", material, f"the key file {printable(str(path))}")


def _key_in(content: SecretBytes) -> SecretBytes | None:
    """Return the key in a key file's content: empty if it is damaged, None if there is none. Never raises: it holds the key."""
    lines = [line.strip() for line in content.raw.splitlines() if line.strip() and not line.startswith(b"#")]
    if len(lines) != 1 or not lines[0].startswith(_PREFIX.encode()):
        return None
    try:
        encoded = Hidden(lines[0].removeprefix(_PREFIX.encode()).translate(_STANDARD))
        return Hidden(binascii.a2b_base64(encoded.raw, strict_mode=True))
    except binascii.Error:
        return Hidden(b"")


def _read(path: StrPath, what: str) -> SecretBytes:
    """Read a file of the user's own: a link is followed (that is how secrets are mounted), a FIFO does not hang."""
    try:
        descriptor = os.open(os.path.expanduser(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyUnavailableError(f"the {what} {path} is not a regular file", hint="Give the path of a file")
            data = Hidden(os.read(descriptor, _MAX_FILE_BYTES + 1))
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # a ValueError: no path can hold such a character
        if isinstance(error, OSError) and not is_refusal(error):
            raise
        message = f"the {what} {path} can't be read: {error.strerror if isinstance(error, OSError) else error}"
        raise KeyUnavailableError(message, hint="Check the path, or restore the file from your copy") from None
    _check_owner(path, status, what)
    if len(data.raw) > _MAX_FILE_BYTES:
        message = f"the {what} {path} is larger than {_MAX_FILE_BYTES} bytes"
        raise KeyUnavailableError(message, hint=f"Give the path of a {what}")
    return data


def _check_owner(path: StrPath, status: os.stat_result, what: str) -> None:
    """Raise if other users of this host can choose the secret in a file, and warn if they can read it or replace the file."""
    if permissions.is_foreign(status):
        message = f"the {what} {path} belongs to another user of this host, who can read and change it"
        raise KeyUnavailableError(message, hint="Use a file of your own, or chown this one if it is yours")
    if permissions.others_may_write(status):
        message = f"the {what} {path} can be changed by other users of this host"
        command = f"chmod 600 {load('shlex').quote(str(path))}"
        raise KeyUnavailableError(message, hint=f"Make sure that its content is yours, then run: {command}")
    if permissions.others_may_read(status):
        _LOG.warning("The %s %s can be read by other users of this host: chmod 600 it", what, path)
    if exposed := permissions.exposed_parent(str(path)):
        _LOG.warning("The %s %s can be replaced by other users of this host, who may write to %s", what, path, exposed)


def create_key_file(path: StrPath) -> Secret:
    """Create a private, durable key file and return its key; if another process was faster, return the key of its file.

    Raises:
        KeyUnavailableError: It can't be written.
    """
    line = Hidden(_PREFIX.encode() + binascii.b2a_base64(generate_key().raw, newline=False).translate(_FOR_URLS) + b"\n")
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}")
    try:
        permissions.make_private_directories(folder)
        _write_new(temporary, line)
        try:
            with contextlib.suppress(FileExistsError):
                try:
                    os.link(temporary, path)
                except OSError as error:
                    if error.errno not in files.NO_HARD_LINKS:
                        raise
                    _write_new(path, line)  # exclusive, too; who reads it meanwhile is told that it is not a key file
        finally:
            os.unlink(temporary)
    except OSError as error:
        if not is_refusal(error):
            raise
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "Free some space on this file system and try again" if is_full else Hint.GIVE_A_KEY
        raise KeyUnavailableError(f"a key file can't be made at {path}: {error.strerror}", hint=hint) from None
    make_durable(path)
    return read_key_file(path)


def _write_new(path: StrPath, line: SecretBytes) -> None:
    """Write a private key file where none is, and sync it; if that fails, none is left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & ~stat.S_IXUSR != 0o600:  # a mount may set that bit, and keep it set
                os.fchmod(descriptor, 0o600)
            length, written = len(_EXPLANATION.encode() + line.raw), 0
            while written < length:  # on a disk that is nearly full, one write may take only a part
                written += os.write(descriptor, (_EXPLANATION.encode() + line.raw)[written:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(path)
        raise


def make_durable(path: StrPath) -> None:
    """Make a key file durable with the names that lead to it: the process that made them may have been killed before that.

    Raises:
        KeyUnavailableError: It can't be made durable, so nothing may be sealed under it.
    """
    place, below = os.path.abspath(path), ""
    try:
        while place != below:
            if os.access(place, os.R_OK):  # a directory that can't be read was not made by this user
                _sync(place)
            place, below = os.path.dirname(place), place
    except OSError as error:
        if not is_refusal(error):
            raise
        message = f"the key file {path} can't be made durable: {error.strerror}; nothing was sealed under it"
        raise KeyUnavailableError(message, hint=Hint.GIVE_A_KEY) from None


def _sync(place: str) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        files.sync(descriptor)
    finally:
        os.close(descriptor)
