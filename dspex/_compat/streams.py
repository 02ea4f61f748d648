"""Streams that are read in another event loop."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

import anyio.from_thread
from dspy.dsp.utils.settings import thread_local_overrides


class _Relay:
    """Stands for a stream in another event loop: what is sent arrives there, and waits there for its reader."""

    def __init__(self, stream: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop

    async def send(self, item: Any) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._stream.send(item), self._loop))


def relayed(context: Context, loop: asyncio.AbstractEventLoop) -> Context:
    """Return the context for a run in an event loop: if the caller's stream is in another one, with a relay to it."""
    found = context.get(thread_local_overrides, {})
    stream = found.get("send_stream")
    if stream is None:
        return context
    try:
        home = asyncio.get_running_loop()
    except RuntimeError:
        home = anyio.from_thread.run(_running_loop)
    if home is not loop:
        changed: Any = {**found, "send_stream": _Relay(stream, home)}
        context.run(thread_local_overrides.set, changed)
    return context


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
