"""A runtime that has ended is let go, with all that its packages have kept for it."""

from __future__ import annotations

import gc
import weakref

from agents import start_agent
from dspex.models.local.server import publish_address
from foundation.http.listener import listening_socket
from foundation.tree.optional import LeftOutPart, leave_out
from supervision import Runtime
from tests.agents.kinds import Counter


async def test_nothing_keeps_a_runtime_that_has_ended() -> None:
    async with Runtime(reports=False, watchdog=None) as runtime:
        await start_agent(runtime, Counter)
        ref = next(runtime.actors())
        publish_address(ref, "http://localhost:1")
        listening_socket(runtime, "localhost", 0)
        leave_out(runtime, LeftOutPart("part", "why", "remedy"))
    gone = weakref.ref(runtime)
    del runtime, ref
    gc.collect()
    assert gone() is None
