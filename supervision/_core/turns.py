"""Turns: how the messages of an actor are handled, one after the other, and what follows from what handlers do."""

from __future__ import annotations

from asyncio import Future
from collections import deque
from collections.abc import Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from supervision import errors, events
from supervision._core.death import code_ended, die
from supervision._core.phases import (
    DEAD,
    EXITING,
    GONE,
    IDLE,
    RUNNING,
    STARTING,
    STOPPING,
    SUSPENDED,
    WAITING,
    answering,
)
from supervision._core.start import started
from supervision.call import Call
from supervision.messages import Request
from supervision.propagation import unwrap
from supervision.reasons import BadReturnValue, as_reason, crashed

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision._core.phases import Intent


#: Types of answers that are known not to be awaitable: some to begin with, and those seen since.
PLAIN: set[type] = {type(None), bool, int, float, str, bytes, tuple, list, dict}
#: How many of them are remembered.
MANY = 1000


def awaitable(answer: Any) -> bool:
    """Whether an answer is a coroutine, or a future such as a call; if not, its type is remembered."""
    kind = type(answer)
    if issubclass(kind, (Future, Coroutine)):
        return True
    if len(PLAIN) < MANY:
        PLAIN.add(kind)
    return False


def wait_for_answer(cell: Cell, answer: Any, in_task: bool) -> bool:
    """Await what a handler has returned, such as a call, and answer with its result. True if the actor waits."""

    async def answering() -> Any:
        return await answer

    body = answering()
    if not in_task:
        return keep_for_worker(cell, body)
    cell.body = body
    return advance(cell, None) or settle_body(cell)


def run_turns(cell: Cell, in_task: bool) -> bool | None:  # noqa: C901 - the innermost loop: calls would cost
    """Handle the messages of one actor, in its own context, up to its budget.

    Returns True if a handler waits (or, outside a task, is a coroutine that a task has to run), False if the turn is
    over, None if it is over because the budget is used up.
    """
    message = cell.head
    table, actor = cell.table, cell.actor
    cell.running = True
    budget = cell.sched.budget
    if cell.idle is not None:
        cell.disturb_idle()
    while True:
        try:
            try:
                handler = table[type(message)]
            except KeyError:
                handler = cell.find_handler(type(message))
            result = handler(actor, message)
            if result is not None and type(result) is CoroutineType:
                if not in_task:
                    return keep_for_worker(cell, result)
                if answering.get() is not cell.call_in_hand:
                    answering.set(cell.call_in_hand)
                if handler in cell.kind.__behaviour__.silent:
                    # `next` makes no exception of a result that is None: a tenth of the time of a message.
                    awaiting = next(result.__await__(), GONE)
                    if awaiting is not GONE:
                        cell.body = result
                        return begin_waiting(cell, awaiting) or settle_body(cell)
                    result = None
                else:
                    try:
                        awaiting = result.send(None)
                    except StopIteration as end:
                        result = end.value
                    else:
                        cell.body = result
                        return begin_waiting(cell, awaiting) or settle_body(cell)
        except BaseException as error:
            failed(cell, error)
        else:
            call = cell.call_in_hand
            if call is None:
                if result is not None:
                    returned(cell, result)
            elif cell.after is not None:
                returned(cell, result)
            else:
                if type(result) not in PLAIN and awaitable(result):
                    return wait_for_answer(cell, result, in_task)
                cell.call_in_hand = None
                cell.sched.waiting.pop(call, None)
                if call.done():
                    cell.sched.late_reply(call)
                else:
                    call.set_result(result)
        if cell.after is not None:
            following = carry_out_intent(cell, in_task)
            if following is not None:
                if following is WAITING:
                    return True
                if following is GONE:
                    return False
                table = cell.table
                message = cell.head = following
                if cell.idle is not None:
                    cell.disturb_idle()
                budget -= 1
                if budget:
                    continue
                cell.running = False
                cell.sched.ready.append(cell)
                return None
            table = cell.table
            if cell.idle is not None and cell.box:
                budget = 1  # for the next turn to look at the message, and at the idle time-out
        box = cell.box
        if not box:
            if box is not None and type(box) is deque:
                cell.box = None
            cell.head = IDLE
            cell.running = False
            return False
        message = cell.head = box.popleft()
        budget -= 1
        if not budget:
            cell.running = False
            cell.sched.ready.append(cell)
            return None


