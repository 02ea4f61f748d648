"""Facts that are bound to a piece of work, and go with it along a chain of calls: into logs, and onto errors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar, Token
from types import CoroutineType, MappingProxyType
from typing import Any

from structlog.contextvars import bind_contextvars, reset_contextvars

from supervision import Actor, Call, Ref, Refuse, Runtime

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_bound: ContextVar[Mapping[str, Any]] = ContextVar("foundation.facts", default=_NOTHING)

#: So much of the number of a request is kept.
LONGEST_ID = 200
#: The attribute of an exception that holds the facts.
_FACTS = "__foundation_facts__"
#: The attribute of an exception whose text is private.
_PRIVATE = "__foundation_private__"


class _Binding:
    """Facts that hold in a context, from its making to its `reset`."""

    def __init__(self, more: Mapping[str, Any]) -> None:
        self._facts: Token[Mapping[str, Any]] = _bound.set(MappingProxyType({**_bound.get(), **more}))
        self._logs = bind_contextvars(**more)

    def reset(self) -> None:
        reset_contextvars(**self._logs)
        _bound.reset(self._facts)


@contextmanager
def bound(**more: Any) -> Generator[None]:
    """Bind facts to the work in a ``with`` block: a request's number, a customer, an order.

    They are in every log line of structlog from there (through its `merge_contextvars`), also in the handlers of the
    actors that are called or told something from there, and of those whom these call, if the runtime has a
    `ContextPropagator`, as that of ``python -m foundation.run`` has. An error that leaves the block has them
    (`facts_of`, `foundation.errors.describe_error`).

    Args:
        more: the facts by name; they are added to those bound already, and cover them.

    >>> with bound(order=7):
    ...     dict(facts())
    {'order': 7}
    """
    binding = _Binding(more)
    try:
        yield
    except Exception as error:
        _attach(error, _bound.get())
        raise
    finally:
        binding.reset()


def facts() -> Mapping[str, Any]:
    """Return the facts that are bound to the work in hand."""
    return _bound.get()


def facts_of(error: BaseException) -> Mapping[str, Any]:
    """Return the facts that were bound to the work in which an error arose; of those it crossed, the innermost count.

    >>> try:
    ...     with bound(order=7, customer="Ada"), bound(order=8):
    ...         raise LookupError("no such thing")
    ... except LookupError as error:
    ...     dict(facts_of(error))
    {'order': 8, 'customer': 'Ada'}
    """
    known: Mapping[str, Any] = getattr(error, _FACTS, _NOTHING)
    return known


def keep_text_private(error: BaseException) -> None:
    """Mark an error whose text has in it what somebody asked or was answered: logs and traces have its class alone."""
    setattr(error, _PRIVATE, True)


def has_private_text(error: BaseException) -> bool:
    """Return whether an error, or one that it came from, is marked by `keep_text_private`.

    >>> error = ValueError("the customer said: …")
    >>> keep_text_private(error)
    >>> try:
    ...     raise RuntimeError from error
    ... except RuntimeError as raised:
    ...     has_private_text(raised)
    True
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if getattr(found, _PRIVATE, False):
            return True
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return False


def _attach(error: BaseException, facts: Mapping[str, Any]) -> None:
    setattr(error, _FACTS, MappingProxyType({**facts, **facts_of(error)}))


class ContextPropagator:
    """A `supervision.Propagator` of the facts that are `bound` where a message is sent.

    They hold while the message is handled. If the handler crashes, they are in the log line of its crash report.
    """

    def request(
        self, runtime: Runtime, name: str, headers: Mapping[str, str], **attributes: Any
    ) -> AbstractContextManager[None]:
        """Hook for subclasses: enter the context of a request from outside; does nothing."""
        return nullcontext()

    def send(self, target: Ref, message: Any, call: Call[Any] | None) -> Any:
        """Carry the facts, if there are any."""
        return _bound.get() or None

    def handle(self, actor: Actor, message: Any, carried: Any, proceed: Callable[[], Any]) -> Any:
        """Bind them while the message is handled."""
        binding = _Binding(carried)
        try:
            result = proceed()
            if type(result) is CoroutineType:
                return _rest(result, binding, carried)
        except Exception as error:
            _failed(error, binding, carried)
            raise
        binding.reset()
        return result


@contextmanager
def incoming_request(runtime: Runtime, name: str, headers: Mapping[str, str], **attributes: Any) -> Generator[None]:
    """Handle a request from outside in a ``with`` block, as a part of the trace that its headers name.

    Its number (``x-request-id``), if it has one, is bound as ``request_id``.

    Args:
        runtime: where it is handled; whether there are traces is the business of its propagator.
        name: the name of the span, with few different values, such as ``POST /orders/{id}``.
        headers: those of the request, with names in small letters.
        attributes: facts about it, for the trace.
    """
    propagator = runtime.propagator
    known = headers.get("x-request-id", "")
    with ExitStack() as stack:
        if isinstance(propagator, ContextPropagator):
            stack.enter_context(propagator.request(runtime, name, headers, **attributes))
        if known:
            stack.enter_context(bound(request_id=known[:LONGEST_ID]))
        yield


async def _rest(handler: CoroutineType[Any, Any, Any], binding: _Binding, carried: Mapping[str, Any]) -> Any:
    try:
        result = await handler
    except Exception as error:
        _failed(error, binding, carried)
        raise
    binding.reset()
    return result


def _failed(error: Exception, binding: _Binding, carried: Mapping[str, Any]) -> None:
    """Mark an error. What crashes keeps its facts, as its context ends with it, but is still to be reported."""
    if isinstance(error, Refuse):
        _attach(error.error, carried)
        binding.reset()
    else:
        _attach(error, carried)
