"""One trace, from the outside call to the last effect, through all agents that it leads to."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agents import Action, AgentType, AwaitReply, Context, Emit, Result, RunInstruction, TurnTaken, start_agent
from agents.pool import start_pool
from foundation.telemetry import ContextPropagator, bound, facts
from foundation.telemetry.tracing import Tracing
from supervision import Runtime
from supervision.testing import settled

SEEN: list[tuple[str, Any]] = []


class Empty(msgspec.Struct, frozen=True):
    """A state with nothing in it."""


class Start(Action[None]):
    """Tell another agent, ask it, and have something done beside."""

    def run(self, context: Context[Empty]) -> Result[None]:
        """Do so."""
        effects = (
            Emit("told", to="other"),
            AwaitReply("other", "asked", "answered"),
            RunInstruction(Work, "worked"),
        )
        return Result(None, effects)


class Work(Action[dict[str, int]]):
    """Note the facts that have come along."""

    async def run(self, context: Context[Empty]) -> dict[str, int]:
        """Note them."""
        SEEN.append(("work", facts().get("order")))
        return {}


class Note(Action[None]):
    """Note the facts that have come along."""

    def run(self, context: Context[Empty]) -> None:
        """Note them."""
        assert context.signal is not None
        SEEN.append((context.signal.type, facts().get("order")))


class Worker(AgentType[Empty]):
    """Does all of this."""

    routes = {"start": Start, "told": Note, "asked": Note, "answered": Note, "worked": Note}


ALL = ["answered", "asked", "told", "work", "worked"]


async def test_facts_follow_what_agents_have_done_elsewhere() -> None:
    """Emits, requests, directive tasks with their results, and pools."""
    SEEN.clear()
    async with Runtime(watchdog=None, reports=False, propagator=ContextPropagator()) as runtime:
        agent = await start_agent(runtime, Worker)
        await start_agent(runtime, Worker, name="other")
        pool = await start_pool(runtime, Worker, 1)
        with bound(order=17):
            await agent.call(agent.signal("start"))
            pool.cast(pool.signal("told"))
        await settled(runtime)
    assert sorted(SEEN) == sorted([*((what, 17) for what in ALL), ("told", 17)])


async def test_all_of_it_is_one_trace() -> None:
    """Each turn of each agent is a span of it; and on the event stream each turn names the signal that caused it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    propagator = Tracing(1.0, tracer=provider.get_tracer("test"), random=Random(1))
    turns: list[TurnTaken] = []
    async with Runtime(watchdog=None, reports=False, propagator=propagator) as runtime:
        runtime.subscribe(turns.append, TurnTaken)  # type: ignore[arg-type]
        agent = await start_agent(runtime, Worker)
        await start_agent(runtime, Worker, name="other")
        with structlog.testing.capture_logs(), provider.get_tracer("test").start_as_current_span("outside"):
            signal = agent.signal("start")
            await agent.call(signal)
        await settled(runtime)
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    assert sum("AgentServer" in span.name for span in spans) >= 5
    caused = {turn.signal_type: turn.cause_id for turn in turns}
    assert caused == {"start": None, **{what: signal.id for what in ALL if what != "work"}}
    provider.shutdown()
