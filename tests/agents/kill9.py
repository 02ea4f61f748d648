"""A process that is killed: an agent whose commits are acknowledged on its standard output, until somebody kills it.

``python -m tests.agents.kill9 PATH [journal]`` prints the counter after each acknowledged commit.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from agents import Action, AgentType, Context, start_agent
from agents.durability import Durability, SqliteStorage
from supervision import Runtime


class Count(msgspec.Struct, frozen=True):
    """Two numbers that are always equal."""

    n: int = 0
    same: int = 0


class Add(Action[Count]):
    """Count."""

    def run(self, context: Context[Count]) -> Count:
        """Count."""
        return Count(context.state.n + 1, context.state.same + 1)


class Counter(AgentType[Count]):
    """Counts."""

    routes = {"add": Add}


async def main(path: str, journal: bool) -> None:
    """Count until the end."""
    durability = Durability(SqliteStorage(path), journal=journal)
    async with Runtime() as runtime:
        agents = [await start_agent(runtime, Counter, id=str(n), durability=durability) for n in range(3)]
        print("begin", *(agent.state.n for agent in agents), flush=True)

        async def count(number: int) -> None:
            agent = agents[number]
            while True:
                reply = await agent.call(agent.signal("add"), timeout=None)
                assert reply.agent.state.n == reply.agent.state.same
                print(number, reply.agent.state.n, flush=True)

        await asyncio.gather(*map(count, range(3)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], "journal" in sys.argv))
