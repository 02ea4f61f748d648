"""One endpoint with its limits, time limit, retries and circuit breaker; and the events of the gateway."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal, Protocol

from anyio.streams.memory import MemoryObjectSendStream

from dspex._compat import DirectLM, answer_cost, charge, is_away, is_infrastructure, lm15, request_size
from dspex.models.gateway.budget import BudgetExceeded, EndpointUsage, RequestUsage
from dspex.models.gateway.settings import Endpoint, Price
from foundation.protection import Bulkhead, CircuitBreaker, Policy, Retry, TimeLimit
from supervision import Runtime
from supervision.events import Event

#: So many tokens are expected of an answer whose length the request does not limit.
ANSWER_TOKENS = 256
#: About so many characters are a token.
TOKEN = 4

_NOTHING = RequestUsage(0.0, 0.0, 0.0)


class GuardedEndpoint:
    """Asks one endpoint, within its limits, with its time limit, retries and circuit breaker.

    Args:
        runtime: whose clock counts.
        name: of the endpoint.
        endpoint: what it is.
        lm: its language model.
        price: what it costs, if that is known.
        usage: knows what it has used, and what it may use.
        breakers: the name of the actor that keeps the state of its breaker.
    """

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        endpoint: Endpoint,
        lm: Any,
        price: Price | None,
        usage: EndpointUsage,
        breakers: str,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.lm = lm
        self.usage = usage
        self._price = price or Price(0.0, 0.0)
        self._runtime = runtime
        self._asked = DirectLM(lm)
        guards: dict[str, Any] = {
            "breaker": CircuitBreaker(runtime, name, endpoint.breaker, classify=self._classify, actor=breakers)
        }
        if endpoint.at_once is not None:
            guards["bulkhead"] = Bulkhead(endpoint.at_once, endpoint.waiting, name)
        if endpoint.timeout is not None:
            guards["attempt_limit"] = TimeLimit(endpoint.timeout)
        self._once = Policy(**guards)
        if endpoint.retries:
            guards["retry"] = Retry(endpoint.retries + 1, on=is_away)
        self._policy = Policy(**guards)

    async def run(self, call: EndpointCall, request: Any) -> Any:
        """Ask the endpoint.

        Raises:
            ProtectionError: it may not be asked, or took too long.
            Exception: whatever it, or DSPy, raised.
        """
        asked = replace(request, model=self.lm.model)
        policy = self._once if isinstance(call, StreamingCall) else self._policy
        return await policy.run(lambda: self._attempt(call, asked))

    async def _attempt(self, call: EndpointCall, request: Any) -> Any:
        letters, most = request_size(request)
        sent = letters / TOKEN
        try:
            reservation = self.usage.reserve(self._now(), self._use(sent, most or ANSWER_TOKENS))
        except BudgetExceeded as error:
            if self.usage.first_refusal(error):
                self._runtime.events.emit(
                    BudgetSpent, endpoint=self.name, budget=error.budget, retry_after=error.retry_after
                )
            raise
        counts = self.usage.counts
        counts.requests += 1
        counts.in_flight += 1
        used = self._use(sent, 0.0)  # a cancelled request has at least sent its prompt
        try:
            response = await call.ask(self._asked, request)
            usage = response.usage or lm15.Usage()
            used = self._use(
                sent if usage.input_tokens is None else usage.input_tokens,
                0.0 if usage.output_tokens is None else usage.output_tokens,
            )
            if self.endpoint.price is None:
                cost = answer_cost(self.lm, request, response)
                used = used if cost is None else used._replace(dollars=cost)
            return response
        except Exception:
            used = _NOTHING
            raise
        finally:
            counts.in_flight -= 1
            self.usage.settle(reservation, used)
            charge(used.dollars)

    def _use(self, sent: float, written: float) -> RequestUsage:
        return RequestUsage(sent, written, self._price.of(sent, written))

    def _classify(self, _: object, error: BaseException | None) -> Literal["success", "failure", "ignore"]:
        if error is None:
            return "success"
        if is_infrastructure(error) or isinstance(error, TimeoutError):
            self.usage.counts.failures += 1
            return "failure"
        return "ignore"

    def _now(self) -> float:
        return self._runtime.clock.time()


class EndpointCall(Protocol):
    """How an endpoint is asked. ``begun``: the caller has seen a part of the answer, so no other can be given."""

    begun: bool

    async def ask(self, answering: DirectLM, request: Any) -> Any:
        """Ask, and return what has the ``usage``."""
        ...


class CompletionCall:
    """Asks for an answer in one piece."""

    begun = False

    async def ask(self, answering: DirectLM, request: Any) -> Any:
        """Ask, and return the response."""
        return await answering.ask(request)


class StreamingCall:
    """Asks for an answer piece by piece.

    Args:
        sending: takes the events.
    """

    def __init__(self, sending: MemoryObjectSendStream[Any]) -> None:
        self.begun = False
        self._sending = sending

    async def ask(self, answering: DirectLM, request: Any) -> Any:
        """Ask, and return the last event."""
        event: Any = None
        held = []
        async with aclosing(answering.stream(request)) as events:
            async for event in events:
                held.append(event)
                # That it starts says nothing yet.
                if event.type != "start":
                    self.begun = True
                    for each in held:
                        await self._sending.send(each)
                    held.clear()
        return event  # there is one: DSPy sees to it that a stream ends as it should


class FellBack(Event, frozen=True, kw_only=True):
    """An endpoint has not answered a request, and the next one of the model's chain is asked.

    Attributes:
        model: which.
        endpoint: that has not answered.
        error: why.
    """

    model: str
    endpoint: str
    error: str


class BudgetSpent(Event, frozen=True, kw_only=True):
    """A budget of an endpoint is spent, or would be by the next request; told once, until it lets something in again.

    Attributes:
        endpoint: whose.
        budget: which, such as ``dollars per day``.
        retry_after: the seconds after which there is room for the request that was turned away.
    """

    endpoint: str
    budget: str
    retry_after: float
