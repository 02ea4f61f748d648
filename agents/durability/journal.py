"""The journal of an agent: what each of its commits has changed, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.agent import Agent
from agents.core.signal import Signal
from agents.durability.checkpoint import FORMAT, Checkpoint, decoded, key_of, read_checkpoint, restored, state_of
from agents.durability.delta import Part, applied
from agents.durability.storage import Storage
from agents.durability.whole import commits_of
from agents.errors import BadCheckpoint

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType


class JournalEntry(msgspec.Struct, frozen=True):
    """One commit.

    Attributes:
        version: of the agent after it.
        time: in seconds since the epoch.
        signal: what caused it; None if the agent has no journal.
        state: the fields of the state that it has replaced.
        slices: the slices that it has changed, by key.
        parts: what it has changed within fields.
        since: the version of the agent before it; None for the one before its own.
        schema: of the agent's type then.
    """

    version: int
    time: float
    signal: Signal | None
    state: Mapping[str, Any]
    slices: Mapping[str, Any] = {}
    parts: tuple[Part, ...] = ()
    since: int | None = None
    schema: int = 1


def read_entry(key: str, data: bytes) -> JournalEntry:
    """Return an entry.

    Raises:
        BadCheckpoint: it cannot be read.
    """
    return decoded(key, data, JournalEntry, "an entry of the journal: ")


async def history(storage: Storage, key: str, after: int = 0, upto: int | None = None) -> list[JournalEntry]:
    """Return the commits of an agent with a journal.

    Args:
        storage: where it is saved.
        key: of the agent: its partition, type and id with slashes between them, such as ``"/counter/c1"``.
        after: only those behind this version.
        upto: only those up to this version.

    Raises:
        BadCheckpoint: one cannot be read.
    """
    # A turn's number is never below the version after it.
    entries = [read_entry(key, data) for _, data in await commits_of(storage).entries(key, after)]
    return [
        one
        for one in entries
        if one.signal is not None and one.version > after and (upto is None or one.version <= upto)
    ]


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
        SchemaMismatch: it was saved with another schema, and the type does not say how that becomes its own.
    """
    fresh = kind.new(id, partition=partition)
    key = key_of(fresh)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(fresh.state))
    base = Checkpoint(FORMAT, fresh.type, fresh.id, fresh.partition, fresh.version, state, schema=kind.schema)
    entries = await history(storage, key, -1, version)
    if any(entry.schema != kind.schema for entry in entries):
        # What a fresh agent was like then is not known; and each new schema has begun with a snapshot.
        base = await _snapshot(storage, key, version)
        entries = [entry for entry in entries if entry.version > base.version]
    agent = replayed(kind, fresh, base, entries, key)
    if version is not None and agent.version != version:
        raise BadCheckpoint(key, f"the journal ends at version {agent.version}, before {version}")
    return agent


async def _snapshot(storage: Storage, key: str, version: int | None) -> Checkpoint:
    """Return the last snapshot up to a version.

    Raises:
        BadCheckpoint: there is none, or it cannot be read.
    """
    commits = commits_of(storage)
    loaded = await commits.load(key)
    while loaded is not None and loaded.snapshot is not None:
        checkpoint = read_checkpoint(key, loaded.snapshot)
        if version is None or checkpoint.version <= version:
            return checkpoint
        loaded = await commits.load(key, loaded.at)
    raise BadCheckpoint(key, f"its journal has another schema, and there is no snapshot up to version {version}")


def replayed(
    kind: type[AgentType[Any]], fresh: Agent[Any], base: Checkpoint, entries: Iterable[JournalEntry], key: str
) -> Agent[Any]:
    """Return what entries make of an agent.

    Args:
        kind: its type.
        fresh: a new agent of that type, for what was not saved.
        base: what was saved before the entries. Its state is changed.
        entries: the oldest first.
        key: of the agent.

    Raises:
        BadCheckpoint: one is missing, or does not fit.
        SchemaMismatch: they are of another schema, and the type does not say how that becomes its own.
    """
    state, slices, at, schema = base.state, dict(base.slices), base.version, base.schema
    for entry in entries:
        if entry.schema != schema:
            if entry.schema != kind.schema:
                raise BadCheckpoint(
                    key, f"its log goes on with schema {entry.schema}, and the snapshot before is not there"
                )
            made = state_of(kind, state, schema, key)
            state, schema = msgspec.msgpack.decode(msgspec.msgpack.encode(made)), entry.schema
        since = entry.version - 1 if entry.since is None else entry.since
        if since > at:
            raise BadCheckpoint(key, f"the journal goes from version {at} to {since + 1}")
        try:
            state.update(entry.state)
            state = applied(state, entry.parts)
        except (LookupError, TypeError, AttributeError) as error:
            raise BadCheckpoint(
                key, f"the entry of version {entry.version} does not fit the state: {error!r}"
            ) from error
        slices.update(entry.slices)
        at = entry.version
    whole = msgspec.structs.replace(base, state=state, slices=slices, version=at, schema=schema)
    return restored(kind, fresh, whole, key)
