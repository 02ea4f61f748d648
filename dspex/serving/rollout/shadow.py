"""The shadow: a version that is asked what another one has answered, and answers nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import dspy
import msgspec

from dspex.serving.calls import Assignment, CallInHand, CallRecords, CallRequest, FinishedCall
from dspex.serving.rollout.counts import StepCounts
from foundation.rollouts import Rollout
from supervision import Ref, ReplyTo, Runtime

#: Runs a version, with its number, on inputs, for so many seconds at most; returns the call, however it has ended.
RunVersion: TypeAlias = Callable[[Any, int, dict[str, Any], float], Awaitable[FinishedCall]]


class ShadowRuns:
    """Runs of a version side by side, up to a limit of their own. More are skipped: nothing waits.

    Args:
        runtime: where they run.
        limit: how many there may be.
    """

    def __init__(self, runtime: Runtime, limit: int) -> None:
        self._runtime = runtime
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, run: Callable[[], Awaitable[None]]) -> bool:
        """Start a run, if there is room; return whether there was."""
        if len(self._tasks) >= self._limit:
            return False
        task = asyncio.get_running_loop().create_task(self._later(run))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    async def _later(self, run: Callable[[], Awaitable[None]]) -> None:
        # The answer is on its way first.
        await self._runtime.sleep(0.0)
        await run()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    @property
    def running(self) -> int:
        """How many there are."""
        return len(self._tasks)

    def cancel(self) -> None:
        """Cancel all."""
        for task in self._tasks:
            task.cancel()


def may_ask(rollout: Rollout, step: StepCounts, running: int) -> bool:
    """Return whether the budget of a shadow has room for one more call beside those that run.

    What a call will cost is not known: each is taken for the dearest so far, and the first one runs alone. So the
    budget is passed by no more than what calls cost beyond the dearest before them.
    """
    if rollout.shadow_calls is not None and step.asked >= rollout.shadow_calls:
        return False
    if rollout.shadow_budget is None:
        return True
    known = step.asked > running
    return (known or not running) and step.spent + (running + 1) * step.dearest <= rollout.shadow_budget


class _Nobody:
    """Stands for the caller of a run that answers nobody."""

    waiting = False


async def shadow_call(
    records: CallRecords,
    actor: Ref,
    assigned: Assignment,
    inputs: Mapping[str, Any],
    seconds: float,
    run: Callable[[CallInHand], Awaitable[object]],
) -> FinishedCall:
    """Run a version that answers nobody, and return the call, however it has ended.

    Args:
        records: make its record; they keep none.
        actor: that runs it.
        assigned: the version.
        inputs: by name.
        seconds: that it may take.
        run: runs it.
    """
    ended: list[FinishedCall] = []
    request = CallRequest(records.issue(), "", cast("ReplyTo[Any]", _Nobody()), None, actor)
    stop = records.add_listener(lambda call: ended.append(call) if call.record.id == request.id else None)
    try:
        with records.take(request, assigned, inputs) as call:
            async with asyncio.timeout(seconds):
                await run(call)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # whatever a program raises: this is nobody's answer
        if isinstance(error, TimeoutError):
            late = msgspec.structs.replace(ended[0].record, outcome="timeout")
            return ended[0]._replace(record=late)
    finally:
        stop()
    return ended[0]


def without_cache(program: Any) -> Any:
    """Return a copy of a version that neither reads nor writes DSPy's cache: the other would find its answers there."""
    copied = program.deepcopy()
    for _, predictor in copied.named_sub_modules(dspy.Predict):
        predictor.config = {**predictor.config, "cache": False}
    return copied


def why_unsafe(program: Any, said: bool | None) -> str | None:
    """Return why a program may not be asked twice; None if it may.

    Args:
        program: the program.
        said: what whoever serves it says; None if nobody does.
    """
    own = getattr(program, "shadow_safe", None)
    if said is False or (said is None and own is False):
        return "its calls have effects: it says shadow_safe = false"
    if said or own:
        return None
    if tools := sorted(_tools(program)):
        return f"its tools ({', '.join(tools)}) may have effects; if not, say shadow_safe = true where it is served"
    return None


def _tools(program: Any) -> set[str]:
    found: set[str] = set()
    for _, module in program.named_sub_modules():
        tools = getattr(module, "tools", None)
        values = tools.values() if isinstance(tools, Mapping) else tools if isinstance(tools, (list, tuple)) else ()
        found |= {str(getattr(tool, "name", tool)) for tool in values}
    return found - {"finish"}
