"""The registry: who is there, what they can do, and how they are; written by one actor, read by everybody without it.

>>> from supervision import Actor, ChildSpec, Runtime, Supervisor
>>> class Translator(Actor):
...     pass
>>> async def main() -> list[str]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Supervisor, [ChildSpec("registry", Registry)])
...         directory = Directory.of(runtime)
...         translator = await runtime.spawn(Translator)
...         await directory.register("t1", translator, {"capabilities": ("translate", "spell")})
...         return [entry.key for entry in directory.find("capabilities", "spell")]
>>> import asyncio
>>> asyncio.run(main())
['t1']
"""

# Readers and writers use the directory; the actor that writes stands in a tree.
from foundation.registry.directory import Directory as Directory
from foundation.registry.registry import Registry as Registry
from foundation.registry.tables import Entry as Entry
from foundation.registry.metadata import Metadata as Metadata

# Queries.
from foundation.registry.query import Field as Field
from foundation.registry.query import Query as Query
from foundation.registry.query import Criterion as Criterion
from foundation.registry.plan import QueryPlan as QueryPlan
from foundation.registry.tables import RegistrySnapshot as RegistrySnapshot

# Discovery: queries of services about each other.
from foundation.registry.discovery import Discovery as Discovery
from foundation.registry.discovery import DISCOVERY_INDEXES as DISCOVERY_INDEXES

# A registry in several parts.
from foundation.registry.partitions import PartitionedDirectory as PartitionedDirectory
from foundation.registry.partitions import PartitionedRegistry as PartitionedRegistry

# Writes of a batch, and what listeners are told.
from foundation.registry.messages import Register as Register
from foundation.registry.messages import Update as Update
from foundation.registry.messages import Unregister as Unregister
from foundation.registry.messages import EntryRegistered as EntryRegistered
from foundation.registry.messages import EntryUpdated as EntryUpdated
from foundation.registry.messages import EntryUnregistered as EntryUnregistered

# What they raise.
from foundation.registry.errors import RegistryError as RegistryError
from foundation.registry.errors import KeyTaken as KeyTaken
from foundation.registry.errors import KeyNotFound as KeyNotFound
from foundation.registry.errors import BadMetadata as BadMetadata
from foundation.registry.errors import BadQuery as BadQuery
from foundation.registry.errors import NotIndexed as NotIndexed
from foundation.registry.errors import RegistryFull as RegistryFull
from foundation.registry.errors import BatchFailed as BatchFailed
