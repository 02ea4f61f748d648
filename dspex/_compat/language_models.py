"""Language models whose requests another component answers; and the errors that say that a model is not available."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import dspy
from dspy import lm15
from dspy._vendor.lm15.serde import request_to_dict, response_from_dict, response_to_dict
from dspy.clients._http import finite_seconds
from dspy.clients.backend_selection import CLIENT_KEYS as CLIENT_KEYS
from dspy.clients.engines.lifecycle import aclosing_stream
from dspy.clients.engines.stream_guard import achecked_stream
from dspy.clients.execution import prepare
from dspy.utils.exceptions import LMLockTimeoutError, LMNotConfiguredError, LMUnsupportedModelError

from dspex._compat.attempts import Delegating, observed_engine, select_engine
from dspex._compat.choices import told_choice

#: Errors of a language model that takes no more requests for a while.
OVERLOADED: tuple[type[Exception], ...] = (lm15.RateLimitError, dspy.LMRateLimitError)

#: Errors of a language model that is unavailable, or fails, for a while.
UNREACHABLE: tuple[type[Exception], ...] = (
    lm15.TransportError,
    lm15.TimeoutError,
    lm15.ServerError,
    dspy.LMTransportError,
    dspy.LMTimeoutError,
    dspy.LMServerError,
)

#: Errors that say that a language model cannot be had at the moment, and nothing about the request.
INFRASTRUCTURE: tuple[type[Exception], ...] = (
    *OVERLOADED,
    *UNREACHABLE,
    lm15.LockTimeoutError,
    lm15.AuthError,
    lm15.BillingError,
    lm15.NotConfiguredError,
    dspy.LMAuthError,
    dspy.LMBillingError,
    LMLockTimeoutError,
    LMNotConfiguredError,
)


#: Errors of language models, of whatever kind: they have a ``message`` and a ``status``.
LM_ERRORS: tuple[type[Exception], ...] = (lm15.LM15Error, dspy.LMError)


def is_infrastructure(error: BaseException) -> bool:
    """Return whether an error says that a language model cannot be had at the moment, and nothing about the request."""
    return isinstance(error, INFRASTRUCTURE)


#: Errors that say that a language model is away, and may come back by itself.
_AWAY = (*OVERLOADED, *UNREACHABLE, lm15.LockTimeoutError, LMLockTimeoutError)
#: Errors that say that it is not to be had in this way: no key, a wrong one, no such model, no money.
_REFUSED = (
    lm15.AuthError,
    lm15.BillingError,
    lm15.ConfigurationError,
    lm15.UnsupportedModelError,
    dspy.LMAuthError,
    dspy.LMBillingError,
    dspy.LMConfigurationError,
    LMUnsupportedModelError,
)


def is_away(error: BaseException) -> bool:
    """Return whether an error says that a language model is away, so that it is worth waiting for."""
    return isinstance(error, _AWAY)


def is_refused(error: BaseException) -> bool:
    """Return whether an error says that a language model is not to be had until somebody changes something."""
    if isinstance(error, (lm15.ProviderError, dspy.LMProviderError)) and error.status == 404:
        return True
    if isinstance(error, _REFUSED):
        return True
    # Its arguments, and not its text: an error of the program's own may be unable to tell that.
    first = next(iter(error.args), None)
    return isinstance(error, ValueError) and isinstance(first, str) and first.startswith("No LM is loaded")


def retry_hint(error: BaseException) -> float | None:
    """Return the seconds after which a language model has asked to be tried again; None if it has not.

    `dspex.workflow.retry.retry_after` is the same for any error; workflows do not know DSPy.
    """
    hint: float | None = finite_seconds(getattr(error, "retry_after", None))
    return hint


def dump_response(response: Any) -> dict[str, Any]:
    """Return an answer as plain data; of what its provider adds, the probabilities of a choice."""
    data: dict[str, Any] = response_to_dict(response)
    if shares := told_choice(response):
        data["provider_data"] = {"choices": dict(shares)}
    return data


def load_response(data: dict[str, Any]) -> Any:
    """Return the answer that was dumped."""
    return response_from_dict(data)


def fingerprint(name: str, request: Any, variant: Any) -> str:
    """Return what tells a request to a language model from others: the same on every machine."""
    text = json.dumps([name, request_to_dict(request), variant], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def is_greedy(request: Any) -> bool:
    """Return whether a request is for the likeliest answer, at temperature 0, and not for one by chance."""
    return bool(request.config.temperature == 0)


_variant: ContextVar[Any] = ContextVar("dspex.variant", default=None)


class _DelegatingLM(dspy.LM):  # type: ignore[misc]
    """A language model whose engine is told which of several equal requests it is asked (``rollout_id``)."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = _variant.set(kwargs.get("rollout_id", self.kwargs.get("rollout_id")))
        try:
            return super().__call__(*args, **kwargs)
        finally:
            _variant.reset(token)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        token = _variant.set(kwargs.get("rollout_id", self.kwargs.get("rollout_id")))
        try:
            return await super().acall(*args, **kwargs)
        finally:
            _variant.reset(token)

    @property
    def dspex_chain(self) -> Sequence[Any]:
        """The language models that can be asked instead of this one, the next one first."""
        known: Sequence[Any] | None = vars(self).get("_dspex_chain")
        engine: Any = self._engine_spec
        return engine.chain(self) if known is None else known


