"""The journal folded into what is known of a run: its steps, its recorded values and its checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from agents.durability import Storage, StorageConflict, StorageError
from dspex.workflow.encoding import digest
from dspex.workflow.errors import DuplicateStep, JournalFull, NoUsableCheckpoint, StepTrimmed
from dspex.workflow.journal import Journal

#: ``running``: begun, and not known to have ended. ``trimmed``: done, before a checkpoint, and without its value.
StepState: TypeAlias = Literal["running", "done", "failed", "cancelled", "trimmed"]

#: Kinds of entries: what is known of steps, compensations, recorded values, and items of batches.
STEP, UNDO, VALUE, ITEM = "step", "undo", "value", "item"
#: Kinds of the entries that a run writes about itself.
CANCEL, RESULT, ID = "cancel", "result", "id"
_CHECKPOINT = "checkpoint"


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the journal says of a step.

    Attributes:
        state: its state.
        print: the fingerprint of its arguments.
        attempt: how often it was begun, over all restarts.
        number: in which order steps have ended.
        value: what it returned; or, if it failed, the class and the message of its error.
        undo: whether it has a compensation.
    """

    state: StepState
    print: str
    attempt: int = 0
    number: int = 0
    value: Any = None
    undo: bool = False


class CheckpointPointer(msgspec.Struct, frozen=True):
    """Where a checkpoint is.

    Attributes:
        digest: of its content.
        number: of the last step before it.
        trim: how the keys begin whose values are not needed any more once no older checkpoint is kept.
    """

    digest: str
    number: int
    trim: tuple[str, ...] = ()

    def covers(self, key: str, number: int) -> bool:
        """Return whether what has a key, and ended as that number, is trimmed."""
        return 0 < number <= self.number and any(_begins(key, name) for name in self.trim)


