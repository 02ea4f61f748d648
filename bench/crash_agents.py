"""The campaign of the suite ``crash`` over agents: their commits, with a journal, in SQLite."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from agents import Action, AgentType, Context, start_agent
from agents.durability import Durability, SqliteStorage
from bench.crash import ACK, WRITERS, Campaign
from supervision import Runtime


class Count(msgspec.Struct, frozen=True):
    """Two numbers that are always equal, and something that fills pages."""

    one: int = 0
    two: int = 0
    filling: bytes = b""


class Add(Action[Count]):
    """Count."""

    def run(self, context: Context[Count]) -> Count:
        """Count."""
        number = context.state.one + 1
        return Count(number, number, bytes(number * 7919 % 20_000) if number % 3 == 0 else context.state.filling)


class Counter(AgentType[Count]):
    """Counts."""

    name = "counter"
    routes = {"add": Add}  # noqa: RUF012 - as users write it


class AgentCampaign(Campaign):
    """What was found so far, of agents."""

    async def commit_for_ever(self, path: Path, pipe: int, sync: str) -> None:
        """Have agents count, and tell of each commit when it was acknowledged. Never returns."""
        durability = Durability(SqliteStorage(path, "full" if sync == "full" else "normal"), journal=True)

        async def count(number: int) -> None:
            agent = await start_agent(runtime, Counter, id=str(number), durability=durability)
            while True:
                reply = await agent.call(agent.signal("add"), None)
                os.write(pipe, ACK.pack(number, reply.agent.state.one))

        async with Runtime(watchdog=None, reports=False) as runtime:
            await asyncio.gather(*(count(number) for number in range(WRITERS)))

    def look(self, path: Path, acks: list[tuple[int, int]]) -> None:
        """Wake all agents, and see whether they are whole, and know all that was acknowledged."""
        asyncio.run(self._wake(path, acks))

    async def _wake(self, path: Path, acks: list[tuple[int, int]]) -> None:
        storage = SqliteStorage(path, "normal")
        self.acknowledged += len(acks)
        durability = Durability(storage, journal=True)
        async with Runtime(watchdog=None, reports=False) as runtime:
            for number in range(WRITERS):
                last = max((count for who, count in acks if who == number), default=self.last[number])
                agent = await start_agent(runtime, Counter, id=str(number), durability=durability)
                state, stored = agent.state, await storage.read(f"/counter/{number}")
                self.replayed += 0 if stored is None else len(stored.entries)
                self.torn += state.one != state.two or agent.agent.version != state.one
                self.lost += max(0, last - state.one)
                self.last[number] = state.one
        storage.close()
