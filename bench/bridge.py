"""Suite ``bridge``: the same work of an agent, bare and bridged, in turn; with nobody listening, and with metrics on.

Bridged means: registered with its capabilities, monitored, and putting an event on the stream with each turn.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from time import perf_counter
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from agents import Action, AgentServer, AgentType, Context, Signal
from agents.server import Ask
from bench.figure import Figure
from bridge import emit_agent_event, register_agent, setup_monitoring
from foundation.registry import Directory, Registry
from foundation.telemetry.metrics import Metrics
from supervision import DynamicSupervisor, Ref, Runtime

#: How many calls are timed at once, and how many pairs of such are.
CALLS = 400
PAIRS = 400


class Order(msgspec.Struct, frozen=True):
    """The state of an agent."""

    packed: int = 0
    weight: float = 0.0
    last: str = ""


def packed(order: Order, body: str) -> Order:
    """Return the state after an order that has come as JSON of some 2 kB, as agents get them."""
    lines = msgspec.json.decode(body)
    weight = sum(line["grams"] * line["count"] for line in lines)
    return Order(order.packed + 1, order.weight + weight, max(line["name"] for line in lines))


class Pack(Action[Order]):
    """Pack an order."""

    body: str

    def run(self, context: Context[Order]) -> Order:
        """Pack it."""
        return packed(context.state, self.body)


class PackAndTell(Action[Order]):
    """Pack an order, and tell the event stream through the bridge."""

    body: str

    def run(self, context: Context[Order]) -> Order:
        """Pack it, and tell."""
        after = packed(context.state, self.body)
        emit_agent_event(context.ref, "order.packed", {"weight": after.weight})  # type: ignore[arg-type]
        return after


class Bare(AgentType[Order]):
    """Packs."""

    routes = {"pack": Pack}  # noqa: RUF012 - as users write it


class Bridged(AgentType[Order]):
    """Packs, and tells."""

    routes = {"pack": PackAndTell}  # noqa: RUF012 - as users write it


BODY = msgspec.json.encode([{"name": f"article {n}", "grams": 10.5 * n, "count": n % 7} for n in range(40)]).decode()
ASK = Ask(Signal(type="pack", source="/", id="1", data={"body": BODY}))


async def _seconds(ref: Ref) -> float:
    call = ref.call
    began = perf_counter()
    for _ in range(CALLS):
        await call(ASK)
    return perf_counter() - began


def _interval(ratios: list[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by bootstrap."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(1000))
    return medians[25], medians[974]


def _bridged(*, metrics: bool, reach: float) -> Any:
    async def measure() -> Figure:
        async with Runtime(reports=False, watchdog=None) as runtime:
            await runtime.spawn(Registry, name="registry")
            monitors = await runtime.spawn(DynamicSupervisor)
            if metrics:
                await runtime.spawn(Metrics, CollectorRegistry())
            bare = await runtime.spawn(AgentServer, Bare)
            bridged = await runtime.spawn(AgentServer, Bridged)
            directory = Directory.of(runtime)
            await register_agent(directory, bridged, ["pack"], key="packer")
            await setup_monitoring(monitors, directory, "packer", interval=1.0)
            for ref in (bare, bridged) * 5:
                await _seconds(ref)
            pairs = []
            for n in range(PAIRS):
                order = (bare, bridged) if n % 2 else (bridged, bare)
                took = {ref: await _seconds(ref) for ref in order}
                pairs.append((took[bare], took[bridged]))
                await asyncio.sleep(0)
        ratios = [ours / raw for raw, ours in pairs]
        low, high = _interval(ratios)
        value, limit = (statistics.median(pair[k] for pair in pairs) / CALLS * 1e6 for k in (1, 0))
        ratio = statistics.median(ratios)
        more = {"from": low, "to": high, "pairs": len(pairs)}
        return Figure(value=value, unit="µs a call", limit=limit, ratio=ratio, reach=reach, better="lower", more=more)

    return measure


FIGURES = {"bridged": _bridged(metrics=False, reach=1.02), "bridged_metrics": _bridged(metrics=True, reach=1.10)}
