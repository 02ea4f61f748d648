"""When an agent is saved: the policies, and the part of an agent's server that saves by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from agents.core.agent import Agent
from agents.core.structs import differences, encoded_names
from agents.durability.checkpoint import checkpoint_of, encoded, key_of, read_checkpoint, restored, saved_slices
from agents.durability.journal import JournalEntry, read_entry, replayed
from agents.durability.storage import Storage, StorageError
from agents.errors import NotSaved
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.options import is_whole

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType
    from agents.core.directives import Cron
    from agents.core.signal import Signal

#: With a journal, a checkpoint is written every so many entries, for a restart to be quick.
_ENTRIES_PER_CHECKPOINT = 64


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


class Checkpointer:
    """Saves one agent, for one incarnation of its server.

    Args:
        durability: how.
        kind: the type of the agent.
    """

    __slots__ = ("_at", "_entries", "_kind", "_unsaved", "_written", "durability")

    def __init__(self, durability: Durability, kind: type[AgentType[Any]]) -> None:
        self.durability = durability
        self._kind = kind
        #: The version that was written last; None if nothing was.
        self._written: int | None = None
        #: The version of the last checkpoint.
        self._at = 0
        self._unsaved = 0
        self._entries: list[tuple[int, bytes]] = []

    async def load(self, fresh: Agent[Any]) -> tuple[Agent[Any], tuple[Cron, ...]] | None:
        """Return the agent that was saved, and its cron jobs; None if none was.

        Args:
            fresh: a new agent of that type and id.

        Raises:
            BadCheckpoint: what was saved cannot be read; it is left as it is.
            StorageError: the storage cannot be read.
        """
        key = key_of(fresh)
        stored = await self.durability.storage.read(key)
        if stored is None:
            return None
        agent = fresh
        crons: tuple[Cron, ...] = ()
        if stored.checkpoint is not None:
            checkpoint = read_checkpoint(key, stored.checkpoint)
            agent, crons = restored(self._kind, fresh, checkpoint, key), checkpoint.crons
        if stored.entries:
            entries = [read_entry(key, data) for _, data in stored.entries]
            agent = replayed(self._kind, agent, entries, key, stored.version)
        self._written, self._at = stored.version, stored.at
        return agent, crons

    def add(self, before: Agent[Any], after: Agent[Any], signal: Signal, time: float) -> bool:
        """Add a commit that is about to be made; return whether it is to be saved first.

        Raises:
            NotSaved: a part of it cannot be saved.
        """
        self._unsaved += 1
        if self.durability.journal:
            old, new = saved_slices(self._kind, before), saved_slices(self._kind, after)
            slices = {key: value for key, value in new.items() if old.get(key) != value}
            state = encoded_names(type(after.state), differences(before.state, after.state))
            entry = JournalEntry(after.version, time, signal, state, slices)
            self._entries.append((after.version, encoded(entry, after.type, key_of(after))))
        policy = self.durability.policy
        if isinstance(policy, OnCommit):
            return True
        return isinstance(policy, EveryTurns) and self._unsaved >= policy.turns

    def discard_last(self) -> None:
        """Remove the commit that was added last: it is not made."""
        self._unsaved -= 1
        if self._entries:
            self._entries.pop()

    @property
    def unsaved(self) -> bool:
        """Whether there are commits that are not saved."""
        return self._unsaved > 0 or self._written is None

    async def save(self, agent: Agent[Any], crons: tuple[Cron, ...], *, whole: bool = False) -> None:
        """Save the agent.

        Args:
            agent: as it is, or is to be.
            crons: the jobs of its server.
            whole: whether to write a checkpoint even if journal entries suffice.

        Raises:
            NotSaved: it cannot be saved; what was saved before stays.
        """
        key = key_of(agent)
        entries = tuple(self._entries)
        short = (
            not whole and entries and self._written is not None and agent.version - self._at < _ENTRIES_PER_CHECKPOINT
        )
        checkpoint = None if short else checkpoint_of(self._kind, agent, crons)
        storage = self.durability.storage
        try:
            await storage.write(key, agent.version, expected=self._written, checkpoint=checkpoint, entries=entries)
        except StorageError as error:
            raise NotSaved(key, str(error)) from error
        self._written = agent.version
        if checkpoint is not None:
            self._at = agent.version
        self._unsaved = 0
        self._entries.clear()
