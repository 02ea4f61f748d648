"""Isolation: actors whose handlers run in threads, or that live in an OS process of their own.

``isolation = "thread"`` in a class, or ``ChildSpec(..., isolation="thread")``, is for plain handlers that block.
``isolation = "process"`` is for code that may hold the interpreter for long, leak, or crash it. Nothing else changes:
the same `Ref`, mailbox, links, monitors and supervisors.

>>> import asyncio
>>> from supervision import Actor, Request, Runtime, handle
>>> class Sum(Request[int]):
...     n: int
>>> class Adder(Actor):
...     isolation = "thread"
...
...     @handle
...     def sum(self, request: Sum) -> int:
...         return sum(range(request.n))  # may take its time: the loop goes on
>>> async def main() -> int:
...     async with Runtime() as runtime:
...         return await (await runtime.spawn(Adder)).call(Sum(5))
>>> asyncio.run(main())
10
"""

from supervision._core.threads import run_in_loop as run_in_loop
from supervision.isolation.frames import NotTransferable as NotTransferable
from supervision.isolation.frames import RemoteError as RemoteError
from supervision.isolation.process import pid_of as pid_of
