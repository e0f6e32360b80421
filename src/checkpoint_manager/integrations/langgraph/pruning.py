"""Which checkpoints of a thread are kept when it is pruned: the newest, the tagged, and what a delta channel of these needs.

A delta channel has its value in few checkpoints. In the others it is what was written since, so all ancestors count up to the
nearest that holds the value of each such channel. The metadata of a checkpoint names its delta channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langgraph.checkpoint.base import CheckpointTuple

    from checkpoint_manager.integrations._records import Index, Key


def kept(index: Index, keep_last: int, tagged: set[Key], read: Callable[[str, str], CheckpointTuple | None]) -> set[Key]:
    """Return the newest checkpoints of each namespace, the tagged ones, what these need, and those that only have writes yet.

    Args:
        index: The thread.
        keep_last: How many of each namespace.
        tagged: Which ones have a tag.
        read: Returns a checkpoint by its namespace and id.
    """
    found = set(tagged)
    for ns, start in tagged:
        found |= {(ns, id_) for id_ in _ancestors_needed(ns, start, read)}
    for ns, ids in list(index.places.items()):
        newest = index.newest_first(ns)[:keep_last]
        found |= {(ns, id_) for id_ in list(ids) if not newest or id_ >= newest[-1]}
        found |= {(ns, id_) for start in newest for id_ in _ancestors_needed(ns, start, read)}
    return found


def _ancestors_needed(ns: str, id_: str, read: Callable[[str, str], CheckpointTuple | None]) -> Iterator[str]:
    found = read(ns, id_)
    if found is None:
        return
    counted = found.metadata.get("counters_since_delta_snapshot") or {}
    missing = {channel for channel in counted if channel in found.checkpoint["channel_versions"]}
    passed = {id_}
    while found and (missing := missing - found.checkpoint["channel_values"].keys()) and found.parent_config:
        parent = found.parent_config["configurable"]["checkpoint_id"]
        if parent in passed:  # a checkpoint that was put again as the child of its descendant
            return
        passed.add(parent)
        yield parent
        found = read(ns, parent)
