"""LangGraph: a checkpointer that keeps the threads of graphs encrypted, authenticated and versioned. Extra ``langgraph``.

::

    from checkpoint_manager.integrations.langgraph import CheckpointSaver

    with CheckpointSaver("sqlite:///agents.db") as saver:
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"messages": ["hello"]}, {"configurable": {"thread_id": "7"}})

**Layout.** A thread, with all its namespaces, is one stage, ``langgraph/<thread id>``
(:mod:`checkpoint_manager.integrations._names`). Each ``put`` and each ``put_writes`` appends one version to it, a *record*, and
nothing is changed in place. :mod:`checkpoint_manager.integrations._records` says what a record holds, and how a
checkpoint is found as fast in a long thread as in a short one.

``restore_checkpoint`` of the stage takes the whole thread back, ``clear_checkpoint`` makes it empty, and ``delete_stage`` is
``delete_thread``.

**Retention.** ``keep_last`` of the saver counts checkpoints, and keeps those that a tag protects. **The ``retention`` of a
manager counts versions**, of which each call of ``put_writes`` is one: it might delete the newest checkpoint and keep what was
written to it, and the thread would be gone. So the saver refuses a manager that has one. ``prune`` of a manager counts
versions, too: don't use it for these stages.

**What it can't do.** ``list(None)`` and ``delete_for_runs`` look through all threads, and read versions of each. A name that is
not valid Unicode is refused.

**What is loaded.** The store authenticates a record before LangGraph's serializer sees a byte of it. ``JsonPlusSerializer``,
the default, makes objects of the classes that a value names, and never unpickles; ``LANGGRAPH_STRICT_MSGPACK=true`` limits the
classes to those that LangGraph and the types of the graph's state list.
"""

from checkpoint_manager.integrations.langgraph.saver import CheckpointSaver

__all__ = ["CheckpointSaver"]
