"""GEPA and MIPROv2, as DSPy has them and within `Durable`: their own engines, with our evaluation and journal.

SIMBA, as DSPy has it and as `TeamSIMBA`, which makes the same program.

The language model takes 200 ms for each answer, and the processor nearly nothing. Each runs in a process of its own,
with its own default of threads (8 for DSPy, 64 workers for `Durable`), and DSPy once more with 64.

``narrow_s`` is for how long DSPy's own has fewer calls under way than it has threads, as each waits for the one before:
no number of workers makes that shorter, and ``most_by_width`` is the most that they can be faster.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from time import perf_counter
from typing import Any

from bench.figure import Figure

LATENCY = 0.2
#: DSPy's default.
THREADS = 8


def _ran(*arguments: str) -> dict[str, float]:
    with Popen([sys.executable, "-m", "bench.optimise_speed", *arguments], stdout=PIPE, text=True) as process:
        output = process.communicate()[0]
    return dict(json.loads(output.splitlines()[-1]))


async def speedup(name: str, reach: float = 2.0) -> Figure:
    """A whole run beside DSPy's own: same seed, same model, same budget, same program.

    Args:
        name: of the optimiser: ``gepa``, ``mipro`` or ``simba``.
        reach: so many times faster it has to be.
    """
    raw, wide, mine = (_ran(name, way) for way in ("dspy", "dspy_64", "durable"))
    return Figure(
        value=mine["seconds"],
        unit="s",
        limit=raw["seconds"],
        ratio=raw["seconds"] / mine["seconds"],
        reach=reach,
        better="higher",
        more={
            "same_program": float(mine["program"] == raw["program"] == wide["program"]),
            "calls": mine["calls"],
            "narrow_s": raw["narrow"],
            "most_by_width": raw["seconds"] / raw["narrow"],
            "dspy_64_threads_s": wide["seconds"],
            "beside_64_threads": wide["seconds"] / mine["seconds"],
        },
    )


def _feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:  # noqa: ARG001
    import dspy

    return dspy.Prediction(score=float(gold.label == pred.label), feedback=f"It is {gold.label}.")


class _Wide:
    """How long as many calls were under way as DSPy has threads by default: what more of them can shorten."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._calls = 0
        self._since = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def call(self) -> Generator[None]:
        """One is under way."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, more: int) -> None:
        with self._lock:
            now = perf_counter()
            if self._calls >= THREADS:
                self.seconds += now - self._since
            self._calls += more
            self._since = now


class _Slow:
    """An engine that takes its time, without keeping the processor busy."""

    def __init__(self, engine: Any, wide: _Wide) -> None:
        self._engine = engine
        self._wide = wide

    def complete(self, request: Any) -> Any:
        with self._wide.call():
            time.sleep(LATENCY)
        return self._engine.complete(request)


class _SlowAsync(_Slow):
    """The same, asynchronously."""

    async def complete(self, request: Any) -> Any:
        with self._wide.call():
            await asyncio.sleep(LATENCY)
        return self._engine.complete(request)


def _run(name: str, way: str) -> dict[str, float]:
    import dspy

    from dspex.search import TeamSIMBA
    from dspex.teleprompt import Durable
    from dspex.testing.engine import ScriptedEngine, exact, task

    logging.disable(logging.WARNING)
    examples, labels = task(200)
    engine = ScriptedEngine(labels, demo=0.1, advice=0.1)
    wide = _Wide()
    options: dict[str, Any] = {"engine": _Slow(engine, wide), "async_engine": _SlowAsync(engine, wide)}
    lm = dspy.LM("known/model", cache=False, num_retries=0, **options)
    threads: dict[str, Any] = {"num_threads": 64} if way == "dspy_64" else {}
    with dspy.context(lm=lm):
        if name == "simba":
            options = {"metric": exact, "bsize": 32, "num_candidates": 6, "max_steps": 3}
            data: dict[str, Any] = {"trainset": examples[:64], "seed": 0}
            made: Any = dspy.SIMBA(**options, **threads)
            if way == "durable":
                made = TeamSIMBA(**options, display_progress=False)
        elif name == "gepa":
            made = dspy.GEPA(metric=_feedback, max_metric_calls=250, reflection_lm=lm, **threads)
            data = {"trainset": examples[:64], "valset": examples[64:164]}
        else:
            made, data = dspy.MIPROv2(metric=exact, auto="light", **threads), {"trainset": examples}
        if way == "durable" and name != "simba":
            made = Durable(made, display_progress=False)
        began = perf_counter()
        program = made.compile(dspy.Predict("text -> label"), **data)
        seconds = perf_counter() - began
    state = repr([(one.signature.instructions, one.demos) for one in program.predictors()])
    found = {"seconds": seconds, "narrow": seconds - wide.seconds, "calls": engine.calls}
    return {**found, "program": zlib.crc32(state.encode())}


if __name__ == "__main__":
    print(json.dumps(_run(*sys.argv[1:])))
