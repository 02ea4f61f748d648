"""Attempts at language models, observed where they happen: below DSPy's retries and its cache.

DSPy's callbacks see one call, with all its retries, and neither usage nor finish reason. So what an engine is asked and
answers is told to the observer of the run, which its settings name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from dspy import lm15
from dspy._vendor.lm15.errors import error_class_for_code
from dspy._vendor.lm15.result import StreamAccumulator
from dspy.clients import execution
from dspy.clients.call_result import usage_dict
from dspy.clients.engines.lifecycle import aclosing_stream, closing_stream
from dspy.clients.errors import ERROR_MAPPING
from dspy.dsp.utils.settings import thread_local_overrides
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

from dspex._compat.usage import check_wanted

#: Under which key the settings of a run name its observer.
OBSERVER = "dspex_observer"
#: What says that an answer of a language model could not be read.
UNPARSED: tuple[type[Exception], ...] = (AdapterParseError,)


class Attempt(NamedTuple):
    """An attempt at an endpoint.

    Attributes:
        lm: the ``dspy.BaseLM`` that is asked.
        request: what is asked, an ``lm15.Request``; None if it goes by DSPy's older contract.
        legacy: what is asked by that, or else empty.
        provider: whose model it is, as far as DSPy knows.
        streamed: whether it is answered piece by piece.
    """

    lm: Any
    request: Any
    legacy: Mapping[str, Any]
    provider: str | None
    streamed: bool


class Attempted(Protocol):
    """Takes what came of an attempt."""

    def piece(self) -> None:
        """A piece of a streamed answer is there."""

    def answered(self, response: Any) -> None:
        """The whole answer is there: an ``lm15.Response``, or what DSPy's older contract has."""

    def failed(self, error: BaseException) -> None:
        """It has failed, with this error: said by an event of its stream, or raised."""


class Observer(Protocol):
    """Is told what a run asks of language models. It must not raise."""

    def attempt(self, attempt: Attempt) -> AbstractContextManager[Attempted]:
        """Return the context in which an attempt is made; an attempt that fails leaves it with its error."""
        ...

    def cache_hit(self) -> None:
        """DSPy's cache had the answer, and nobody was asked."""


def observer() -> Observer | None:
    """Return what observes the run that this code belongs to; DSPy's own threads, too, know it."""
    found: Observer | None = thread_local_overrides.get().get(OBSERVER)
    return found


def error_name(error: BaseException) -> str:
    """Return the class of an error, as DSPy calls it: an engine's ``lm15.ServerError`` is an ``LMServerError``."""
    if isinstance(error, lm15.LM15Error):
        return next((ours.__name__ for theirs, ours in ERROR_MAPPING if isinstance(error, theirs)), "LMUnexpectedError")
    plain = (AdapterParseError, ContextWindowExceededError)
    return next((kind.__name__ for kind in plain if isinstance(error, kind)), type(error).__name__)


