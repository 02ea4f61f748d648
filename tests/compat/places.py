"""Where a program may run: bare, or as an agent in some place; and how an observer sees it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any, TypeAlias

import dspy

from dspex import agent, agents_supervisor, proxy, start_program_agent
from dspex.agents.background import PROGRAM_AGENTS, background_runtime
from dspex.agents.dispatcher import Dispatcher
from dspex.agents.process import ProcessRunner
from dspex.testing.engine import ScriptedEngine, scripted_lm
from supervision import ChildSpec, Runtime, Supervisor, start_child

Place: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def bare(program: Any) -> AsyncIterator[Any]:
    """The program itself."""
    yield program


@asynccontextmanager
async def in_the_loop(program: Any) -> AsyncIterator[Any]:
    """An agent in the caller's own event loop."""
    async with Runtime(reports=False) as runtime:
        await runtime.spawn(Supervisor, [agents_supervisor()])
        yield await start_program_agent(runtime, program)


@asynccontextmanager
async def in_a_thread(program: Any) -> AsyncIterator[Any]:
    """An agent in another thread and event loop."""
    yield agent(program)


@cache
def _process() -> Dispatcher:
    """Return the dispatcher to an agent in a process, which all tests share: to start one takes long."""
    background, name = background_runtime(), "tests.compat.process"

    async def opened() -> Dispatcher:
        await start_child(background.runtime.name(PROGRAM_AGENTS), ChildSpec(name, ProcessRunner, name=name))
        return Dispatcher(background.runtime, background.runtime.name(name))

    return background.run(opened)


@asynccontextmanager
async def in_a_process(program: Any) -> AsyncIterator[Any]:
    """An agent in a process of its own."""
    yield proxy(program, _process())


PLACES: dict[str, Place] = {"in the loop": in_the_loop, "in a thread": in_a_thread, "in a process": in_a_process}


class Watch(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    """Notes which calls begin and end, and which call each is a part of."""

    def __init__(self) -> None:
        self.began: dict[str, tuple[str, str, str | None]] = {}
        self.ended: list[str] = []

    def _begin(self, kind: str, call_id: str, instance: Any) -> None:
        from dspy.utils.callback import ACTIVE_CALL_ID

        self.began[call_id] = (kind, type(instance).__name__, ACTIVE_CALL_ID.get())

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """Note."""
        self._begin("module", call_id, instance)

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        """Note."""
        self.ended.append(call_id)

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """Note."""
        self._begin("lm", call_id, instance)

    def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        """Note."""
        self.ended.append(call_id)

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """Note."""
        self._begin("format", call_id, instance)

    def on_tool_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """Note."""
        self._begin("tool", call_id, instance)

    def tree(self) -> list[tuple[str, ...]]:
        """Return for each call its way from the top, sorted."""

        def way(call_id: str | None) -> tuple[str, ...]:
            if call_id is None or call_id not in self.began:
                return ()
            kind, name, parent = self.began[call_id]
            return (*way(parent), f"{kind} {name}")

        return sorted(way(call_id) for call_id in self.began)


class Talker(ScriptedEngine):
    """Answers whatever fields it is asked for."""

    def answer(self, messages: Any) -> str:
        """Fill each field."""
        outputs = messages[0]["content"].split("Your output fields are:")[-1].split("All interactions")[0]
        known = {"next_tool_name": "finish", "next_tool_args": "{}", "label": LABELS.get(self._text(messages), "no")}
        fields = re.findall(r"`(\w+)` \(", outputs)
        return "\n\n".join(f"[[ ## {name} ## ]]\n{known.get(name, 'so')}" for name in [*fields, "completed"])

    def _text(self, messages: Any) -> str:
        found = re.search(r"text \d", messages[-1]["content"])
        return found.group() if found else ""


LABELS = {f"text {n}": ("yes", "no")[n % 2] for n in range(8)}


async def observed(program: Any, use: Callable[[Any], Awaitable[Any]]) -> dict[str, Any]:
    """Use a program, and return all that can be seen of it."""
    engine = Talker(LABELS)
    lm, watch = scripted_lm(engine), Watch()
    trace: list[Any] = []
    names = {id(predictor): name for name, predictor in program.named_predictors()}
    state = program.dump_state()
    before = len(program.history)
    with (
        dspy.context(lm=lm, callbacks=[watch], trace=trace, adapter=dspy.ChatAdapter()),
        dspy.track_usage() as usage,
    ):
        try:
            result, error = await use(program), None
        except Exception as raised:
            result, error = None, (type(raised), str(raised))
    return {
        "result": shown(result),
        "error": error,
        "calls": engine.calls,
        "callbacks": watch.tree(),
        "ends": len(watch.ended),
        "usage": usage.get_total_tokens(),
        "history": sorted(str(entry["outputs"]) for entry in lm.history),
        "own history": len(program.history) - before,
        "state": program.dump_state() == state,
        "trace": sorted(
            (names.get(id(predictor), "?"), str(inputs), shown(outputs)) for predictor, inputs, outputs in trace
        ),
    }


def shown(value: Any) -> Any:
    """Return a value as something that can be compared."""
    if isinstance(value, dspy.Prediction):
        return "Prediction", {name: shown(field) for name, field in value.items()}, value.get_lm_usage()
    if isinstance(value, list):
        return [shown(item) for item in value]
    return repr(value)
