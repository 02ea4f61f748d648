"""Language models whose every answer is kept in a journal, and that wait while they are unavailable.

Whatever runs with such a model sees no failure of the infrastructure, and a run that is repeated after a crash has each
finished answer from the journal. `durable` makes one from any ``dspy.LM``.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import Context, ContextVar
from typing import Any

from agents.durability import StorageError
from dspex._compat import (
    DirectLM,
    answer_cost,
    delegating_lm,
    dump_response,
    fingerprint,
    is_greedy,
    load_response,
    metered,
)
from dspex._loops import await_in_loop
from dspex.workflow.errors import WorkflowError, WorkflowSuspended
from dspex.workflow.journal import Journal
from dspex.workflow.suspension import Suspension


class CallTotals:
    """What calls have come to.

    Attributes:
        calls: how many answers were paid for.
        replayed: how many were in the journal already.
        reused: how many had been asked for before in the same work; see `SharedAnswers`.
        dollars: what the calls have cost, as far as the prices are known.
    """

    def __init__(self) -> None:
        self.calls = self.replayed = self.reused = 0
        self.dollars = 0.0


class SharedAnswers:
    """Answers that are the same whoever asks: those at temperature 0, which depend on the request alone.

    Whatever of a program comes before what has changed is asked the same, and has its answers already. An answer by
    chance, and one that asks for a chance of its own by its ``rollout_id``, belongs to the piece of work that asks.
    """

    def __init__(self) -> None:
        #: What is asked at the moment, in all logs of the work.
        self.under_way: dict[str, asyncio.Task[Any]] = {}
        self._used: set[str] = set()
        self._lms: list[Any] = []

    def begin(self) -> None:
        """Forget who has asked: all ask again, in the same order."""
        self._used.clear()
        self._lms.clear()

    def used(self, key: str) -> bool:
        """Return whether an answer was asked for before, and note that it is asked for."""
        before = key in self._used
        self._used.add(key)
        return before

    def number(self, lm: Any) -> int:
        """Return what tells a language model from others of the same name: how many of these came before it."""
        if not any(lm is one for one in self._lms):
            self._lms.append(lm)
        same = [one for one in self._lms if one.model == lm.model]
        return next(number for number, one in enumerate(same) if one is lm)


class _NoMoreCalls(Exception):
    """As many calls as there may be are made."""


class CallLimit:
    """How many answers there may be in all. Calls on their way are waited for, where one more depends on them.

    Args:
        most: so many; None for any number.
        kept: how many there are.
        error: makes the error that says that there is no more.
    """

    def __init__(
        self, most: int | None = None, kept: int = 0, error: Callable[[], Exception] = lambda: WorkflowError("no more")
    ) -> None:
        self.most, self._kept, self.error = most, kept, error
        self._asking = 0
        self._settled = asyncio.Event()

    async def take(self) -> None:
        """Begin a call.

        Raises:
            _NoMoreCalls: all are made.
        """
        while self.most is not None and self._kept + self._asking >= self.most:
            if self._kept >= self.most:
                raise _NoMoreCalls
            self._settled.clear()
            await self._settled.wait()
        self._asking += 1

    def give(self, kept: int) -> None:
        """End a call, of which so many answers are kept."""
        self._asking -= 1
        self._kept += kept
        self._settled.set()


class CallLog:
    """Records each answer, and replays it instead of calling again.

    A call is finished once its answer is in the journal.
    Made in an event loop, and used from any thread.

    Args:
        journal: that is open.
        suspension: that waits while a model is unavailable.
        gives_up: what it raises when it waits no longer; no call is made after that.
        refused: returns what ends the work if an error says that a model is not to be had until somebody changes
            something, such as its key; None for an error of the request alone.
        totals: what calls have come to, here and in other logs of the same work; None for here alone.
        shared: the answers that depend on their request alone, here and in other logs of the same work; None for an
            answer of its own for each piece of work.
    """

    def __init__(
        self,
        journal: Journal,
        suspension: Suspension,
        gives_up: type[Exception] = WorkflowSuspended,
        refused: Callable[[Exception], Exception | None] = lambda _: None,
        totals: CallTotals | None = None,
        shared: SharedAnswers | None = None,
    ) -> None:
        self._journal = journal
        self.shared = shared
        self.suspension = suspension
        self._fatal = (gives_up, StorageError)
        self._refused = refused
        self.loop = asyncio.get_running_loop()
        #: Is set once the work cannot go on; ``broken`` says why.
        self.over = asyncio.Event()
        self._own = CallScope("")
        self._asked: dict[str, asyncio.Task[Any]] = {}
        self._lms: dict[int, tuple[Any, Any]] = {}
        self.broken: Exception | None = None
        self.totals = totals or CallTotals()
        self.limit = CallLimit()
        #: How often the work has begun again.
        self._age = 0

    @property
    def calls(self) -> int:
        """How many answers were paid for."""
        return self.totals.calls

    @property
    def replayed(self) -> int:
        """How many were in the journal already."""
        return self.totals.replayed

    @property
    def dollars(self) -> float:
        """What the calls have cost, as far as the prices are known."""
        return self.totals.dollars

    def durable(self, lm: Any) -> Any:
        """Return a language model that answers as the given one does, and replays the answers that it has recorded."""
        if lm is None or id(lm) in {id(made) for _, made in self._lms.values()}:
            return lm
        if id(lm) not in self._lms:
            same = self._number(lm)
            made = delegating_lm(lm, lambda asked: _LoggedEngine(self, asked, same))
            self._lms[id(lm)] = (lm, made)
        return self._lms[id(lm)][1]

    def _number(self, lm: Any) -> int:
        if self.shared is not None:
            return self.shared.number(lm)
        return sum(given.model == lm.model for given, _ in self._lms.values())

    def original(self, lm: Any) -> Any:
        """Return the language model from which another was made; itself if it was not made here."""
        return next((given for given, made in self._lms.values() if made is lm), lm)

    async def answer(self, asked: DirectLM, request: Any, variant: Any, number: int = 0) -> Any:
        """Return the answer to a request: from the journal, or else from the model.

        Args:
            asked: the model.
            request: what it is asked.
            variant: which of several equal requests it is.
            number: tells the model from others of the same name: how many of these were made durable before it.
        """
        name = f"{asked.name}#{number + 1}" if number else asked.name
        digest = fingerprint(name, request, variant)
        if self.shared is not None and variant is None and is_greedy(request):
            return await self._shared_answer(self.shared, f"shared|{digest}", asked, request)
        key = (_scope.get() or self._own).key(digest)
        known = self._journal.find("answer", key)
        if known is not None:
            self.totals.replayed += 1
            return load_response(known)
        return await self._asked_once(key, asked, request)

    async def _shared_answer(self, shared: SharedAnswers, key: str, asked: DirectLM, request: Any) -> Any:
        used = shared.used(key)
        # Another log of the same work asks: it may give up sooner than this one.
        while key in shared.under_way and key not in self._asked:
            await asyncio.wait([shared.under_way[key]])
        known = self._journal.find("answer", key)
        self.totals.reused += used and (known is not None or key in self._asked)
        if known is not None:
            self.totals.replayed += not used
            return load_response(known)
        answer = self._asked_once(key, asked, request)
        shared.under_way[key] = task = self._asked[key]
        task.add_done_callback(lambda _: shared.under_way.pop(key, None))
        return await answer

    def _asked_once(self, key: str, asked: DirectLM, request: Any) -> Awaitable[Any]:
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = self.loop.create_task(self._call(key, asked, request), context=Context())
            task.add_done_callback(lambda _: self._asked.pop(key))
        return self._answered(task)

    async def _answered(self, task: asyncio.Task[Any]) -> Any:
        age = self._age
        try:
            # The one that asks may die; the call, once made, goes on, and its answer is recorded.
            return await asyncio.shield(task)
        except _NoMoreCalls:
            error = self.limit.error()
            if age == self._age:
                self.give_up(error)
            raise error from None

    async def _call(self, key: str, asked: DirectLM, request: Any) -> Any:
        self.check()
        limit, kept = self.limit, 0
        await limit.take()
        try:
            found = await self._kept(key, asked, request)
            kept = 1
            return found
        finally:
            limit.give(kept)

    async def _kept(self, key: str, asked: DirectLM, request: Any) -> Any:
        """Make a call, and return its answer once that is kept."""
        try:
            # A gateway tells what its answers cost by itself.
            with metered({}) as used:
                response = await self.suspension.run(lambda: self._ask(asked, request))
            self.totals.dollars += used.history.cost + (answer_cost(asked.lm, request, response) or 0.0)
            kept = dump_response(response)
            await self._journal.add("answer", key, kept)
        except self._fatal as error:
            self.give_up(error)
            raise
        except Exception as error:
            final = self._refused(error)
            if final is not None:
                self.give_up(final)
            raise
        self.totals.calls += 1
        return load_response(kept)

    async def _ask(self, asked: DirectLM, request: Any) -> Any:
        self.check()  # while this call has waited, another one may have given up
        return await asked.ask(request)

    def give_up(self, error: Exception) -> None:
        """Make no call any more, and let all that wait know why. May be called in any thread."""
        self.broken = self.broken or error
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.over.set)

    def reopen(self, after: type[Exception]) -> None:
        """Have the work begin again, even if an error of a class has ended it.

        That there are no more calls for somebody who has asked before does not end it.
        """
        self._age += 1
        if isinstance(self.broken, after):
            self.broken, self.over = None, asyncio.Event()

    def begin(self) -> None:
        """Count anew how often each request was made outside of a scope: all of them are made again."""
        self._own = CallScope("")
        if self.shared is not None:
            self.shared.begin()
            self._lms.clear()

    def check(self) -> None:
        """Raise what has made it impossible to go on, if anything has.

        The code that asked a model may have taken that for a failure of its own, or of the program.
        """
        if self.broken is not None:
            raise self.broken

    @property
    def in_flight(self) -> int:
        """How many calls are on their way."""
        return len(self._asked)

    async def drain(self) -> None:
        """Wait for the calls on their way: what was paid for is kept. Not if they wait for a model that is away."""
        if self.suspension.suspended is not None:
            return
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def close(self, error: Exception) -> None:
        """Cancel the calls on their way, and answer with an error whoever still asks, such as an abandoned thread."""
        self.give_up(error)
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _LoggedEngine:
    """Both engines of a durable model."""

    def __init__(self, call_log: CallLog, asked: DirectLM, number: int) -> None:
        self._call_log = call_log
        self._asked = asked
        self._number = number

    async def answer(self, request: Any, variant: Any) -> Any:
        work = self._call_log.answer(self._asked, request, variant, self._number)
        return await await_in_loop(self._call_log.loop, work)

    def answer_sync(self, request: Any, variant: Any) -> Any:
        self._call_log.check()
        found = _scope.get()
        lock = None if found is None else found.lock
        if lock is not None:
            lock.release()
        try:
            work = self._call_log.answer(self._asked, request, variant, self._number)
            return asyncio.run_coroutine_threadsafe(work, self._call_log.loop).result()
        finally:
            if lock is not None:
                lock.acquire()


class CallScope:
    """The piece of work that asks: its answers are told from those of others by its ``name``.

    Args:
        name: of the work.
        lock: is held while the work runs in a thread, and not while it waits for an answer. None for none.
    """

    def __init__(self, name: str, lock: threading.Lock | None = None) -> None:
        self.name = name
        self.lock = lock
        self._asked: Counter[str] = Counter()

    def key(self, digest: str) -> str:
        """Return the key of the next answer to a request; the same request may be made more than once."""
        self._asked[digest] += 1
        return f"{self.name}|{digest}|{self._asked[digest]}"


_scope: ContextVar[CallScope | None] = ContextVar("dspex.scope", default=None)


@contextmanager
def call_scope(name: str, lock: threading.Lock | None = None) -> Generator[None]:
    """Give the answers that are asked for within a name of their own; see `CallScope`."""
    token = _scope.set(CallScope(name, lock))
    try:
        with lock or nullcontext():
            yield
    finally:
        _scope.reset(token)
