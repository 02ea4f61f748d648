"""One run, seen from the caller's process: serves the worker's requests for models, callbacks and streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from contextvars import copy_context
from typing import Any

import msgspec

from dspex._compat import (
    HANDLERS,
    DirectLM,
    active_call_id,
    call_back,
    checked_request,
    describe_lm,
    is_callback,
    is_language_model,
    is_module,
    is_signature,
    lm15,
    module_paths,
    note_cache_hit,
    note_history,
    note_trace,
    note_unparsed,
    note_usage_of,
    send_piece,
    settings_to_send,
    under_call,
)
from dspex.agents.concurrency import only_this_run
from dspex.agents.process.decoding import Decoding, Malformed
from dspex.agents.process.parts import CallFrame, SentParts, digest_of
from dspex.agents.process.protocol import Channel, RunFrame
from dspex.agents.process.serialization import Declarations, NotSendable, Packing, Serializer, send_by_value
from dspex.agents.runner import Invoke
from dspex.parsing.events import checked_report
from supervision.isolation import RemoteError

#: What a program asks for, and waits for.
QUESTIONS = frozenset({"send", "ask", "stream"})
#: How a run ends.
ENDS = frozenset({"returned", "raised", "cancelled"})
#: The most bytes of histories, traces and usage that one run may have kept here.
_KEPT = 1 << 30


class RemoteRun:
    """Knows what stays here, by number: language models and callbacks; and modules, by their paths.

    Made in the context of the run: what the program does to its caller is done in that context. What the program's
    process says is data, and checked: it names nothing but what was sent to it.

    Args:
        number: of the run.
        request: what is to be run.
        channel: to the other process.
        sent: what the other process has.
    """

    def __init__(self, number: int, request: Invoke, channel: Channel, sent: SentParts) -> None:
        self._number = number
        self._request = request
        self._channel = channel
        self._sent = sent
        self._parts: dict[bytes, bytes] = {}
        self._context = copy_context()
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._paths = module_paths(request.module)
        self._modules = {path: module for module, path in self._paths.values()}
        self._inside = True
        self._begun = False
        self._asked: dict[int, DirectLM] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._declarations = Declarations()
        self._serializer = Serializer(self._refer, self._resolve)
        self._decoding = Decoding(self._resolve, self._declarations.items)
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def _refer(self, value: Any) -> Any:
        if is_language_model(value) or is_callback(value):
            if id(value) not in self._numbers:
                self._numbers[id(value)] = len(self._kept)
                self._kept.append(value)
            return "kept", self._numbers[id(value)]
        if not self._inside and id(value) in self._paths:
            return "module", self._paths[id(value)][1]
        return self._signature(value) if is_signature(value) else None

    def _signature(self, signature: Any) -> Any:
        found = self._sent.definition(signature)
        if found is None or (self._begun and found[0] not in self._parts):
            return None
        digest, self._parts[digest] = found
        self._declarations.notice(signature)
        return "signature", digest

    def _resolve(self, reference: tuple[str, Any]) -> Any:
        kind, key = reference
        if kind == "module":
            return self._modules[key]
        if type(key) is not int or key < 0:
            raise Malformed(f"no number: {key!r}")
        return self._kept[key]

    # -- there ---------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Send what is to be run.

        Raises:
            NotSendable: something of it cannot be sent.
        """
        for each in self._modules.values():
            send_by_value(type(each))
        settings = settings_to_send()
        packing = Packing(self._refer, self._declarations.notice)
        packing.add(f"the program {type(self._request.module).__name__}", self._request.module)
        self._inside = False
        segments = [packing.packed()]
        packing.add("the names of settings", [*settings])
        for key, value in settings.items():
            packing.add(f"the setting {key!r}", value)
        segments.append(packing.packed())
        packing.add("an argument", (self._request.asynchronous, self._request.args, dict(self._request.kwargs)))
        packing.add("a type that the program names", self._declarations.items)
        self._send_call(segments, packing.packed())
        self._begun = True

    def _send_call(self, segments: list[bytes], rest: bytes) -> None:
        # A description may have further models and callbacks in it.
        described: list[bytes] = []
        while len(described) < len(self._kept):
            kept = self._kept[len(described)]
            shown = describe_lm(kept) if is_language_model(kept) else None
            described.append(self._serializer.pack("a language model's parameters", shown))
        signatures = [*self._parts]
        digests = [*map(digest_of, segments)]
        self._parts.update(zip(digests, segments, strict=True))

        def send(brought: dict[bytes, bytes], dropped: list[bytes]) -> None:
            call = CallFrame(digests, signatures, brought, dropped, rest, described, active_call_id())
            self._send("run", msgspec.msgpack.encode(call))

        self._sent.send(self._parts, send)

    # -- and back ------------------------------------------------------------------------------------------------------

    def take(self, frame: RunFrame) -> Coroutine[Any, Any, None] | None:
        """Do what the program says; return what is still to be done for it.

        Raises:
            Malformed: it is an invalid frame.
        """
        if self.result.done():
            return None
        try:
            values = self._decoding.read(frame.data) if frame.data else None
        except NotSendable as error:
            self._fail(error)
            return None
        try:
            return self._do(frame, values)
        except Malformed:
            raise
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise Malformed(f"{frame.kind}: {error}") from None

    def _do(self, frame: RunFrame, values: Any) -> Coroutine[Any, Any, None] | None:
        match frame.kind:
            case "returned":
                self.result.set_result(values)
            case "raised":
                self._fail(_checked(values, Exception))
            case "cancelled":
                self._fail(RemoteError("asyncio.CancelledError", ""))
            case "callback":
                self._call_back(*values)
            case "cache_hit":
                self._cache_hit(*values)
            case "usage" | "history" | "trace" | "unparsed":
                self._note(frame, values)
            case "send":
                piece, predictor = values
                return self._answer(frame, lambda: send_piece(piece, predictor))
            case "ask" | "stream":
                return self._ask(frame, *values)
            case _:
                raise Malformed(f"it says {frame.kind!r}")
        return None

    def _call_back(self, callback: Any, handler: str, parent: Any, kwargs: dict[str, Any]) -> None:
        if not is_callback(callback) or kwargs.keys() != HANDLERS[handler] or not isinstance(parent, str | None):
            raise Malformed(f"no callback: {handler!r}")
        self._context.copy().run(call_back, callback, handler, parent, kwargs)

    def _cache_hit(self, parent: Any) -> None:
        if not isinstance(parent, str | None):
            raise Malformed("no call")
        self._context.copy().run(note_cache_hit, parent)

    def _note(self, frame: RunFrame, values: Any) -> None:
        self._bytes += len(frame.data)
        if self._bytes > _KEPT:
            raise Malformed(f"it has had more than {_KEPT:,} bytes noted in one run")
        note: Callable[..., None]
        entries: tuple[Any, ...]
        match frame.kind:
            case "usage":
                name, entry = values
                note, entries = note_usage_of, (_checked(name, str), _checked(entry, dict))
            case "history":
                entry, owners, callers = values
                for owner in _checked(owners, list):
                    if not (is_language_model(owner) or is_module(owner)):
                        raise Malformed("no owner of a history")
                note, entries = note_history, (_checked(entry, dict), owners, callers is True)
            case "unparsed":
                note, entries = note_unparsed, (checked_report(values),)
            case _:
                predictor, inputs, outputs = values
                note, entries = note_trace, ((_checked_module(predictor), _checked(inputs, dict), outputs),)
        try:
            self._context.run(note, *entries)
        except Exception as error:  # of the caller's own making
            self._fail(error)

    def _ask(self, frame: RunFrame, lm: Any, request: Any, parent: Any) -> Coroutine[Any, Any, None]:
        if not is_language_model(lm) or not isinstance(parent, str | None):
            raise Malformed("no language model")
        checked = checked_request(request, lm)
        asking = self._asked.setdefault(id(lm), DirectLM(lm))
        if frame.kind == "ask":
            return self._answer(frame, lambda: self._complete(asking, checked, parent))
        return self._answer(frame, lambda: self._stream(frame, asking, checked, parent))

    async def _complete(self, asking: DirectLM, request: Any, parent: str | None) -> Any:
        with under_call(parent):
            return await asking.ask(request)

    async def _stream(self, frame: RunFrame, asking: DirectLM, request: Any, parent: str | None) -> None:
        with under_call(parent):
            await self._events(frame, asking, request)

    async def _events(self, frame: RunFrame, asking: DirectLM, request: Any) -> None:
        async with aclosing(asking.stream(request)) as events:
            async for event in events:
                self._reply("event", frame, event)
                await self._channel.drain()

    def answer(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have an answer given, in the context of the run."""
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, frame: RunFrame, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            with only_this_run("a language model"):
                found = await work()
        except asyncio.CancelledError:
            self._channel.send(abandoned_answer(frame))
            raise
        except Exception as error:
            self._reply("failed", frame, error)
        else:
            self._reply("answered", frame, found)
        await self._channel.drain()

    def _reply(self, kind: str, frame: RunFrame, value: Any) -> None:
        data = self._serializer.pack("an answer of a language model", value)
        self._channel.send(RunFrame(kind, frame.run, frame.number, data))

    def _send(self, kind: str, data: bytes = b"") -> None:
        self._channel.send(RunFrame(kind, self._number, data=data))

    def _fail(self, error: BaseException) -> None:
        self.result.set_exception(error)

    def close(self) -> bool:
        """End: nothing of what is still under way is waited for. Return whether the program has not ended there."""
        for task in self._tasks:
            task.cancel()
        left = not self.result.done() or self.result.cancelled()
        if left:
            self._send("cancel")
        return left


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Malformed(f"no {kind.__name__}: {type(value).__name__}")
    return value


def _checked_module(value: Any) -> Any:
    if not is_module(value):
        raise Malformed("no module")
    return value


def abandoned_answer(question: RunFrame) -> RunFrame:
    """Return the answer to a question of a run that nobody waits for: a thread goes on there until it hears it."""
    error = lm15.LM15Error("the caller has given the call up")
    data = Serializer(lambda _: None, lambda _: None).pack("an error", error)
    return RunFrame("failed", question.run, question.number, data)
