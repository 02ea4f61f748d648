"""Batches: the items of a workflow, done by supervised workers, any of which may die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from itertools import count
from typing import Any

import msgspec

from agents.durability import StorageError
from dspex._tasks import adopt_context, on_end, start_in
from dspex.workflow.encoding import Key, decoded, digest, encoded, key_of
from dspex.workflow.errors import StaleFence, WorkflowError, WorkflowSuspended
from dspex.workflow.events import ItemLost
from dspex.workflow.items import Claim, WorkItem, WorkItems
from dspex.workflow.retry import Failures, RetryPolicy
from dspex.workflow.state import ITEM
from dspex.workflow.steps import CurrentStep, current_step, error_message, run_in_step
from dspex.workflow.workflow import Workflow
from foundation.options import above_zero, from_zero, is_a, whole
from supervision import Actor, ChildSpec, Message, NoProcess, Ref, Supervisor, handle
from supervision.errors import BadOption

_numbers = count(1)


class WithUsage(msgspec.Struct, frozen=True):
    """What the work on an item returns if it has used something: the ``value``, and the ``usage``, such as dollars."""

    value: Any
    usage: float


class BatchResult(msgspec.Struct, frozen=True):
    """What became of the items of a batch.

    Attributes:
        values: of the items that are done, in the order of the items.
        failed: of those whose work has raised, the class and the message of the error.
        quarantined: of those with which too many workers were lost, the workers, and why each was lost.
        coverage: which part is done.
        usage: what all work of this incarnation has used, also that which did not count.
    """

    values: dict[str, Any]
    failed: dict[str, tuple[str, str]]
    quarantined: dict[str, dict[str, str]]
    coverage: float
    usage: float


class NextItem(Message, frozen=True):
    """To itself: do an item, if there is one."""


class ItemWorker(Actor):
    """Does one item after another.

    Args:
        items: of the batch.
    """

    def __init__(self, items: _BatchRun) -> None:
        self._items = items

    def init(self) -> None:
        """Begin."""
        self._guard = on_end(self.ref, lambda: self._items.ended(self.ref))
        self.ref.cast(NextItem())

    @handle
    async def next(self, message: NextItem) -> None:
        """Do an item, and then another."""
        if await self._items.do_next(self.ref):
            self.ref.cast(NextItem())


class _BatchRun:
    """A batch that is under way: what its workers share."""

    def __init__(
        self,
        flow: Workflow,
        path: str,
        given: Mapping[str, Any],
        work: Callable[[Any], Any],
        lease: float | None,
        max_losses: int,
        type: Any,
        retry: RetryPolicy,
    ) -> None:
        self._flow, self._path, self._given, self._work = flow, path, given, work
        self._lease, self._type, self._retry = lease, type, retry
        self._runtime = flow.runtime
        self._context = copy_context()
        self._waiting: list[asyncio.Future[None]] = []
        self._error: Exception | None = None
        self._closing = False
        self._unwritten: list[str] = []
        #: What tells the workers of this incarnation from those of others.
        self._incarnation = f"{self._runtime.random.getrandbits(32):08x}"
        known = {name: self._known(name, digest(encoded(path, f"item {name}", value))) for name, value in given.items()}
        self._items = WorkItems(given, known, max_losses=max_losses)

    def _known(self, name: str, print_: str) -> WorkItem:
        """Return what is known of an item: nothing of what was done with something else."""
        value = self._flow.journal.find(ITEM, self._key(name))
        item = WorkItem(print=print_) if value is None else msgspec.convert(value, WorkItem)
        return item if item.print == print_ else WorkItem(fence=item.fence, print=print_)

    def _key(self, name: str) -> str:
        return key_of(f"{self._path}/", "item", name)

    def _worker(self, ref: Ref) -> str:
        return f"{ref}@{self._incarnation}"

    # -- for the workers ---------------------------------------------------------------------------------------------

    async def do_next(self, ref: Ref) -> bool:
        """Do the next item, as soon as there is one; return whether there may be more."""
        try:
            claim = await self._claim(self._worker(ref))
            if claim is None:
                return False
            await self._report(claim, *await start_in(adopt_context(self._context), self._done(claim)))
        except (WorkflowError, StorageError) as error:
            self._break(error)
            return False
        return True

    async def _claim(self, worker: str) -> Claim | None:
        while not self._items.finished and self._error is None:
            claim = self._items.claim(worker, self._runtime.clock.time(), self._lease)
            if claim is not None:
                self._wake()
                await self._keep(claim.item)
                return claim
            await self._change()
        return None

    async def _done(self, claim: Claim) -> tuple[bool, Any, float]:
        """Do the work on an item, as often as it takes; return whether it has succeeded, its value, and its usage."""
        failures = Failures(self._retry, self._runtime)
        key = self._key(claim.item)
        step = CurrentStep(key, self._flow.token(f"{ITEM}:{key}"), claim.fence)
        while True:
            try:
                found = await run_in_step(step, lambda: self._work(self._given[claim.item]))
                spent = found if is_a(found, WithUsage) else WithUsage(found, 0.0)
                usage = from_zero(f"{key}: usage", spent.usage)
                return True, self._plain(key, spent.value), usage
            except (WorkflowError, StorageError):
                raise
            except Exception as error:
                if not self._retry.on(error):
                    return False, [type(error).__name__, error_message(error)], 0.0
                pause = failures.next_pause(error)
                if pause is None:
                    raise WorkflowSuspended(key, failures.count, failures.seconds, error) from error
            await self._runtime.sleep(pause)

    def _plain(self, key: str, value: Any) -> Any:
        data = encoded(key, "what it returned", value, typed=self._type is not None)
        decoded(key, data, self._type)
        return decoded(key, data, None)

    async def _report(self, claim: Claim, succeeded: bool, value: Any, usage: float) -> None:
        try:
            if succeeded:
                self._items.complete(claim, value, usage)
            else:
                self._items.fail(claim, value[0], value[1], usage)
        except StaleFence:
            return  # its usage was counted; another worker has the item
        await self._keep(claim.item)
        self._wake()

    def ended(self, ref: Ref) -> None:
        """A worker has ended: what it had is for another one."""
        if self._closing:
            return  # the batch has ended it
        worker = self._worker(ref)
        self._take_back(self._items.lost(worker, str(ref.reason)), worker, str(ref.reason))

    def _take_back(self, names: list[str], worker: str | None, why: str) -> None:
        for name in names:
            item = self._items[name]
            self._runtime.events.emit(
                ItemLost,
                workflow=self._flow.name,
                item=self._key(name),
                worker=worker or list(item.losses)[-1],
                why=why,
                quarantined=item.state == "quarantined",
            )
        self._unwritten += names
        self._wake()

    async def _keep(self, name: str) -> None:
        await self._flow.journal.add(ITEM, self._key(name), msgspec.to_builtins(self._items[name]))

    def _break(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()

    def _change(self) -> asyncio.Future[None]:
        """Return a future that is done when something has changed, from this moment on."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    # -- for the workflow --------------------------------------------------------------------------------------------

    async def run(self, workers: int) -> BatchResult:
        """Have workers do all items."""
        name = f"workflow:{self._flow.name}:{self._path}:{next(_numbers)}"
        specs = [ChildSpec(str(number), ItemWorker, (self,)) for number in range(workers)]
        most = 10 * workers + 10 * len(self._given)  # each item can cost some workers, and that is no reason to give up
        supervisor = await self._runtime.spawn(Supervisor, specs, max_restarts=most, max_seconds=1.0, name=name)
        guard = on_end(supervisor, lambda: self._break(WorkflowError(f"the workers of {self._path} have ended")))
        try:
            await self._finished()
        finally:
            self._closing = True
            guard.cancel()
            with suppress(NoProcess):  # if it has ended, the run ends
                await supervisor.stop()
        return self._batch()

    async def _finished(self) -> None:
        clock = self._runtime.clock
        while True:
            while self._unwritten:
                await self._keep(self._unwritten.pop())
            if self._error is not None:
                raise self._error
            if self._items.finished:
                return
            expiry = self._items.next_expiry
            left = None if expiry is None else max(0.0, expiry - clock.time())
            await asyncio.wait([self._change()], timeout=left)
            self._take_back(self._items.expire(clock.time()), None, "lease")

    def _batch(self) -> BatchResult:
        known = {name: self._items[name] for name in self._items}
        return BatchResult(
            {name: item.value for name, item in known.items() if item.state == "done"},
            {name: tuple(item.value) for name, item in known.items() if item.state == "failed"},
            {name: item.losses for name, item in known.items() if item.state == "quarantined"},
            self._items.coverage,
            self._items.usage,
        )


