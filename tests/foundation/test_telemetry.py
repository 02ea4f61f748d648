"""Facts and traces: what is bound to a piece of work goes with it from actor to actor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from foundation.errors import describe_error
from foundation.telemetry import ContextPropagator, bound, facts, facts_of, incoming_request
from foundation.telemetry.spans import LONGEST, BufferedTrace, SpanSpec
from foundation.telemetry.tracing import Tracing
from supervision import Actor, ActorExited, CallTimeout, Message, Refuse, Request, Runtime, handle, system
from supervision.errors import BadOption
from supervision.testing import barrier

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Buy(Request[dict[str, Any]]):
    """Ask the shop; ``fate`` says what becomes of it."""

    fate: str = "well"


class Book(Message):
    """Told by the shop to the accountant."""

    fate: str


class Accountant(Actor):
    """Keeps the facts that came with what it was told."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    @handle
    def book(self, message: Book) -> None:
        """Note it."""
        self.seen.append(dict(facts()))
        if message.fate == "crash below":
            raise RuntimeError("the ink is dry")


class Stock(Actor):
    """What the shop asks."""

    @handle
    async def buy(self, message: Buy) -> dict[str, Any]:
        """Answer with the facts, after a while."""
        await self.runtime.sleep(1)
        if message.fate == "refuse":
            raise Refuse(LookupError("sold out"))
        if message.fate == "crash":
            raise RuntimeError("the roof came down")
        return dict(facts())


class Shop(Actor):
    """Asks the stock, and tells the accountant."""

    def __init__(self, stock: Any, accountant: Any) -> None:
        self.stock = stock
        self.accountant = accountant

    @handle
    async def buy(self, message: Buy) -> dict[str, Any]:
        """Pass it on."""
        self.accountant.cast(Book(message.fate))
        answer: dict[str, Any] = await self.stock.call(message)
        return answer


class Till(Actor):
    """Answers at once."""

    @handle
    def buy(self, message: Buy) -> dict[str, Any]:
        """Answer with the facts."""
        if message.fate == "refuse":
            raise Refuse(LookupError("sold out"))
        if message.fate == "crash":
            raise RuntimeError("no change")
        if message.fate == "stop":
            self.stop()
        return dict(facts())


class Traced:
    """A runtime with a shop in it, and the spans that it wrote."""

    def __init__(self, runtime: Runtime, exporter: InMemorySpanExporter) -> None:
        self.runtime = runtime
        self._exporter = exporter

    async def open(self) -> Any:
        """Open the shop."""
        self.accountant = await self.runtime.spawn(Accountant)
        self.stock = await self.runtime.spawn(Stock)
        self.shop = await self.runtime.spawn(Shop, self.stock, self.accountant)
        return self.shop

    async def spans(self) -> dict[str, ReadableSpan]:
        """Return the spans by name."""
        for ref in (self.accountant, self.stock, self.shop):
            if ref.alive:
                await barrier(ref)
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def names(self) -> list[str]:
        """Return the names of all spans."""
        return [span.name for span in self._exporter.get_finished_spans()]


async def traced(keep: float) -> AsyncIterator[Traced]:
    """A runtime that traces into memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    propagator = Tracing(keep, tracer=provider.get_tracer("test"), random=Random(1))
    async with Runtime(watchdog=None, reports=False, propagator=propagator) as runtime:
        yield Traced(runtime, exporter)
    provider.shutdown()


@pytest.fixture
async def all_traced() -> AsyncIterator[Traced]:
    """Every trace is kept."""
    async for one in traced(1.0):
        yield one


@pytest.fixture
async def errors_traced() -> AsyncIterator[Traced]:
    """Only traces with errors are kept."""
    async for one in traced(0.0):
        yield one


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime that carries facts."""
    async with Runtime(watchdog=None, propagator=ContextPropagator()) as runtime:
        yield runtime


# -- facts -----------------------------------------------------------------------------------------------------------


async def test_facts_follow_a_call_to_the_actors_behind_it_and_end_with_the_block(runtime: Runtime) -> None:
    shop = await Traced(runtime, InMemorySpanExporter()).open()
    accountant = (await system.get_state(shop))["accountant"]
    with bound(order=7), bound(customer="Ada"):
        assert await shop.call(Buy()) == {"order": 7, "customer": "Ada"}
    assert facts() == {}
    assert await shop.call(Buy()) == {}
    await barrier(accountant)
    assert (await system.get_state(accountant))["seen"] == [{"order": 7, "customer": "Ada"}, {}]


async def test_an_answer_at_once_leaves_nothing_bound_in_the_actor(runtime: Runtime) -> None:
    till = await runtime.spawn(Till)
    with bound(order=7):
        assert await till.call(Buy()) == {"order": 7}
        with pytest.raises(LookupError) as refused:
            await till.call(Buy("refuse"))
    assert facts_of(refused.value) == {"order": 7}
    assert await till.call(Buy()) == {}


