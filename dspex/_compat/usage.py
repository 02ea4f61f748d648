"""What a run uses, and what it costs, measured so that the program cannot tell."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Mapping
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import dspy
from dspy import lm15
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.clients.capabilities import resolve
from dspy.clients.costs import estimate_cost
from dspy.clients.model_metadata import model_info, rate
from dspy.dsp.utils.settings import thread_local_overrides
from dspy.lm15 import _binding_for
from dspy.utils.usage_tracker import UsageTracker

T = TypeVar("T")


class Meter(UsageTracker):  # type: ignore[misc]
    """Counts what language models report during a run, and passes it on to the caller's own tracker.

    DSPy's threads copy the tracker that they find, and lose what the copy has counted; this one is not copied.
    """

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self._parent = parent

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """Count an answer."""
        super().add_usage(lm, usage_entry)
        if self._parent is not None:
            self._parent.add_usage(lm, usage_entry)


class CostHistory(list[Any]):
    """A history that keeps nothing but the sum of what its entries cost, in dollars."""

    cost = 0.0

    def append(self, entry: Any) -> None:
        """Add what an answer of a language model has cost; one from the cache has cost nothing."""
        if entry.get("usage"):
            self.cost += entry.get("cost") or 0.0


class RunScope:
    """Whether anybody waits for a run, and what it waits for: a thread of it cannot be stopped otherwise."""

    #: One for all: it is held for a moment, and a run has many objects to be looked at by the collector as it is.
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.abandoned = False
        self._waiting: set[Future[Any]] | None = None

    def abandon(self) -> None:
        """Say that nobody waits for the run any more. What it waits for is cancelled, and it asks no model again."""
        with self._lock:
            self.abandoned = True
            waiting = list(self._waiting or ())
        for future in waiting:
            future.cancel()

    def add(self, future: Future[Any]) -> None:
        """Note something that the run waits for, and that can be cancelled."""
        with self._lock:
            self._waiting = self._waiting or set()
            self._waiting.add(future)
            abandoned = self.abandoned
        if abandoned:
            future.cancel()

    def discard(self, future: Future[Any]) -> None:
        """The run does not wait for it any more."""
        with self._lock:
            (self._waiting or set()).discard(future)


class Metered(NamedTuple):
    """What a run has used: tokens by language model, and dollars."""

    #: Counts the tokens.
    meter: Meter
    #: Sums the costs; DSPy takes this for the history of one more calling module, and appends each answer to it.
    history: CostHistory
    #: Whether anybody waits for it.
    scope: RunScope


def run_scopes() -> list[RunScope]:
    """Return the scopes of the runs that this code belongs to; DSPy's own threads, too, know them."""
    return [caller.scope for caller in dspy.settings.caller_modules or () if isinstance(caller, Metered)]


def abandon_run() -> None:
    """Say that nobody waits any more for the innermost run that this code belongs to."""
    for scope in run_scopes()[-1:]:
        scope.abandon()


def check_wanted() -> None:
    """Go on only if somebody waits for the run that this code belongs to.

    Raises:
        asyncio.CancelledError: nobody does.
    """
    if any(scope.abandoned for scope in run_scopes()):
        raise asyncio.CancelledError("nobody waits for this run any more")


def wait_wanted(future: Future[T]) -> T:
    """Wait for something in a thread, as long as somebody waits for the run; it is cancelled when nobody does.

    Raises:
        asyncio.CancelledError: nobody waits for the run, or what it waits for was cancelled.
    """
    scopes = run_scopes()
    for scope in scopes:
        scope.add(future)
    try:
        return future.result()
    except FutureCancelled as error:
        raise asyncio.CancelledError(*error.args) from error
    finally:
        for scope in scopes:
            scope.discard(future)


def metered(settings: Mapping[str, Any]) -> AbstractContextManager[Metered]:
    """Apply settings, and measure what a run uses. A caller that tracks usage sees what it would see without this."""
    return _Metering(settings)


class _Metering(AbstractContextManager[Metered]):
    __slots__ = ("_context", "_found")

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._found = Metered(Meter(dspy.settings.usage_tracker), CostHistory(), RunScope())
        callers = [*(dspy.settings.caller_modules or ()), self._found]
        self._context = dspy.context(**{**settings, "usage_tracker": self._found.meter, "caller_modules": callers})

    def __enter__(self) -> Metered:
        self._context.__enter__()
        return self._found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            self._found.scope.abandon()
        self._context.__exit__(kind, error, trace)


def note_usage(module: Any, result: Any, found: Metered) -> None:
    """Attach to a result what the run has used, as a module does if nobody above it tracks usage."""
    module._set_lm_usage(found.meter.get_total_tokens(), result)


def tracks_alone() -> bool:
    """Return whether the module that is called next would track its usage by itself."""
    return bool(dspy.settings.track_usage) and thread_local_overrides.get().get("usage_tracker") is None


class _Route(NamedTuple):
    """Whose model it is, how they call it, and where DSPy looks for its price; None for the usual places."""

    provider: str
    model: str
    namespaces: tuple[str, ...] | None


def _route(lm: Any) -> _Route | None:
    if not isinstance(lm, dspy.LM) or not isinstance(lm.engine, str):
        return None
    try:
        found = resolve(lm)
    except lm15.LM15Error:
        return None
    binding = _binding_for(lm._providers, found.provider) if found.declared else None
    return _Route(found.provider, found.model, None if binding is None else binding.metadata_namespaces)


def token_price(lm: Any) -> tuple[float, float] | None:
    """Return the dollars for a million tokens, sent and written, of a language model; None if DSPy does not know."""
    route = _route(lm)
    if route is None:
        return None
    info = model_info(route.provider, route.model, namespaces=route.namespaces)
    sent, written = rate(info, "input_cost_per_token"), rate(info, "output_cost_per_token")
    return None if sent is None or written is None else (sent * 1e6, written * 1e6)


def answer_cost(lm: Any, request: Any, response: Any) -> float | None:
    """Return what an answer has cost, in dollars, as DSPy estimates it; None if it does not know."""
    route = _route(lm)
    if route is None:
        return None
    cost: float | None = estimate_cost(
        response, provider=route.provider, requested_model=route.model, request=request, namespaces=route.namespaces
    )[0]
    return cost


def request_size(request: Any) -> tuple[int, int | None]:
    """Return the number of characters of a request's texts, and how many tokens its answer may have, if it says so."""
    system = request.system or ""
    parts = [] if isinstance(system, str) else list(system)
    parts += [part for message in request.messages for part in message.parts]
    texts = sum(len(getattr(part, "text", None) or "") for part in parts)
    return texts + (len(system) if isinstance(system, str) else 0), request.config.max_tokens


def charge(dollars: float) -> None:
    """Add what an answer has cost, where DSPy cannot price it, to the cost of each active run."""
    for caller in dspy.settings.caller_modules or ():
        if isinstance(caller, Metered):
            caller.history.cost += dollars


@contextmanager
def bounded_history() -> Generator[None]:
    """Have DSPy's history of all calls of the process be no longer than that of a module, when a run has ended."""
    try:
        yield
    finally:
        del GLOBAL_HISTORY[: max(0, len(GLOBAL_HISTORY) - dspy.settings.max_history_size)]
