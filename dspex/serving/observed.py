"""The part of a program's actor that keeps its calls: what is known of them, and what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import msgspec

from dspex._tasks import on_end
from dspex.serving.call_counts import CallCounts
from dspex.serving.call_store import CallStore, CallStoreError
from dspex.serving.calls import DAY, CallRecords, FinishedCall, call_records, key_digest
from dspex.serving.feedback import Feedback, FeedbackGiven, check_feedback, feedback_on, score_of
from dspex.serving.interface import Contract
from dspex.serving.versioned import RolloutOptions, VersionedProgram
from dspex.serving.versions import Versions
from dspex.telemetry import conventions as names
from dspex.telemetry.observation import tell_evaluation
from foundation.call_ids import call_ids
from foundation.call_records import CallRecord
from foundation.feedback import (
    BadFeedback,
    CallGone,
    FeedbackTaken,
    ForgetCalls,
    GetCall,
    GiveFeedback,
    ListCalls,
    ListFeedback,
    UnknownCall,
)
from supervision import Refuse, ReplyTo, handle

T = TypeVar("T")

#: After so many calls, and at the start, what is too old is deleted from the file.
FORGET_EVERY = 500
#: So many calls, or opinions, are told at once.
MOST_LISTED = 1000


class ObservedProgram(VersionedProgram):
    """Keeps the calls of a program, and what is said of them.

    What goes to the disk is awaited in tasks, so that requests are answered meanwhile.
    """

    calls: CallRecords
    #: How many there were.
    counts: CallCounts
    #: Checks what the program takes and gives.
    contract: Contract

    def __init__(
        self,
        concurrency: int,
        waiting: int | None,
        versions: Versions,
        rollout: RolloutOptions,
        calls: Mapping[str, Any] | None,
    ) -> None:
        super().__init__(concurrency, waiting, versions, rollout)
        self._calls = dict(calls or {})
        self._folder = self._calls.pop("folder", None)
        self._ended_calls = 0
        self._disk_work: set[asyncio.Task[None]] = set()

    async def init(self) -> None:
        """Read the calls that were kept."""
        await super().init()
        self.calls = call_records(self, self._calls)
        self._store = CallStore(self._folder)
        on_end(self.ref, self._store.close)
        await self._store.open()
        for data in await self._store.calls(self.calls.last, self._oldest()):
            self.calls.restore(msgspec.json.decode(data, type=CallRecord))
        self.calls.add_listener(self._keep)
        self.counts = CallCounts.of(self.runtime)
        self.calls.add_listener(partial(self.counts.ended, self.calls.program))

    def _oldest(self) -> float:
        return self.runtime.clock.wall_time() - self.calls.days * DAY

    def _keep(self, call: FinishedCall) -> None:
        record = call.record
        self._store.add_call(record.id, record.at, record.key, msgspec.json.encode(record))
        self._ended_calls += 1
        if self._ended_calls % FORGET_EVERY == 0:
            self._start_work(self._forget_old())

    async def _forget_old(self) -> None:
        await self._store.forget_old(self.calls.last, self._oldest())

    # -- looking -------------------------------------------------------------------------------------------------------

    @handle
    def list_calls(self, request: ListCalls) -> list[dict[str, Any]]:
        """Tell of the last calls."""
        latest = self.calls.latest(max(0, min(request.number, MOST_LISTED)))
        return [msgspec.to_builtins(record) for record in latest]

    @handle
    def get_call(self, request: GetCall) -> dict[str, Any]:
        """Tell of a call."""
        found: dict[str, Any] = msgspec.to_builtins(self._record(request.id))
        return found

    def _record(self, id: str) -> CallRecord:
        found = self.calls.find(id)
        if found is not None:
            return found
        if call_ids(self.runtime).has_issued(id):
            raise Refuse(CallGone(f"there is no record of call {id} any more, or it was refused"))
        raise Refuse(UnknownCall(f"there was no call {id[:50]!r}"))

    @handle
    def forget_calls(self, request: ForgetCalls) -> None:
        """Forget calls, in memory and on the disk."""
        column, value = "id", request.id or ""
        if request.key is not None:
            column, value = "key", key_digest(self.calls.program, request.key)
        self.calls.forget(column, value)
        self._reply(self._store.forget(column, value))

    # -- feedback ------------------------------------------------------------------------------------------------------

    @handle
    def give_feedback(self, request: GiveFeedback) -> None:
        """Keep what somebody says of a call."""
        record = self._record(request.call)
        try:
            check_feedback(request, self.contract)
        except BadFeedback as error:
            raise Refuse(error) from None
        id = call_ids(self.runtime).issue()
        said = feedback_on(record, request, id, self.calls.program, self.runtime.clock.wall_time())
        self._reply(self._give(record, said, first=request.first))

    async def _give(self, record: CallRecord, said: Feedback, *, first: bool) -> str:
        taken = await self._store.add_feedback(said.call, said.at, said.key, msgspec.json.encode(said), first=first)
        if not taken:
            raise FeedbackTaken(f"there is feedback on call {said.call} already")
        about = {"ref": self.ref, "path": self.ref.path, "program": said.program, "call": said.call}
        value = None if isinstance(said.value, str) else said.value
        self.runtime.events.emit(
            FeedbackGiven,
            **about,
            version=said.version,
            arm=said.arm,
            name=said.name,
            value=value,
            source=said.source,
        )
        of_call = {
            names.CALL_ID: said.call,
            names.PROGRAM: said.program,
            names.VERSION: said.version,
            names.ARM: said.arm,
        }
        score = score_of(said.value)
        tell_evaluation(self.runtime, said.name, score, said.source, of_call, record.trace)
        return said.id

    @handle
    def list_feedback(self, request: ListFeedback) -> None:
        """Tell what was said."""
        self._reply(self._feedback(request.after, max(0, min(request.number, MOST_LISTED))))

    async def _feedback(self, after: int, number: int) -> list[tuple[int, dict[str, Any]]]:
        found = await self._store.feedback(after, number)
        return [(number, msgspec.json.decode(body)) for number, body in found]

    # -- work that waits for the disk ----------------------------------------------------------------------------------

    def _reply(self, work: Awaitable[Any]) -> None:
        """Answer the request that is being handled with the outcome of work, which goes on if its caller has gone."""
        token: ReplyTo[Any] = self.defer_reply()
        self._start_work(_answer(token, work))

    def _start_work(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._disk_work.add(task)
        task.add_done_callback(self._ended_work)

    def _ended_work(self, task: asyncio.Task[None]) -> None:
        self._disk_work.discard(task)
        with suppress(asyncio.CancelledError):
            task.exception()


async def _answer(token: ReplyTo[T], work: Awaitable[T]) -> None:
    try:
        found = await work
    except (FeedbackTaken, CallStoreError) as error:
        token.fail(error)
    else:
        token.reply(found)
