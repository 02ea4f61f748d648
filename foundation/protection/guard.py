"""Guards: wrappers that decide whether and how a call is made.

Each can be used alone, as a decorator, on a `Ref`, or as part of a `Policy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from supervision import Address, Request
from supervision.call import DEFAULT_TIMEOUT

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
#: What is done, without arguments; it may be called several times.
Attempt = Callable[[], Awaitable[T]]


class Guard(ABC):
    """A wrapper that decides whether and how a call is made.

    What it guards runs in the caller's task, and never inside an actor of the guard's.
    """

    @abstractmethod
    async def run(self, attempt: Attempt[T]) -> T:
        """Do something under guard, and return its result.

        Args:
            attempt: what is done, without arguments.
        """

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function under guard, and return its result."""
        return await self.run(lambda: function(*args, **kwargs))

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Return an ``async`` function under guard: to be used as a decorator."""

        @wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(function, *args, **kwargs)

        return guarded

    def around(self, address: Address) -> Guarded:
        """Return an address under guard."""
        return Guarded(self, address)


class Guarded:
    """An address, all calls of which are under guard.

    Args:
        guard: what stands around them.
        address: where they go.
    """

    __slots__ = ("_guard", "address")

    def __init__(self, guard: Guard, address: Address) -> None:
        self._guard = guard
        self.address = address

    async def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> R:
        """Send a request under guard, and return the answer. See `Ref.call`; here the answer is awaited at once."""

        async def attempt() -> Any:
            return await self.address.call(request, timeout)

        result: R = await self._guard.run(attempt)
        return result
