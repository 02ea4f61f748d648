"""Workflows: code whose steps are done once, across crashes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from agents.durability import Storage, StorageError
from dspex.workflow.compensations import give_up, undo_steps
from dspex.workflow.encoding import Key, decoded, encoded, journal_key, key_of
from dspex.workflow.errors import (
    DuplicateStep,
    StepCancelled,
    StepFailed,
    UnsupportedVersion,
    WorkflowError,
)
from dspex.workflow.events import CheckpointUnreadable
from dspex.workflow.journal import Journal
from dspex.workflow.metrics import WorkflowCounts
from dspex.workflow.retry import RetryPolicy
from dspex.workflow.state import CANCEL, ID, RESULT, STEP, UNDO, VALUE, RunState
from dspex.workflow.steps import Cancellable, RunContext, T, refuse_inside_of_step
from foundation.options import from_zero, is_a, text, whole
from supervision import Runtime
from supervision.errors import BadOption

#: A clock is not asked to be exact beyond this.
_CLOSE = 1e-6
#: Nobody sleeps longer without looking at the wall clock, which may have been set.
_LOOK = 3600.0
#: So many running steps are named in a summary.
_SHOWN = 5


class Workflow:
    """A run of a workflow: its steps are done once, across crashes. Opened by `open`.

    The code of a workflow is run again after a crash, from its beginning; a step that was done then returns what it
    has returned before. So it may do what it likes between its steps, as long as the same steps, with the same
    arguments, come of it: what depends on time, on chance or on the world is itself a step, or comes from `now`,
    `random` and `id`.

    A step is *done once*: its result is in the journal before anybody sees it. A step that was running at a
    crash is run again, so its effects happen *at least once*; a receiver of `CurrentStep.token` recognises the
    repetition.

    Attributes:
        name: of the workflow.
        runtime: in which it runs.
        retry: the policy of its steps.
        resumed: whether the run had begun before; decided when it was opened.
        restored: what the newest checkpoint holds; None if there is none.

    >>> from agents.durability import MemoryStorage
    >>> async def report(flow: Workflow) -> int:
    ...     sizes = [await flow.step("size", len, text, key=text) for text in ("a", "bc")]
    ...     return await flow.step("sum", sum, sizes)
    >>> async def main(storage: MemoryStorage) -> tuple[int, bool]:
    ...     async with Runtime() as runtime:
    ...         flow = await Workflow.open(runtime, storage, "report", {"texts": 2})
    ...         return await flow.run(report), flow.resumed
    >>> storage = MemoryStorage()
    >>> asyncio.run(main(storage)), asyncio.run(main(storage))
    ((3, False), (3, True))
    """

    def __init__(self, run: RunContext, prefix: str, resumed: bool, restored: Any) -> None:
        self._run = run
        self._prefix = prefix
        self.name = run.name
        self.runtime = run.runtime
        self.retry = run.retry
        self.resumed = resumed
        self.restored = restored

    @classmethod
    async def open(
        cls,
        runtime: Runtime,
        storage: Storage,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        retry: RetryPolicy | None = None,
        limit: int | None = None,
        keep: int = 3,
    ) -> Workflow:
        """Open a run: a new one, or the one that is kept there.

        Args:
            runtime: whose clock, chance and events are used.
            storage: where it is kept.
            name: of the workflow; a storage holds one run of each name.
            parameters: what tells this run from others; JSON's plain values.
            retry: how often what the infrastructure has failed in is tried, unless a step says otherwise.
            limit: how many bytes the journal may have; at the limit, steps are refused (`JournalFull`). None for any.
            keep: how many checkpoints are kept.

        Raises:
            OtherRun: a run with other parameters is kept there; each difference is named.
            BadJournal, NoUsableCheckpoint: what is there cannot be read.
            NotEncodable, BadOption, BadStepKey: an argument makes no sense.
            StorageError: the storage cannot be read.
        """
        if not is_a(runtime, Runtime):
            raise BadOption("Workflow.open: runtime", runtime, "give the Runtime in which it runs")
        if retry is not None and not is_a(retry, RetryPolicy):
            raise BadOption("Workflow.open: retry", retry, "give a RetryPolicy, or None")
        key = journal_key(text("Workflow.open: name", name))
        most = None if limit is None else whole("Workflow.open: limit", limit)
        generations = whole("Workflow.open: keep", keep)
        plain = decoded(key, encoded(key, "its parameters", dict(parameters or {})), None)
        journal = Journal(storage, key)
        # A run without parameters has begun as well.
        resumed = await journal.open({**plain, "(workflow)": 1})
        state = RunState(journal, most, generations)
        content = await state.restore()
        for generation, why in state.unreadable.items():
            runtime.events.emit(CheckpointUnreadable, workflow=name, generation=generation, why=why)
        run = RunContext(runtime, name, state, retry or RetryPolicy(), WorkflowCounts.of(runtime))
        run.counts.opened(journal)
        if journal.find(ID, "") is None:
            await journal.add(ID, "", f"{runtime.random.getrandbits(64):016x}")
        return cls(run, "", resumed, None if content is None else decoded(key, content, None))

    @property
    def journal(self) -> Journal:
        """The journal of the run: for what stands on workflows, and has entries of a kind of its own."""
        return self._run.state.journal

    def token(self, key: str) -> str:
        """Return what stays the same for a key however often this run is repeated, and no other run has."""
        return self._run.token(key)

    def scope(self, name: str, key: Key = ()) -> Workflow:
        """Return the same run, in which the keys of steps begin with a name: for a part that is used more than once.

        Args:
            name: of the part.
            key: what tells it from others of that name.

        Raises:
            BadStepKey: they cannot be used.
        """
        return Workflow(self._run, f"{self._key(name, key)}/", self.resumed, self.restored)

    def _key(self, name: str, key: Key) -> str:
        return key_of(self._prefix, name, key)

    # -- steps -------------------------------------------------------------------------------------------------------

    async def step(
        self,
        name: str,
        work: Callable[..., Any],
        *args: Any,
        key: Key = (),
        type: Any = None,
        retry: RetryPolicy | None = None,
        undo: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Do something, once.

        Args:
            name: of the step.
            work: a function, or an async one, of ``args``. A plain one is called in the event loop.
            args: are part of what the step is: done before with others, it is refused.
            key: what tells it from other steps of that name: what it is about, never a count.
            type: of what it returns, to be decoded by msgspec; None for JSON's plain values, as which it comes back.
            retry: how often it is tried; the workflow's policy if None.
            undo: undoes it, given what it has returned, when `undo` is called; itself a step.

        Returns:
            What the work has returned, now or in an earlier incarnation.

        Raises:
            StepFailed: the work has raised, now or then: an error of the program is final.
            StepCancelled: the step was cancelled for good; see `cancel`.
            WorkflowSuspended: the infrastructure has failed it for longer than the policy waits; nothing is recorded.
            StepChanged: it was begun with other arguments. Nothing was run.
            DuplicateStep: the key was used in this incarnation before.
            BadStepKey, NotEncodable: the key, an argument or the result cannot be kept.
            StepTrimmed: it was done before a checkpoint, and its value is gone.
            JournalFull, StorageError: nothing can be written; nothing was done.
        """
        path = self._key(name, key)
        if not callable(work):
            raise BadOption(f"step {path}: work", work, "give a function")
        if retry is not None and not is_a(retry, RetryPolicy):
            raise BadOption(f"step {path}: retry", retry, "give a RetryPolicy, or None")
        return await self._run.do(STEP, path, work, args, type, retry, undo)

    # -- time, chance, identity --------------------------------------------------------------------------------------

    async def sleep(
        self, name: str, seconds: float | None = None, *, until: float | None = None, key: Key = ()
    ) -> None:
        """Wait. After a restart, only the rest is waited for.

        Args:
            name: of the wait.
            seconds: how long.
            until: instead: until which time, in seconds since the epoch.
            key: what tells it from others of that name.

        Raises:
            BadOption: neither or both are given, or it is no length of time.
            StepCancelled: the run was cancelled.
            DuplicateStep, BadStepKey, JournalFull, StorageError: as for `step`.
        """
        if (seconds is None) == (until is None):
            raise BadOption("sleep: seconds, until", (seconds, until), "give one of them")
        wall_time = self._run.runtime.clock.wall_time
        span = 0.0 if seconds is None else from_zero("sleep: seconds", seconds)
        end = wall_time() + span if until is None else from_zero("sleep: until", until)
        due = await self._run.recorded(self._key(name, key), lambda: end)
        waiting = Cancellable(VALUE, self._key(name, key))
        with self._run.under_way(waiting):
            waiting.check()
            while (left := due - wall_time()) > _CLOSE:
                await waiting.inside(lambda: self._run.runtime.sleep(min(left, _LOOK)))

    async def now(self, name: str, *, key: Key = ()) -> float:
        """Return the time, in seconds since the epoch, at which this was first asked for.

        Raises:
            DuplicateStep, BadStepKey, JournalFull, StorageError: as for `step`.
        """
        return await self._run.recorded(self._key(name, key), self._run.runtime.clock.wall_time)

    async def random(self, name: str, *, key: Key = ()) -> random.Random:
        """Return random numbers that are the same whenever the run is repeated: ``(await flow.random("x")).random()``.

        Raises:
            DuplicateStep, BadStepKey, JournalFull, StorageError: as for `step`.
        """
        return random.Random(
            await self._run.recorded(self._key(name, key), lambda: self._run.runtime.random.getrandbits(53))
        )

    async def id(self, name: str, *, key: Key = ()) -> str:
        """Return an identifier that no other run has, and that is the same whenever the run is repeated.

        Raises:
            DuplicateStep, BadStepKey, JournalFull, StorageError: as for `step`.
        """
        return await self._run.recorded(
            self._key(name, key), lambda: f"{self._run.runtime.random.getrandbits(128):032x}"
        )

    async def version(self, name: str, latest: int, *, oldest: int = 0, key: Key = ()) -> int:
        """Return which version of the code this run takes: for a change that runs which have begun do not make.

        A run that is new takes the latest; so does one that has not come that far. A run that had already come further
        before there was a choice takes 0, the code as it was.

        Args:
            name: of the change.
            latest: the number of the latest version, from 1.
            oldest: the oldest one that this code can still run.
            key: what tells it from others of that name.

        Raises:
            UnsupportedVersion: the run has a version that this code cannot run.
            BadOption: a number makes no sense.
            DuplicateStep, BadStepKey, JournalFull, StorageError: as for `step`.
        """
        latest, oldest = whole("version: latest", latest), whole("version: oldest", oldest, 0)
        ahead = self._run.state.ahead
        found: int = await self._run.recorded(self._key(name, key), lambda: 0 if ahead else latest)
        if not oldest <= found <= latest:
            raise UnsupportedVersion(self._key(name, key), found, oldest, latest)
        return found

    # -- forgetting, cancelling, undoing -----------------------------------------------------------------------------

    async def forget(self, name: str, *, key: Key = ()) -> None:
        """Forget a step, or what was recorded under its name, so that it is done anew.

        Raises:
            DuplicateStep: it is under way.
            BadStepKey, StorageError: as for `step`.
        """
        path = self._key(name, key)
        if path in self._run.running:
            raise DuplicateStep(path)
        await self._run.write(self._run.state.forget(path))
        self._run.undo.pop(path, None)

    async def cancel(self, why: str = "cancelled") -> None:
        """Cancel the run, for good: steps that are under way, the one begun last first, and all that are begun later.

        Each of them raises `StepCancelled`, also when the run is repeated. What was done stays done; see `undo`.

        Args:
            why: is told.

        Raises:
            WorkflowError: it is called from inside of a step, which would have to wait for itself.
            StorageError: it cannot be written; nothing was cancelled.
        """
        refuse_inside_of_step("cancel")
        await self._run.write(self._run.state.journal.add(CANCEL, "", text("cancel: why", why)))
        for waiting in reversed([waiting for waiting in self._run.running.values() if waiting.kind != UNDO]):
            waiting.cancel(why)
            await asyncio.shield(waiting.ended)

    async def undo(self) -> None:
        """Undo the steps that were done and have a compensation (``undo=``), the one done last first.

        Each compensation is itself a step: done once, tried as often as it takes, and resumed after a crash. A
        step that has failed or was cancelled is not undone: it leaves nothing behind, or undoes it by itself.

        Raises:
            CannotUndo: steps with compensations were done by an earlier incarnation, and not reached in this one.
                Nothing was undone.
            UndoFailed: compensations have failed for good; the others were done.
            WorkflowSuspended, StorageError: as for `step`; called again, it goes on there.
        """
        await undo_steps(self._run)

    # -- the whole ---------------------------------------------------------------------------------------------------

    async def checkpoint(self, content: Any, *, trim: Iterable[str] = ()) -> None:
        """Keep where the run is, at a logical border: what ``restored`` is when it is opened again.

        The content is written first, and then the pointer to it. Several are kept (``keep`` of `open`), and one that
        cannot be read is passed over, for the one before.

        Args:
            content: JSON's plain values, or what msgspec can encode.
            trim: names of steps and scopes, below this one, that a run which begins from ``restored`` does not use
                again: what they have returned is forgotten once no older checkpoint is kept. Asked for all the same,
                they are refused (`StepTrimmed`); they are never done twice. Names stay named.

        Raises:
            NotEncodable, BadStepKey: an argument makes no sense.
            StorageError: it cannot be written; the last one stays.
        """
        names = [key_of(self._prefix, name) for name in ([trim] if is_a(trim, str) else trim)]
        data = encoded(self._run.state.journal.key, "the checkpoint", content)
        if self._run.broken is not None:
            raise self._run.broken
        await self._run.write(self._run.state.write_checkpoint(data, names))

    async def run(self, body: Callable[[Workflow], Awaitable[T]]) -> T:
        """Run the code of a workflow, and keep what it returns; if it has ended before, return that.

        If a step has failed or was cancelled, and the code lets that pass, what has a compensation is undone, and the
        run has ended so. Another error of the code is not final: nothing is undone, and with the error mended the run
        goes on where it was. However it ends, what is still under way is cut off.

        Args:
            body: an async function of the workflow. What it returns comes back as JSON has it.

        Raises:
            Exception: what the body has raised.
            UndoFailed, CannotUndo: it has failed (``__context__``), and not all could be undone.
        """
        journal = self._run.state.journal
        known = journal.find(RESULT, "")
        if known is not None:
            return _ended(known)  # type: ignore[no-any-return]
        try:
            found = await self._body(body)
            data = encoded(journal.key, "its result", found)
        except (StepFailed, StepCancelled) as error:
            await self.close()
            await give_up(self._run, error)
            raise
        finally:
            await self.close()
        plain: T = decoded(journal.key, data, None)
        await self._run.write(journal.add(RESULT, "", {"value": plain}))
        return plain

    async def _body(self, body: Callable[[Workflow], Awaitable[T]]) -> T:
        """Run the code. Of the errors that a task group has put together, the one that ends the run is raised."""
        try:
            return await body(self)
        except ExceptionGroup as group:
            for kinds in ((StepFailed, StepCancelled), (WorkflowError, StorageError)):
                found = next((error for error in _leaves(group) if isinstance(error, kinds)), None)
                if found is not None:
                    raise found from group
            raise

    async def close(self) -> None:
        """End this incarnation of the run: cut off what is under way, the step begun last first, and begin no more.

        Nothing is recorded: opened again, the run goes on there. `undo` can still be called.

        Raises:
            WorkflowError: it is called from inside of a step, which would have to wait for itself.
        """
        refuse_inside_of_step("close")
        self._run.closed = True
        for waiting in reversed([waiting for waiting in self._run.running.values() if waiting.kind != UNDO]):
            waiting.stop()
            await asyncio.shield(waiting.ended)

    def summary(self) -> Mapping[str, object]:
        """Return a few words about the run, for a look at the tree: how many steps were begun, which are running."""
        running = list(self._run.running)
        shown = ", ".join(running[:_SHOWN])
        if len(running) > _SHOWN:
            shown += f" and {len(running) - _SHOWN} more"
        return {
            "workflow": self.name,
            "resumed": "yes" if self.resumed else "no",
            "steps": f"{self._run.state.journal.count(STEP)} begun",
            "running": shown or "none",
        }


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _ended(known: Mapping[str, Any]) -> Any:
    """Return what a run has returned, or raise why it was undone."""
    error = known.get("error")
    if error is None:
        return known["value"]
    raise StepFailed(*error) if len(error) == 3 else StepCancelled(*error)
