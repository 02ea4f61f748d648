"""A workflow under supervision: a child of a tree that resumes its run after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from agents.durability import SqliteStorage, Storage, StorageConflict, StorageError
from dspex._tasks import on_end
from dspex.workflow.errors import StepCancelled, StepFailed, UndoFailed, WorkflowError, WorkflowSuspended
from dspex.workflow.retry import RetryPolicy
from dspex.workflow.workflow import Workflow
from foundation.naming import own_name
from foundation.options import above_zero, text
from foundation.tree.imports import BadImport, resolve
from supervision import Actor, Message, Refuse, ReplyTo, Request, handle
from supervision.errors import BadOption

#: Errors that are the same however often the workflow is run.
_FINAL = (StepFailed, StepCancelled, UndoFailed)


class GetResult(Request[Any], frozen=True):
    """Ask what a workflow has returned; answered when it has ended, with the error if it has failed for good."""


class CancelWorkflow(Request[None], frozen=True):
    """Cancel a workflow for good; answered when its steps are. What can be undone is undone then."""

    why: str = "cancelled"


class BodyEnded(Message, frozen=True):
    """To itself: the code of the workflow has returned, or raised."""

    task: asyncio.Task[Any]


class ResumeWorkflow(Message, frozen=True):
    """To itself: resume a suspended run."""


class WorkflowActor(Actor):
    """Runs a workflow. Restarted, or in another process on the same file, it goes on where it was.

    Suspended, because the infrastructure has failed it for longer than the policy waits, it tries again by itself. An
    error of the code outside of any step ends the actor, and its supervisor decides. When the workflow has ended, the
    actor stays, and answers `GetResult`; so it does when another process has taken over its log. In ``/tree`` it shows
    its progress.

    Args:
        body: an async function of a `Workflow`, or its import path, such as ``examples.report:report``.
        store: the file that keeps the run, or a `Storage`.
        workflow: the name of the run; the actor's name if None.
        parameters: what tells this run from others; ``body`` gets them as arguments.
        retry: the policy of its steps.
        resume_after: seconds after which a suspended run is tried again.

    Raises:
        BadOption: an argument makes no sense, or an actor of this runtime runs this workflow already.
        OtherRun, BadJournal, NoUsableCheckpoint, StorageError: at its start, as for `Workflow.open`.
    """

    def __init__(
        self,
        body: Callable[..., Awaitable[Any]] | str,
        store: str | Path | Storage,
        *,
        workflow: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        retry: RetryPolicy | None = None,
        resume_after: float = 60.0,
    ) -> None:
        self._body = _function(body)
        if not isinstance(store, (str, Path, Storage)):
            raise BadOption("WorkflowActor: store", store, "give the path of a file, or a Storage")
        self._store = store
        self._workflow = None if workflow is None else text("WorkflowActor: workflow", workflow)
        self._parameters, self._retry = dict(parameters or {}), retry
        self._resume_after = above_zero("WorkflowActor: resume_after", resume_after)
        self._state = "running"
        self._task: asyncio.Task[Any] | None = None
        self._own: SqliteStorage | None = None
        self._outcome: tuple[Any, Exception | None] | None = None
        self._waiting: list[ReplyTo[Any]] = []

    async def init(self) -> None:
        """Open the run, and begin or resume it."""
        name = self._workflow or own_name(self, "workflow")
        self._key = (WorkflowActor, name, str(self._store) if isinstance(self._store, (str, Path)) else id(self._store))
        try:
            self._take_over(name)
            self._storage = self._opened()
            self.runtime.shared[self._key] = self
            self._guard = on_end(self.ref, self.close)
            await self._begin(name)
        except (WorkflowError, StorageError, BadOption) as error:
            raise Refuse(error) from error

    def _take_over(self, name: str) -> None:
        """Make sure that an earlier incarnation, which has been killed, writes nothing any more."""
        before: WorkflowActor | None = self.runtime.shared.get(self._key)
        if before is not None:
            if before.ref.alive:
                raise BadOption("WorkflowActor: workflow", name, f"{before.ref.path} runs it already, on this store")
            before.close()

    def _opened(self) -> Storage:
        if not isinstance(self._store, (str, Path)):
            return self._store
        self._own = SqliteStorage(self._store)
        return self._own

    async def _begin(self, name: str) -> None:
        self._flow = await Workflow.open(self.runtime, self._storage, name, self._parameters, retry=self._retry)
        body = lambda flow: self._body(flow, **self._parameters)  # noqa: E731
        self._task = asyncio.get_running_loop().create_task(self._flow.run(body))
        self._task.add_done_callback(self._tell)
        self._state = "running"

    def _tell(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # it was looked at, also if this actor has ended meanwhile
        if self.ref.alive:
            self.ref.cast(BodyEnded(task))

    def close(self) -> None:
        """Write nothing any more. It is called when the actor has ended, in whatever way."""
        if self.runtime.shared.get(self._key) is self:
            del self.runtime.shared[self._key]
            if self._task is not None:
                self._task.cancel()
            if self._own is not None:
                self._own.close()

    @handle
    def ended(self, message: BodyEnded) -> None:
        """Keep the outcome; or try again later; or end, if the code is wrong."""
        try:
            self._settle(message.task.result(), None)
        except (WorkflowSuspended, StorageConflict, *_FINAL) as error:
            if isinstance(error, WorkflowSuspended):
                self._state = f"suspended: {error}"
                self.send_after(self._resume_after, ResumeWorkflow())
            else:
                self._settle(None, error)

    def _settle(self, value: Any, error: Exception | None) -> None:
        self._outcome = value, error
        self._state = "done" if error is None else f"failed: {error}"
        if isinstance(error, StorageConflict):
            self._state = "superseded: another process writes this log"
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            self._answer(reply)

    def _answer(self, reply: ReplyTo[Any]) -> None:
        assert self._outcome is not None
        value, error = self._outcome
        reply.reply(value) if error is None else reply.fail(error)

    @handle
    async def resume(self, message: ResumeWorkflow) -> None:
        """Resume the run."""
        await self._begin(self._flow.name)

    @handle
    def get_result(self, request: GetResult) -> None:
        """Answer when the workflow has ended."""
        reply: ReplyTo[Any] = self.defer_reply()
        if self._outcome is not None:
            self._answer(reply)
            return
        self._waiting.append(reply)
        reply.on_abandoned(lambda: self._waiting.remove(reply) if reply in self._waiting else None)

    @handle
    async def cancel(self, request: CancelWorkflow) -> None:
        """Cancel the steps under way, and all later ones."""
        try:
            await self._flow.cancel(request.why)
        except (BadOption, StorageError) as error:
            raise Refuse(error) from error

    def summary(self) -> Mapping[str, object]:
        """Return its progress, for ``/tree``."""
        return {"state": self._state, **self._flow.summary()}


def _function(body: Any) -> Callable[..., Awaitable[Any]]:
    """Return the function that was given, or named.

    Raises:
        BadOption: it is none.
    """
    found = body
    if isinstance(body, str):
        try:
            found = resolve(body)
        except BadImport as error:
            raise BadOption("WorkflowActor: body", body, str(error)) from error
    if not callable(found):
        raise BadOption("WorkflowActor: body", body, "give an async function of a Workflow, or its import path")
    return found  # type: ignore[no-any-return]
