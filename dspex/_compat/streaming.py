"""Streams: what a program writes, passed on while it writes it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, TypeAlias

import anyio.from_thread
import dspy
from dspy.dsp.utils.settings import thread_local_overrides
from dspy.streaming import StatusMessage, StreamListener, StreamResponse
from dspy.streaming.messages import StatusStreamingCallback
from dspy.streaming.streaming_listener import ADAPTER_SUPPORT_STREAMING

#: What a program sends while it runs: a status message, or a piece of a field.
StreamedPiece: TypeAlias = str | StreamResponse
Take: TypeAlias = Callable[[StreamedPiece], Awaitable[None]]


class _PieceStream:
    """Stands for the stream that ``dspy.streamify`` makes: finds the fields in what language models write.

    Args:
        listeners: one for each field of each predictor.
        take: is given each piece, in this event loop.
    """

    def __init__(self, listeners: list[Any], take: Take) -> None:
        self._listeners = listeners
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[StreamedPiece] = deque()
        self._lock = asyncio.Lock()
        #: How many pieces were found, by the ``id`` of the predictor that has written them.
        self._shown: Counter[int | None] = Counter()
        self._late: set[asyncio.Task[None]] = set()

    async def send(self, value: Any) -> None:
        """Take what a language model has written, or a status message, from any thread and event loop.

        DSPy sends status messages while it blocks the event loop; these are not waited for.
        """
        found: list[StreamedPiece] = [value.message] if isinstance(value, StatusMessage) else self._found(value)
        if asyncio.get_running_loop() is self._loop:
            self._pieces.extend(found)
            await self.flush()
        else:
            self._loop.call_soon_threadsafe(self._add, found)

    def shown(self, predictor: Any) -> int:
        """Return how many pieces there were of what a predictor has written; a field that has begun is one."""
        begun = (each for each in self._listeners if each.stream_start and not each.stream_end)
        return self._shown[id(predictor)] + sum(each.predict is predictor for each in begun)

    def _found(self, value: Any) -> list[StreamedPiece]:
        if type(dspy.settings.adapter or dspy.ChatAdapter()).__name__ not in _SUPPORTED:
            return []
        listeners = [each for each in self._listeners if id(each.predict) == getattr(value, "predict_id", None)]
        found = [piece for each in listeners if (piece := each.receive(value))]
        self._shown[getattr(value, "predict_id", None)] += len(found)
        return found

    def _add(self, found: list[StreamedPiece]) -> None:
        self._pieces.extend(found)
        task = self._loop.create_task(self.flush())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def flush(self) -> None:
        """Pass on what has come."""
        async with self._lock:
            while self._pieces:
                await self._take(self._pieces.popleft())

    async def finish(self) -> None:
        """Flush buffered text, held back as it might have been the beginning of the next field."""
        self._pieces.extend(piece for each in self._listeners if (piece := each.finalize()))
        await self.flush()


_SUPPORTED = {adapter.__name__ for adapter in ADAPTER_SUPPORT_STREAMING}


@asynccontextmanager
async def passing_pieces(program: Any, take: Take) -> AsyncGenerator[None]:
    """Have what a program writes passed on as it is written, until this context ends: as ``dspy.streamify`` does.

    A piece is a status message, or a ``dspy.streaming.StreamResponse`` for the fields that are texts. Two runs of one
    predictor at the same time cannot be told apart, nor can they with ``streamify``.

    Args:
        program: which.
        take: is given each piece; the program waits for it.
    """
    listeners = [
        StreamListener(field, predict=predictor, predict_name=name, allow_reuse=True)
        for name, predictor in program.named_predictors()
        for field, info in predictor.signature.output_fields.items()
        if info.annotation is str
    ]
    sink = _PieceStream(listeners, take)
    callbacks = [*dspy.settings.callbacks, StatusStreamingCallback()]
    with dspy.context(send_stream=sink, stream_listeners=listeners, callbacks=callbacks):
        yield
    await sink.finish()


def is_streamed(context: Context) -> bool:
    """Return whether a call in this context is streamed: if it is made again, its reader sees everything twice."""
    return context.get(thread_local_overrides, {}).get("send_stream") is not None


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
        readers = asyncio.get_running_loop()
    except RuntimeError:
        readers = anyio.from_thread.run(_running_loop)
    if readers is not loop:
        changed: Any = {**found, "send_stream": _Relay(stream, readers)}
        context.run(thread_local_overrides.set, changed)
    return context


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
