"""Tasks: functions that run once, as supervised actors, and whose results can be awaited (Elixir's ``Task``).

========================  =====================  ==========  =========================================
function                  linked to the caller   awaitable   restarted
========================  =====================  ==========  =========================================
`start_child`             no                     no          only if asked for
`async_`                  yes                    yes         never, as a new run could not be awaited
`async_nolink`            no                     yes         never
========================  =====================  ==========  =========================================

A task belongs to the actor that started it, or, outside of actors, to whoever has it. ``await task`` gives the result.
An actor that does not await gets messages instead: a `TaskReply`, and then the `Down` of the task's end; only the
`Down` if there is no result.

>>> import asyncio
>>> from supervision import Runtime, tasks
>>> async def double(n: int) -> int:
...     return 2 * n
>>> async def main() -> list[int]:
...     async with Runtime() as runtime:
...         supervisor = await runtime.spawn(tasks.TaskSupervisor)
...         task = await tasks.async_nolink(supervisor, double, 4)
...         eight = await task
...         async with tasks.stream(supervisor, double, range(3), max_concurrency=2) as results:
...             return [eight] + [outcome.result() async for outcome in results]
>>> asyncio.run(main())
[8, 0, 2, 4]
"""

from supervision.tasks.many import await_many as await_many
from supervision.tasks.many import yield_many as yield_many
from supervision.tasks.stream import Stream as Stream
from supervision.tasks.stream import stream as stream
from supervision.tasks.task import Done as Done
from supervision.tasks.task import Exited as Exited
from supervision.tasks.task import Task as Task
from supervision.tasks.task import TaskReply as TaskReply
from supervision.tasks.task import TaskSupervisor as TaskSupervisor
from supervision.tasks.task import async_ as async_
from supervision.tasks.task import async_nolink as async_nolink
from supervision.tasks.task import callers as callers
from supervision.tasks.task import start_child as start_child
