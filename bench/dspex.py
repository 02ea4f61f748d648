"""Suite ``dspex``: the same program on the same data, as an agent, by plain ``gather``, and by ``dspy.Evaluate``.

The language model is a server in another process, with the interface of OpenAI and a latency of 200 ms; 1 % of its
answers are errors. Each way runs in a process of its own, in turn with the others, so that memory can be compared.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import PIPE, Popen
from time import perf_counter, process_time
from typing import Any

from bench.figure import Figure
from bench.optimise_speed import speedup

#: Seconds that the model takes, and how often it fails.
LATENCY, ERRORS = 0.2, 0.01
#: How many calls are measured at each concurrency, and how often.
CALLS = {1: 25, 64: 960, 1000: 3000}
ROUNDS = 5
#: How many calls a round of those through a process has, and how many rounds there are.
PROCESS_CALLS, PROCESS_ROUNDS = 40, 60


# -- in a process of its own ---------------------------------------------------------------------------------


def _program_and_data(calls: int) -> tuple[Any, list[Any]]:
    import dspy

    from bench.lm_server import SIZE
    from dspex.testing.engine import task

    examples = task(SIZE)[0]
    return dspy.Predict("text -> label"), [examples[n % SIZE] for n in range(calls)]


async def _gathered(program: Any, data: list[Any], concurrency: int) -> tuple[float, float]:
    """Return the score, and the seconds that the calls took: without what it took to start and stop a runtime."""
    slots = asyncio.Semaphore(concurrency)

    async def one(example: Any) -> bool:
        async with slots:
            return bool((await program.acall(text=example.text)).label == example.label)

    began = perf_counter()
    right = await asyncio.gather(*(one(example) for example in data))
    return statistics.mean(right), perf_counter() - began


async def plain(concurrency: int, data: list[Any], program: Any) -> tuple[float, float]:
    """``gather``, with as many at a time."""
    return await _gathered(program, data, concurrency)


async def ours(concurrency: int, data: list[Any], program: Any) -> tuple[float, float]:
    """The same, through a supervised agent."""
    from dspex import agents_supervisor, start_program_agent
    from supervision import Runtime, Supervisor

    async with Runtime(reports=False) as runtime:
        await runtime.spawn(Supervisor, [agents_supervisor()])
        return await _gathered(await start_program_agent(runtime, program, concurrency=concurrency), data, concurrency)


async def chaos(concurrency: int, data: list[Any], program: Any) -> tuple[float, float]:
    """Through a pool of as many agents, of which 1 % are killed every second."""
    import random

    from dspex import agents_supervisor, start_program_pool
    from supervision import Runtime, Supervisor

    chance = random.Random(1)
    async with Runtime(reports=False) as runtime:
        await runtime.spawn(Supervisor, [agents_supervisor()])
        pool = await start_program_pool(runtime, program, size=concurrency, name="pool", retries=100)

        async def kill() -> None:
            while True:
                await asyncio.sleep(100 / concurrency)
                ref = runtime.whereis(f"pool.{chance.randrange(concurrency)}")
                if ref is not None:
                    ref.kill()

        killer = asyncio.ensure_future(kill())
        found = await _gathered(pool, data, concurrency)
        killer.cancel()
        return found


async def threads(concurrency: int, data: list[Any], program: Any) -> tuple[float, float]:
    """``dspy.Evaluate``, with as many threads."""
    import dspy

    from dspex.testing.engine import exact

    evaluate = dspy.Evaluate(devset=data, metric=exact, num_threads=concurrency, display_progress=False, max_errors=99)
    # It is sync: here, nothing else has to go on.
    began = perf_counter()
    score = float(evaluate(program).score) / 100
    return score, perf_counter() - began


WAYS: dict[str, Callable[[int, list[Any], Any], Awaitable[tuple[float, float]]]] = {
    "plain": plain,
    "ours": ours,
    "chaos": chaos,
    "threads": threads,
}


async def _measure(way: str, concurrency: int, url: str) -> dict[str, float]:
    import dspy
    import psutil  # type: ignore[import-untyped]

    logging.disable(logging.WARNING)
    program, data = _program_and_data(CALLS[concurrency])
    lm = dspy.LM("openai/known", api_base=url, api_key="none", cache=False, num_retries=20)
    process = psutil.Process()
    with dspy.context(lm=lm, disable_history=True):
        await program.acall(text=data[0].text)
        before, used = process.memory_info().rss, process_time()
        peak = before

        async def watch() -> None:
            nonlocal peak
            while True:
                await asyncio.sleep(0.1)
                peak = max(peak, process.memory_info().rss)

        watching = asyncio.ensure_future(watch())
        score, seconds = await WAYS[way](concurrency, data, program)
        cpu = process_time() - used
        peak = max(peak, process.memory_info().rss)
        watching.cancel()
    return {
        "throughput": len(data) / seconds,
        "cpu_ms": 1000 * cpu / len(data),
        "memory_mb": (peak - before) / 2**20,
        "score": score,
    }


def _processor(pid: int) -> float:
    """Return the seconds of the processor that all threads of a process have had."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def _process() -> dict[str, float]:
    """Measure a program in a process and the bare one, in turn, each with a model that answers at once."""
    import dspy
    import psutil

    from dspex import agents_supervisor, start_program_agent
    from dspex.testing.engine import ScriptedEngine, scripted_lm, task
    from supervision import Runtime, Supervisor

    logging.disable(logging.WARNING)
    examples, labels = task(PROCESS_CALLS)
    bare: Any = dspy.Predict("text -> label")
    rounds: list[dict[str, float]] = []
    with dspy.context(lm=scripted_lm(ScriptedEngine(labels)), disable_history=True):
        async with Runtime(reports=False) as runtime:
            await runtime.spawn(Supervisor, [agents_supervisor()])
            away = await start_program_agent(runtime, bare, isolation="process")
            (child,) = psutil.Process().children()
            for _ in range(PROCESS_ROUNDS):
                found = {}
                for name, program in (("bare", bare), ("away", away)):
                    before, began = process_time() + _processor(child.pid), perf_counter()
                    for example in examples:
                        await program.acall(text=example.text)
                    found[f"{name}_wall"] = perf_counter() - began
                    found[name] = process_time() + _processor(child.pid) - before
                rounds.append({key: 1000 * seconds / PROCESS_CALLS for key, seconds in found.items()})
    return {key: min(each[key] for each in rounds) for key in rounds[0]}


