"""One trace follows a job: through outbox, bus, timers, errands, children, sagas, and over the death of its process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agents import (
    Action,
    AgentHandle,
    AgentType,
    Chain,
    Context,
    Emit,
    Result,
    RunInstruction,
    Schedule,
    Signal,
    SpawnAgent,
    start_agent,
)
from agents.core.traces import in_trace, trace_of
from agents.durability import AgentCommit, Durability, MemoryStorage
from agents.signals import Bus, publish, read_log, subscribe
from agents.signals.sinks import Webhook
from foundation.telemetry import ContextPropagator, incoming_request
from foundation.telemetry.tracing import Tracing
from supervision import Actor, Propagator, Runtime, handle, inject_context, resume_context
from supervision.testing import advance, settled

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
FROM_OUTSIDE = {"traceparent": TRACEPARENT}


class State(msgspec.Struct, frozen=True):
    """What was done."""

    log: tuple[str, ...] = ()


class Do(Action[State]):
    """Note the signal, and return directives."""

    def run(self, context: Context[State]) -> Result[State]:
        """Return those that its type stands for."""
        assert context.signal is not None
        type = context.signal.type
        return Result(State((*context.state.log, type)), DIRECTIVES.get(type, ()))


class Errand(Action[None]):
    """Something that is done beside the turns."""

    def run(self, context: Context[Any]) -> None:
        """Do it."""


class Book(Action[None]):
    """Something that is to be undone."""

    async def run(self, context: Context[Any]) -> None:
        """Do it."""

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""


class Hang(Action[None]):
    """Never end."""

    async def run(self, context: Context[Any]) -> None:
        """Wait."""
        await asyncio.Event().wait()


class Worker(AgentType[State]):
    """Does what the type of a signal says."""

    name = "worker"
    routes = {"do.*": Do, "saga": Chain(Book, Hang)}


DIRECTIVES: dict[str, tuple[Any, ...]] = {
    "do.emit": (Emit("do.nothing", to="other"),),
    "do.publish": (Emit("do.nothing", to="bus"),),
    "do.post": (Emit("do.nothing", to="webhook"),),
    "do.schedule": (Schedule(60.0, "do.nothing"),),
    "do.errand": (RunInstruction(Errand, "do.nothing"),),
    "do.spawn": (SpawnAgent(Worker, "child", restart="permanent"),),
}

Spans = tuple[TracerProvider, InMemorySpanExporter]


@pytest.fixture
def spans() -> Spans:
    """Where spans are written to."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


@asynccontextmanager
async def process(spans: Spans, keep: float = 1.0) -> AsyncGenerator[Runtime]:
    """A process with tracing; it dies at the end of the block, which nobody tells its actors."""
    tracing = Tracing(keep, tracer=spans[0].get_tracer("test"))
    async with Runtime(watchdog=None, reports=False, propagator=tracing, seed=1) as runtime:
        yield runtime
        for ref in list(runtime.actors()):
            ref.kill()


async def worker(runtime: Runtime, storage: MemoryStorage, id: str = "w") -> AgentHandle[State]:
    """Start a worker that is kept."""
    return await start_agent(runtime, Worker, id=id, name=id, durability=Durability(storage))


async def ask(runtime: Runtime, agent: AgentHandle[State], type: str) -> None:
    """Have it do something, for a request from outside."""
    with incoming_request(runtime, "POST /jobs", FROM_OUTSIDE):
        reply = await agent.call(agent.signal(type))
    assert not reply.errors


def named(spans: Spans) -> dict[str, set[str]]:
    """Return the traces of the spans that were written since the last time, by name and type of message."""
    traces: dict[str, set[str]] = {}
    for span in spans[1].get_finished_spans():
        assert span.context is not None
        traces.setdefault(f"{span.name} {_message(span)}", set()).add(f"{span.context.trace_id:032x}")
    spans[1].clear()
    return traces


def _message(span: ReadableSpan) -> Any:
    return (span.attributes or {}).get("foundation.message.type", "")


