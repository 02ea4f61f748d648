"""Turns: an actor's handlers at work, message by message."""

from __future__ import annotations

from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING

from supervision._marks import DEAD, GONE, IDLE, STARTING, SUSPENDED

if TYPE_CHECKING:
    from supervision._cell import Cell

#: How many messages one actor handles before the next actor's turn.
BUDGET = 64


def run_turns(cell: Cell, in_task: bool) -> bool:  # noqa: C901 - the innermost loop: calls would cost
    """Handle the messages of one actor, in its own context, up to its budget.

    Returns True if a handler waits (or, outside a task, is a coroutine that a task has to run), False if the turn is
    over.
    """
    message = cell.head
    table, actor = cell.table, cell.actor
    cell.running = True
    budget = BUDGET
    if cell.idle is not None:
        cell.cancel_idle()
    while True:
        try:
            try:
                handler = table[type(message)]
            except KeyError:
                handler = cell.find_handler(type(message))
            result = handler(actor, message)
            if result is not None and type(result) is CoroutineType:
                if not in_task:
                    return cell.put_aside(result)
                if handler in cell.kind.__behaviour__.silent:
                    # `next` makes no exception of a result that is None: a tenth of the time of a message.
                    awaiting = next(result.__await__(), GONE)
                    if awaiting is not GONE:
                        cell.body = result
                        return cell.suspend(awaiting) or settle_body(cell)
                    result = None
                else:
                    try:
                        awaiting = result.send(None)
                    except StopIteration as end:
                        result = end.value
                    else:
                        cell.body = result
                        return cell.suspend(awaiting) or settle_body(cell)
        except BaseException as error:
            cell.failed(error)
        else:
            call = cell.call_in_hand
            if call is None:
                if result is not None:
                    cell.returned(result)
            elif cell.after is not None:
                cell.returned(result)
            else:
                cell.call_in_hand = None
                cell.sched.waiting.pop(call, None)
                if call.done():
                    cell.sched.late_reply(call)
                else:
                    call.set_result(result)
        if cell.after is not None:
            following = cell.settle(in_task)
            if following is not None:
                if following is SUSPENDED:
                    return True
                if following is GONE:
                    return False
                if cell.idle is not None:
                    cell.cancel_idle()
                message = cell.head = following
                budget -= 1
                if budget:
                    continue
                cell.running = False
                cell.sched.ready.append(cell)
                return False
            if cell.idle is not None and cell.box:
                cell.cancel_idle()
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
            return False


def resume(cell: Cell, error: BaseException | None) -> bool:
    """Let the code of an actor that waited go on, in its own context. Returns True if it waits again."""
    starting = cell.phase == STARTING
    if cell.advance(error):
        return True
    return False if starting else settle_body(cell)


def settle_body(cell: Cell) -> bool:
    """After the end of a coroutine: do what it asked for, and go on. Returns True if the actor waits again."""
    if cell.phase == DEAD:
        return False
    if cell.after is not None:
        following = cell.settle(True)
        if following is SUSPENDED:
            return True
        if following is GONE:
            return False
        if following is not None:
            cell.head = following
            cell.sched.enqueue(cell)
            return False
    cell.go_on()
    return False
