"""The death of an actor: what is released, in which order, and which links, monitors and waiters are notified."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from supervision import errors, events
from supervision._core.introspection import shown_state
from supervision._core.layers import recent_events
from supervision._core.phases import CLOSED, DEAD, EXITING, IDLE, NO_INTENT, START_IGNORED, STOPPING, Sentinel
from supervision.call import Call
from supervision.mailbox import BoundedBox
from supervision.messages import ParentExit, describe
from supervision.reasons import Crashed, ExitReason, Killed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervision._core.cell import Cell
    from supervision._core.links import Linked

#: How many neighbours that die with an actor, and how many messages that waited for it, its crash report names.
SHOWN_NEIGHBOURS = 15
SHOWN_MESSAGES = 10


def body_closed(cell: Cell) -> None:
    """The code of a dead actor was closed from outside."""
    cell.body = None
    cell.awaiting = None
    code_ended(cell, None)


def code_ended(cell: Cell, error: BaseException | None) -> None:
    if error is not None:
        cell.sched.interrupt(error)
    cell.sched.unfence(cell)
    if cell.phase == EXITING:
        assert cell.exit_reason is not None
        die(cell, cell.exit_reason)
    cell.context = None


def die(
    cell: Cell,
    reason: ExitReason,
    *,
    quiet: bool = False,
    ignored: bool = False,
    cause: BaseException | None = None,
) -> None:
    """End an actor: release what others can see, then notify links, monitors and waiters, in this order."""
    if cell.phase == DEAD:
        return
    sched = cell.sched
    stopping = cell.phase == STOPPING
    if cell.born is not None and (isinstance(reason, Crashed) or (stopping and stops_unclean(cell, reason))):
        report_crash(cell, reason)
    if stopping:
        cell.head = CLOSED  # the current message was handled
    cell.phase = DEAD
    cell.alive = False
    cell.exit_reason = reason
    sched.runtime.forget(cell)
    if cell.timers is not None or cell.idle is not None:
        cancel_timers(cell)
    if cell.born is None:
        fail_start(cell, reason, quiet, ignored, cause)
    elif sched.events.listening:
        cell.emit(events.Exited, name=cell.name, reason=reason)
    if cell.head is not IDLE or cell.box is not None or cell.deferred or cell.stashed:
        drop_mailbox(cell, reason)
    cell.head = CLOSED
    if cell.tied or cell.links or cell.monitors or cell.watching or cell.joiners:
        sched.deaths.append(cell)
        if not sched.telling:
            sched.notify_deaths()
    cell.after = START_IGNORED if ignored else NO_INTENT
    cell.actor = None  # type: ignore[assignment]
    cell.table = None  # type: ignore[assignment]
    if cell.body is None:
        cell.context = None


def stops_unclean(cell: Cell, reason: ExitReason) -> bool:
    """Whether the actor itself chose this unclean reason for its stop (neither its parent nor a kill did)."""
    return not reason.clean and type(cell.head) is not ParentExit and not isinstance(reason, Killed)


def report_crash(cell: Cell, reason: ExitReason) -> None:
    if cell.sched.events.wanted[events.CrashReport]:
        box = cell.box
        cell.emit(
            events.CrashReport,
            name=cell.name,
            reason=reason,
            message=in_hand(cell),
            mailbox=len(cell.box or ()),
            links=sum(1 for _ in cell.peers()),
            trap_exit=cell.trap_exit,
            ancestors=tuple(ancestors(cell)),
            neighbours=tuple(str(peer) for peer in islice(dying_peers(cell), SHOWN_NEIGHBOURS)),
            waiting=tuple(
                map(in_brief, islice(box.messages if isinstance(box, BoundedBox) else box or (), SHOWN_MESSAGES))
            ),
            client=client(cell),
            state=shown_state(cell.actor),
            log=tuple(describe(event) for event in recent_events(cell)),
        )


def client(cell: Cell) -> str | None:
    """Return the actor whose request is being handled, if an actor sent it."""
    caller = getattr(cell.head, "caller", None)
    return None if caller is None else str(caller)


def ancestors(cell: Cell) -> Iterator[str]:
    """Return who started it, who started that one, and so on."""
    above = cell.parent
    while above is not None:
        yield str(above)
        above = above.parent


def dying_peers(cell: Cell) -> Iterator[Linked]:
    """Return the actors that will die with it."""
    return (peer for peer in cell.peers() if not peer.trap_exit)


def in_brief(message: Any) -> str:
    """Return a short text for a message or a request."""
    return describe(message.message if isinstance(message, Call) else message)


def in_hand(cell: Cell) -> str | None:
    head = cell.head
    if isinstance(head, Sentinel):
        return None
    return in_brief(head)


def fail_start(cell: Cell, reason: ExitReason, quiet: bool, ignored: bool, cause: BaseException | None) -> None:
    if ignored:
        cell.emit(events.StartIgnored)
    else:
        cell.emit(events.StartFailed, reason=reason, quiet=quiet)
    if cell.tied and cell.parent is not None:
        cell.unlink(cell.parent)
    starting, cell.starting = cell.starting, None
    if starting is not None and not starting.done():
        starting.set_exception(start_error(cell, reason, ignored, cause))


def start_error(cell: Cell, reason: ExitReason, ignored: bool, cause: BaseException | None) -> errors.SupervisionError:
    """Return the error that the starter gets: a wrong specification as it is, anything else as a StartError."""
    if isinstance(cause, errors.SpecError):
        return cause
    error = (errors.StartIgnored if ignored else errors.StartError)(str(cell), reason)
    error.__cause__ = cause
    return error


def cancel_timers(cell: Cell) -> None:
    if cell.idle is not None:
        cell.idle.cancel()
        cell.idle = None
    timers, cell.timers = cell.timers, None
    for timer in timers or ():
        timer.cancel()


def drop_mailbox(cell: Cell, reason: ExitReason) -> None:
    box, head = cell.box, cell.head
    pending = cell.head_waits()
    cell.box = None
    cell.head = CLOSED
    if cell.call_in_hand is not None:
        fail_call(cell, cell.call_in_hand, reason)
        cell.call_in_hand = None
    after = cell.after
    if after is not None and after.call is not None:
        fail_call(cell, after.call, reason)
        after.call = None
    if after is not None and after.admitted:
        for message in after.admitted:
            drop(cell, message, reason)
    if cell.deferred:
        for call in list(cell.deferred):
            drop(cell, call, reason)
    cell.deferred = None
    if pending:
        drop(cell, head, reason)
    stashed, cell.stashed = cell.stashed, None
    for message in stashed or ():
        drop(cell, message, reason)
    for message in box.messages if isinstance(box, BoundedBox) else box or ():
        drop(cell, message, reason)
    if isinstance(box, BoundedBox):
        for waiting, admitted in box.waiting:
            if admitted is not None and not admitted.done():
                admitted.set_result(None)
            drop(cell, waiting, reason)


def drop(cell: Cell, message: Any, reason: ExitReason) -> None:
    if isinstance(message, Call):
        if not cell.sched.runtime.vacancies.keep(message):
            fail_call(cell, message, reason)
    else:
        cell.dead_letter(message, "died")


def fail_call(cell: Cell, call: Call[Any], reason: ExitReason) -> None:
    if not call.done():
        cell.sched.fail(call, errors.ActorExited(cell, call.message, reason, begun=call.begun))