async def test_what_is_in_an_outbox_goes_on_in_its_trace_after_a_death(spans: Spans) -> None:
    """The receiver was not there; the sender died; and the receiver's turn belongs to the request all the same."""
    storage = MemoryStorage()
    async with process(spans) as runtime:
        await ask(runtime, await worker(runtime, storage), "do.emit")
    named(spans)
    async with process(spans) as runtime:
        await worker(runtime, storage)
        await settled(runtime)
        other = await worker(runtime, storage, "other")
        await settled(runtime)
        assert other.state.log == ("do.nothing",)
        assert TRACE in named(spans)["process AgentServer Deliver"]


async def test_a_timer_that_lasts_goes_on_in_its_trace(spans: Spans) -> None:
    """What it sends, too."""
    storage = MemoryStorage()
    async with process(spans) as runtime:
        await ask(runtime, await worker(runtime, storage), "do.schedule")
    named(spans)
    async with process(spans) as runtime:
        agent = await worker(runtime, storage)
        await advance(61.0)
        assert agent.state.log == ("do.schedule", "do.nothing")
        assert TRACE in named(spans)["process AgentServer TimersDue"]


async def test_a_timer_of_an_agent_that_is_not_kept_goes_on_in_its_trace(spans: Spans) -> None:
    """Also where nothing is written down; what no request has asked for is in none."""
    async with process(spans) as runtime:
        agent = await start_agent(runtime, Worker, id="w")
        await ask(runtime, agent, "do.schedule")
        await advance(61.0)
        assert agent.state.log == ("do.schedule", "do.nothing")
        assert TRACE in named(spans)["process AgentServer ScheduleDue"]


class Remembering(MemoryStorage):
    """Remembers the rows as they were when an effect was decided: what a process leaves that dies then."""

    async def commit(self, commit: AgentCommit) -> None:
        """Write, and remember."""
        await super().commit(commit)
        if commit.expected is not None and any(row.kind == "effect" for row in commit.put):
            self.then = dict(self._kept[commit.key].rows)


@pytest.mark.parametrize(("type", "message"), [("do.errand", "DirectiveResult"), ("do.spawn", "StartChild")])
async def test_errands_and_children_go_on_in_their_trace(spans: Spans, type: str, message: str) -> None:
    """They are run, or started, again by the next process."""
    storage = Remembering()
    async with process(spans) as runtime:
        await ask(runtime, await worker(runtime, storage), type)
    storage._kept["/worker/w"].rows = storage.then
    named(spans)
    async with process(spans) as runtime:
        await worker(runtime, storage)
        await advance(1.0)
        assert any(TRACE in traces for name, traces in named(spans).items() if name.endswith(message))
    async with process(spans) as runtime:
        await worker(runtime, storage)
        await settled(runtime)
        assert all(TRACE not in traces for traces in named(spans).values()), "a job is over when it is done"


async def test_what_undoes_a_step_is_in_the_trace_of_the_turn_that_was_cut_short(spans: Spans) -> None:
    """It is the next process that undoes it."""
    storage = MemoryStorage()
    async with process(spans) as runtime:
        agent = await worker(runtime, storage)
        with incoming_request(runtime, "POST /jobs", FROM_OUTSIDE):
            agent.cast(agent.signal("saga"))
        await settled(runtime)
        kept = dict(storage._kept["/worker/w"].rows)
    storage._kept["/worker/w"].rows = kept  # it was killed with -9: nothing was undone
    named(spans)
    async with process(spans) as runtime:
        await worker(runtime, storage)
        await settled(runtime)
        assert TRACE in named(spans)["process AgentServer Book"]


class Listener(Actor):
    """Listens to a bus without a name."""

    @handle
    def hear(self, signal: Signal) -> None:
        """Hear it."""


