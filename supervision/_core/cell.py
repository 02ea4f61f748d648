"""One incarnation of an actor: its mailbox, its relations, its life and its death.

A cell is the `Ref` of its actor. It moves through the phases STARTING → RUNNING → STOPPING → DEAD; EXITING is an
actor hit by an exit signal while its own code was in the middle of something. A dead cell
drops the actor, its messages and its context, so that a `Ref` can be kept for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from supervision import errors, events
from supervision._core.death import code_ended, die, drop_mailbox
from supervision._core.layers import LayeredHandlers, notify_late_reply
from supervision._core.links import Linked
from supervision._core.phases import (
    CLOSED,
    DEAD,
    EXITING,
    IDLE,
    NO_INTENT,
    START_IGNORED,
    STARTING,
    SUSPENDED,
    WAKE,
    Intent,
    Sentinel,
    current,
)
from supervision.call import DEFAULT_TIMEOUT, Call, ReplyTo
from supervision.clock import seconds
from supervision.mailbox import BoundedBox, MailboxStatistics
from supervision.messages import Exit, IdleTimeout, ParentExit, Request, StopMessage, SystemRequest, describe
from supervision.reasons import (
    KILLED,
    NORMAL,
    ExitReason,
    Kill,
    Normal,
    StartTimeout,
    as_reason,
)

if TYPE_CHECKING:
    from supervision._core.dispatch import Handler
    from supervision._core.scheduler import Scheduler
    from supervision._core.timers import Timer
    from supervision._core.worker import Worker
    from supervision.actor import Actor
    from supervision.runtime import Runtime

R = TypeVar("R")


class Cell(Linked):
    """One incarnation of an actor with an unbounded mailbox."""

    __slots__ = (
        "__weakref__",
        "actor",
        "after",
        "alive",
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
        "stashed",
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
        behaviour = kind.__behaviour__
        self.sched = sched
        self.kind = kind
        self.id = id
        self.parent = parent
        self.label = label
        self.name = name
        self.head: Any = CLOSED
        self.box = None
        self.table = behaviour.table
        self.high = behaviour.high_water
        self.trap_exit = behaviour.trap_exit
        self.phase = STARTING
        self.alive = True
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
        #: In the order in which they were put off, so that they fail in it.
        self.deferred: dict[Call[Any], None] | None = None
        self.stashed: deque[Any] | None = None
        self.joiners = None
        self.starting: Call[None] | None = None
        self.exit_reason: ExitReason | None = None

    # -- what anybody can read -------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:  # type: ignore[override]
        """The runtime it lives in."""
        return self.sched.runtime

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
        words: list[str] = []
        here: Linked | None = self
        while isinstance(here, Cell):
            words.append(f"/{here.label if here.label is not None else here.name or f'{here.kind.__name__}-{here.id}'}")
            here = here.parent
        return "".join(reversed(words))

    def release_ended_parent(self) -> None:
        """Drop an ended parent's reference to its own parent, so that dead ancestors are freed; its path is kept."""
        parent = self.parent
        if isinstance(parent, Cell) and parent.phase == DEAD and parent.parent is not None:
            parent.label, parent.parent = parent.path[1:], None

    def __repr__(self) -> str:
        return f"<{self.kind.__name__} {self.path}#{self.id}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} is the address of a live object; send its path, its id or a Name instead")

    def mailbox_statistics(self) -> MailboxStatistics:
        """Return how many messages wait for it."""
        box = self.box
        waiting = isinstance(box, BoundedBox)
        length = (len(box) if box else 0) + self.head_waits()
        return MailboxStatistics(length, box.capacity if waiting else None, len(box.waiting) if waiting else 0)

    def head_waits(self) -> bool:
        head = self.head
        busy = self.running or self.body is not None
        return not (busy or head is WAKE or isinstance(head, Sentinel))

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
        """Put a message of the kernel into the mailbox; it is never fenced off."""
        if self.head is IDLE:
            self.head = message
            self.sched.enqueue(self)
        elif self.suspended and isinstance(message, ParentExit):
            self.admit(message)
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
        now = sched.now()
        direct = sched.direct
        limit: float | None
        if timeout is DEFAULT_TIMEOUT:
            limit = DEFAULT_TIMEOUT
            call.deadline = now + limit
        elif timeout is None:
            limit = call.deadline = None
        else:
            limit = sched.set_deadline(call, timeout, now)
            if limit == 0:
                direct = 0  # its deadline has passed
        caller = current.get()
        if caller is not None:
            if caller.phase >= EXITING:
                direct = 0  # a cancelled caller must suspend, so that the cancellation reaches it
                if not sched.may_call(call, caller):
                    return call
            call.caller = caller
            if caller.call_in_hand is not None:
                limit = sched.inherit_deadline(call, caller, limit, now)
                if limit == 0:
                    direct = 0
        if self.head is IDLE:
            if direct and sched.direct_turn(self, call, now):
                if not call.done():
                    sched.watch_late(call, limit)
                elif not self.alive:
                    return sched.answered_later(call)
                return call
            self.head = call
            sched.ready.append(self)
            if not sched.awake:
                sched.wake()
        else:
            self.enqueue_call(call)
        sched.watch(call, limit)
        return call

    def load(self, call: Call[Any]) -> None:
        """Attach the sender's context to a request; this variant attaches none."""

    def take_call(self, call: Call[Any]) -> None:
        """Take a request that waited for the next holder of a name."""
        if self.head is IDLE and not isinstance(self.box, BoundedBox):
            self.head = call
            self.sched.enqueue(self)
        else:
            self.enqueue_call(call)

    def enqueue_call(self, call: Call[Any]) -> None:
        """Let a request wait in the mailbox of an actor that is not idle."""
        box = self.box
        if self.suspended and isinstance(call.message, SystemRequest):
            self.admit(call)
        elif box is not None:
            box.append(call)
            if len(box) > self.high:
                self._high_water(len(box))
        elif self.phase >= EXITING:
            self.sched.fail(call, errors.NoProcess(self, call.message, self.describe_exit()))
        else:
            self.box = deque((call,))

    @property
    def suspended(self) -> bool:
        """Whether it handles nothing but system requests and orders to end."""
        return self.after is not None and self.after.admitted is not None

    def admit(self, message: Any) -> None:
        """Let a suspended actor handle a message that passes."""
        assert self.after is not None
        assert self.after.admitted is not None
        self.after.admitted.append(message)
        if self.head is SUSPENDED:
            self.head = WAKE
            self.sched.enqueue(self)

    def suspend(self) -> None:
        """Suspend it after the current message; messages that pass are taken out of the mailbox."""
        intent = self.intend()
        if intent.admitted is None:
            # After a resumption, messages that were admitted may still stand before the mailbox.
            before = list(intent.continuations)
            intent.continuations.clear()
            intent.continuations.extend(message for message in before if not _passes(message))
            intent.admitted = deque((*filter(_passes, before), *self.take_out(_passes)))
            self.emit(events.Suspended)

    def resume(self) -> None:
        """Let it handle all messages again."""
        intent = self.intend()
        if intent.admitted is not None:
            intent.continuations.extendleft(reversed(intent.admitted))
            intent.admitted = None
            self.emit(events.Resumed)

    def stash(self) -> None:
        """Put the current message aside."""
        call = self.call_in_hand
        self.call_in_hand = None
        if self.stashed is None:
            self.stashed = deque()
        self.stashed.append(self.head if call is None else call)

    def unstash_all(self) -> None:
        """Put stashed messages back, before everything that waits in the mailbox."""
        stashed, self.stashed = self.stashed, None
        if stashed:
            box = self.box.messages if isinstance(self.box, BoundedBox) else self.box
            if box is None:
                self.box = stashed
            else:
                box.extendleft(reversed(stashed))

    def describe_exit(self) -> str:
        """Describe how it ended."""
        return f"no such actor: it ended: {self.exit_reason}"

    async def send(self, message: Any) -> None:
        """Send a message; an unbounded mailbox always has room."""
        self.cast(message)

    def dead_letter(self, message: Any, why: str) -> None:
        """Count a message that no handler gets."""
        self.sched.count_dead_letter(why)
        if self.sched.events.wanted[events.MessageDropped]:
            self.emit(events.MessageDropped, message=describe(message), why=why)

    def emit(self, event_class: type[events.ActorEvent], **fields: Any) -> None:
        """Tell the event stream something about this actor."""
        stream = self.sched.events
        if stream.listening and stream.wanted[event_class]:
            stream.emit(event_class, ref=self, path=self.path, kind=self.kind.__name__, **fields)

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
            patient: whether the sender itself enforces a limit; then the grace time of exit signals does not apply.
        """
        if isinstance(reason, Kill) and not linked:
            self.kill()
        elif self.phase >= EXITING:
            return
        elif self.trap_exit:
            self.deliver(ParentExit(reason) if parent else Exit(sender, reason))
        elif type(reason) is not Normal or sender is self:
            if self.running or self.body is not None:
                self._exit_in_the_middle(reason, patient)
            else:
                die(self, reason)

    def _exit_in_the_middle(self, reason: ExitReason, patient: bool) -> None:
        self.phase = EXITING
        self.alive = False
        self.exit_reason = reason
        self.sched.runtime.release_name(self)
        drop_mailbox(self, reason)
        self.after = NO_INTENT
        if self.worker is not None:
            self.worker.cancel()
            if not patient:
                self.sched.end_in_time(self)
        elif self.body is not None and not self.running:
            self.body.close()
            self.body = None
            code_ended(self, None)

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
        if self.context is not None:
            self.sched.fence_tasks(self)
        if busy:
            self.sched.fence(self)
            self.emit(events.FencedOff)
        die(self, reason)
        if busy:
            self.sched.climb(self)

    # -- waiting for the end ---------------------------------------------------------------------------------

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
        # A task of its own that an eager task factory lets begin here is not the handler, and may wait.
        if self.running and current.get() is self and self.sched.runs_handlers(asyncio.current_task()):
            raise errors.CallCycle(self, what, (self, self))

    async def stop(self, reason: object = None, timeout: float | None = None) -> None:
        """Ask it to end in order and wait until it has."""
        wanted = NORMAL if reason is None else as_reason(reason)
        limit = None if timeout is None else seconds("timeout", timeout)
        if not self.alive:
            raise errors.NoProcess(self, "stop", self.describe_exit())
        if self.sched.fenced and self.sched.is_fenced():
            raise errors.Fenced(self, "stop")
        self._check_waiter("stop")
        self.emit(events.StopRequested, reason=wanted)
        self.deliver(StopMessage(wanted))
        end = self.end_future()
        if limit is not None and not await self.sched.wait(end, limit):
            raise errors.CallTimeout(self, "stop", limit)
        if (actual := await end) != wanted:
            raise errors.ActorExited(self, "stop", actual)

    # -- requests of the actor itself ------------------------------------------------------------------------

    def defer(self, begun: bool) -> ReplyTo[Any]:
        """Let the current request be answered later, by a `ReplyTo`."""
        call = self.call_in_hand
        if call is None:
            raise errors.NotRunning("there is no request to be answered later: this handler was not called by one")
        self.call_in_hand = None
        call._begun = begun
        if self.deferred is None:
            self.deferred = {call: None}
        else:
            self.deferred[call] = None
        return ReplyTo(self, call)

    def deferred_done(self, call: Call[Any], outcome: Any) -> None:
        """A deferred request is about to be answered."""
        if self.deferred is not None:
            self.deferred.pop(call, None)
            if isinstance(self.table, LayeredHandlers):
                notify_late_reply(self, call.message, outcome)

    def become(self, when: str | None) -> None:
        """Have the handlers of ``when`` from the next message on."""
        tables = self.kind.__behaviour__.tables
        if when not in tables:
            known = ", ".join(repr(name) for name in tables if name is not None)
            remedy = f"this class knows {known}" if known else "mark handlers with @handle(when=...)"
            raise errors.BadOption("become", when, remedy)
        self.intend()  # for the turn to look at the table again
        table = self.table
        self.table = table.over(tables[when]) if isinstance(table, LayeredHandlers) else tables[when]

    @property
    def behaviour(self) -> str | None:
        """What it has become."""
        table = self.table.base if isinstance(self.table, LayeredHandlers) else self.table
        return next(when for when, handlers in self.kind.__behaviour__.tables.items() if handlers is table)

    def set_idle(self, after: float | None) -> None:
        """Set, change or remove (None) the idle time-out, from when the handler returns."""
        self.cancel_idle()
        self.intend().idle = after

    def begin_idle(self, after: Intent, delay: float) -> None:
        after.idle = None
        if delay == 0:
            after.continuations.append(IdleTimeout())
        else:
            self.idle = self.sched.timers.after(delay, self._idle_over)

    def disturb_idle(self) -> None:
        """Cancel the idle time-out, as a message is about to be handled; a system request only restarts it."""
        head, timer = self.head, self.idle
        self.cancel_idle()
        if timer is not None and isinstance(head, Call) and isinstance(head.message, SystemRequest):
            self.idle = self.sched.timers.after(timer.delay, self._idle_over)

    def cancel_idle(self) -> None:
        """The idle time-out is off."""
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

    def find_handler(self, kind: type) -> Handler:
        """Return the handler of a type of message that is not in the table yet."""
        return self.kind.__behaviour__.find(self.table, kind)

    def intend(self) -> Intent:
        """Return where a handler notes what is to be done after it has returned."""
        after = self.after
        if after is None:
            after = self.after = Intent()
        return Intent() if self.phase >= EXITING else after

    @property
    def ignored(self) -> bool:
        """Whether its ``init`` answered IGNORE."""
        return self.after is START_IGNORED


def _passes(message: Any) -> bool:
    """Whether a suspended actor handles a message all the same."""
    return isinstance(message, ParentExit) or (isinstance(message, Call) and isinstance(message.message, SystemRequest))