@pytest.mark.parametrize("kind", [Till, Stock])
async def test_an_error_knows_the_facts_of_the_work_in_which_it_arose(runtime: Runtime, kind: type[Actor]) -> None:
    actor = await runtime.spawn(kind)
    with pytest.raises(LookupError) as refused, bound(order=7):
        await actor.call(Buy("refuse"))
    assert describe_error(refused.value).context == {"order": 7}
    with pytest.raises(ActorExited) as crashed, bound(order=8):
        await actor.call(Buy("crash"))
    assert describe_error(crashed.value).context == {"order": 8}
    assert describe_error(LookupError()).context == {}


@pytest.mark.parametrize("kind", [Till, Stock])
async def test_the_log_line_of_a_crash_has_the_facts_of_the_work_in_hand(runtime: Runtime, kind: type[Actor]) -> None:
    actor = await runtime.spawn(kind)
    processors = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors) as lines, pytest.raises(ActorExited), bound(order=7):
        await actor.call(Buy("crash"))
    assert [line["order"] for line in lines if line["event"] == "crash_report"] == [7]


async def test_a_request_from_outside_binds_its_number(runtime: Runtime) -> None:
    till = await runtime.spawn(Till)
    with incoming_request(runtime, "POST /", {"x-request-id": "r" * 300}):
        assert await till.call(Buy()) == {"request_id": "r" * 200}
    with incoming_request(runtime, "POST /", {}):
        assert await till.call(Buy()) == {}


async def test_a_runtime_without_a_propagator_can_serve_requests_as_well() -> None:
    async with Runtime(watchdog=None) as runtime:
        with incoming_request(runtime, "POST /", {"x-request-id": "7"}):
            assert facts() == {"request_id": "7"}


# -- traces ----------------------------------------------------------------------------------------------------------


async def test_one_trace_follows_call_to_actor_to_actor(all_traced: Traced) -> None:
    shop = await all_traced.open()
    with bound(order=7):
        assert await shop.call(Buy()) == {"order": 7}
    spans = await all_traced.spans()
    parents = {
        "call Shop": None,
        "process Shop": "call Shop",
        "cast Accountant": "process Shop",
        "process Accountant": "cast Accountant",
        "call Stock": "process Shop",
        "process Stock": "call Stock",
    }
    assert spans.keys() == parents.keys()
    for name, parent in parents.items():
        above = spans[name].parent
        assert (None if above is None else above.span_id) == (
            None if parent is None else spans[parent].context.span_id  # type: ignore[union-attr]
        )
    assert len({span.context.trace_id for span in spans.values()}) == 1  # type: ignore[union-attr]


async def test_spans_are_named_and_linked_by_the_conventions_for_messaging(all_traced: Traced) -> None:
    shop = await all_traced.open()
    await shop.call(Buy())
    spans = await all_traced.spans()
    sent, handled = spans["call Stock"], spans["process Stock"]
    assert (sent.kind, handled.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert [link.context for link in handled.links] == [sent.context]
    common = {"messaging.system": "foundation", "messaging.destination.name": "Stock", "foundation.message.type": "Buy"}
    assert dict(sent.attributes or {}) == {
        **common,
        "messaging.operation.name": "call",
        "messaging.operation.type": "send",
    }
    assert dict(handled.attributes or {}) == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "foundation.actor.path": all_traced.stock.path,
    }


async def test_a_failure_marks_the_spans_that_it_crossed(all_traced: Traced) -> None:
    shop = await all_traced.open()
    with pytest.raises(ActorExited), bound(order=7, due=0.5, to=None):
        await shop.call(Buy("refuse"))
    spans = await all_traced.spans()
    failed = {name for name, span in spans.items() if span.status.status_code is StatusCode.ERROR}
    assert failed == {"call Shop", "process Shop", "call Stock", "process Stock"}
    stock = spans["process Stock"]
    assert stock.status.description == "sold out"
    assert [event.name for event in stock.events] == ["exception"]
    attributes = dict(stock.attributes or {})
    assert attributes["error.type"] == "LookupError"
    assert (attributes["foundation.fact.order"], attributes["foundation.fact.due"]) == (7, 0.5)
    assert attributes["foundation.fact.to"] == "None"


async def test_an_orderly_end_a_cancelled_call_and_system_requests_are_no_failures(all_traced: Traced) -> None:
    till = await all_traced.runtime.spawn(Till)
    await all_traced.open()
    await system.get_state(till)
    call = till.call(Buy("stop"))
    call.cancel()
    await all_traced.runtime.sleep(0.1)
    assert await till.call(Buy("stop")) == {}
    await till.join()
    spans = (await all_traced.spans()).values()
    assert {span.name for span in spans} == {"call Till", "process Till"}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


async def test_a_request_from_outside_goes_on_with_the_trace_that_it_names(all_traced: Traced) -> None:
    till = await all_traced.runtime.spawn(Till)
    await all_traced.open()
    with incoming_request(all_traced.runtime, "POST /buy", {"traceparent": TRACEPARENT}, program="x"):
        await till.call(Buy())
    spans = await all_traced.spans()
    served = spans["POST /buy"]
    assert served.kind is SpanKind.SERVER
    assert format(served.context.trace_id, "032x") in TRACEPARENT  # type: ignore[union-attr]
    assert dict(served.attributes or {}) == {"program": "x"}
    assert spans["process Till"].context.trace_id == served.context.trace_id  # type: ignore[union-attr]


