"""When an agent is saved: the policies, and the part of an agent's server that saves by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from agents.core.agent import Agent
from agents.core.signal import Signal
from agents.core.structs import encoded_names, field_types
from agents.durability.checkpoint import (
    FORMAT,
    Checkpoint,
    check_kept,
    checkpoint_of,
    encoded,
    key_of,
    read_checkpoint,
    restored,
    saved_slices,
)
from agents.durability.delta import Part, changes, type_at
from agents.durability.journal import JournalEntry, read_entry, replayed
from agents.durability.storage import (
    AgentCommit,
    Loaded,
    OutcomeUnknown,
    RowName,
    Storage,
    StorageConflict,
    StorageError,
    StoredRow,
)
from agents.durability.whole import commits_of
from agents.errors import BadCheckpoint, Moved, NotSaved
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.logs import get_logger
from supervision.options import is_whole

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType
    from agents.core.directives import Cron

#: A snapshot is written when the log behind the last one has so many entries, or is larger than it and this many bytes.
_LOG_ENTRIES = 1000
_LOG_BYTES = 8192

_log: Any = get_logger("agents")


class OnCommit(msgspec.Struct, frozen=True, tag="on_commit"):
    """Save each commit before it is shown, before its directives, and before a call is answered.

    Nothing that was acknowledged is ever lost.
    """


class EveryTurns(msgspec.Struct, frozen=True, tag="every_turns"):
    """Save after every so many commits. A crash loses those since.

    Raises:
        BadOption: it is not a whole number from 1.
    """

    turns: int

    def __post_init__(self) -> None:
        if not is_whole(self.turns, 1):
            raise BadOption("EveryTurns.turns", self.turns, "give a whole number from 1")


class EverySeconds(msgspec.Struct, frozen=True, tag="every_seconds"):
    """Save at most so many seconds after a commit. A crash loses what came since.

    Raises:
        BadTime: it is not a length of time.
    """

    seconds: float

    def __post_init__(self) -> None:
        seconds("EverySeconds.seconds", self.seconds, zero=False)


CheckpointPolicy: TypeAlias = OnCommit | EveryTurns | EverySeconds


class Durability(msgspec.Struct, frozen=True):
    """How an agent is saved. Whatever the policy says, it is also saved when its server ends in order.

    Attributes:
        storage: where.
        policy: when: ``OnCommit()``, ``EveryTurns(n)`` or ``EverySeconds(s)``.
        journal: whether each commit is saved, with its cause and its changes: then any version can be made again
            (`replay`), and a commit saves what it has changed, and not all.

    Raises:
        BadOption: the storage or the policy is invalid.
    """

    storage: Storage
    policy: CheckpointPolicy = OnCommit()
    journal: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.storage, Storage):
            raise BadOption("Durability.storage", self.storage, "give a Storage, such as SqliteStorage('agents.db')")
        if not isinstance(self.policy, (OnCommit, EveryTurns, EverySeconds)):
            raise BadOption("Durability.policy", self.policy, "give OnCommit(), EveryTurns(n) or EverySeconds(s)")


class Turn(msgspec.Struct, frozen=True):
    """What one turn adds to what is saved.

    Attributes:
        agent: after it.
        entry: of the log; None if it is made when the turn is saved.
        put: rows that come.
        drop: rows that go.
    """

    agent: Agent[Any]
    entry: bytes | None
    put: tuple[StoredRow, ...] = ()
    drop: tuple[RowName, ...] = ()


class Checkpointer:
    """Saves one agent, for one incarnation of its server.

    Args:
        durability: how.
        kind: the type of the agent.

    Attributes:
        turn: the last one that is saved.
        generation: distinguishes the agent from one with its id that was deleted.
        crons: the cron jobs that were saved in format 1.
        rows: what was stored beside the agent when it was loaded.
        since: the earlier schema with which it was saved, if it was; None if the type has that one still.
        lost: whether another owner has the agent, or nobody knows what is saved: then nothing is saved any more.
    """

    def __init__(self, durability: Durability, kind: type[AgentType[Any]]) -> None:
        self.durability = durability
        self.turn = 0
        self.generation = ""
        self.crons: tuple[Cron, ...] = ()
        self.rows: tuple[StoredRow, ...] = ()
        self.since: int | None = None
        self.lost = False
        self._storage = commits_of(durability.storage)
        self._kind = kind
        self._key = ""
        self._epoch = 0
        #: The agent as it is saved, turns that are not, and rows that come (or go: None) with the next commit.
        self._saved: Agent[Any] | None = None
        self._waiting: list[Turn] = []
        self._marks: dict[RowName, StoredRow | None] = {}
        #: The turn of the last snapshot, and the size of it and of the log behind it.
        self._at: int | None = None
        self._size = self._log_bytes = self._log_entries = 0
        self._snapshot: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()

    # -- loading -----------------------------------------------------------------------------------------------------

    async def load(self, fresh: Agent[Any], generation: str) -> Agent[Any] | None:
        """Become the owner of an agent; return it as it was saved, or None if it never was.

        Args:
            fresh: a new agent of that type and id.
            generation: for one that is new.

        Raises:
            BadCheckpoint: what was saved cannot be read; it is left as it is.
            SchemaMismatch: it has another schema, and the type does not say how that becomes its own. It is left as it
                is, and so is its owner, unless the type has never raised its own.
            StorageError: the storage cannot be read.
        """
        self._key = key = key_of(fresh)
        if self._kind.schema > 1:
            await self._look(fresh)
        loaded = await self._storage.claim(key, generation)
        self._epoch, self.turn, self.generation = loaded.epoch, loaded.turn, loaded.generation
        self.rows = loaded.rows
        base = await self._base(fresh, loaded)
        if base is None:
            return None
        checkpoint, loaded = base
        agent, entries = self._read(fresh, checkpoint, loaded)
        self._saved, self.crons = agent, checkpoint.crons
        self._log_entries, self._log_bytes = len(entries), sum(len(data) for _, data in loaded.entries)
        schema = entries[-1].schema if entries else checkpoint.schema
        self.since = None if schema == self._kind.schema else schema
        if checkpoint.format == FORMAT and loaded.snapshot is not None and self.since is None:
            self._at, self._size = loaded.at, len(loaded.snapshot)
        return agent

    async def _look(self, fresh: Agent[Any]) -> None:
        """See whether an agent of another schema can be read, before anything of it is changed."""
        loaded = await self._storage.load(self._key)
        base = None if loaded is None else await self._base(fresh, loaded)
        if base is not None and base[0].schema != self._kind.schema:
            self._read(fresh, *base)

    def _read(self, fresh: Agent[Any], checkpoint: Checkpoint, loaded: Loaded) -> tuple[Agent[Any], list[JournalEntry]]:
        """Return an agent as it was saved, and the log behind its snapshot."""
        key, kind = self._key, self._kind
        entries = [read_entry(key, data) for _, data in loaded.entries]
        agent = replayed(kind, fresh, checkpoint, entries, key) if entries else restored(kind, fresh, checkpoint, key)
        if loaded.version != agent.version:
            raise BadCheckpoint(key, f"it was saved at version {loaded.version}, and its log ends at {agent.version}")
        return agent, entries

    async def _base(self, fresh: Agent[Any], loaded: Loaded) -> tuple[Checkpoint, Loaded] | None:
        """Return the last snapshot that can be read, and the log behind it."""
        key = self._key
        if loaded.snapshot is None:
            if not loaded.entries:
                return None
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(fresh.state))
            of = (1, fresh.type, fresh.id, fresh.partition, fresh.version)
            return Checkpoint(*of, state, schema=self._kind.schema), loaded
        try:
            return read_checkpoint(key, loaded.snapshot), loaded
        except BadCheckpoint:
            older = await self._storage.load(key, loaded.at)
            if older is None or older.snapshot is None or older.snapshot == loaded.snapshot:
                raise
            _log.error("snapshot_unreadable", key=key, turn=loaded.at, instead=older.at)
            return read_checkpoint(key, older.snapshot), older

    # -- turns -------------------------------------------------------------------------------------------------------

    def change(
        self,
        after: Agent[Any],
        before: Agent[Any],
        signal: Signal,
        time: float,
        put: tuple[StoredRow, ...] = (),
        drop: tuple[RowName, ...] = (),
    ) -> Turn | None:
        """Return what a turn adds to what is saved; None if that is nothing.

        Raises:
            NotSaved: a part of it cannot be saved.
        """
        if after.version == before.version:
            return Turn(after, None, put, drop) if put or drop else None
        journal = self.durability.journal
        entry = self._entry(after, before, time, signal if journal else None)
        if self._saved is None:
            check_kept(type(after.state), after.state, type(after.state).__name__, self._key)
        return Turn(after, entry if journal or isinstance(self.durability.policy, OnCommit) else None, put, drop)

    def _entry(self, after: Agent[Any], before: Agent[Any], time: float, signal: Signal | None) -> bytes:
        key, kind = self._key, type(after.state)
        if signal is not None:
            encoded(signal, f"{after.type}.signal", key, Signal)
        parts = changes(before.state, after.state)
        for part in parts:
            _check_part(kind, part, after.state, key)
        fields = {part.path[0]: part.value for part in parts if len(part.path) == 1 and part.op == "set"}
        within = tuple(part for part in parts if len(part.path) != 1 or part.op != "set")
        old, new = saved_slices(self._kind, before), saved_slices(self._kind, after)
        slices = {name: value for name, value in new.items() if name not in old or old[name] != value}
        for name, value in slices.items():
            check_kept(type(value) if isinstance(value, msgspec.Struct) else Any, value, f"slice {name!r}", key)
        of = (after.version, time, signal)
        entry = JournalEntry(*of, fields, slices, within, before.version, self._kind.schema)
        return encoded(entry, after.type, key)

    def add(self, turn: Turn) -> bool:
        """Add a turn that waits to be saved; return whether it is time to save them."""
        self._waiting.append(turn)
        policy = self.durability.policy
        return isinstance(policy, EveryTurns) and len(self._waiting) >= policy.turns

    @property
    def next_turn(self) -> int:
        """The number of the next turn."""
        return self.turn + len(self._waiting) + 1

    @property
    def waiting(self) -> bool:
        """Whether there are turns that are not saved."""
        return bool(self._waiting)

    @property
    def unsaved(self) -> bool:
        """Whether there is something that is not saved, and can be."""
        return not self.lost and (bool(self._waiting or self._marks) or self._at is None)

    def mark(self, put: Iterable[StoredRow] = (), drop: Iterable[RowName] = ()) -> None:
        """Have rows come and go with the next commit, or with `flush`."""
        self._marks.update((name, None) for name in drop)
        self._marks.update(((row.kind, row.id), row) for row in put)

    # -- saving ------------------------------------------------------------------------------------------------------

    async def save(self, agent: Agent[Any], *turns: Turn) -> None:
        """Save turns, and before them those that wait.

        Args:
            agent: as it is after them.
            turns: the last ones.

        Raises:
            NotSaved: surely nothing of it was saved. Those that wait go on waiting.
            Moved: another owner has taken the agent over.
            OutcomeUnknown: it may be saved or not, and cannot be read again.
        """
        waiting, marks = self._waiting, self._marks
        every = (*waiting, *turns)
        rows: dict[RowName, StoredRow | None] = dict(marks)
        for turn in every:
            rows.update((name, None) for name in turn.drop)
            rows.update(((row.kind, row.id), row) for row in turn.put)
        number = self.turn + len(every)
        entries = tuple(
            (self.turn + place, turn.entry) for place, turn in enumerate(every, 1) if turn.entry is not None
        )
        snapshot = checkpoint_of(self._kind, agent) if self._at is None else None
        if snapshot is not None and not self.durability.journal:
            entries = ()
        elif not entries and self._saved is not None and self._saved.version < agent.version:
            entries = ((number, self._entry(agent, self._saved, 0.0, None)),)
        self._waiting, self._marks = [], {}
        try:
            await self._write(number, agent.version, entries, snapshot, rows)
        except BaseException:
            self._waiting, self._marks = [*waiting, *self._waiting], {**marks, **self._marks}
            raise
        self.turn, self._saved = number, agent
        if snapshot is not None:
            self._at, self._size, self._log_bytes, self._log_entries = number, len(snapshot), 0, 0
        else:
            self._log_bytes += sum(len(data) for _, data in entries)
            self._log_entries += len(entries)
            self._snapshot_if_long(agent)

    async def flush(self) -> None:
        """Save the rows that wait for the next commit, if there is none.

        Raises:
            As `save`.
        """
        async with self._flushing:  # who comes later finds written what an earlier one has taken
            marks, self._marks = self._marks, {}
            if not marks:
                return
            try:
                await self._write(None, 0, (), None, marks)
            except BaseException:
                self._marks = {**marks, **self._marks}
                raise

    async def _write(
        self,
        turn: int | None,
        version: int,
        entries: tuple[tuple[int, bytes], ...],
        snapshot: bytes | None,
        rows: dict[RowName, StoredRow | None],
    ) -> None:
        put = tuple(row for row in rows.values() if row is not None)
        drop = tuple(name for name, row in rows.items() if row is None)
        expected, number = (None, self.turn) if turn is None else (self.turn, turn)
        commit = AgentCommit(
            key=self._key,
            epoch=self._epoch,
            expected=expected,
            turn=number,
            version=version,
            entries=entries,
            snapshot=snapshot,
            put=put,
            drop=drop,
            flush=turn is not None,
        )
        try:
            await self._storage.commit(commit)
        except StorageConflict as error:
            self.lost = True
            raise Moved(self._key, str(error)) from error
        except OutcomeUnknown as error:
            self.lost = True
            await self._find_out(commit, error)
            self.lost = False
        except StorageError as error:
            raise NotSaved(self._key, str(error)) from error

    async def _find_out(self, commit: AgentCommit, error: OutcomeUnknown) -> None:
        """Return if a commit was written after all.

        Raises:
            NotSaved: it was not. Moved: another owner is there. OutcomeUnknown: that cannot be read.
        """
        try:
            found = await self._storage.load(self._key)
        except StorageError as unreadable:
            raise OutcomeUnknown(f"{error}; and it cannot be read again: {unreadable}") from error
        if found is None or found.epoch != self._epoch:
            raise Moved(self._key, "its owner is another one") from error
        if commit.expected is None or found.turn != commit.turn or commit.turn == commit.expected:
            self.lost = False
            raise NotSaved(self._key, str(error)) from error

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def _snapshot_if_long(self, agent: Agent[Any]) -> None:
        """Write a snapshot beside the turns if the log has become long."""
        long = self._log_entries >= _LOG_ENTRIES or self._log_bytes > max(_LOG_BYTES, self._size)
        if long and self._snapshot is None:
            self._snapshot = asyncio.ensure_future(self._write_snapshot(agent, self.turn))

    async def _write_snapshot(self, agent: Agent[Any], turn: int) -> None:
        before = (self._log_bytes, self._log_entries)
        try:
            data = checkpoint_of(self._kind, agent)
            commit = AgentCommit(
                key=self._key,
                epoch=self._epoch,
                expected=None,
                turn=turn,
                version=agent.version,
                snapshot=data,
                trim=None if self.durability.journal else self._at,
                flush=False,
            )
            await self._storage.commit(commit)
        except (StorageError, NotSaved) as error:
            _log.warning("snapshot_failed", key=self._key, error=str(error))
        else:
            self._at, self._size = turn, len(data)
        finally:
            # A failure is tried again when the log has grown as much once more.
            self._log_bytes -= before[0]
            self._log_entries -= before[1]
            self._snapshot = None

    async def settled(self) -> None:
        """Wait until a snapshot that is being written is."""
        if self._snapshot is not None:
            await asyncio.wait([self._snapshot])


def _check_part(kind: Any, part: Part, state: Any, key: str) -> None:
    """Check that what a turn has changed is the same when it is read again."""
    if part.op == "delete":
        return
    inner: Any = type_at(kind, part.path)
    if inner is None:
        names = encoded_names(kind, {name: name for name in kind.__struct_fields__})
        name = names[part.path[0]]
        check_kept(field_types[kind][name], getattr(state, name), f"{kind.__name__}.{name}", key)
    else:
        shown = f"{kind.__name__}.{part.path[0]}" + "".join(f"[{step!r}]" for step in part.path[1:])
        check_kept(list[inner] if part.op == "tail" else inner, part.value, shown, key)