def answer_at_once(cell: Cell, call: Call[Any]) -> bool:
    """Handle a call that has just been made to an idle actor, in its own context: the fast path of `run_turns`.

    Returns True if the handler is a coroutine that a task has to run. What else the actor has to do then waits for its
    next turn.
    """
    message = call.message
    handler = cell.table.get(type(message))
    if handler is None or cell.idle is not None:
        cell.head = call
        return bool(run_turns(cell, False))
    cell.running = True
    cell.call_in_hand = cell.head = call
    call._begun = True
    try:
        result = handler(cell.actor, message)
    except BaseException as error:
        failed(cell, error)
    else:
        kind = type(result)
        if kind is CoroutineType:
            return keep_for_worker(cell, result)
        if cell.after is not None or cell.call_in_hand is None:
            returned(cell, result)
        elif kind not in PLAIN and awaitable(result):
            return wait_for_answer(cell, result, False)
        else:
            cell.call_in_hand = None
            call.set_result(result)  # the caller does not hold the call yet, so it cannot be done
    if cell.after is None and cell.box is None:
        cell.running = False
        cell.head = IDLE
        return False
    return end_turn(cell, False)


def resume(cell: Cell, error: BaseException | None) -> bool:
    """Resume the actor's coroutine, in its own context. Returns True if it waits again."""
    starting = cell.phase == STARTING
    answering.set(cell.call_in_hand)
    if advance(cell, error):
        return True
    return False if starting else settle_body(cell)


def settle_body(cell: Cell) -> bool:
    """After the end of a coroutine: carry out its intent, and go on. Returns True if the actor waits again."""
    return cell.phase != DEAD and end_turn(cell, True)


def end_turn(cell: Cell, in_task: bool) -> bool:
    """Carry out a handler's intent; the next message waits for the next turn. Returns True if the actor waits again."""
    if cell.after is not None:
        following = carry_out_intent(cell, in_task)
        if following is WAITING:
            return True
        if following is GONE:
            return False
        if following is not None:
            cell.running = False
            cell.head = following
            cell.sched.enqueue(cell)
            return False
    cell.running = False
    go_on(cell)
    return False


def advance(cell: Cell, error: BaseException | None) -> bool:
    """Run the coroutine until it waits again (True) or ends (False)."""
    body = cell.body
    assert body is not None
    cell.awaiting = None
    cell.running = True
    try:
        awaiting = body.send(None) if error is None else body.throw(error)
    except StopIteration as end:
        body_ended(cell, end.value, None)
        return False
    except BaseException as failure:
        body_ended(cell, None, failure)
        return False
    return begin_waiting(cell, awaiting)


def begin_waiting(cell: Cell, awaiting: Any) -> bool:
    """Note what the coroutine awaits. If awaiting it would close a cycle of calls, CallCycle is thrown into it."""
    cell.running = False
    ring = call_cycle(cell, awaiting) if isinstance(awaiting, Call) else None
    if ring is None:
        cell.awaiting = awaiting
        return True
    awaiting._asyncio_future_blocking = False
    cell.sched.abandon(awaiting)
    return advance(cell, errors.CallCycle(awaiting.target, awaiting.message, ring, begun=awaiting.begun))


def keep_for_worker(cell: Cell, body: Coroutine[Any, Any, Any]) -> bool:
    """Keep a coroutine for a worker to run; close it if the actor has just ended."""
    cell.running = False
    if cell.phase >= EXITING:
        body.close()
        code_ended(cell, None)
        return False
    cell.body = body
    return True


def call_cycle(cell: Cell, call: Call[Any]) -> list[Cell] | None:
    """Return the actors that would wait for each other if this one waited for ``call``."""
    ring: list[Cell] = [cell]
    while not call.done():
        target = call.target
        if target in ring[1:] or target.phase == DEAD or (target.deferred and call in target.deferred):
            return None
        ring.append(target)
        if target is cell:
            return ring
        if not isinstance(target.awaiting, Call):
            return None
        call = target.awaiting
    return None


