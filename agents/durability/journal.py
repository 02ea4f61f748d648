"""The journal of an agent: what each of its commits has changed, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.agent import Agent
from agents.core.signal import Signal
from agents.durability.checkpoint import FORMAT, Checkpoint, decoded, key_of, restored
from agents.durability.storage import Storage
from agents.errors import BadCheckpoint

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType


class JournalEntry(msgspec.Struct, frozen=True):
    """One commit.

    Attributes:
        version: of the agent after it.
        time: in seconds since the epoch.
        signal: what caused it.
        state: the fields of the state that it has changed.
        slices: the slices that it has changed, by key.
    """

    version: int
    time: float
    signal: Signal
    state: Mapping[str, Any]
    slices: Mapping[str, Any] = {}


def read_entry(key: str, data: bytes) -> JournalEntry:
    """Return an entry.

    Raises:
        BadCheckpoint: it cannot be read.
    """
    return decoded(key, data, JournalEntry, "an entry of the journal: ")


async def history(storage: Storage, key: str, after: int = 0, upto: int | None = None) -> list[JournalEntry]:
    """Return the commits of an agent.

    Args:
        storage: where it is saved.
        key: of the agent: its partition, type and id with slashes between them, such as ``"/counter/c1"``.
        after: only those behind this version.
        upto: only those up to this version.

    Raises:
        BadCheckpoint: one cannot be read.
    """
    return [read_entry(key, data) for _, data in await storage.entries(key, after, upto)]


async def replay(
    storage: Storage, kind: type[AgentType[Any]], id: str, version: int | None = None, *, partition: str = ""
) -> Agent[Any]:
    """Return an agent as it was at some version, rebuilt from its journal.

    Args:
        storage: where it is saved.
        kind: its type.
        id: of the agent.
        version: which; None for the last one.
        partition: of the agent.

    Raises:
        BadCheckpoint: an entry is missing, or cannot be read; there is no journal, or not from the beginning.
    """
    fresh = kind.new(id, partition=partition)
    key = key_of(fresh)
    return replayed(kind, fresh, await history(storage, key, -1, version), key, version)


def replayed(
    kind: type[AgentType[Any]], begin: Agent[Any], entries: Iterable[JournalEntry], key: str, version: int | None
) -> Agent[Any]:
    """Return what entries make of an agent.

    Raises:
        BadCheckpoint: one is missing, or does not fit.
    """
    state: dict[str, Any] = msgspec.to_builtins(begin.state, builtin_types=(bytes,))
    slices: dict[str, Any] = {}
    at = begin.version
    for entry in entries:
        if entry.version > at + 1:
            raise BadCheckpoint(key, f"the journal goes from version {at} to {entry.version}")
        state.update(entry.state)
        slices.update(entry.slices)
        at = entry.version
    if version is not None and at != version:
        raise BadCheckpoint(key, f"the journal ends at version {at}, before {version}")
    checkpoint = Checkpoint(FORMAT, begin.type, begin.id, begin.partition, at, state, slices)
    return restored(kind, begin, checkpoint, key)
