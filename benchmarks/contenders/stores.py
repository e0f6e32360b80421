"""Key-value and object stores: diskcache and py-key-value with Fernet, and ZODB."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.fernet import Fernet

from benchmarks.contenders.base import KEY, Contender

if TYPE_CHECKING:
    from pathlib import Path

DISKCACHE = "diskcache + Fernet"
DISKCACHE_FULL = "diskcache + Fernet, FULL"
ZODB = "ZODB FileStorage"
KEY_VALUE = "py-key-value + Fernet"

_FERNET_KEY = base64.urlsafe_b64encode(KEY)


class DiskCache(Contender):
    """As it comes, but without eviction: a checkpoint is no cache entry."""

    name = DISKCACHE
    lacks = frozenset({"position", "versions", "sync"})
    synchronous = 1
    options: dict[str, int] = {}  # noqa: RUF012  # never changed

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        import diskcache

        super().__init__(folder, durable=durable)
        self._fernet = Fernet(_FERNET_KEY)
        self._cache = diskcache.Cache(
            str(folder),
            eviction_policy="none",
            cull_limit=0,
            sqlite_synchronous=self.synchronous if durable else 0,
            **self.options,
        )

    @property
    def setting(self) -> str:
        return "its defaults: synchronous=NORMAL, values of 32 KiB and more in files that are not synced"

    def save(self, stage: str, value: Any) -> None:
        self._cache[stage] = self._fernet.encrypt(orjson.dumps(value))

    def load(self, stage: str, version: Any = None) -> Any:  # noqa: ARG002  # it keeps none
        token = self._cache.get(stage)
        return token and orjson.loads(self._fernet.decrypt(token))

    def close(self) -> None:
        self._cache.close()


class DiskCacheFull(DiskCache):
    """As durable as it can be: all values in its database, and each commit synced."""

    name = DISKCACHE_FULL
    lacks = frozenset({"position", "versions"})
    synchronous = 2
    options = {"disk_min_file_size": 2**31 - 1}  # noqa: RUF012

    @property
    def setting(self) -> str:
        return "synchronous=FULL, all values in the database"


class KeyValue(Contender):
    """``FileTreeStore``, the one store of it that syncs, below ``FernetEncryptionWrapper``."""

    name = KEY_VALUE
    lacks = frozenset({"position", "versions", "sync", "exclude"})

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        from key_value.aio.stores.filetree import FileTreeStore
        from key_value.aio.wrappers.encryption import FernetEncryptionWrapper

        super().__init__(folder, durable=durable)
        self._loop = asyncio.new_event_loop()
        self._store = FernetEncryptionWrapper(FileTreeStore(data_directory=folder), fernet=Fernet(_FERNET_KEY))

    @property
    def setting(self) -> str:
        return "FileTreeStore: it syncs the file, but not the directory; there is no choice"

    def save(self, stage: str, value: Any) -> None:
        self._loop.run_until_complete(self._store.put(stage, value, collection="stages"))

    def load(self, stage: str, version: Any = None) -> Any:  # noqa: ARG002
        return self._loop.run_until_complete(self._store.get(stage, collection="stages"))

    def close(self) -> None:
        self._loop.close()


class Zodb(Contender):
    """One persistent mapping for each stage; earlier revisions stay until the storage is packed."""

    name = ZODB
    lacks = frozenset({"encrypt", "position", "exclude"})
    shared = False

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        import transaction
        from BTrees.OOBTree import OOBTree
        from ZODB import DB

        super().__init__(folder, durable=durable)
        self._db = DB(str(folder / "data.fs"))
        self._transactions = transaction.TransactionManager(explicit=False)
        self._connection = self._db.open(self._transactions)
        root = self._connection.root()
        if "stages" not in root:
            root["stages"] = OOBTree()
            self._transactions.commit()
        self._stages = root["stages"]

    @property
    def setting(self) -> str:
        return "it syncs each commit; one process at a time"

    def save(self, stage: str, value: Any) -> bytes:
        from persistent.mapping import PersistentMapping

        holder = self._stages.get(stage)
        if holder is None:
            holder = self._stages[stage] = PersistentMapping()
        holder["value"] = value
        self._transactions.commit()
        return bytes(self._db.lastTransaction())

    def load(self, stage: str, version: bytes | None = None) -> Any:
        import transaction

        if version is not None:
            past = self._db.open(transaction.TransactionManager(), at=version)
            try:
                return past.root()["stages"][stage]["value"]
            finally:
                past.close()
        holder = self._stages.get(stage)
        if holder is None:
            return None
        holder._p_deactivate()  # noqa: SLF001  # its public name for: read it from the disk, not from memory
        return holder["value"]

    def history(self, stage: str) -> int:
        return len(self._db.history(self._stages[stage]._p_oid, size=1_000_000))  # noqa: SLF001

    def close(self) -> None:
        self._connection.close()
        self._db.close()