async def test_a_request_from_outside_that_fails_is_marked(all_traced: Traced) -> None:
    await all_traced.open()
    with pytest.raises(LookupError), incoming_request(all_traced.runtime, "POST /buy", {}):
        raise LookupError("no such page")
    assert (await all_traced.spans())["POST /buy"].status.status_code is StatusCode.ERROR


# -- which are kept --------------------------------------------------------------------------------------------------


async def test_of_traces_that_are_not_chosen_only_those_with_errors_are_kept_whole(errors_traced: Traced) -> None:
    shop = await errors_traced.open()
    await shop.call(Buy())
    assert await errors_traced.spans() == {}
    with pytest.raises(ActorExited), bound(order=7):
        await shop.call(Buy("crash"))
    spans = await errors_traced.spans()
    assert sorted(spans) == [
        "call Shop",
        "call Stock",
        "cast Accountant",
        "process Accountant",
        "process Shop",
        "process Stock",
    ]
    stock, shop_span = spans["process Stock"], spans["process Shop"]
    assert stock.parent is not None
    assert stock.parent.span_id == spans["call Stock"].context.span_id  # type: ignore[union-attr]
    assert [link.context for link in stock.links] == [spans["call Stock"].context]
    assert len({span.context.trace_id for span in spans.values()}) == 1  # type: ignore[union-attr]
    assert (stock.end_time or 0) - (stock.start_time or 0) == pytest.approx(1e9, abs=1e6)
    assert (shop_span.start_time or 0) <= (stock.start_time or 0)


async def test_what_comes_after_the_error_belongs_to_the_kept_trace(errors_traced: Traced) -> None:
    shop = await errors_traced.open()
    await shop.call(Buy("crash below"))
    spans = await errors_traced.spans()
    assert spans["process Accountant"].status.status_code is StatusCode.ERROR
    stock = spans["process Stock"]
    assert stock.status.status_code is StatusCode.UNSET
    assert stock.context.trace_id == spans["process Accountant"].context.trace_id  # type: ignore[union-attr]
    assert len(spans) == 6


async def test_what_begins_after_the_error_is_written_at_once(errors_traced: Traced) -> None:
    till = await errors_traced.runtime.spawn(Till)
    await errors_traced.open()
    with incoming_request(errors_traced.runtime, "POST /buy", {}):
        with pytest.raises(LookupError):
            await till.call(Buy("refuse"))
        await till.call(Buy())
    spans = await errors_traced.spans()
    assert errors_traced.names().count("process Till") == 2
    assert len({span.context.trace_id for span in spans.values()}) == 1  # type: ignore[union-attr]


async def test_of_a_trace_that_is_very_long_the_beginning_is_kept(errors_traced: Traced) -> None:
    till = await errors_traced.runtime.spawn(Till)
    await errors_traced.open()
    with incoming_request(errors_traced.runtime, "POST /buy", {}):
        for _ in range(LONGEST):
            await till.call(Buy())
        with pytest.raises(LookupError):
            await till.call(Buy("refuse"))
    await errors_traced.spans()
    assert len(errors_traced.names()) == LONGEST


async def test_spans_that_others_make_within_a_trace_that_is_held_back_are_not_written(errors_traced: Traced) -> None:
    await errors_traced.open()
    with incoming_request(errors_traced.runtime, "POST /buy", {}):
        assert not trace.get_current_span().get_span_context().trace_flags.sampled
        assert trace.get_current_span().get_span_context().is_valid


async def test_about_the_share_that_was_asked_for_is_kept() -> None:
    async for half in traced(0.5):
        till = await half.runtime.spawn(Till)
        for _ in range(200):
            await till.call(Buy())
        assert 70 < half.names().count("process Till") < 130


async def test_the_share_is_checked_and_the_defaults_trace_into_nothing() -> None:
    for wrong in (-0.1, 1.1, float("nan"), True, "half"):
        with pytest.raises(BadOption, match="give the share of traces to keep, from 0 to 1"):
            Tracing(wrong)  # type: ignore[arg-type]
    async with Runtime(watchdog=None, seed=1, propagator=Tracing(0.0)) as runtime:
        till = await runtime.spawn(Till)
        assert await till.call(Buy()) == {}
        with pytest.raises(CallTimeout):
            await (await runtime.spawn(Stock)).call(Buy(), timeout=0.5)


def test_more_can_be_said_of_a_span_that_was_held_back() -> None:
    """Before it is written, and after."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    held = BufferedTrace(provider.get_tracer("test"), lambda: 7, Random(1).getrandbits)
    span = held.begin(Context(), SpanSpec("held", SpanKind.INTERNAL))
    span.set({"before": 1})
    held.keep()
    span.set({"after": 2})
    span.end()
    assert dict(exporter.get_finished_spans()[0].attributes or {}) == {"before": 1, "after": 2}
    provider.shutdown()