def body_ended(cell: Cell, value: Any, error: BaseException | None) -> None:
    cell.running = False
    cell.body = None
    cell.awaiting = None
    if cell.phase == RUNNING:
        if error is None:
            returned(cell, value)
        else:
            failed(cell, error)
    elif cell.phase == STARTING:
        started(cell, value, error)
    elif cell.phase == STOPPING:
        stopped(cell, error)
    else:
        code_ended(cell, error)


def returned(cell: Cell, value: Any) -> None:
    """Deal with what a handler returned: the answer of the current request, or nothing."""
    call = cell.call_in_hand
    after = cell.after
    if call is None:
        if value is not None and not isinstance(unwrap(cell.head), Request):
            cell.intend().stop = BadReturnValue(value)
        return
    cell.call_in_hand = None
    if after is not None and after.stop is not None:
        after.call, after.reply = call, value
    else:
        cell.sched.reply(call, value)


def failed(cell: Cell, error: BaseException) -> None:
    """Deal with an exception that a handler raised."""
    call = cell.call_in_hand
    if cell.phase >= EXITING:
        return
    if isinstance(error, errors.Refuse) and call is not None:
        cell.call_in_hand = None
        cell.sched.fail(call, error.error)
    elif isinstance(error, errors.Refuse) and isinstance(unwrap(cell.head), Request):
        cell.dead_letter(unwrap(cell.head), "refused")  # it was cast: nobody waits for the answer
    elif isinstance(error, errors.Stop):
        cell.intend().stop = as_reason(error.reason)
    else:
        cell.intend().stop = crashed(error)
        cell.sched.interrupt(error)


def carry_out_intent(cell: Cell, in_task: bool) -> Any:
    """Carry out what the handler requested.

    Returns the next message to handle before the mailbox, None if there is none, WAITING or GONE.
    """
    after = cell.after
    if cell.phase >= EXITING or after is None:
        cell.running = False
        code_ended(cell, None)
        return GONE
    if after.stop is not None:
        return carry_out_stop(cell, after, in_task)
    if after.idle is not None:
        cell.begin_idle(after, after.idle)
    if after.admitted is not None:
        return next_held(cell, after.admitted)
    message = after.continuations.popleft() if after.continuations else None
    if not after.continuations:
        cell.after = None
    return message


def next_held(cell: Cell, held: deque[Any]) -> Any:
    """Return the next message that a suspended actor may handle; if there is none, its turn is over."""
    if held:
        return held.popleft()
    cell.head = SUSPENDED
    cell.running = False
    return GONE


def carry_out_stop(cell: Cell, after: Intent, in_task: bool) -> Any:
    cell.phase = STOPPING
    actor = cell.actor
    assert after.stop is not None
    if not cell.kind.__behaviour__.has_terminate:
        stopped(cell, None)
        return GONE
    cell.emit(events.Terminating)
    try:
        cell.running = True
        result: Any = actor.terminate(after.stop)
    except BaseException as error:
        cell.running = False
        finish_stop(cell, error)
        return GONE
    cell.running = False
    if type(result) is not CoroutineType:
        finish_stop(cell, None)
        return GONE
    if cell.phase == DEAD:
        result.close()
        code_ended(cell, None)
        return GONE
    cell.body = result
    if not in_task:
        return WAITING
    return WAITING if advance(cell, None) else GONE


def finish_stop(cell: Cell, error: BaseException | None) -> None:
    if cell.phase >= EXITING:
        code_ended(cell, error)
    else:
        stopped(cell, error)


def stopped(cell: Cell, error: BaseException | None) -> None:
    after = cell.after
    assert after is not None
    assert after.stop is not None
    cell.running = False
    if error is not None:
        cell.sched.interrupt(error)
        die(cell, as_reason(error.reason) if isinstance(error, errors.Stop) else crashed(error))
        return
    if after.call is not None:
        cell.sched.reply(after.call, after.reply)
    die(cell, after.stop)


def go_on(cell: Cell) -> None:
    """After a turn that had waited: enqueue the actor again if there is more to do."""
    box = cell.box
    if box:
        cell.head = box.popleft()
        cell.sched.enqueue(cell)
    else:
        if box is not None and type(box) is deque:
            cell.box = None
        cell.head = IDLE
