"""A process that is killed: an agent that counts, and tells another one of each number, until somebody kills it.

``python -m tests.agents.kill9_outbox PATH`` prints the number after each acknowledged turn.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec

from agents import Action, AgentHandle, AgentType, Chain, Context, Emit, Result, Schedule, start_agent
from agents.durability import Durability, SqliteStorage
from supervision import Runtime


class Count(msgspec.Struct, frozen=True):
    """A number, and how many timers have come."""

    n: int = 0
    ticks: int = 0


class Add(Action[Count]):
    """Count, tell the other one, and have a timer come."""

    def run(self, context: Context[Count]) -> Result[Count]:
        """Count."""
        n = context.state.n + 1
        effects = (Emit("told", {"n": n}, to="sink"), Schedule(0.01, "tick"))
        return Result(Count(n, context.state.ticks), effects)


class Tick(Action[Count]):
    """Count a timer."""

    def run(self, context: Context[Count]) -> Count:
        """Count it."""
        return Count(context.state.n, context.state.ticks + 1)


class Reserve(Action[None]):
    """Something that can be undone."""

    async def run(self, context: Context[Any]) -> None:
        """Do it."""

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""


class Source(AgentType[Count]):
    """Counts."""

    routes = {"add": Chain(Reserve, Add), "tick": Tick}


class Numbers(msgspec.Struct, frozen=True):
    """The numbers that were told."""

    told: tuple[int, ...] = ()


class Told(Action[Numbers]):
    """Keep a number."""

    n: int

    def run(self, context: Context[Numbers]) -> Numbers:
        """Keep it."""
        return Numbers((*context.state.told, self.n))


class Sink(AgentType[Numbers]):
    """Keeps numbers."""

    routes = {"told": Told}


async def both(runtime: Runtime, storage: SqliteStorage) -> tuple[AgentHandle[Count], AgentHandle[Numbers]]:
    """Start both agents."""
    durability = Durability(storage)
    sink = await start_agent(runtime, Sink, id="sink", name="sink", durability=durability)
    return await start_agent(runtime, Source, id="source", durability=durability), sink


async def main(path: str) -> None:
    """Count until the end."""
    async with Runtime() as runtime:
        source, _ = await both(runtime, SqliteStorage(path))
        print(source.state.n, flush=True)
        while True:
            reply = await source.call(source.signal("add"), timeout=None)
            assert not reply.errors, reply.errors
            print(reply.agent.state.n, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
