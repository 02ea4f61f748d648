"""The ``dspy.LM`` whose requests the gateway answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from dspex._compat import delegating_lm
from dspex._loops import await_in_loop, block_on_loop, next_of
from dspex.models.gateway.router import GATEWAY, ModelRouter, router_of
from dspex.models.gateway.settings import BadGateway
from dspex.models.selection import GATEWAY_PREFIX
from supervision import Runtime

T = TypeVar("T")


def gateway_lm(runtime: Runtime, model: str, *, gateway: str = GATEWAY, **options: Any) -> Any:
    """Return a language model whose requests the gateway answers: from any thread, task and event loop.

    It is a ``dspy.LM``: cache, history, callbacks and usage are DSPy's own. Its parameters, such as the temperature,
    are those of the first endpoint of the chain, and go with a request to any endpoint.

    Args:
        runtime: where the gateway runs.
        model: one of the gateway's.
        gateway: its name.
        options: for ``copy``, such as ``temperature``.

    Raises:
        BadGateway: there is no such gateway, or model.
    """
    router = router_of(runtime, gateway)
    if router is None:
        raise BadGateway("gateway", gateway, "start a dspex.Gateway of this name, before what asks it")
    if model not in router.models:
        raise BadGateway("model", model, f"choose among {', '.join(router.models) or 'none'}")
    first = router.endpoints[router.models[model].endpoints[0]].lm
    made = delegating_lm(first, lambda _: _Caller(router, model), model=GATEWAY_PREFIX + model)
    return made.copy(**options) if options else made


class _Caller:
    """Takes the requests of one model to the router, and to its loop; those of its chain from ``first`` on."""

    def __init__(self, router: ModelRouter, model: str, first: str | None = None) -> None:
        self._router = router
        self._model = model
        self._first = first

    def chain(self, lm: Any) -> list[Any]:
        """Return the language models that begin further down the chain; DSPy's cache tells them by their names."""
        return [self._beginning(lm, name) for name in self._router.endpoints_of(self._model, self._first)[1:]]

    def _beginning(self, lm: Any, endpoint: str) -> Any:
        caller = _Caller(self._router, self._model, endpoint)
        return delegating_lm(lm, lambda _: caller, f"{GATEWAY_PREFIX}{self._model}#{endpoint}")

    async def answer(self, request: Any, _: Any) -> Any:
        return await await_in_loop(self._router.loop, self._router.complete(self._model, request, self._first))

    def answer_sync(self, request: Any, _: Any) -> Any:
        return self._wait(self._router.complete(self._model, request, self._first))

    async def stream(self, request: Any, _: Any) -> AsyncIterator[Any]:
        events = self._router.stream(self._model, request, self._first)
        try:
            while (event := await await_in_loop(self._router.loop, next_of(events))) is not None:
                yield event
        finally:
            await await_in_loop(self._router.loop, _close(events))

    def stream_sync(self, request: Any, _: Any) -> Iterator[Any]:
        events = self._router.stream(self._model, request, self._first)
        try:
            while (event := self._wait(next_of(events))) is not None:
                yield event
        finally:
            self._wait(_close(events))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return block_on_loop(self._router.loop, work, GATEWAY_PREFIX + self._model)


async def _close(events: AsyncGenerator[Any]) -> None:
    await events.aclose()
