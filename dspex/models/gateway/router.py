"""The routing table of the gateway, and the fallback along the endpoints of a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from itertools import count
from typing import Any

import anyio
import dspy
import msgspec

from dspex._compat import is_infrastructure, lm15, retry_hint, token_price
from dspex.models.gateway.budget import BudgetExceeded, EndpointUsage
from dspex.models.gateway.endpoint import CompletionCall, EndpointCall, FellBack, GuardedEndpoint, StreamingCall
from dspex.models.gateway.settings import BadGateway, Endpoint, Model, Price
from dspex.models.local.server import Locator
from dspex.models.selection import LOCAL, embedded_lm
from foundation.protection import BulkheadFull, Hedge, ProtectionError
from foundation.protection.breaker import breaker_table
from foundation.telemetry.collectors import MetricSample
from supervision import Runtime

#: The name of the gateway, unless it is started with another one.
GATEWAY = "gateway"

#: What says that a limit is reached.
_LIMITS = (BudgetExceeded, BulkheadFull, lm15.RateLimitError, dspy.LMRateLimitError)


class ModelCounts(msgspec.Struct):
    """How often the chain of a model was needed: requests went on to another endpoint, or to a second one beside."""

    fallbacks: int = 0
    hedges: int = 0


class ModelRouter:
    """Sends requests to endpoints. It belongs to the runtime, and outlives the gateway's actor.

    Callers use it directly, in the runtime's loop; only the actor changes it, and replaces what it changes.

    Args:
        runtime: whose.
        name: of the gateway.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.given: object = None
        self.endpoints: Mapping[str, GuardedEndpoint] = {}
        self.models: Mapping[str, Model] = {}
        self.usages: dict[str, EndpointUsage] = {}
        self._counts: dict[str, ModelCounts] = {}

    def install(self, endpoints: Mapping[str, Endpoint], models: Mapping[str, Model], server: str) -> None:
        """Use these endpoints and models from now on. What was used before still counts.

        Raises:
            BadGateway: an endpoint cannot be made; nothing has changed.
        """
        made = {name: self._made(name, endpoint, server) for name, endpoint in endpoints.items()}
        breakers = breaker_table(self.runtime, self.name)
        for name, (endpoint, _, _) in made.items():
            self.usages.setdefault(name, EndpointUsage(name)).set_limits(endpoint)
            if name in breakers:
                breakers[name].options = endpoint.breaker
        for name in models:
            self._counts.setdefault(name, ModelCounts())
        self.endpoints = {name: self._endpoint(name, *parts) for name, parts in made.items()}
        self.models = dict(models)

    def _made(self, name: str, endpoint: Endpoint, server: str) -> tuple[Endpoint, Any, Price | None]:
        lm = endpoint.lm
        try:
            if lm == LOCAL:
                lm = embedded_lm(Locator(self.runtime, server), **endpoint.options)
            elif isinstance(lm, str):
                lm = dspy.LM(lm, **endpoint.options)
        except (ValueError, TypeError) as error:
            raise BadGateway(f"endpoint {name!r}: lm", endpoint.lm, str(error)) from error
        known = token_price(lm) if endpoint.price is None else None
        price = endpoint.price if known is None else Price(*known)
        if price is None and any(budget.dollars is not None for budget in endpoint.budgets):
            raise BadGateway(f"endpoint {name!r}: price", None, "give it: without, a budget in dollars says nothing")
        return endpoint, lm, price

    def _endpoint(self, name: str, endpoint: Endpoint, lm: Any, price: Price | None) -> GuardedEndpoint:
        known = self.endpoints.get(name)
        if known is not None and known.endpoint == endpoint:
            return known
        return GuardedEndpoint(self.runtime, name, endpoint, lm, price, self.usages[name], self.name)

    async def complete(self, model: str, request: Any, first: str | None = None) -> Any:
        """Return the answer to a request.

        Args:
            model: which is asked.
            request: what it is asked.
            first: the endpoint of its chain to begin with; None for the first one.

        Raises:
            BadGateway: there is no such model (any more).
            lm15.RateLimitError: each endpoint has reached a limit; ``retry_after`` says when to ask again.
            Exception: what the last endpoint has raised.
        """
        chain = self._chain(model, first)
        if chain.hedge is None:
            return await self._try_endpoints(model, chain.endpoints, CompletionCall(), request)
        return await self._hedged(model, chain, chain.hedge, request)

    async def stream(self, model: str, request: Any, first: str | None = None) -> AsyncGenerator[Any]:
        """Return the events of the answer to a request: as `complete`, but once it has begun, nobody else is asked."""
        chain = self._chain(model, first)
        sending, events = anyio.create_memory_object_stream[Any](0)

        async def work() -> None:
            with sending:
                await self._try_endpoints(model, chain.endpoints, StreamingCall(sending), request)

        task = self.loop.create_task(work())
        try:
            async for event in events:
                yield event
            await task
        finally:
            events.close()
            task.cancel()

    def _chain(self, model: str, first: str | None = None) -> Model:
        if model not in self.models:
            raise BadGateway("model", model, f"choose among {', '.join(self.models) or 'none'}")
        found = self.models[model]
        return found if first is None else msgspec.structs.replace(found, endpoints=self.endpoints_of(model, first))

    def endpoints_of(self, model: str, first: str | None = None) -> tuple[str, ...]:
        """Return the endpoints of a model's chain, from one on.

        Raises:
            BadGateway: there is no such model, or endpoint in its chain (any more).
        """
        names = self._chain(model).endpoints
        if first is None:
            return names
        if first not in names:
            raise BadGateway("endpoint", first, f"choose among {', '.join(names)}")
        return names[names.index(first) :]

    async def _hedged(self, model: str, chain: Model, after: float, request: Any) -> Any:
        numbers = count()
        running: set[int] = set()

        async def attempt() -> Any:
            number = next(numbers)
            running.add(number)
            self._counts[model].hedges += number > 0
            first = number % len(chain.endpoints)
            try:
                return await self._try_endpoints(
                    model, chain.endpoints[first:] + chain.endpoints[:first], CompletionCall(), request
                )
            except Exception as error:
                running.remove(number)
                if _falls_back(error) and running:
                    raise  # the other one may succeed
                return error

        found = await Hedge(after).run(attempt)
        if isinstance(found, Exception):
            raise found
        return found

    async def _try_endpoints(self, model: str, endpoints: tuple[str, ...], call: EndpointCall, request: Any) -> Any:
        errors: list[Exception] = []
        for left, name in zip(reversed(range(len(endpoints))), endpoints, strict=True):
            try:
                return await self.endpoints[name].run(call, request)
            except Exception as error:
                if call.begun or not _falls_back(error):
                    raise
                errors.append(error)
                if left:
                    self._counts[model].fallbacks += 1
                    self.runtime.events.emit(FellBack, model=model, endpoint=name, error=str(error))
        raise _final_error(model, errors) from errors[-1]

    def summary(self) -> dict[str, object]:
        """Return which endpoints answer each model, for ``/tree``."""
        return {name: " → ".join(model.endpoints) for name, model in self.models.items()}

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers of all endpoints and models."""
        now = self.runtime.clock.time()
        breakers = breaker_table(self.runtime, self.name)
        for name in self.endpoints:
            usage = self.usages[name]
            labels = (("gateway", self.name), ("endpoint", name))
            counts = usage.counts
            yield MetricSample(
                "lm_requests", "Requests to endpoints of the gateway.", "counter", labels, counts.requests
            )
            yield MetricSample(
                "lm_failures", "Requests that endpoints have failed.", "counter", labels, counts.failures
            )
            for kind, value in (("input", counts.sent), ("output", counts.written)):
                yield MetricSample("lm_tokens", "Tokens sent and written.", "counter", (*labels, ("type", kind)), value)
            yield MetricSample("lm_dollars", "What endpoints have cost.", "counter", labels, counts.dollars)
            yield MetricSample("lm_in_flight", "Requests under way.", "gauge", labels, counts.in_flight)
            closed = breakers[name].state == "closed"
            yield MetricSample(
                "lm_available", "Whether an endpoint's breaker is closed.", "gauge", labels, float(closed)
            )
            for budget, left in usage.left(now):
                yield MetricSample("lm_budget_left", "What is left.", "gauge", (*labels, ("budget", budget)), left)
        for name in self.models:
            labels = (("gateway", self.name), ("model", name))
            of_model = self._counts[name]
            yield MetricSample(
                "lm_fallbacks", "Requests sent on to another endpoint.", "counter", labels, of_model.fallbacks
            )
            yield MetricSample("lm_hedges", "Second requests beside slow ones.", "counter", labels, of_model.hedges)


def router_of(runtime: Runtime, name: str) -> ModelRouter | None:
    """Return the router of a gateway; None if it was never started."""
    found: ModelRouter | None = runtime.shared.get((ModelRouter, name))
    return found


def _falls_back(error: Exception) -> bool:
    """Return whether another endpoint may answer the same request."""
    return is_infrastructure(error) or isinstance(error, ProtectionError)


def _final_error(model: str, errors: list[Exception]) -> Exception:
    """Return the error for a request that no endpoint has answered."""
    told = "; ".join(str(error) for error in errors)
    hints = [hint for error in errors if (hint := retry_hint(error)) is not None]
    soonest = min(hints, default=1.0)
    if all(isinstance(error, _LIMITS) for error in errors):
        return lm15.RateLimitError(f"gateway/{model}: {told}", retry_after=soonest)  # type: ignore[no-any-return]
    own = [error for error in errors if not isinstance(error, ProtectionError)]
    if own:
        return own[-1]
    kind = lm15.TimeoutError if any(isinstance(error, TimeoutError) for error in errors) else lm15.TransportError
    return kind(f"gateway/{model}: {told}", retry_after=soonest)  # type: ignore[no-any-return]