class DirectLM:
    """A language model that is asked directly, past DSPy's cache, history and retries.

    Args:
        lm: any ``dspy.BaseLM``.
    """

    def __init__(self, lm: Any) -> None:
        self.name = str(lm.model)
        self.lm = lm
        self._streams = type(lm) is dspy.LM
        spec = getattr(lm, "_engine_spec", None)
        own = type(lm) is dspy.LM and not isinstance(spec, str)
        self._engine: Any = spec if own else None
        self._async_engine: Any = lm._async_engine_spec if own else None
        self._lm: Any = None if own else lm.copy(cache=False, num_retries=0)

    async def ask(self, request: Any) -> Any:
        """Return the model's answer to a request.

        Raises:
            Exception: whatever the model's engine, or DSPy, raises.
        """
        if self._async_engine is not None:
            return await self._observed(self._async_engine, asynchronous=True).complete(request)
        if self._engine is not None:
            engine = self._observed(self._engine, asynchronous=False)
            return await anyio.to_thread.run_sync(engine.complete, request, limiter=_limiter())
        quiet: dict[str, Any] = {"disable_history": True, "usage_tracker": None, "callbacks": [], "send_stream": None}
        with dspy.context(**quiet):
            if _asynchronous(self._lm):
                return await self._lm.acall(request)
            return await anyio.to_thread.run_sync(self._lm, request, limiter=_limiter())

    async def stream(self, request: Any) -> AsyncGenerator[Any]:
        """Return the events of the model's answer; all at once, if the model does not stream. Raises as `ask`."""
        if self._async_engine is not None and hasattr(self._async_engine, "stream"):
            events = self._observed(self._async_engine, asynchronous=True).stream(request)
        elif self._lm is not None and self._streams:
            prepared = partial(prepare, self._lm, request, None, {}, asynchronous=True)
            call = await anyio.to_thread.run_sync(prepared, limiter=_limiter())
            backend, canonical, provider = select_engine(self._lm, call, True)
            events = achecked_stream(backend.stream(canonical), provider=provider)
        else:
            for event in lm15.response_to_events(await self.ask(request)):
                yield event
            return
        async with aclosing_stream(events):
            async for event in events:
                yield event

    def _observed(self, engine: Any, *, asynchronous: bool) -> Any:
        return observed_engine(engine, self.lm, self.lm._provider_name, asynchronous=asynchronous)


def _asynchronous(lm: Any) -> bool:
    managed = isinstance(lm, dspy.LM)
    return managed or type(lm).aforward is not dspy.BaseLM.aforward


_limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


def _limiter() -> Any:
    """Return this loop's limiter for calls that need a thread: never its default executor."""
    return _limiters.setdefault(asyncio.get_running_loop(), anyio.CapacityLimiter(256))


class _Hints:
    """Capabilities that adapters read before they ask a model."""

    def __init__(self, lm: Any) -> None:
        self.supports_function_calling = lm.supports_function_calling
        self.supports_reasoning = lm.supports_reasoning
        self.supports_response_schema = lm.supports_response_schema
        self.supported_params = tuple(sorted(lm.supported_params))


class _SyncEngine(_Hints, Delegating):
    def __init__(self, lm: Any, answers: Any) -> None:
        super().__init__(lm)
        self._answers = answers

    def chain(self, lm: Any) -> Sequence[Any]:
        return self._answers.chain(lm) if hasattr(self._answers, "chain") else ()

    def complete(self, request: Any) -> Any:
        return self._answers.answer_sync(request, _variant.get())

    def stream(self, request: Any) -> Iterator[Any]:
        if hasattr(self._answers, "stream_sync"):
            yield from self._answers.stream_sync(request, _variant.get())
        else:
            yield from lm15.response_to_events(self.complete(request))