async def run_items(
    flow: Workflow,
    name: str,
    items: Mapping[str, Any],
    work: Callable[[Any], Any],
    *,
    key: Key = (),
    workers: int = 4,
    lease: float | None = None,
    max_losses: int = 3,
    type: Any = None,
    retry: RetryPolicy | None = None,
) -> BatchResult:
    """Have supervised workers do items, each by one of them at a time; return what became of them.

    It is a step of the workflow. An item that is done is in the journal, and is not done again. A worker that dies is
    restarted, and its item is done by the next one, before those that nobody has had. An item with which too many
    workers die is quarantined, and the others go on. An error of the program is final for its item alone; a failure of
    the infrastructure is tried again by the policy, and then the run is suspended.

    Args:
        flow: the workflow.
        name: of the step.
        items: what is given to the work, by the names of the items. It is part of what the step is.
        work: a function, or an async one, of what belongs to an item; it may return a `WithUsage`. In it,
            `current_step` has the token and the number of the attempt of its item.
        key: what tells the step from others of that name.
        workers: how many there are.
        lease: seconds after which an item is given to another worker though the first one lives; None for never.
        max_losses: with how many workers an item is lost until it is quarantined.
        type: of the values, as for `Workflow.step`.
        retry: the policy; the workflow's if None.

    Raises:
        BadOption: an argument makes no sense.
        Exception: as for `Workflow.step`.
    """
    workers, max_losses = whole("run_items: workers", workers), whole("run_items: max_losses", max_losses)
    if lease is not None:
        lease = above_zero("run_items: lease", lease)
    if not callable(work):
        raise BadOption("run_items: work", work, "give a function")
    if retry is not None and not is_a(retry, RetryPolicy):
        raise BadOption("run_items: retry", retry, "give a RetryPolicy, or None")
    given = dict(items)

    async def run(given: Mapping[str, Any]) -> BatchResult:
        policy = retry or flow.retry
        running = _BatchRun(flow, current_step().key, given, work, lease, max_losses, type, policy)
        return await running.run(workers)

    batch: BatchResult = await flow.step(name, run, given, key=key, type=BatchResult, retry=retry)
    if type is None:
        return batch
    values = {item: decoded(name, encoded(name, "its value", value), type) for item, value in batch.values.items()}
    return msgspec.structs.replace(batch, values=values)
