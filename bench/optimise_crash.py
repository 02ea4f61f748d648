"""Suite ``optimise-crash``: what is left of an optimisation when its model goes away, or its process is killed.

DSPy's SIMBA and ours, side by side, on the same task, with the same seed and a model whose answers are known:
undisturbed; with a model that is gone from call 300 on (for DSPy for good, which it does not notice; for ours until it
is back); and ours in a process that is killed ten times. Then SIMBA, BEACON and `Durable` around DSPy's own seven, each
in a process that is killed twice, and each with outages of several kinds at several places.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any, NamedTuple

import orjson

from bench import optimise_outages
from bench.figure import Figure
from bench.optimisers import NAMES, World, compiled

#: The call at which the model goes away, and for how many seconds.
GONE, AWAY = 300, 3.0
#: How often the process is killed.
KILLS = 10
OPTIONS: dict[str, Any] = {"bsize": 16, "num_candidates": 4, "max_steps": 5}
SIZE = 80
#: What makes a process of this suite.
_CHILD = ("-m", "bench.optimise_crash")


class Ended(NamedTuple):
    """What an optimisation has come to."""

    state: bytes
    score: float
    calls: int
    failed: int


def _compile(make: Callable[[], Any], engine: Any) -> Ended:
    import dspy

    from dspex.testing.engine import scripted_lm, task

    logging.disable(logging.ERROR)
    examples = task(SIZE)[0]
    # DSPy's progress bars are no progress of this suite.
    with dspy.context(lm=scripted_lm(engine)), contextlib.redirect_stderr(io.StringIO()):
        program = make().compile(dspy.Predict("text -> label"), trainset=examples, seed=0)
    state = orjson.dumps(program.dump_state(), default=repr)
    calls, failed = engine.calls, engine.failed
    engine.outage.first = None
    with dspy.context(lm=scripted_lm(engine)):
        score = sum(program(text=example.text).label == example.label for example in examples) / SIZE
    return Ended(state, score, calls, failed)


def _engine(**options: Any) -> Any:
    from dspex.testing.engine import ScriptedEngine, task

    return ScriptedEngine(task(SIZE)[1], demo=0.1, **options)


def _dspy() -> Any:
    import dspy

    from dspex.testing.engine import exact

    return dspy.SIMBA(metric=exact, num_threads=8, **OPTIONS)


def _ours(**options: Any) -> Any:
    from dspex.teleprompt import SIMBA
    from dspex.testing.engine import exact

    return SIMBA(metric=exact, display_progress=False, **OPTIONS, **options)


@cache
def _runs() -> dict[str, Ended]:
    """Return how each run has ended."""
    from dspex.testing.engine import Outage

    def back(number: int) -> None:
        if number == GONE:
            threading.Timer(AWAY, lambda: setattr(mine.outage, "first", None)).start()

    mine = _engine(outage=Outage(GONE), before=back)
    return {
        "dspy, healthy": _compile(_dspy, _engine()),
        "dspy, gone": _compile(_dspy, _engine(outage=Outage(GONE))),
        "ours, healthy": _compile(_ours, _engine()),
        "ours, gone": _compile(_ours, mine),
    }


def _table() -> None:
    for name, run in _runs().items():
        print(f"{name:<14} {run.calls:>6} calls, {run.failed:>4} of them dead, score {run.score:.3f}", file=sys.stderr)


async def _threaded() -> dict[str, Ended]:
    return await asyncio.to_thread(_runs)


async def same_program() -> Figure:
    """Whether the program is that of the undisturbed run: 1 or 0; DSPy's own beside it."""
    runs = await _threaded()
    _table()
    same = [float(runs[f"{who}, gone"].state == runs["dspy, healthy"].state) for who in ("ours", "dspy")]
    healthy = float(runs["ours, healthy"].state == runs["dspy, healthy"].state)
    more = {"dspy": same[1], "ours_healthy": healthy}
    return Figure(value=same[0], unit="", limit=1.0, ratio=same[0], reach=1.0, better="higher", more=more)


async def calls_over_healthy() -> Figure:
    """Calls that the outage cost, of those of a healthy run: those on their way, and the looks whether it is over."""
    runs = await _threaded()
    mine, healthy = runs["ours, gone"], runs["ours, healthy"]
    over = mine.calls - healthy.calls
    dead = {"dead_calls": mine.failed, "dspy_dead_calls": runs["dspy, gone"].failed}
    return Figure(
        value=over,
        unit="calls",
        limit=healthy.calls,
        ratio=over / healthy.calls,
        reach=0.02,
        better="lower",
        more={key: float(value) for key, value in dead.items()},
    )


async def score() -> Figure:
    """What the program is worth, beside that of the healthy run."""
    runs = await _threaded()
    mine, healthy = runs["ours, gone"].score, runs["ours, healthy"].score
    more = {"dspy_healthy": runs["dspy, healthy"].score, "dspy_gone": runs["dspy, gone"].score}
    return Figure(
        value=mine, unit="accuracy", limit=healthy, ratio=mine / healthy, reach=1.0, better="higher", more=more
    )


# -- killed --------------------------------------------------------------------------------------------------