class _AsyncEngine(_SyncEngine):
    async def complete(self, request: Any) -> Any:
        return await self._answers.answer(request, _variant.get())

    async def stream(self, request: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        if hasattr(self._answers, "stream"):
            async with aclosing_stream(self._answers.stream(request, _variant.get())) as events:
                async for event in events:
                    yield event
        else:
            for event in lm15.response_to_events(await self.complete(request)):
                yield event


class CallerLMs(Protocol):
    """Sends requests to the caller's language models, by number."""

    async def answer(self, number: int, request: Any) -> Any:
        """Return the answer to a request."""

    def answer_sync(self, number: int, request: Any) -> Any:
        """Return the answer to a request."""

    def stream(self, number: int, request: Any) -> AsyncIterator[Any]:
        """Return the events of the answer to a request."""
        ...

    def stream_sync(self, number: int, request: Any) -> Iterator[Any]:
        """Return the events of the answer to a request."""
        ...


class _NumberedLM:
    """The engine of one of these language models."""

    def __init__(self, number: int, caller_lms: CallerLMs) -> None:
        self._number = number
        self._caller_lms = caller_lms

    async def answer(self, request: Any, _: Any) -> Any:
        return await self._caller_lms.answer(self._number, request)

    def answer_sync(self, request: Any, _: Any) -> Any:
        return self._caller_lms.answer_sync(self._number, request)

    def stream(self, request: Any, _: Any) -> AsyncIterator[Any]:
        return self._caller_lms.stream(self._number, request)

    def stream_sync(self, request: Any, _: Any) -> Iterator[Any]:
        return self._caller_lms.stream_sync(self._number, request)


def described_lm(shown: Mapping[str, Any], number: int, caller_lms: CallerLMs) -> Any:
    """Return a proxy of a language model in another process, of which these attributes are known."""
    hints = SimpleNamespace(**shown)
    found = _NumberedLM(number, caller_lms)
    made: Any = object.__new__(_DelegatingLM)
    made.__dict__.update(vars(dspy.LM(shown["model"], shown["model_type"], cache=shown["cache"])))
    plain = {name: value for name, value in shown.items() if not name.startswith("support")}
    made.__dict__.update(plain, _dspex_chain=plain.pop("dspex_chain", ()))
    made.__dict__.update(_engine_spec=_SyncEngine(hints, found), _async_engine_spec=_AsyncEngine(hints, found))
    return made


def delegating_lm(lm: Any, answers: Callable[[DirectLM], Any], model: str | None = None) -> Any:
    """Return a language model that behaves as another one, and whose requests another component answers.

    Its cache, history, callbacks, usage and parameters are DSPy's own, as those of the other one.

    Args:
        lm: the other one.
        answers: called with the way to ask it; returns what has ``answer`` (async) and ``answer_sync``, both of a
            request and the ``rollout_id``; and ``stream`` and ``stream_sync`` if it can answer by events; and
            ``chain`` if there are language models that can be asked instead.
        model: how it is called; None for the name of the other one.
    """
    made = _with_answers(_DelegatingLM, lm, answers(DirectLM(lm)))
    made.model = model or lm.model
    if not getattr(lm, "_cache_responses", True):
        made._cache_responses = False
    return made


def engine_lm(lm: Any, answer: Callable[[Any], Awaitable[Any]]) -> Any:
    """Return a plain ``dspy.LM`` that behaves as another one, and whose requests a function answers, asynchronously."""
    return _with_answers(dspy.LM, lm, _FunctionAnswers(answer))


class _FunctionAnswers:
    """The answers of a function."""

    def __init__(self, answer: Callable[[Any], Awaitable[Any]]) -> None:
        self._answer = answer

    async def answer(self, request: Any, _: Any) -> Any:
        return await self._answer(request)


def _with_answers(kind: Any, lm: Any, found: Any) -> Any:
    engines = {"_engine_spec": _SyncEngine(lm, found), "_async_engine_spec": _AsyncEngine(lm, found)}
    kwargs = {key: value for key, value in lm.kwargs.items() if key not in CLIENT_KEYS}
    made: Any = object.__new__(kind)
    base = vars(lm) if isinstance(lm, dspy.LM) else vars(dspy.LM(lm.model, lm.model_type, cache=lm.cache))
    made.__dict__.update(base, kwargs=kwargs, history=[], callbacks=list(lm.callbacks), num_retries=0, **engines)
    return made