class Figures(NamedTuple):
    """What an answer says of itself; None for what it does not say."""

    id: str | None = None
    model: str | None = None
    finish_reasons: tuple[str, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_creation_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None


def usage_figures(response: Any, provider: str | None) -> Figures:
    """Return what an answer says of itself: input with what a provider's cache had, output with reasoning.

    Args:
        response: an ``lm15.Response``, or what DSPy's older contract has.
        provider: whose answer it is; they do not count alike.
    """
    responses = getattr(response, "responses", (response,))
    own = response.usage
    usage: Mapping[str, Any] = own if isinstance(own, Mapping) else usage_dict(response, provider)
    sent: Any = usage.get("prompt_tokens_details") or {}
    written: Any = usage.get("completion_tokens_details") or {}
    return Figures(
        id=responses[0].id if responses else None,
        model=responses[0].model if responses else response.response_model,
        finish_reasons=tuple(str(each.finish_reason) for each in responses),
        input_tokens=_whole(usage.get("prompt_tokens")),
        output_tokens=_whole(usage.get("completion_tokens")),
        cache_read_tokens=_whole(sent.get("cached_tokens")),
        cache_creation_tokens=_whole(sent.get("cache_creation_tokens")),
        reasoning_tokens=_whole(written.get("reasoning_tokens")),
        audio_input_tokens=_whole(sent.get("audio_tokens")),
        audio_output_tokens=_whole(written.get("audio_tokens")),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


class Delegating:
    """The engine of a model whose requests another component answers, and observes."""


class ObservedEngine:
    """An engine whose answers are told to an observer.

    Args:
        engine: the engine.
        lm: whose it is.
        provider: whose model it is, if that is known.
        told: the observer.
    """

    def __init__(self, engine: Any, lm: Any, provider: str | None, told: Observer) -> None:
        self._engine = engine
        self._lm = lm
        self._provider = provider
        self._told = told

    def _attempt(
        self, request: Any, legacy: Mapping[str, Any] | None = None, *, streamed: bool = False
    ) -> AbstractContextManager[Attempted]:
        return self._told.attempt(Attempt(self._lm, request, legacy or {}, self._provider, streamed))

    def complete(self, request: Any) -> Any:
        """Answer a request."""
        with self._attempt(request) as attempted:
            response = self._engine.complete(request)
            attempted.answered(response)
        return response

    def complete_legacy(self, lm: Any, request: Any, **options: Any) -> Any:
        """Answer by DSPy's older contract."""
        with self._attempt(None, request) as attempted:
            response = self._engine.complete_legacy(lm, request, **options)
            attempted.answered(response)
        return response

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer a request piece by piece."""
        whole = _Whole(request)
        with self._attempt(request, streamed=True) as attempted, closing_stream(self._engine.stream(request)) as events:
            for event in events:
                whole.take(event, attempted)
                yield event


class AsyncObservedEngine(ObservedEngine):
    """The same for ``acall``."""

    async def complete(self, request: Any) -> Any:
        """Answer a request."""
        with self._attempt(request) as attempted:
            response = await self._engine.complete(request)
            attempted.answered(response)
        return response

    async def complete_legacy(self, lm: Any, request: Any, **options: Any) -> Any:
        """Answer by DSPy's older contract."""
        with self._attempt(None, request) as attempted:
            response = await self._engine.complete_legacy(lm, request, **options)
            attempted.answered(response)
        return response

    async def stream(self, request: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        """Answer a request piece by piece."""
        whole = _Whole(request)
        with self._attempt(request, streamed=True) as attempted:
            async with aclosing_stream(self._engine.stream(request)) as events:
                async for event in events:
                    whole.take(event, attempted)
                    yield event


class _Whole:
    """Puts the pieces of an answer together."""

    def __init__(self, request: Any) -> None:
        self._pieces = StreamAccumulator(request)

    def take(self, event: Any, attempted: Attempted) -> None:
        """Note an event, as it is: whether it is a proper one is for DSPy to say."""
        try:
            self._take(event, attempted)
        except Exception as error:
            attempted.failed(error)

    def _take(self, event: Any, attempted: Attempted) -> None:
        self._pieces.push(event)
        if event.type == "end":
            attempted.answered(self._pieces.response())
        elif event.type == "error":
            attempted.failed(error_class_for_code(event.error.code)(event.error.message))
        elif event.type == "delta":
            attempted.piece()


def observed_engine(engine: Any, lm: Any, provider: str | None, *, asynchronous: bool) -> Any:
    """Return an engine whose answers are told to the run's observer; the engine itself if there is none."""
    told = observer()
    if told is None or isinstance(engine, Delegating):
        return engine
    kind = AsyncObservedEngine if asynchronous else ObservedEngine
    return kind(engine, lm, provider, told)


_select_engine: Callable[[Any, Any, bool], tuple[Any, Any, str | None]] = execution._engine
_look_up: Callable[[Any, Any, bool], Any] = execution._cached


def select_engine(lm: Any, call: Any, asynchronous: bool) -> tuple[Any, Any, str | None]:
    """Select the engine of a call, as DSPy does, and have it observed. A run for which nobody waits selects none."""
    check_wanted()
    engine, request, provider = _select_engine(lm, call, asynchronous)
    return observed_engine(engine, lm, provider, asynchronous=asynchronous), request, provider


def _cached(lm: Any, call: Any, asynchronous: bool) -> Any:
    found = _look_up(lm, call, asynchronous)
    told = observer() if found else None
    if told is not None:
        told.cache_hit()
    return found


# DSPy has no other place at which an attempt can be seen: each retry asks what these two return.
execution._engine = select_engine
execution._cached = _cached