def tell_answers() -> None:
    """Tell, from now on, by a byte of each answer that has been paid for and kept."""
    from dspex.workflow.journal import Journal

    add = Journal.add

    async def told(self: Journal, kind: str, key: str, value: Any, *, flush: bool = True) -> None:
        await add(self, kind, key, value, flush=flush)
        if kind == "answer":
            os.write(1, b"+")

    Journal.add = told  # type: ignore[method-assign]


def _child(folder: str, name: str = "") -> None:
    """Compile, and tell of each answer; to be killed.

    Args:
        folder: for the journal, and for what comes out.
        name: of one of `bench.optimisers`; empty for the SIMBA of this suite.
    """
    tell_answers()
    if name:
        found = compiled(name, World(before=lambda _: time.sleep(0.005)), log_dir=folder)
        (Path(folder) / "state").write_text(found.state)
        return
    slow = _engine(before=lambda _: time.sleep(0.002))
    ended = _compile(lambda: _ours(log_dir=folder), slow)
    (Path(folder) / "state").write_bytes(ended.state)


def _kept(folder: str) -> int:
    journal = Path(folder) / "journal.sqlite"
    if not journal.exists():
        return 0
    with sqlite3.connect(journal) as database:
        found = database.execute("SELECT entry FROM journal").fetchall()
    return sum(orjson.loads(entry)["kind"] == "answer" for (entry,) in found)


def killed(calls: int, expected: bytes, most: int, *arguments: str) -> tuple[int, bool, int]:
    """Return how many calls were paid twice, whether the program is the same, and how many kills there were.

    An answer that is paid for and kept, and makes no new entry in the journal, was there before.

    Args:
        calls: how many answers an undisturbed run pays for.
        expected: the state of its program.
        most: how often the process is killed.
        arguments: of the interpreter, to which the folder is added: the journal is there, and in the end the state.
    """
    chance, twice, kills = random.Random(1), 0, 0
    longest = 3 * calls // (2 * most)
    with tempfile.TemporaryDirectory() as folder:
        while not (Path(folder) / "state").exists():
            before, paid = _kept(folder), 0
            wait = chance.randrange(min(20, longest // 4) + 1, longest + 1) if kills < most else None
            read, write = os.pipe()
            with Popen(
                [sys.executable, *arguments[:2], folder, *arguments[2:]], stdout=write, stderr=DEVNULL
            ) as process:
                os.close(write)
                while data := os.read(read, 1):
                    paid += len(data)
                    if paid == wait:
                        process.send_signal(signal.SIGKILL)
                        kills += 1
                process.wait()
            os.close(read)
            twice += max(0, paid - (_kept(folder) - before))
            if process.returncode not in (0, -signal.SIGKILL):
                raise RuntimeError(f"the optimisation has failed: {process.returncode}")
        kept, state = _kept(folder), (Path(folder) / "state").read_bytes()
    return twice + kept - calls, state == expected, kills


async def paid_twice() -> Figure:
    """Finished calls that were paid for again, over all kills; and whether the program is the same."""
    healthy = (await _threaded())["ours, healthy"]
    twice, same, kills = await asyncio.to_thread(killed, healthy.calls, healthy.state, KILLS, *_CHILD)
    more = {"same_program": float(same), "kills": float(kills)}
    ratio = twice / healthy.calls
    return Figure(value=twice, unit="calls", limit=healthy.calls, ratio=ratio, reach=0.0, better="lower", more=more)


@cache
def _all_killed() -> dict[str, tuple[int, bool, int]]:
    found = {}
    for name in NAMES:
        whole = optimise_outages.healthy(name)
        found[name] = killed(whole.calls, whole.state.encode(), 2, *_CHILD, name)
        twice, same, kills = found[name]
        print(f"\r{name:<34} {kills} kills: paid twice {twice}, same program {same}", file=sys.stderr)
    return found


async def all_same_program() -> Figure:
    """For how many of nine optimisers the program is that of the undisturbed run, after two kills."""
    found = await asyncio.to_thread(_all_killed)
    same, all_of_them = sum(one[1] for one in found.values()), len(found)
    kills = float(sum(one[2] for one in found.values()))
    ratio = same / all_of_them
    more = {"kills": kills}
    return Figure(value=same, unit="optimisers", limit=all_of_them, ratio=ratio, reach=1.0, better="higher", more=more)


async def all_paid_twice() -> Figure:
    """Finished calls that were paid for again, over nine optimisers and all kills."""
    found = await asyncio.to_thread(_all_killed)
    twice = sum(one[0] for one in found.values())
    calls = sum(optimise_outages.healthy(name).calls for name in NAMES)
    return Figure(value=twice, unit="calls", limit=calls, ratio=twice / calls, reach=0.0, better="lower")


async def shaped_by_outage() -> Figure:
    """Outages that have shaped the program that came back, of all that were injected."""
    more = await asyncio.to_thread(optimise_outages.counts)
    shaped, outages = more.pop("shaped"), more.pop("outages")
    ratio = shaped / outages
    return Figure(value=shaped, unit="outages", limit=outages, ratio=ratio, reach=0.0, better="lower", more=more)


FIGURES = {
    "same_program": same_program,
    "calls_over_healthy": calls_over_healthy,
    "score": score,
    "paid_twice": paid_twice,
    "all_same_program": all_same_program,
    "all_paid_twice": all_paid_twice,
    "shaped_by_outage": shaped_by_outage,
}


if __name__ == "__main__":
    _child(*sys.argv[1:])
