"""One run of a program in another process, seen from here: it answers for all that belongs to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from contextvars import copy_context
from typing import Any

from dspex._compat import (
    Answering,
    active_call_id,
    call_back,
    is_callback,
    is_language_model,
    lm15,
    module_paths,
    note_history,
    note_trace,
    note_usage_of,
    portrait,
    send_piece,
    shipped_settings,
)
from dspex.invoke import Invoke
from dspex.process.channel import Frame
from dspex.process.passage import Passage, send_by_value


class Visit:
    """Knows what stays here, by number: language models and callbacks; and modules, by their paths.

    Made in the context of the run: what the program does to its caller is done in that context.

    Args:
        number: of the run.
        request: what is to be run.
        send: sends frames to the other process.
    """

    def __init__(self, number: int, request: Invoke, send: Callable[[Frame], None]) -> None:
        self._number = number
        self._request = request
        self._send = send
        self._context = copy_context()
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._paths = module_paths(request.module)
        self._modules = {path: module for module, path in self._paths.values()}
        self._inside = False
        self._asked: dict[int, Answering] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.passage = Passage(self._refer, self._resolve)
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def _refer(self, value: Any) -> Any:
        if is_language_model(value) or is_callback(value):
            if id(value) not in self._numbers:
                self._numbers[id(value)] = len(self._kept)
                self._kept.append(value)
            return "kept", self._numbers[id(value)]
        if self._inside and id(value) in self._paths:
            return "module", self._paths[id(value)][1]
        return None

    def _resolve(self, reference: Any) -> Any:
        kind, key = reference
        return self._kept[key] if kind == "kept" else self._modules[key]

    def begin(self) -> None:
        """Send what is to be run.

        Raises:
            NotTransferable: something of it cannot be sent.
        """
        request = self._request
        for each in self._modules.values():
            send_by_value(type(each))
        module = self.passage.pack(f"the program {type(request.module).__name__}", request.module)
        self._inside = True
        settings = {key: self.passage.pack(f"the setting {key!r}", value) for key, value in shipped_settings().items()}
        call = self.passage.pack("an argument", (request.asynchronous, request.args, dict(request.kwargs)))
        # Portraits may show further models and callbacks.
        portraits: list[bytes] = []
        while len(portraits) < len(self._kept):
            kept = self._kept[len(portraits)]
            shown = portrait(kept) if is_language_model(kept) else None
            portraits.append(self.passage.pack("a language model's parameters", shown))
        whole = (module, settings, call, portraits, active_call_id())
        self._send(Frame("run", self._number, data=self.passage.pack("a call", whole)))

    def take(self, frame: Frame) -> None:
        """Do what the program asks for."""
        try:
            values = self.passage.unpack(frame.data)
        except Exception as error:
            self._fail(error)
            return
        match frame.kind:
            case "returned":
                self._settle(self.result.set_result, values)
            case "raised":
                self._fail(values)
            case "callback":
                self._context.copy().run(call_back, *values)
            case "usage":
                self._context.run(note_usage_of, *values)
            case "history":
                self._context.run(note_history, *values)
            case "trace":
                self._context.run(note_trace, values)
            case _:
                task = asyncio.get_running_loop().create_task(self._answer(frame, values), context=self._context.copy())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, frame: Frame, values: Any) -> None:
        found = None
        try:
            if frame.kind == "send":
                await send_piece(*values)
            elif frame.kind == "ask":
                found = await self._asking(values[0]).ask(values[1])
            else:
                async with aclosing(self._asking(values[0]).stream(values[1])) as events:
                    async for event in events:
                        self._reply("event", frame, event)
        except asyncio.CancelledError:
            self._send(given_up(frame))
            raise
        except Exception as error:
            self._reply("failed", frame, error)
        else:
            self._reply("answered", frame, found)

    def _reply(self, kind: str, frame: Frame, value: Any) -> None:
        self._send(Frame(kind, frame.run, frame.number, self.passage.pack("an answer of a language model", value)))

    def _asking(self, lm: Any) -> Answering:
        return self._asked.setdefault(id(lm), Answering(lm))

    def _fail(self, error: BaseException) -> None:
        self._settle(self.result.set_exception, error)

    def _settle(self, way: Callable[[Any], None], value: Any) -> None:
        if not self.result.done():
            way(value)

    def close(self) -> None:
        """End: nothing of what is still under way is waited for."""
        for task in self._tasks:
            task.cancel()
        if not self.result.done() or self.result.cancelled():
            self._send(Frame("cancel", self._number))


def given_up(question: Frame) -> Frame:
    """Return the answer to a question of a run that nobody waits for: a thread goes on there until it hears it."""
    error = lm15.LM15Error("the caller has given the call up")
    data = Passage(lambda _: None, lambda _: None).pack("an error", error)
    return Frame("failed", question.run, question.number, data)
