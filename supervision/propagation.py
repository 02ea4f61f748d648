"""Context propagation: what of the sender's context goes with a message, such as a trace or a request's number.

Every actor has a context of its own, so that nothing set in one shows in another. A `Propagator` decides what of a
sender's context goes along with its messages, and what that means where they are handled. A runtime without one pays
nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from supervision.call import Call

if TYPE_CHECKING:
    from supervision.actor import Actor
    from supervision.ref import Ref
    from supervision.runtime import Runtime

R = TypeVar("R")


class Propagator(Protocol):
    """Carries context from the sender of a message to its handler: ``Runtime(propagator=...)``.

    Messages of the kernel (exits, timers, system requests) carry nothing.

    >>> import asyncio
    >>> from contextvars import ContextVar
    >>> from supervision import Actor, Message, Runtime, handle
    >>> user = ContextVar("user", default="nobody")
    >>> class Hello(Message):
    ...     pass
    >>> class Greeter(Actor):
    ...     @handle
    ...     def hello(self, message: Hello) -> None:
    ...         print("hello,", user.get())
    >>> class CarryUser:
    ...     def send(self, target, message, call):
    ...         return user.get()
    ...
    ...     def handle(self, actor, message, carried, proceed):
    ...         token = user.set(carried)
    ...         result = proceed()
    ...         user.reset(token)
    ...         return result
    >>> async def main() -> None:
    ...     async with Runtime(propagator=CarryUser()) as runtime:
    ...         greeter = await runtime.spawn(Greeter)
    ...         user.set("Ada")
    ...         greeter.cast(Hello())
    ...         await greeter.stop()
    >>> asyncio.run(main())
    hello, Ada
    """

    def send(self, target: Ref, message: Any, call: Call[Any] | None) -> Any:
        """Return what goes along with a message that is being sent; called in the sender's context.

        Args:
            target: the receiver.
            message: what is sent.
            call: the future of the answer; None if none is expected.

        Returns:
            What `handle` gets; None for nothing, and then `handle` is not called.
        """

    def handle(self, actor: Actor, message: Any, carried: Any, proceed: Callable[[], Any]) -> Any:
        """Have a message handled; called in the context of the actor that handles it.

        Args:
            actor: the receiver.
            message: what was sent.
            carried: what `send` returned.
            proceed: call it once; it returns what the handler does, which may be a coroutine.

        Returns:
            What ``proceed`` returned, or a coroutine that awaits that.
        """


class KeepingPropagator(Propagator, Protocol):
    """A `Propagator` whose context can be written down, and gone on with later: after a timer, by another process."""

    def inject(self) -> Mapping[str, str]:
        """Return the context in hand as texts, such as ``traceparent``; empty if there is nothing to go on with."""
        ...

    def resume(
        self, runtime: Runtime, kept: Mapping[str, str], ref: Ref | None = None, message: Any = None
    ) -> AbstractContextManager[None]:
        """Go on with what was kept, for the time of a block.

        Args:
            runtime: where.
            kept: what `inject` has returned; empty for a new beginning.
            ref: the actor that does the work in the block; None if that only sends messages.
            message: what it does, if there is an actor.
        """
        ...


def inject_context(runtime: Runtime) -> Mapping[str, str]:
    """Return the context in hand as texts, to be kept with what is to be done later; empty if there is none."""
    inject: Callable[[], Mapping[str, str]] | None = getattr(runtime.propagator, "inject", None)
    return {} if inject is None else inject()


def resume_context(
    runtime: Runtime, kept: Mapping[str, str], ref: Ref | None = None, message: Any = None
) -> AbstractContextManager[None]:
    """Go on with a context that was kept; see `KeepingPropagator.resume`. Without a propagator, nothing happens."""
    resume: Callable[..., AbstractContextManager[None]] | None = getattr(runtime.propagator, "resume", None)
    return nullcontext() if resume is None else resume(runtime, kept, ref, message)


class Envelope:
    """A message together with the context that a `Propagator` attached."""

    __slots__ = ("load", "message")

    def __init__(self, message: Any, load: Any) -> None:
        self.message = message
        self.load = load

    def __repr__(self) -> str:
        return repr(self.message)


class PropagatingCall(Call[R]):
    """A request together with the context that a `Propagator` attached, in ``load``."""

    __slots__ = ()


def unwrap(message: Any) -> Any:
    """Return a message without its envelope."""
    return message.message if type(message) is Envelope else message
