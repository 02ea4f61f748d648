"""What code has raised: a failure of that code, or an order to end that is meant for whoever runs it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from types import coroutine
from typing import TypeVar

from agents.errors import HookFailed
from supervision import Ref

T = TypeVar("T")


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is a Ctrl-C, which is meant for whoever runs the program.

    A `KeyboardInterrupt` can be one only where Python raises it by itself: in the main thread, and while nobody else
    handles the signal, as ``asyncio.run`` and ``foundation.run`` do.
    """
    return isinstance(error, KeyboardInterrupt) and _is_ctrl_c()


def is_closing(error: BaseException, ref: Ref | None) -> bool:
    """Return whether the coroutine in which async code was run is closed, so that it can await nothing any more.

    The code of an actor is closed when that has ended.

    Args:
        error: what was raised.
        ref: the actor for which the code was run, if it was for one.
    """
    return isinstance(error, GeneratorExit) and (ref is None or not ref.alive)


def is_order(error: BaseException, ref: Ref | None = None) -> bool:
    """Return whether an error ends the coroutine or the task in which async code was run, and is no failure of it.

    Args:
        error: what was raised.
        ref: the actor for which the code was run, if it was for one.

    >>> is_order(SystemExit(1)), is_order(GeneratorExit())
    (False, True)
    """
    cancelled = isinstance(error, asyncio.CancelledError) and _is_cancelling()
    return cancelled or is_closing(error, ref) or is_interrupt(error)


def raise_interrupt(error: BaseException) -> None:
    """Raise a Ctrl-C again. All else that plain code raises is a failure of it.

    >>> raise_interrupt(SystemExit(1))
    >>> raise_interrupt(GeneratorExit())
    """
    if is_interrupt(error):
        raise error


def raise_end(error: BaseException, ref: Ref) -> None:
    """Raise again what ends an actor whose code has awaited other code. As long as it lives, that code has failed.

    So code that cancels the task in which it runs ends nobody else, whose task it is.

    Args:
        error: what was raised.
        ref: the actor.
    """
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)) and not ref.alive:
        raise error
    raise_interrupt(error)


async def awaited(pending: Awaitable[T]) -> T:
    """Await other code. If it has asked for the cancellation of its task, that hits it, and nobody behind it."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    value = await pending
    if task.cancelling() > before:
        await _one_pass()
    return value


@contextmanager
def hook(of: str, name: str, ref: Ref | None = None) -> Generator[None]:
    """Make what a hook raises that is no `Exception` one: it is no order to whoever runs it.

    Args:
        of: whose hook it is.
        name: of the hook.
        ref: the actor whose code awaits it; None if it is plain.

    Raises:
        HookFailed: it has raised such a thing.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise_interrupt(error) if ref is None else raise_end(error, ref)
        raise HookFailed(of, name, error) from error


@coroutine
def _one_pass() -> Generator[None]:
    """Wait for the next pass of the loop."""
    yield


def _is_ctrl_c() -> bool:
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _is_cancelling() -> bool:
    """Whether the task in which this runs is being cancelled; there may be none."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0
