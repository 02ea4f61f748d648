"""When and where an agent is saved, so that it survives its process.

- `checkpointer`: when: the policy, and the part of an agent's server that saves by it.
- `checkpoint`, `journal`: what: an agent as bytes, and each commit with its cause.
- `delta`: what a turn has changed.
- `storage`, `memory`, `sqlite`: where: the protocols, in memory, and in a file. `whole`: in a storage with less.

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

# How and when an agent is saved.
from agents.durability.checkpointer import Durability as Durability
from agents.durability.checkpointer import OnCommit as OnCommit
from agents.durability.checkpointer import EveryTurns as EveryTurns
from agents.durability.checkpointer import EverySeconds as EverySeconds

# Where.
from agents.durability.storage import Storage as Storage
from agents.durability.sqlite import SqliteStorage as SqliteStorage
from agents.durability.memory import MemoryStorage as MemoryStorage
from agents.durability.storage import Stored as Stored
from agents.durability.storage import StorageError as StorageError
from agents.durability.storage import StorageConflict as StorageConflict
from agents.durability.storage import OutcomeUnknown as OutcomeUnknown

# What agents need of it.
from agents.durability.storage import CommitStorage as CommitStorage
from agents.durability.storage import AgentCommit as AgentCommit
from agents.durability.storage import Loaded as Loaded
from agents.durability.storage import StoredRow as StoredRow

# What was saved.
from agents.durability.checkpoint import Checkpoint as Checkpoint
from agents.durability.journal import JournalEntry as JournalEntry
from agents.durability.journal import history as history
from agents.durability.journal import replay as replay
