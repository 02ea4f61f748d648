"""Durability: agents that survive their process.

>>> import asyncio
>>> import msgspec
>>> from agents import Action, AgentType, Context, start_agent
>>> from supervision import Runtime
>>> class Count(msgspec.Struct, frozen=True):
...     n: int = 0
>>> class Add(Action[Count]):
...     def run(self, context: Context[Count]) -> Count:
...         return Count(context.state.n + 1)
>>> class Counter(AgentType[Count]):
...     routes = {"add": Add}
>>> async def life(storage: Storage) -> int:
...     async with Runtime() as runtime:
...         counter = await start_agent(runtime, Counter, id="c", durability=Durability(storage))
...         return (await counter.call(counter.signal("add"))).agent.state.n
>>> storage = MemoryStorage()
>>> asyncio.run(life(storage)), asyncio.run(life(storage))
(1, 2)
"""

from agents.durability.checkpoint import Checkpoint as Checkpoint
from agents.durability.durability import Durability as Durability
from agents.durability.durability import EverySeconds as EverySeconds
from agents.durability.durability import EveryTurns as EveryTurns
from agents.durability.durability import OnCommit as OnCommit
from agents.durability.journal import Entry as Entry
from agents.durability.journal import history as history
from agents.durability.journal import replay as replay
from agents.durability.memory import MemoryStorage as MemoryStorage
from agents.durability.sqlite import SqliteStorage as SqliteStorage
from agents.durability.storage import Storage as Storage
from agents.durability.storage import StorageConflict as StorageConflict
from agents.durability.storage import StorageError as StorageError
from agents.durability.storage import Stored as Stored
