"""Suite ``workflow``: a workflow's process is killed at random points; and what a step costs beside a bare append.

The killed one has steps side by side and in a row, recorded chance, and a checkpoint in each round; it is begun again
until it has ended. It tells by a line of each step whose result is in its journal: a line that comes twice, or of a
step that was in the journal when the process began, is a finished step that was run again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bench.figure import Figure

#: How often the process is killed.
KILLS = 20
ROUNDS, WIDTH = 20, 8
#: Steps that are timed, in each of so many turns.
STEPS, TURNS = 200, 7


async def _body(flow: Any) -> dict[str, Any]:
    """Do rounds of steps, each of which depends on the round before."""

    async def work(seen: list[int], number: int) -> int:
        await asyncio.sleep(0.001 * (number % 4))
        return (sum(seen) * 31 + number) % 1_000_003

    state = flow.restored or {"seen": [1], "drawn": []}
    while len(state["drawn"]) < ROUNDS:
        part = flow.scope("round", len(state["drawn"]))
        seen = await asyncio.gather(*(part.step("work", work, state["seen"], n, key=n) for n in range(WIDTH)))
        chance = await part.random("chance")
        first = await part.step("first", lambda seen: seen[0], seen)
        state = {"seen": [first, *seen], "drawn": [*state["drawn"], chance.random()]}
        await flow.checkpoint(state, trim=["round"])
    return state


def _child(folder: str) -> None:
    """Run the workflow, and tell by a line of each step that is in the journal; to be killed."""
    from agents.durability import SqliteStorage
    from dspex.workflow import StepEnded, Workflow
    from supervision import Runtime

    async def main() -> dict[str, Any]:
        async with Runtime(watchdog=None, reports=False, seed=1) as runtime:
            runtime.subscribe(lambda event: os.write(1, f"{event.step}\n".encode()), StepEnded)
            storage = SqliteStorage(Path(folder) / "log.sqlite")
            flow = await Workflow.open(runtime, storage, "killed")
            found: dict[str, Any] = await flow.run(_body)
            storage.close()
        return found

    (Path(folder) / "result").write_bytes(orjson.dumps(asyncio.run(main())))


def _finished(log: Path) -> set[str]:
    """Return the steps that the journal says are done, from the file alone."""
    if not log.exists():
        return set()
    with sqlite3.connect(log) as database:
        rows = database.execute("SELECT checkpoint, at FROM agents WHERE key = 'workflow/killed'").fetchall()
        folded, at = rows[0] if rows else (None, 0)
        query = "SELECT entry FROM journal WHERE key = 'workflow/killed' AND version > ? ORDER BY version"
        entries = [orjson.loads(entry) for (entry,) in database.execute(query, (at,))]
    steps = {} if folded is None else orjson.loads(folded).get("step", {})
    steps.update({entry["key"]: entry["value"] for entry in entries if entry["kind"] == "step"})
    return {key for key, value in steps.items() if value["state"] in ("done", "trimmed")}


class Campaign(NamedTuple):
    """What came of the kills."""

    repeated: int
    wrong: int
    kills: int
    steps: int


def _run(folder: str, die_after: int | None) -> tuple[list[str], int]:
    """Run the process until it has ended, or has told of so many steps; return these, and how it has ended."""
    told: list[str] = []
    command = [sys.executable, "-m", "bench.workflow", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line.decode().strip())
            if len(told) == die_after:
                process.send_signal(signal.SIGKILL)
        process.wait()
    return told, process.returncode


@cache
def _campaign() -> Campaign:
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as undisturbed, tempfile.TemporaryDirectory() as folder:
        _run(undisturbed, None)
        expected = orjson.loads((Path(undisturbed) / "result").read_bytes())
        steps, repeated, kills = Counter[str](), 0, 0
        while not (Path(folder) / "result").exists():
            before = _finished(Path(folder) / "log.sqlite")
            most = 3 * ROUNDS * (WIDTH + 1) // (2 * KILLS)
            told, code = _run(folder, chance.randrange(1, most) if kills < KILLS else None)
            kills += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                raise RuntimeError(f"the workflow has failed: {code}")
            repeated += len(before & set(told))
            steps.update(told)
        repeated += sum(count - 1 for count in steps.values())
        found = orjson.loads((Path(folder) / "result").read_bytes())
        wrong = sum(was != now for was, now in zip(expected["seen"], found["seen"], strict=True))
    return Campaign(repeated, wrong, kills, len(steps))


async def repeated() -> Figure:
    """Finished steps that were run again, over all kills."""
    found = await asyncio.to_thread(_campaign)
    more = {"kills": float(found.kills), "steps": float(found.steps)}
    limit = float(ROUNDS * (WIDTH + 1))
    ratio = found.repeated / limit
    return Figure(value=found.repeated, unit="steps", limit=limit, ratio=ratio, reach=0.0, better="lower", more=more)


async def wrong() -> Figure:
    """Results that are not those of the undisturbed run."""
    found = await asyncio.to_thread(_campaign)
    limit = float(WIDTH + 1)
    return Figure(value=found.wrong, unit="results", limit=limit, ratio=found.wrong / limit, reach=0.0, better="lower")


# -- what a step costs -----------------------------------------------------------------------------------------


async def _steps(folder: Path, sync: Any) -> float:
    """Return the milliseconds that a step takes that does nothing: it is written twice, when it begins and ends."""
    from agents.durability import SqliteStorage
    from dspex.workflow import Workflow
    from supervision import Runtime

    async with Runtime(watchdog=None, reports=False) as runtime:
        storage = SqliteStorage(folder / f"steps-{time.monotonic_ns()}.sqlite", sync)
        flow = await Workflow.open(runtime, storage, "timed")
        began = time.perf_counter()
        for number in range(STEPS):
            await flow.step("step", lambda: 1, key=number)
        took = time.perf_counter() - began
        storage.close()
    return took / STEPS * 1000


def _appends(folder: Path, sync: Any) -> float:
    """Return the milliseconds that SQLite takes to append a row, and to have it safe."""
    database = sqlite3.connect(folder / f"bare-{time.monotonic_ns()}.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA synchronous = {sync}")
    database.execute("CREATE TABLE journal (key TEXT, version INTEGER, entry BLOB, PRIMARY KEY (key, version))")
    began = time.perf_counter()
    for number in range(STEPS):
        database.execute("INSERT INTO journal VALUES ('timed', ?, ?)", (number, b"x" * 100))
    took = time.perf_counter() - began
    database.close()
    return took / STEPS * 1000


async def step_ms() -> Figure:
    """A step that does nothing, beside one bare append of SQLite that is as safe; medians of turns."""
    pairs: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for _ in range(TURNS):
            pairs.append((_appends(folder, "full"), await _steps(folder, "full")))
            plain.append((_appends(folder, "normal"), await _steps(folder, "normal")))
    ratio = sorted(ours / bare for bare, ours in pairs)[TURNS // 2]
    bare, ours = (sorted(found)[TURNS // 2] for found in zip(*pairs, strict=True))
    normal = [sorted(found)[TURNS // 2] for found in zip(*plain, strict=True)]
    more = {"normal_append_ms": normal[0], "normal_step_ms": normal[1], **_dbos()}
    return Figure(value=ours, unit="ms", limit=bare, ratio=ratio, reach=3.0, better="lower", more=more)


_DBOS = """
import sys, time
from dbos import DBOS
DBOS(config={"name": "bench", "system_database_url": "sqlite:///" + sys.argv[1], "log_level": "ERROR"})
@DBOS.step()
def step(number):
    return 1
@DBOS.workflow()
def flow(steps):
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    return (time.perf_counter() - began) / steps * 1000
DBOS.launch()
flow(20)
print("MS", flow(int(sys.argv[2])), flush=True)
DBOS.destroy()
"""


def _dbos() -> dict[str, float]:
    """Return what a step of DBOS takes, on SQLite, if ``BENCH_DBOS`` names a Python in whose environment it is."""
    python = os.environ.get("BENCH_DBOS")
    if python is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", _DBOS, f"{folder}/dbos.sqlite", str(STEPS)]
        environment = {"PATH": os.environ["PATH"], "HOME": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return {"dbos_step_ms": float(done.stdout.split("MS ", 1)[1].split()[0])}


FIGURES = {"repeated": repeated, "wrong": wrong, "step_ms": step_ms}


if __name__ == "__main__":
    _child(sys.argv[1])
