"""Async handlers that return nothing take a shorter way; what they return is checked all the same."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import Actor, Message, Ref, Request, Runtime, handle
from supervision._core.signatures import returns_nothing
from supervision.reasons import BadReturnValue
from supervision.testing import advance


class Go(Message, frozen=True):
    """Do what the actor does."""

    value: Any = None


class Get(Request[Any], frozen=True):
    """Answer what the actor answers."""

    value: Any = None


async def none(self: Any, message: Go) -> None:
    """Return nothing, at the end."""


async def some_none(self: Any, message: Go) -> None:
    """Return nothing, in the middle or at the end."""
    if message.value:
        return
    await advance(0)


async def given(self: Any, message: Go) -> Any:
    """Return what was given."""
    return message.value


async def either(self: Any, message: Go) -> Any:
    """Return one thing or another."""
    return message.value or "" if message.value else None


async def constant(self: Any, message: Go) -> Any:
    """Return what is no None."""
    return 7


async def hidden(self: Any, message: Go) -> Any:
    """Return something under a condition."""
    if message.value:
        return message.value
    return None


def plain(self: Any, message: Go) -> None:
    """Is no coroutine function."""


@pytest.mark.parametrize("function", [none, some_none])
def test_a_handler_that_can_only_return_nothing_is_known(function: Any) -> None:
    assert returns_nothing(function)


@pytest.mark.parametrize("function", [given, either, constant, hidden, plain, print])
def test_a_handler_that_might_return_something_is_not_taken_for_silent(function: Any) -> None:
    assert not returns_nothing(function)


@pytest.mark.parametrize("function", [given, either, hidden])
async def test_a_value_that_an_async_handler_of_a_message_returns_is_a_crash(runtime: Runtime, function: Any) -> None:
    class Returning(Actor):
        """Returns what it is given."""

        go = handle(Go)(function)

    ref = await runtime.spawn(Returning)
    ref.cast(Go())
    ref.cast(Go("junk"))
    assert await ref.join() == BadReturnValue("junk")


class Silent(Actor):
    """Answers requests with nothing."""

    @handle
    async def at_once(self, request: Get) -> None:
        """Answer nothing; after a while if so wished; or crash."""
        if request.value == "later":
            await advance(1)
        if request.value == "crash":
            raise ValueError("crash")


@pytest.mark.parametrize("value", ["now", "later"])
async def test_a_silent_handler_of_a_request_answers_none(runtime: Runtime, value: str) -> None:
    ref = await runtime.spawn(Silent)
    for _ in range(3):
        assert await ref.call(Get(value)) is None


async def test_a_silent_handler_that_raises_crashes_its_actor(runtime: Runtime) -> None:
    ref: Ref = await runtime.spawn(Silent)
    await ref.call(Get())
    ref.cast(Get("crash"))
    assert "ValueError: crash" in str(await ref.join())