class RunState:
    """What is known of a run.

    Args:
        journal: that is open.
        limit: how many bytes it may have; None for any number.
        keep: how many checkpoints are kept.
    """

    def __init__(self, journal: Journal, limit: int | None, keep: int) -> None:
        self.journal = journal
        self._limit = limit
        self._generations = keep
        numbers = [value.get("number", 0) for kind in (STEP, UNDO, VALUE) for _, value in self._known(kind)]
        #: How many steps have ended, and values have been recorded.
        self.number = max(numbers, default=0)
        #: The keys that this incarnation has used.
        self.used: set[str] = set()
        #: What an earlier incarnation recorded after the restored checkpoint, and this run has not yet reached.
        self._ahead: dict[str, int] = {}
        self.unreadable: dict[int, str] = {}

    def _known(self, kind: str) -> Iterator[tuple[str, Any]]:
        """Return what is known of a kind, and was not forgotten."""
        return ((key, value) for key, value in self.journal.entries(kind).items() if value is not None)

    def records(self, kind: str) -> Iterator[tuple[str, StepRecord]]:
        """Return what is known of all steps, or of all compensations."""
        return ((key, _record(value)) for key, value in self._known(kind))

    def check_room(self) -> None:
        """Make sure that the journal may grow.

        Raises:
            JournalFull: it may not.
        """
        if self._limit is not None and self.journal.size >= self._limit:
            raise JournalFull(self.journal.size, self._limit)

    def record(self, kind: str, key: str) -> StepRecord | None:
        """Return what is known of a step; None if nothing is."""
        value = self.journal.find(kind, key)
        return None if value is None else _record(value)

    async def keep(self, kind: str, key: str, record: StepRecord) -> None:
        """Write what is known of a step.

        That it has begun must be known when the process dies in it. When the machine dies, it is begun again in
        either way, and has the same token; only its attempts are counted one less.
        """
        await self.journal.add(kind, key, msgspec.to_builtins(record), flush=record.state != "running")

    async def end(self, kind: str, key: str, record: StepRecord, state: StepState, value: Any) -> None:
        """Write how a step has ended."""
        self.number += 1
        await self.keep(kind, key, msgspec.structs.replace(record, state=state, value=value, number=self.number))

    async def forget(self, key: str) -> None:
        """Forget what is known of a step, and what was recorded under its key; of a batch, what was not done."""
        for kind in (STEP, VALUE):
            if self.journal.find(kind, key) is not None:
                await self.journal.add(kind, key, None)
        # Of a batch, what is done stays done.
        for item, value in list(self._known(ITEM)):
            if _begins(item, f"{key}/item") and value["state"] in ("failed", "quarantined"):
                await self.journal.add(ITEM, item, None)
        self.used.discard(key)
        self._ahead.pop(key, None)

    def value(self, key: str) -> Any:
        """Return what was recorded under a key, in a mapping; None if nothing was.

        Raises:
            StepTrimmed: it was trimmed.
        """
        found = self.journal.find(VALUE, key)
        if found is not None and "value" not in found:
            raise StepTrimmed(key)
        return found

    async def record_value(self, key: str, value: Any) -> None:
        """Record a value."""
        self.number += 1
        await self.journal.add(VALUE, key, {"value": value, "number": self.number})

    def use(self, key: str) -> None:
        """Record that this incarnation has reached a key.

        Raises:
            DuplicateStep: it was there before.
        """
        if key in self.used:
            raise DuplicateStep(key)
        self.used.add(key)
        self._ahead.pop(key, None)

    @property
    def ahead(self) -> bool:
        """Whether an earlier incarnation has come further than this one is."""
        return bool(self._ahead)

    @property
    def _border(self) -> int:
        """The number up to which all that has ended is known to this incarnation."""
        return min((number for number in self._ahead.values() if number), default=self.number + 1) - 1

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _pointers(self) -> dict[int, CheckpointPointer]:
        """Return where the checkpoints are that are kept, the oldest first."""
        found = {int(key): msgspec.convert(value, CheckpointPointer) for key, value in self._known(_CHECKPOINT)}
        return dict(sorted(found.items()))

    def _place(self, generation: int, found: str) -> str:
        return f"{self.journal.key}/checkpoint/{generation}-{found}"

    @property
    def _storage(self) -> Storage:
        return self.journal.storage

    async def restore(self) -> bytes | None:
        """Return the content of the newest checkpoint that can be read; None if there is none.

        Raises:
            NoUsableCheckpoint: none can be read, and what came before them is gone.
        """
        pointers = self._pointers()
        for generation, pointer in reversed(pointers.items()):
            content, why = await self._read(generation, pointer)
            if content is not None:
                self._look_ahead(pointer.number)
                return content
            self.unreadable[generation] = why
        self._look_ahead(0)
        if any(record.state == "trimmed" for _, record in self.records(STEP)):
            raise NoUsableCheckpoint(f"none of the checkpoints {list(pointers)} can be read: {self.unreadable}")
        return None

    def _look_ahead(self, restored: int) -> None:
        numbers = ((key, value.get("number", 0)) for kind in (STEP, VALUE) for key, value in self._known(kind))
        self._ahead = {key: number for key, number in numbers if not 0 < number <= restored}

    async def _read(self, generation: int, pointer: CheckpointPointer) -> tuple[bytes | None, str]:
        try:
            stored = await self._storage.read(self._place(generation, pointer.digest))
        except StorageError as error:
            return None, str(error)
        content = None if stored is None else stored.checkpoint
        if content is None:
            return None, "it is not there"
        if digest(content) != pointer.digest:
            return None, "it is not what was written"
        return content, ""

    async def write_checkpoint(self, content: bytes, trim: Iterable[str]) -> int:
        """Write a checkpoint: its content, then the pointer to it; forget what is not needed any more."""
        known = self._pointers()
        # What cannot be read is not kept.
        pointers = {generation: pointer for generation, pointer in known.items() if generation not in self.unreadable}
        before = known[max(known)].trim if known else ()
        pointer = CheckpointPointer(digest(content), self._border, tuple(sorted({*before, *trim})))
        generation = max(known, default=0) + 1
        try:
            await self._storage.write(self._place(generation, pointer.digest), 1, expected=None, checkpoint=content)
        except StorageConflict:
            # It was written before, and then the process ended; what has this digest is the same.
            await self._storage.write(self._place(generation, pointer.digest), 1, expected=1, checkpoint=content)
        await self.journal.add(_CHECKPOINT, str(generation), msgspec.to_builtins(pointer))
        await self._forget({**pointers, generation: pointer})
        return generation

    async def _forget(self, pointers: dict[int, CheckpointPointer]) -> None:
        old = sorted(pointers)[: -self._generations]
        for generation in old:
            await self.journal.add(_CHECKPOINT, str(generation), None)
            await self._storage.delete(self._place(generation, pointers[generation].digest))
        # All that is kept is written anew: not more often than the journal has grown by as much.
        live = sum(self.journal.count(kind) for kind in (STEP, VALUE, UNDO))
        if old and 2 * self.journal.appended >= live:
            await self._compact(pointers[sorted(pointers)[-self._generations]])

    async def _compact(self, oldest: CheckpointPointer) -> None:
        """Trim the values of what was done before the oldest checkpoint that is kept."""

        def keep(kind: str, key: str, value: Any) -> Any:
            if kind == ITEM:
                # The result of a batch that has ended has all of it.
                batch = self.record(STEP, key.rpartition("/item[")[0])
                return value if batch is None or batch.state == "running" else None
            if kind not in (STEP, VALUE) or value is None or not oldest.covers(key, value.get("number", 0)):
                return value
            if kind == VALUE:
                return {"number": value["number"]}
            record = _record(value)
            if record.state == "done" and not record.undo:
                record = msgspec.structs.replace(record, state="trimmed", value=None)
            return msgspec.to_builtins(record)

        await self.journal.compact(keep)


def _begins(key: str, name: str) -> bool:
    return key.startswith(name) and key[len(name) : len(name) + 1] in ("", "/", "[")


def _record(value: Any) -> StepRecord:
    return msgspec.convert(value, StepRecord)
