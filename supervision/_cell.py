"""One incarnation of an actor: its mailbox, its relations, its life and its death.

A cell is the `Ref` of its actor. It moves through the phases STARTING → RUNNING → STOPPING → DEAD; EXITING is an
actor hit by an exit signal while its own code was in the middle of something. When it is dead it lets go of the
actor, of its messages and of its context, so that a `Ref` can be kept for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from supervision import errors, events
from supervision._links import Linked
from supervision._marks import (
    DEAD,
    DID_NOT_WANT_TO_START,
    EXITING,
    GONE,
    IDLE,
    IGNORE,
    NOTHING_MORE,
    RUNNING,
    SHUT,
    STARTING,
    STOPPING,
    SUSPENDED,
    WAKE,
    Intent,
    Mark,
    current,
)
from supervision.call import DEFAULT_TIMEOUT, Call, ReplyTo
from supervision.clock import seconds
from supervision.mailbox import BoundedBox, MailboxStatistics
from supervision.messages import Exit, IdleTimeout, ParentExit, Request, StopOrder, describe
from supervision.reasons import (
    KILLED,
    NORMAL,
    BadReturnValue,
    Crashed,
    ExitReason,
    Kill,
    Normal,
    StartTimeout,
    as_reason,
    crashed,
)

if TYPE_CHECKING:
    from supervision._dispatch import Handler
    from supervision._scheduler import Scheduler
    from supervision._worker import Worker
    from supervision.actor import Actor
    from supervision.runtime import Runtime
    from supervision.timers import Timer

R = TypeVar("R")


class Cell(Linked):
    """One incarnation of an actor with an unbounded mailbox."""

    __slots__ = (
        "actor",
        "after",
        "awaiting",
        "body",
        "born",
        "box",
        "call_in_hand",
        "context",
        "deferred",
        "exit_reason",
        "head",
        "high",
        "id",
        "idle",
        "kind",
        "label",
        "name",
        "phase",
        "running",
        "sched",
        "starting",
        "table",
        "timers",
        "trap_exit",
        "worker",
    )

    sched: Scheduler
    actor: Actor
    table: dict[type, Handler]
    box: Any

    def __init__(
        self, sched: Scheduler, kind: type[Actor], id: int, parent: Cell | None, label: Any, name: str | None
    ) -> None:
        self.sched = sched
        self.kind = kind
        self.id = id
        self.parent = parent
        self.label = label
        self.name = name
        self.head: Any = SHUT
        self.box = None
        self.table = kind.__behaviour__.table
        self.high = kind.mailbox.high_water
        self.trap_exit = kind.__behaviour__.trap_exit
        self.phase = STARTING
        self.running = False
        self.tied = False
        self.context: Context | None = None
        self.after: Intent | None = None
        self.body: Coroutine[Any, Any, Any] | None = None
        self.awaiting: Any = None
        self.worker: Worker | None = None
        self.call_in_hand: Call[Any] | None = None
        self.idle: Timer | None = None
        self.born: float | None = None
        self.links = None
        self.monitors = None
        self.watching = None
        self.timers: set[Timer] | None = None
        self.deferred: set[Call[Any]] | None = None
        self.joiners = None
        self.starting: Call[None] | None = None
        self.exit_reason: ExitReason | None = None

    # -- what everybody may ask ------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:  # type: ignore[override]
        """The runtime it lives in."""
        return self.sched.runtime

    @property
    def alive(self) -> bool:
        """Whether it lives."""
        return self.phase < EXITING

    @property
    def reason(self) -> ExitReason | None:
        """Why it ended."""
        return self.exit_reason if self.phase == DEAD else None

    @property
    def node(self) -> str:
        """The node it lives on."""
        return self.sched.runtime.node

    @property
    def path(self) -> str:
        """Its place in the tree."""
        above = self.parent.path if self.parent is not None else ""
        return f"{above}/{self.label if self.label is not None else self.name or f'{self.kind.__name__}-{self.id}'}"

    def __repr__(self) -> str:
        return f"<{self.kind.__name__} {self.path}#{self.id}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} is the address of a live object; send its path, its id or a Name instead")

    def mailbox_statistics(self) -> MailboxStatistics:
        """Return how many messages wait for it."""
        box = self.box
        waiting = isinstance(box, BoundedBox)
        length = (len(box) if box else 0) + self._head_waits()
        return MailboxStatistics(length, box.capacity if waiting else None, len(box.waiting) if waiting else 0)

    def _head_waits(self) -> bool:
        head = self.head
        busy = self.running or self.body is not None
        return not (busy or head is IDLE or head is SHUT or head is WAKE)

    def context_of(self) -> Context:
        """Return its own context, made when first needed: a copy of the runtime's, so that every restart is alike."""
        context = self.context
        if context is None:
            context = self.context = self.sched.base.copy()
            context.run(current.set, self)
        return context

    # -- messages --------------------------------------------------------------------------------------------

    def cast(self, message: Any) -> None:
        """Send a message and forget it."""
        sched = self.sched
        if sched.fenced and sched.is_fenced():
            self.dead_letter(message, "fenced")
        elif self.head is IDLE:
            self.head = message
            sched.ready.append(self)
            if not sched.awake:
                sched.wake()
        else:
            box = self.box
            if box is None:
                self.box = self._new_box(message)
            else:
                box.append(message)
                if len(box) > self.high:
                    self._high_water(len(box))

    def deliver(self, message: Any) -> None:
        """Put in a message of the kernel; nobody's fence holds it up."""
        if self.head is IDLE:
            self.head = message
            self.sched.enqueue(self)
        elif self.box is None:
            self.box = self._new_box(message)
        else:
            self.box.append(message)

    def _new_box(self, message: Any) -> deque[Any] | None:
        if self.phase >= EXITING:
            self.dead_letter(message, "noproc")
            return None
        return deque((message,))

    def _high_water(self, length: int) -> None:
        self.high = length * 2
        self.emit(events.HighWater, length=length)

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        """Send a request; await what this returns for the answer."""
        sched = self.sched
        call: Call[R] = Call(loop=sched.loop)
        call.message = request
        call.target = self
        if timeout is DEFAULT_TIMEOUT:
            call.deadline = sched.now() + DEFAULT_TIMEOUT
            if not sched.watching:
                sched.watch_deadlines()
            sched.waiting[call] = None
        elif timeout is None:
            call.deadline = None
        else:
            sched.set_deadline(call, timeout)
        caller = current.get()
        if caller is not None and not sched.inherit(call, caller):
            return call
        if self.head is IDLE:
            self.head = call
            sched.ready.append(self)
            if not sched.awake:
                sched.wake()
        else:
            self._enqueue_call(call)
        return call

    def _enqueue_call(self, call: Call[Any]) -> None:
        box = self.box
        if box is not None:
            box.append(call)
            if len(box) > self.high:
                self._high_water(len(box))
        elif self.phase >= EXITING:
            self.sched.fail(call, errors.NoProcess(self, call.message, self.obituary()))
        else:
            self.box = deque((call,))

    def obituary(self) -> str:
        """Say why it is no more."""
        return f"no such actor: it ended: {self.exit_reason}"

    async def send(self, message: Any) -> None:
        """Send a message; an unbounded mailbox always has room."""
        self.cast(message)

    def dead_letter(self, message: Any, why: str) -> None:
        """Count a message that nobody will read."""
        self.sched.count_dead_letter(why)
        if self.sched.events.wanted[events.MessageDropped]:
            self.emit(events.MessageDropped, message=describe(message), why=why)

    def emit(self, event_class: type[events.ActorEvent], **fields: Any) -> None:
        """Tell the event stream something about this actor."""
        stream = self.sched.events
        if stream.listening and stream.wanted[event_class]:
            stream.emit(event_class, ref=self, path=self.path, kind=self.kind.__name__, **fields)

    # -- start -----------------------------------------------------------------------------------------------

    def start(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseException | None:
        """Make the actor and run its ``init`` as far as it goes without waiting; return the error if it failed."""
        kind = self.kind
        listening = self.sched.events.listening
        if listening:
            self.emit(events.StartAttempt)
        if not (kind.__behaviour__.has_start or args or kwargs):
            actor = kind.__new__(kind)
            actor._cell = self
            self.actor = actor
            self.phase = RUNNING
            self.born = self.sched.now()
            self.head = IDLE
            if listening:
                self.emit(events.Started, name=self.name)
            return None
        return self.context_of().run(self._start, args, kwargs)

    def _start(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseException | None:
        self.running = True
        result: Any = None
        try:
            actor = self.kind.__new__(self.kind)
            actor._cell = self
            self.actor = actor
            actor.__init__(*args, **kwargs)  # type: ignore[misc]
            if self.kind.__behaviour__.has_init:
                result = actor.init()
        except BaseException as error:
            self.running = False
            return self._started(None, error)
        self.running = False
        if type(result) is CoroutineType:
            if self.phase >= EXITING:
                result.close()
                return self._started(None, None)
            self.body = result
            self.starting = Call(loop=self.sched.loop)
            self.starting.message = "init"
            self.starting.target = self
            self.sched.hand_over(self)
            return None
        return self._started(result, None)

    def _started(self, value: Any, error: BaseException | None) -> BaseException | None:
        if self.phase >= EXITING:
            self.sched.unfence(self)
            self.die(self.exit_reason or KILLED)
        elif error is not None:
            return self._start_raised(error)
        elif self.after is not None and self.after.stop is not None:
            self.die(self.after.stop)
        elif value is IGNORE:
            self.die(NORMAL, ignored=True)
        elif value is not None:
            self.die(BadReturnValue(value))
        else:
            self._run()
        return None

    def _start_raised(self, error: BaseException) -> BaseException | None:
        self.sched.interrupt(error)
        if isinstance(error, errors.Stop):
            self.die(as_reason(error.reason), cause=error.__cause__)
            return error.__cause__
        cause = error.error if isinstance(error, errors.Refuse) else error
        self.die(as_reason(cause), quiet=isinstance(error, (errors.Refuse, errors.SpecError)), cause=cause)
        return cause

    def _run(self) -> None:
        sched = self.sched
        self.phase = RUNNING
        self.born = sched.now()
        self.emit(events.Started, name=self.name)
        after, box = self.after, self.box
        if after is not None and after.idle is not None:
            self._begin_idle(after, after.idle)
        if after is not None and after.continuations:
            self.head = after.continuations.popleft()
        elif box:
            self.after = None
            self.head = box.popleft()
        else:
            self.after = None
            self.head = IDLE
        if self.head is not IDLE:
            sched.enqueue(self)
        if self.starting is not None and not self.starting.done():
            self.starting.set_result(None)
        self.starting = None

    # -- turns -----------------------------------------------------------------------------------------------

    def advance(self, error: BaseException | None) -> bool:
        """Let the suspended code go on until it waits again (True) or ends (False)."""
        body = self.body
        assert body is not None
        self.awaiting = None
        self.running = True
        try:
            awaiting = body.send(None) if error is None else body.throw(error)
        except StopIteration as end:
            self._ended(end.value, None)
            return False
        except BaseException as failure:
            self._ended(None, failure)
            return False
        return self.suspend(awaiting)

    def suspend(self, awaiting: Any) -> bool:
        """Its code waits for ``awaiting``. If that would close a ring of calls, it gets the error and goes on."""
        self.running = False
        ring = self._ring(awaiting) if isinstance(awaiting, Call) else None
        if ring is None:
            self.awaiting = awaiting
            return True
        awaiting._asyncio_future_blocking = False
        self.sched.abandon(awaiting)
        return self.advance(errors.CallCycle(awaiting.target, awaiting.message, ring))

    def put_aside(self, body: Coroutine[Any, Any, Any]) -> bool:
        """Keep a coroutine for a worker to run; if the actor has just ended, throw it away."""
        self.running = False
        if self.phase >= EXITING:
            body.close()
            self._buried(None)
            return False
        self.body = body
        return True

    def find_handler(self, kind: type) -> Handler:
        """Return the handler of a type of message that is met for the first time."""
        return self.kind.__behaviour__.find(kind)

    def _ring(self, call: Call[Any]) -> list[Cell] | None:
        """Return the actors that would wait for each other if this one waited for ``call``."""
        ring: list[Cell] = [self]
        while not call.done():
            target = call.target
            if target in ring[1:] or (target.deferred and call in target.deferred):
                return None
            ring.append(target)
            if target is self:
                return ring
            if not isinstance(target.awaiting, Call):
                return None
            call = target.awaiting
        return None

    def _ended(self, value: Any, error: BaseException | None) -> None:
        self.running = False
        self.body = None
        self.awaiting = None
        if self.phase == RUNNING:
            if error is None:
                self.returned(value)
            else:
                self.failed(error)
        elif self.phase == STARTING:
            self._started(value, error)
        elif self.phase == STOPPING:
            self._stopped(error)
        else:
            self._buried(error)

    def end_of_body(self) -> None:
        """The code of a dead actor was closed from outside."""
        self.body = None
        self.awaiting = None
        self._buried(None)

    def _buried(self, error: BaseException | None) -> None:
        if error is not None:
            self.sched.interrupt(error)
        self.sched.unfence(self)
        if self.phase == EXITING:
            assert self.exit_reason is not None
            self.die(self.exit_reason)
        self.context = None

    def returned(self, value: Any) -> None:
        """Take what a handler returned: the answer of the request in hand, or nothing."""
        call = self.call_in_hand
        after = self.after
        if call is None:
            if value is not None and not isinstance(self.head, Request):
                self.intend().stop = BadReturnValue(value)
            return
        self.call_in_hand = None
        if after is not None and after.stop is not None:
            after.call, after.reply = call, value
        else:
            self.sched.reply(call, value)

    def failed(self, error: BaseException) -> None:
        """Take an exception that a handler let through."""
        call = self.call_in_hand
        if self.phase >= EXITING:
            return
        if isinstance(error, errors.Refuse) and call is not None:
            self.call_in_hand = None
            self.sched.fail(call, error.error)
        elif isinstance(error, errors.Stop):
            self.intend().stop = as_reason(error.reason)
        else:
            self.intend().stop = crashed(error)
            self.sched.interrupt(error)

    def intend(self) -> Intent:
        """Return the place where a handler notes what is to be done when it has returned."""
        after = self.after
        if after is None:
            after = self.after = Intent()
        return Intent() if self.phase >= EXITING else after

    def settle(self, in_task: bool) -> Any:
        """Do what the handler asked for.

        Returns the next message to handle before the mailbox, None if there is none, SUSPENDED or GONE.
        """
        after = self.after
        if self.phase >= EXITING or after is None:
            self.running = False
            self._buried(None)
            return GONE
        if after.stop is not None:
            return self._stop(after, in_task)
        if after.idle is not None:
            self._begin_idle(after, after.idle)
        message = after.continuations.popleft() if after.continuations else None
        if not after.continuations:
            self.after = None
        return message

    def _stop(self, after: Intent, in_task: bool) -> Any:
        self.phase = STOPPING
        actor = self.actor
        assert after.stop is not None
        if not self.kind.__behaviour__.has_terminate:
            self._stopped(None)
            return GONE
        try:
            self.running = True
            result: Any = actor.terminate(after.stop)
        except BaseException as error:
            self.running = False
            self._finish_stop(error)
            return GONE
        self.running = False
        if type(result) is not CoroutineType:
            self._finish_stop(None)
            return GONE
        if self.phase == DEAD:
            result.close()
            self._buried(None)
            return GONE
        self.body = result
        if not in_task:
            return SUSPENDED
        return SUSPENDED if self.advance(None) else GONE

    def _finish_stop(self, error: BaseException | None) -> None:
        if self.phase >= EXITING:
            self._buried(error)
        else:
            self._stopped(error)

    def _stopped(self, error: BaseException | None) -> None:
        after = self.after
        assert after is not None
        assert after.stop is not None
        self.running = False
        if error is not None:
            self.sched.interrupt(error)
            self.die(as_reason(error.reason) if isinstance(error, errors.Stop) else crashed(error))
            return
        if after.call is not None:
            self.sched.reply(after.call, after.reply)
        self.die(after.stop)

    def go_on(self) -> None:
        """After a turn that had waited: stand in the queue again if there is more to do."""
        box = self.box
        if box:
            self.head = box.popleft()
            self.sched.enqueue(self)
        else:
            if box is not None and type(box) is deque:
                self.box = None
            self.head = IDLE

    # -- signals ---------------------------------------------------------------------------------------------

    def exit(self, reason: object) -> None:
        """Send an exit signal."""
        sender = current.get()
        if self.sched.fenced and self.sched.is_fenced():
            return
        self.signal(sender, as_reason(reason), parent=sender is not None and sender is self.parent)

    def signal(
        self,
        sender: Linked | None,
        reason: ExitReason,
        *,
        linked: bool = False,
        parent: bool = False,
        patient: bool = False,
    ) -> None:
        """Receive an exit signal: table 1.3 of the reference.

        Args:
            sender: who sent it.
            reason: why.
            linked: whether it came through a link.
            parent: whether it comes from the parent, who may end its child.
            patient: whether somebody else sees to it that the actor ends in time.
        """
        if isinstance(reason, Kill) and not linked:
            self.kill()
        elif self.phase >= EXITING:
            return
        elif self.trap_exit:
            self.deliver(ParentExit(reason) if parent else Exit(sender, reason))
        elif type(reason) is not Normal or sender is self:
            self._exit_at_once(reason, patient)

    def _exit_at_once(self, reason: ExitReason, patient: bool) -> None:
        if not self.running and self.body is None:
            self.die(reason)
            return
        self.phase = EXITING
        self.exit_reason = reason
        self.sched.runtime.release_name(self)
        self._drop_mailbox(reason)
        self.after = NOTHING_MORE
        if self.worker is not None:
            self.worker.cancel()
            if not patient:
                self.sched.end_in_time(self)
        elif self.body is not None and not self.running:
            self.body.close()
            self.body = None
            self._buried(None)

    def kill(self) -> None:
        """End it at once: fence first, then stop its code as far as Python can. An earlier signal gives the reason."""
        if not (self.sched.fenced and self.sched.is_fenced()):
            self.end_by_force(self.exit_reason or KILLED)

    def end_by_force(self, reason: ExitReason) -> None:
        """Declare the actor dead now, for ``reason``, and then try to stop its code."""
        if self.phase == DEAD:
            return
        if self.body is not None and self.worker is None and not self.running:
            self.body.close()
            self.body = None
        busy = self.body is not None or self.running
        if busy:
            self.sched.fence(self)
            self.emit(events.FencedOff)
        self.die(reason)
        if busy:
            self.sched.climb(self)

    # -- death -----------------------------------------------------------------------------------------------

    def die(
        self,
        reason: ExitReason,
        *,
        quiet: bool = False,
        ignored: bool = False,
        cause: BaseException | None = None,
    ) -> None:
        """End: release what others can see, then tell links, monitors and waiters, in this order."""
        if self.phase == DEAD:
            return
        sched = self.sched
        if isinstance(reason, Crashed) and self.born is not None:
            self._report_crash(reason)
        if self.phase == STOPPING:
            self.head = SHUT  # the message in hand was handled
        self.phase = DEAD
        self.exit_reason = reason
        sched.runtime.forget(self)
        if self.timers is not None or self.idle is not None:
            self._cancel_timers()
        if self.born is None:
            self._fail_start(reason, quiet, ignored, cause)
        elif sched.events.listening:
            self.emit(events.Exited, name=self.name, reason=reason)
        if self.head is not IDLE or self.box is not None or self.deferred:
            self._drop_mailbox(reason)
        self.head = SHUT
        sched.deaths.append(self)
        if not sched.telling:
            sched.tell_deaths()
        self.after = DID_NOT_WANT_TO_START if ignored else NOTHING_MORE
        self.actor = None  # type: ignore[assignment]
        self.table = None  # type: ignore[assignment]
        if self.body is None:
            self.context = None

    def _report_crash(self, reason: Crashed) -> None:
        if self.sched.events.wanted[events.CrashReport]:
            self.emit(
                events.CrashReport,
                name=self.name,
                reason=reason,
                message=self._in_hand(),
                mailbox=len(self.box or ()),
                links=sum(1 for _ in self.peers()),
            )

    def _in_hand(self) -> str | None:
        head = self.head
        if isinstance(head, Mark):
            return None
        return describe(head.message if isinstance(head, Call) else head)

    @property
    def ignored(self) -> bool:
        """Whether its ``init`` answered IGNORE."""
        return self.after is DID_NOT_WANT_TO_START

    def _fail_start(self, reason: ExitReason, quiet: bool, ignored: bool, cause: BaseException | None) -> None:
        if ignored:
            self.emit(events.StartIgnored)
        else:
            self.emit(events.StartFailed, reason=reason, quiet=quiet)
        if self.tied and self.parent is not None:
            self.unlink(self.parent)
        starting, self.starting = self.starting, None
        if starting is not None and not starting.done():
            starting.set_exception(self.start_error(reason, ignored, cause))

    def start_error(self, reason: ExitReason, ignored: bool, cause: BaseException | None) -> errors.SupervisionError:
        """Return the error that the starter gets: a wrong specification as it is, anything else as a StartError."""
        if isinstance(cause, errors.SpecError):
            return cause
        error = (errors.StartIgnored if ignored else errors.StartError)(str(self), reason)
        error.__cause__ = cause
        return error

    def _cancel_timers(self) -> None:
        if self.idle is not None:
            self.idle.cancel()
            self.idle = None
        timers, self.timers = self.timers, None
        for timer in timers or ():
            timer.cancel()

    def _drop_mailbox(self, reason: ExitReason) -> None:
        box, head = self.box, self.head
        pending = self._head_waits()
        self.box = None
        self.head = SHUT
        if self.call_in_hand is not None:
            self._fail_call(self.call_in_hand, reason)
            self.call_in_hand = None
        after = self.after
        if after is not None and after.call is not None:
            self._fail_call(after.call, reason)
            after.call = None
        if self.deferred:
            for call in list(self.deferred):
                self._fail_call(call, reason)
        self.deferred = None
        if pending:
            self._drop(head, reason)
        for message in box.messages if isinstance(box, BoundedBox) else box or ():
            self._drop(message, reason)
        if isinstance(box, BoundedBox):
            for waiting, admitted in box.waiting:
                if admitted is not None and not admitted.done():
                    admitted.set_result(None)
                self._drop(waiting, reason)

    def _drop(self, message: Any, reason: ExitReason) -> None:
        if isinstance(message, Call):
            self._fail_call(message, reason)
        else:
            self.dead_letter(message, "died")

    def _fail_call(self, call: Call[Any], reason: ExitReason) -> None:
        if not call.done():
            self.sched.fail(call, errors.ActorExited(self, call.message, reason))

    # -- ends that are waited for ----------------------------------------------------------------------------

    def end_future(self) -> asyncio.Future[ExitReason]:
        """Return a future of the exit reason."""
        future: asyncio.Future[ExitReason] = self.sched.loop.create_future()
        if self.phase == DEAD:
            assert self.exit_reason is not None
            future.set_result(self.exit_reason)
        elif self.joiners is None:
            self.joiners = [future]
        else:
            self.joiners.append(future)
        return future

    async def join(self) -> ExitReason:
        """Wait until it has ended."""
        self._check_waiter("join")
        return await self.end_future()

    def _check_waiter(self, what: str) -> None:
        if self.running and current.get() is self:
            raise errors.CallCycle(self, what, (self, self))

    async def stop(self, reason: object = None, timeout: float | None = None) -> None:
        """Ask it to end in order and wait until it has."""
        wanted = NORMAL if reason is None else as_reason(reason)
        limit = None if timeout is None else seconds("timeout", timeout)
        if not self.alive:
            raise errors.NoProcess(self, "stop", self.obituary())
        if self.sched.fenced and self.sched.is_fenced():
            raise errors.Fenced(self, "stop")
        self._check_waiter("stop")
        self.emit(events.StopRequested, reason=wanted)
        self.deliver(StopOrder(wanted))
        end = self.end_future()
        if limit is not None and not await self.sched.wait(end, limit):
            raise errors.CallTimeout(self, "stop", limit)
        if (actual := await end) != wanted:
            raise errors.ActorExited(self, "stop", actual)

    # -- what the actor itself asks for ----------------------------------------------------------------------

    def defer(self) -> ReplyTo[Any]:
        """Take the request in hand out of the handler's duty."""
        call = self.call_in_hand
        if call is None:
            raise errors.NotRunning("there is no request to be answered later: this handler was not called by one")
        self.call_in_hand = None
        if self.deferred is None:
            self.deferred = {call}
        else:
            self.deferred.add(call)
        return ReplyTo(self, call)

    def deferred_done(self, call: Call[Any]) -> None:
        """A deferred request is about to be answered."""
        if self.deferred is not None:
            self.deferred.discard(call)

    def set_idle(self, after: float | None) -> None:
        """Set, change or remove (None) the idle time-out, from when the handler returns."""
        self.cancel_idle()
        self.intend().idle = after

    def _begin_idle(self, after: Intent, delay: float) -> None:
        after.idle = None
        if delay == 0:
            after.continuations.append(IdleTimeout())
        else:
            self.idle = self.sched.timers.after(delay, self._idle_over)

    def cancel_idle(self) -> None:
        """A message has come: the idle time-out is off."""
        if self.idle is not None:
            self.idle.cancel()
            self.idle = None

    def _idle_over(self) -> None:
        self.idle = None
        if self.head is IDLE:
            self.deliver(IdleTimeout())

    def own_timer(self, timer: Timer) -> None:
        """Cancel ``timer`` when this actor ends."""
        if self.timers is None:
            self.timers = set()
        self.timers.add(timer)
        timer.on_end = self._disown_timer

    def _disown_timer(self, timer: Timer) -> None:
        if self.timers is not None:
            self.timers.discard(timer)

    def start_timed_out(self, limit: float) -> None:
        """End a start that takes too long."""
        if self.phase == STARTING:
            self.end_by_force(StartTimeout(limit))
