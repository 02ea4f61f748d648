"""The journal of a program's rollouts: what was started, each move, and what was counted meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import msgspec

from agents.durability import MemoryStorage, SqliteStorage, Storage, StorageError
from dspex._tasks import finished
from dspex.serving.rollout.counts import StepCounts
from dspex.serving.rollout.machine import RolloutRecord, counts_after, moved
from dspex.workflow.errors import WorkflowError
from dspex.workflow.journal import Journal
from foundation.rollouts import RolloutMove

T = TypeVar("T")

#: The file in the folder of the versions.
JOURNAL_FILE = "rollouts.db"
#: So many rollouts are remembered.
REMEMBERED = 50
#: After so many entries the journal is written anew, without what is not needed.
MOST_ENTRIES = 2_000

_KEY = "rollouts"


class UnreadableJournal(Exception):
    """The journal cannot be read, or written by this process; the message names it, the cause and the remedy."""


class PastRollout(msgspec.Struct):
    """What the journal has of a rollout.

    Attributes:
        start: as it was started.
        moves: all of its moves.
        counts: what was counted when it was last written.
        applied: the version that was made current after its last move; None if none was.
    """

    start: RolloutRecord
    moves: list[RolloutMove]
    counts: list[StepCounts]
    applied: int | None

    @property
    def record(self) -> RolloutRecord:
        """Where it is."""
        record = self.start
        for move in self.moves:
            record = moved(record, move)
        return record


class RolloutJournal:
    """Keeps the rollouts of one program, in a file beside its versions, or in memory.

    The file is made when the first rollout is started. A write that was begun is finished, also when who has asked for
    it has ended; who opens the journal next waits for it.

    Args:
        folder: of the versions; None for in memory.
        turn: held while something is read or written; whoever shares a folder in one process shares this.
    """

    def __init__(self, folder: Path | None, turn: asyncio.Lock) -> None:
        self.path = None if folder is None else folder / JOURNAL_FILE
        self._turn = turn
        self._journal: Journal | None = None
        self._storage: Storage | None = None

    async def open(self) -> list[PastRollout]:
        """Read what is there, the oldest first.

        Raises:
            UnreadableJournal: it cannot be read.
        """
        return await self._in_turn(self._open)

    async def _open(self) -> list[PastRollout]:
        try:
            if self.path is not None and not await anyio.to_thread.run_sync(self.path.exists):
                return []
            return _past(await self._opened())
        except (OSError, StorageError, msgspec.MsgspecError) as error:
            remedy = "move it away to begin anew; the current version serves meanwhile"
            raise UnreadableJournal(f"{self.path}: {error}; {remedy}") from error

    async def _opened(self) -> Journal:
        if self._journal is None:
            if self.path is None:
                self._storage = MemoryStorage()
            else:
                self._storage = await anyio.to_thread.run_sync(partial(SqliteStorage, self.path))
            journal = Journal(self._storage, _KEY)
            try:
                await journal.open({"of": _KEY})
            except WorkflowError as error:
                raise StorageError(str(error)) from error
            self._journal = journal
        return self._journal

    async def start(self, record: RolloutRecord, first: RolloutMove) -> None:
        """Write that a rollout is started, with its first move.

        Raises:
            StorageError: it cannot be written; it is not started.
        """
        value = {"record": msgspec.to_builtins(record), "move": msgspec.to_builtins(first)}
        await self._in_turn(lambda: self._add("start", record.id, value))

    async def move(self, move: RolloutMove) -> None:
        """Write a move, and return when it is safe.

        Raises:
            StorageError: it cannot be written; it is not made.
        """
        await self._in_turn(lambda: self._add("move", f"{move.rollout}/{move.seq:06}", msgspec.to_builtins(move)))

    async def count(self, id: str, seq: int, counts: Sequence[StepCounts]) -> None:
        """Write what was counted. It survives the process; the machine it survives with the next move.

        Raises:
            StorageError: it cannot be written.
        """
        value = msgspec.to_builtins(list(counts))
        await self._in_turn(lambda: self._add("counts", id, {"seq": seq, "counts": value}, flush=False))

    async def applied(self, id: str, seq: int, version: int) -> None:
        """Write that the version is current that a move has made so.

        Raises:
            StorageError: it cannot be written.
        """
        await self._in_turn(lambda: self._add("applied", f"{id}/{seq:06}", version))

    async def _add(self, kind: str, key: str, value: Any, *, flush: bool = True) -> None:
        journal = await self._opened()
        await journal.add(kind, key, value, flush=flush)
        if journal.appended >= MOST_ENTRIES:
            recent = set(list(journal.entries("start"))[-REMEMBERED:])
            await journal.compact(lambda kind, key, value: value if kind == "what" or key[:_ID] in recent else None)

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async def locked() -> T:
            async with self._turn:
                return await work()

        return await finished(locked())

    async def close(self) -> None:
        """Write nothing any more, once what was begun is finished."""
        async with self._turn:
            storage, self._storage, self._journal = self._storage, None, None
            if isinstance(storage, SqliteStorage):
                await anyio.to_thread.run_sync(storage.close)


#: How many characters an id has.
_ID = 16


def _past(journal: Journal) -> list[PastRollout]:
    found = []
    for id, value in journal.entries("start").items():
        first = msgspec.convert(value["move"], RolloutMove)
        later = (move for key, move in journal.entries("move").items() if key.startswith(f"{id}/"))
        moves = sorted([first, *(msgspec.convert(move, RolloutMove) for move in later)], key=lambda move: move.seq)
        start = msgspec.convert(value["record"], RolloutRecord)
        last = journal.find("counts", id) or {"seq": 0}
        if last["seq"] == moves[-1].seq:
            counts = msgspec.convert(last["counts"], list[StepCounts])
        else:
            counts = counts_after(start.rollout, moves[-1])
        found.append(PastRollout(start, moves, counts, journal.find("applied", f"{id}/{moves[-1].seq:06}")))
    return found
