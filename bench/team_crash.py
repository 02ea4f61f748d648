"""Suite ``team-crash``: what is left of an ascent of a team when its process is killed, and how long a whole one takes.

A `TeamSIMBA` on three islands makes a team of three better, which votes, by a model whose answers are known. Its
process is killed at twenty points, with SIGKILL; each time it is begun again with the same folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from msgspec.structs import replace

from bench import optimise_speed
from bench.figure import Figure
from bench.optimise_crash import killed, tell_answers

#: How often the process is killed.
KILLS = 20
OPTIONS: dict[str, Any] = {
    "islands": 3,
    "migrate_every": 1,
    "scope": "member",
    "bsize": 8,
    "num_candidates": 2,
    "max_steps": 3,
}
SIZE = 24


def _compiled(pause: float, **options: Any) -> tuple[bytes, int]:
    """Return the state of what comes out, and how many calls that took."""
    import dspy

    from dspex.search import TeamSIMBA
    from dspex.teams import Member, Team
    from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task

    logging.disable(logging.ERROR)
    examples, labels = task(SIZE)
    engine = ScriptedEngine(labels, demo=0.1, before=lambda _: time.sleep(pause))
    signature: Any = dspy.Signature
    ways = [signature("text -> label", f"Way {number}.") for number in range(3)]
    team = Team("desk", tuple(Member(f"member {number}", dspy.Predict(way)) for number, way in enumerate(ways)))
    made = TeamSIMBA(metric=exact, display_progress=False, **OPTIONS, **options)
    # What DSPy shows on the way is no progress of this suite.
    with dspy.context(lm=scripted_lm(engine)), contextlib.redirect_stderr(io.StringIO()):
        program = made.compile(team.program(), trainset=examples, seed=0)
    return orjson.dumps(program.dump_state(), default=repr), engine.calls


@cache
def _killed() -> tuple[int, bool, int, int]:
    """Return what was paid twice, whether the program is the same, how many kills there were, and all calls."""
    state, calls = _compiled(0.0)
    twice, same, kills = killed(calls, state, KILLS, "-m", "bench.team_crash")
    return twice, same, kills, calls


async def paid_twice() -> Figure:
    """Finished calls that were paid for again, over all kills."""
    twice, _, kills, calls = await asyncio.to_thread(_killed)
    return Figure(
        value=twice,
        unit="calls",
        limit=calls,
        ratio=twice / calls,
        reach=0.0,
        better="lower",
        promise=True,
        more={"kills": float(kills)},
    )


async def same_program() -> Figure:
    """Whether the program is that of the undisturbed run: 1 or 0."""
    _, same, kills, _ = await asyncio.to_thread(_killed)
    value, more = float(same), {"kills": float(kills)}
    return Figure(value=value, unit="", limit=1.0, ratio=value, reach=1.0, better="higher", promise=True, more=more)


async def simba_speedup() -> Figure:
    """A whole run without islands beside ``dspy.SIMBA``, with a model that takes 200 ms for each answer."""
    return replace(await optimise_speed.speedup("simba", 3.0), promise=True)


FIGURES = {"paid_twice": paid_twice, "same_program": same_program, "simba_speedup": simba_speedup}


def _child(folder: str) -> None:
    """Compile, and tell of each answer; to be killed."""
    tell_answers()
    state, _ = _compiled(0.005, log_dir=folder, num_threads=2)
    (Path(folder) / "state").write_bytes(state)


if __name__ == "__main__":
    _child(sys.argv[1])