async def test_a_bus_that_is_kept_delivers_in_the_trace_of_each_signal(spans: Spans) -> None:
    """After its death, too; to who listens without a name; and what is published without a trace is in none."""
    storage = MemoryStorage()
    async with process(spans) as runtime:
        bus = await runtime.spawn(Bus, storage, name="bus")
        await subscribe(bus, "do.*", runtime.name("w"), name="work")
        with incoming_request(runtime, "POST /jobs", FROM_OUTSIDE):
            await publish(bus, Signal(type="do.nothing", source="/", id="1"))
        (record,) = await read_log(bus)
        assert TRACE in trace_of(record.signal)["traceparent"]
    named(spans)
    async with process(spans) as runtime:
        bus = await runtime.spawn(Bus, storage, name="bus")
        agent = await worker(runtime, MemoryStorage())
        await settled(runtime)
        await advance(1.0)
        assert agent.state.log == ("do.nothing",)
        assert TRACE in named(spans)["process AgentServer Delivery"]
        await subscribe(bus, "**", await runtime.spawn(Listener), since=0)
        await settled(runtime)
        assert TRACE in named(spans)["process Listener Signal"]
        await publish(bus, Signal(type="do.nothing", source="/", id="2"))
        await settled(runtime)
        assert TRACE not in named(spans)["process Listener Signal"]


async def test_a_webhook_tells_the_trace_to_the_service(spans: Spans) -> None:
    """As a header, for this hop; and in the event, for where it comes from."""
    got: list[httpx.Request] = []

    def service(request: httpx.Request) -> httpx.Response:
        got.append(request)
        return httpx.Response(200)

    async with process(spans) as runtime:
        await runtime.spawn(Webhook, "https://example.org/", transport=httpx.MockTransport(service), name="webhook")
        await ask(runtime, await worker(runtime, MemoryStorage()), "do.post")
        await settled(runtime)
    (request,) = got
    event, hop = json.loads(request.content)["traceparent"], request.headers["traceparent"]
    assert TRACE in event
    assert TRACE in hop
    assert event != hop
    async with Runtime(watchdog=None, reports=False) as runtime:
        webhook = await runtime.spawn(Webhook, "https://example.org/", transport=httpx.MockTransport(service))
        webhook.cast(Signal(type="a", source="/", id="1", extensions=FROM_OUTSIDE))
        await settled(runtime)
    assert got[1].headers["traceparent"] == TRACEPARENT


async def test_a_trace_that_was_held_back_is_written_when_what_was_kept_fails(spans: Spans) -> None:
    """In its process with all its spans; after a death, as far as it goes from there."""
    storage = MemoryStorage()
    async with process(spans, keep=0.0) as runtime:
        agent = await worker(runtime, storage)
        await agent.call(agent.signal("do.emit"))
        await settled(runtime)
        assert named(spans) == {}
        await runtime.spawn(Failing, name="other")
        await settled(runtime)
        assert len(set().union(*named(spans).values())) == 1
    async with process(spans, keep=0.0) as runtime:
        await runtime.spawn(Failing, name="other")
        await worker(runtime, storage)
        await settled(runtime)
        assert "process Failing Deliver" in named(spans)


class Failing(Actor):
    """Takes nothing."""

    def handle_unknown(self, message: Any) -> None:
        raise RuntimeError("not now")


async def test_whoever_has_no_tracing_pays_and_keeps_nothing() -> None:
    """Neither without a propagator, nor with one that carries facts alone."""
    signal = Signal(type="a", source="/", id="1")
    propagators: tuple[Propagator | None, ...] = (None, ContextPropagator())
    for propagator in propagators:
        async with Runtime(watchdog=None, reports=False, propagator=propagator) as runtime:
            assert in_trace(runtime, signal) is signal
            assert inject_context(runtime) == {}
            with resume_context(runtime, FROM_OUTSIDE):
                assert inject_context(runtime) == {}


async def test_a_block_that_fails_is_a_span_that_has_failed(spans: Spans) -> None:
    """And outside of it there is no trace."""
    async with process(spans) as runtime:
        ref = await runtime.spawn(Listener)
        with pytest.raises(LookupError), resume_context(runtime, FROM_OUTSIDE, ref, "work"):
            raise LookupError("nothing")
        assert inject_context(runtime) == {}
        (span,) = spans[1].get_finished_spans()
        assert not span.status.is_ok
        bears = Signal(type="a", source="/", id="1", extensions=FROM_OUTSIDE)
        assert in_trace(runtime, bears) is bears
