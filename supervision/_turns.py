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
    cell.running = True
    budget = BUDGET
    while True:
        if cell.idle is not None:
            cell.cancel_idle()
        try:
            try:
                handler = cell.table[type(message)]
            except KeyError:
                handler = cell.find_handler(type(message))
            result = handler(cell.actor, message)
            if result is not None and type(result) is CoroutineType:
                if not in_task:
                    return cell.put_aside(result)
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
            if result is not None or cell.call_in_hand is not None:
                cell.returned(result)
        if cell.after is not None:
            following = cell.settle(in_task)
            if following is not None:
                if following is SUSPENDED:
                    return True
                if following is GONE:
                    return False
                message = cell.head = following
                budget -= 1
                if budget:
                    continue
                cell.running = False
                cell.sched.ready.append(cell)
                return False
        box = cell.box
        if box is None:
            cell.head = IDLE
            cell.running = False
            return False
        if not box:
            if type(box) is deque:
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
