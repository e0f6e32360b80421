"""OpenAI Agents SDK: a session whose conversation is encrypted, versioned and shared. Needs the extra ``openai-agents``.

::

    from agents import Agent, Runner

    from checkpoint_manager import AsyncCheckpointManager, Retention
    from checkpoint_manager.integrations.openai_agents import CheckpointSession

    store = AsyncCheckpointManager("conversations", retention=Retention(keep_last=10))
    session = CheckpointSession("user-42", store)
    result = await Runner.run(agent, "What did I ask you yesterday?", session=session)

**Layout.** A session is a stage, ``openai-agents/user-42``, and each change of it is a version with the whole conversation. So
a change is there as a whole or not at all, also if several processes add to one session, and a conversation can go back::

    await store.restore_checkpoint("openai-agents/user-42", "prev")

A change costs as much as the conversation is long. The session's id is any text. It shows in the name of the stage, which is
not encrypted: where ids are e-mail addresses, give a keyed hash of them.

**What is kept.** ``CheckpointSession("user-42", "conversations")`` keeps the last ten versions, and up to 15 earlier ones,
which are then deleted together. With a manager of your own, its retention decides: without one, all versions are kept. An item
that was popped stays in the versions before that. ``clear_session`` deletes all of them at once; what remains is a marker
without data.

**Errors.** A conversation that is damaged, forged or older than what this user has seen is an ``IntegrityError`` or a
``RollbackError``, and never a shorter conversation: ``SQLiteSession`` skips rows that it can't read, and ``EncryptedSession``
what it can't decrypt. If a task is cancelled, a change that has begun is finished first.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agents import SessionSettings

from checkpoint_manager import CheckpointNotFoundError, FormatError, Retention
from checkpoint_manager.integrations._names import stage_name
from checkpoint_manager.integrations._opened import opened_async

if TYPE_CHECKING:
    import os

    from agents import TResponseInputItem

    from checkpoint_manager import AsyncCheckpointManager
    from checkpoint_manager.backends.base import Backend

_FORMAT = "openai_agents"


class _EmptyError(Exception):
    """There is nothing to pop."""


class CheckpointSession:
    """A session of the OpenAI Agents SDK in a checkpoint store; the module describes it.

    Args:
        session_id: Any text. Instances with the same id, in any process, are the same session.
        store: An ``AsyncCheckpointManager``, best one for all sessions of the process. Or where the store is, as for
            ``CheckpointManager``; the key then comes from the environment or the user's key file.
        session_settings: The SDK's settings: ``limit`` is how many items ``get_items`` returns if it is called without one.
    """

    def __init__(
        self,
        session_id: str,
        store: AsyncCheckpointManager | str | os.PathLike[str] | Backend,
        *,
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings: SessionSettings | None = SessionSettings() if session_settings is None else session_settings
        self._manager, self._is_owner = opened_async(store, Retention(keep_last=10))
        self._stage = stage_name("openai-agents", session_id)

    async def close(self) -> None:
        """Close the store, unless a manager was given. Only stores in databases and buckets need it."""
        if self._is_owner:
            await self._manager.close()

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the newest items in the order in which they were added.

        Args:
            limit: How many, at most. None means that of the settings or else all, and a negative number all.

        Raises:
            IntegrityError: The conversation is damaged or forged.
            RollbackError: It is older than what this user has seen.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        try:
            items = _items(await self._manager.load_checkpoint(self._stage))
        except CheckpointNotFoundError:
            return []
        first = 0 if limit is None or limit < 0 else max(len(items) - limit, 0)
        return [_given(item) for item in items[first:]]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items to the end of the conversation, all or none of them.

        Raises:
            TypeError: An item is not JSON.
            IntegrityError, RollbackError: As for ``get_items``. Nothing was written.
        """
        added = [_saved(item) for item in items]
        if added:
            await self._manager.update_checkpoint(self._stage, lambda data: self._data(_items(data) + added))

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it; None if there is none.

        Raises:
            IntegrityError, RollbackError: As for ``get_items``. Nothing was removed.
        """
        popped: object = None

        def pop(data: object) -> object:
            nonlocal popped
            items = _items(data)
            if not items:
                raise _EmptyError
            popped = items[-1]
            return self._data(items[:-1])

        try:
            await self._manager.update_checkpoint(self._stage, pop)
        except _EmptyError:
            return None
        return _given(popped)

    async def clear_session(self) -> None:
        """Delete the conversation with all its versions.

        Raises:
            IntegrityError, RollbackError: The record of deletions can't be trusted. Nothing was deleted.
        """
        try:
            await self._manager.delete_stage(self._stage)
        except CheckpointNotFoundError:
            return

    async def _atomic_replace_items(self, items: list[TResponseInputItem]) -> bool:
        """Replace all items at once, for ``OpenAIResponsesCompactionSession``, which otherwise clears and then adds."""
        replacing = [_saved(item) for item in items]

        def replace(data: object) -> object:
            _items(data)  # refuses what is not a session
            return self._data(replacing)

        await self._manager.update_checkpoint(self._stage, replace)
        return True

    def _data(self, items: list[object]) -> object:
        return {_FORMAT: 1, "session_id": _saved(self.session_id), "items": items}


def _items(data: object) -> list[object]:
    """Return the items of a stage's data, as they are saved.

    Raises:
        FormatError: Something else was saved under the stage's name, or by a newer version of this module.
    """
    if data is None:
        return []
    if not isinstance(data, dict) or data.get(_FORMAT) != 1:
        raise FormatError("the stage holds something other than a session", hint="Choose another session id")
    items: list[object] = data["items"]
    return items


def _saved(item: object) -> object:
    """Return an item as plain JSON; one that is text, or holds text that is not valid Unicode, as JSON's text."""
    text = json.dumps(item)
    plain = json.loads(text)
    if isinstance(plain, str):
        return text
    try:
        json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return text
    return plain


def _given(saved: object) -> Any:  # noqa: ANN401  # whatever was added
    return json.loads(saved) if isinstance(saved, str) else saved
