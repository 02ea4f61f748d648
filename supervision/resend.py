"""Calls that survive the death of the actor in whose mailbox they waited."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from supervision.call import DEFAULT_TIMEOUT
from supervision.ref import Name, addressed

if TYPE_CHECKING:
    from supervision.call import Call
    from supervision.messages import Request
    from supervision.ref import Address

R = TypeVar("R")


def call_when_ready(to: Address, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
    """Call an actor by its name, also while it is being restarted; await what this returns for the answer.

    A request that no handler has begun has left no trace. If the actor ends with it in its mailbox, or is not there
    yet, it goes to the next incarnation, as soon as that holds the name. A request that was begun is never sent again:
    whether that is safe, only its sender knows.

    Nothing is awaited that will not come: when the supervisor gives up, does not restart the actor, or ends, and for a
    name that nobody is about to hold, the error comes at once. A `Ref` is one incarnation and has no next one.

    Args:
        to: a `Name`; a `Ref` is called as it is.
        request: what is asked.
        timeout: seconds for everything together; None for as long as there is, or will be, an actor.

    Raises:
        BadTime: the time-out is no length of time.
        NoProcess, ActorExited: there is no such actor, and there will be none; or it ended with the request in hand.
        CallTimeout: no answer in time.
        CallError: as for `Address.call`; whatever the handler refused.

    >>> import asyncio
    >>> from supervision import Actor, ChildSpec, Request, Runtime, Supervisor, handle
    >>> class Hello(Request[str]):
    ...     pass
    >>> class Greeter(Actor):
    ...     @handle
    ...     def hello(self, request: Hello) -> str:
    ...         return "hello"
    >>> async def main() -> str:
    ...     async with Runtime(reports=False) as runtime:
    ...         await runtime.spawn(Supervisor, [ChildSpec("greeter", Greeter, name="greeter")])
    ...         runtime.whereis("greeter").kill()
    ...         return await call_when_ready(runtime.name("greeter"), Hello())
    >>> asyncio.run(main())
    'hello'
    """
    if not isinstance(to, Name):
        return addressed("to", to).call(request, timeout)
    ref = to.resolve()
    if ref is not None:
        call = ref.call(request, timeout)
        call.again = to.key
        return call
    last = to.runtime.vacancies.last(to.key)
    if last is None:
        return to.call(request, timeout)
    return to.runtime.scheduler.waiting_for(last, to.key, request, timeout)
