"""Files written by hand or by joblib."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from pathlib import Path

PICKLE = "pickle + os.replace, synced"
PICKLE_UNSYNCED = "pickle + os.replace"
JOBLIB = "joblib.Memory"


class Pickle(Contender):
    """The recipe with both syncs, which few write."""

    name = PICKLE
    lacks = frozenset({"encrypt", "position", "versions", "exclude"})

    @property
    def setting(self) -> str:
        return "fsync of the file and of its directory" if self.durable else "no sync"

    def save(self, stage: str, value: Any) -> None:
        temporary = self.folder / f".{stage}-{os.getpid()}"
        with temporary.open("wb") as file:
            pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
            if self.durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, self.folder / f"{stage}.pickle")
        if self.durable:
            directory = os.open(self.folder, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)

    def load(self, stage: str, version: Any = None) -> Any:  # noqa: ARG002  # it keeps none
        try:
            return pickle.loads((self.folder / f"{stage}.pickle").read_bytes())
        except FileNotFoundError:
            return None


class PickleUnsynced(Pickle):
    """The recipe as most write it."""

    name = PICKLE_UNSYNCED
    lacks = Pickle.lacks | {"sync"}

    def __init__(self, folder: Path, *, durable: bool = False) -> None:  # noqa: ARG002  # it never is
        super().__init__(folder, durable=False)


class Joblib(Contender):
    """A function of the stage's name, whose result is cached; ``call`` computes and stores it anew."""

    name = JOBLIB
    lacks = frozenset({"encrypt", "position", "versions", "sync", "exclude"})

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        import joblib

        super().__init__(folder, durable=durable)
        self._cached = joblib.Memory(folder, verbose=0).cache(_result, ignore=["value"])
        self._cached("", None)  # it keeps the function's source with its first result, and drops what it finds without

    @property
    def setting(self) -> str:
        return "it never syncs"

    def save(self, stage: str, value: Any) -> None:
        self._cached.call(stage, value)

    def load(self, stage: str, version: Any = None) -> Any:  # noqa: ARG002
        return self._cached(stage, None) if self._cached.check_call_in_cache(stage, None) else None


def _result(stage: str, value: Any) -> Any:  # noqa: ARG001
    return value