# -- beside each other ---------------------------------------------------------------------------------------


def _ran(way: str, concurrency: int, url: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.dspex", way, str(concurrency), url]
    with Popen(command, stdout=PIPE, text=True) as process:
        output = process.communicate()[0]
    return dict(json.loads(output.splitlines()[-1]))


async def _compared(way: str, against: str, concurrency: int, reach: float) -> Figure:
    from bench.lm_server import served

    with served(LATENCY, ERRORS) as url:
        rounds = [(_ran(against, concurrency, url), _ran(way, concurrency, url)) for _ in range(ROUNDS)]
    raw, mine = ({key: statistics.median(r[n][key] for r in rounds) for key in rounds[0][n]} for n in (0, 1))
    return Figure(
        value=mine["throughput"],
        unit="calls/s",
        limit=raw["throughput"],
        ratio=statistics.median(b["throughput"] / a["throughput"] for a, b in rounds),
        reach=reach,
        better="higher",
        more={
            "overhead_ms": mine["cpu_ms"] - raw["cpu_ms"],
            "memory_mb": mine["memory_mb"],
            "memory_mb_raw": raw["memory_mb"],
            "score": mine["score"],
            "score_raw": raw["score"],
        },
    )


async def _process_ms() -> Figure:
    """The processor's time that a call takes through a process beyond the bare call, in both processes together.

    The least of many rounds: other work on the machine makes each of them longer.
    """
    found = _ran("process", 1, "")
    beyond = found["away"] - found["bare"]
    waited = found["away_wall"] - found["bare_wall"]
    return Figure(
        value=beyond,
        unit="ms a call",
        limit=found["bare"],
        ratio=beyond,
        reach=1.2,
        better="lower",
        more={"waited_ms": waited},
    )


async def _simba() -> Figure:
    """A whole run of SIMBA beside DSPy's own: same seed, same model, same budget."""
    from bench.lm_server import served

    with served(LATENCY) as url:
        raw, mine = (_ran(way, 1, url) for way in ("dspy_simba", "our_simba"))
    return Figure(
        value=mine["seconds"],
        unit="s",
        limit=raw["seconds"],
        ratio=raw["seconds"] / mine["seconds"],
        reach=3.0,
        better="higher",
        more={"same_program": float(mine["program"] == raw["program"])},
    )


def _simba_run(way: str, url: str) -> dict[str, float]:
    import zlib

    import dspy
    import orjson

    from bench.lm_server import SIZE
    from dspex.teleprompt import SIMBA
    from dspex.testing.engine import exact, task

    logging.disable(logging.WARNING)
    lm = dspy.LM("openai/known", api_base=url, api_key="none", cache=False, num_retries=20)
    options: dict[str, Any] = {"metric": exact, "bsize": 16, "num_candidates": 6, "max_steps": 4}
    simba: Any = dspy.SIMBA(**options) if way == "dspy_simba" else SIMBA(**options, display_progress=False)
    with dspy.context(lm=lm):
        began = perf_counter()
        program = simba.compile(dspy.Predict("text -> label"), trainset=task(SIZE)[0][:64], seed=0)
        seconds = perf_counter() - began
    state = zlib.crc32(orjson.dumps(program.dump_state(), default=repr))
    return {"seconds": seconds, "program": state}


FIGURES = {
    "at_1": lambda: _compared("ours", "plain", 1, 0.97),
    "at_64": lambda: _compared("ours", "plain", 64, 0.97),
    "at_1000": lambda: _compared("ours", "plain", 1000, 0.95),
    "threads_at_1000": lambda: _compared("ours", "threads", 1000, 1.0),
    "chaos_at_64": lambda: _compared("chaos", "plain", 64, 0.95),
    "process_ms": _process_ms,
    "simba": _simba,
    "gepa_speedup": lambda: speedup("gepa"),
    "miprov2_speedup": lambda: speedup("miprov2"),
}


if __name__ == "__main__":
    way, concurrency, url = sys.argv[1:]
    if way.endswith("simba"):
        print(json.dumps(_simba_run(way, url)))
    elif way == "process":
        import uvloop

        print(json.dumps(uvloop.run(_process())))
    else:
        print(json.dumps(asyncio.run(_measure(way, int(concurrency), url))))
