"""Agents whose process is killed: nothing that was acknowledged is lost, whenever it happens."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from agents.durability import SqliteStorage, history, replay
from supervision import Runtime
from supervision.testing import VirtualClockLoop, advance, run
from tests.agents import kill9_outbox
from tests.agents.kill9 import Counter


@pytest.mark.once
@pytest.mark.parametrize("journal", [False, True])
def test_no_acknowledged_commit_is_lost(tmp_path: Path, journal: bool) -> None:
    """Killed ten times at any point, three agents always come back with all that was acknowledged, whole."""
    path = tmp_path / "agents.db"
    chance = random.Random(7)
    acknowledged = {0: 0, 1: 0, 2: 0}
    command = [sys.executable, "-m", "tests.agents.kill9", str(path), *(["journal"] if journal else [])]
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            begun = [int(word) for word in process.stdout.readline().split()[1:]]
            for number, count in enumerate(begun):
                assert acknowledged[number] <= count <= acknowledged[number] + 1
            for _ in range(chance.randrange(1, 60)):
                number, count = map(int, process.stdout.readline().split())
                acknowledged[number] = count
            process.kill()
            for line in process.stdout:
                if line.endswith("\n"):  # the last one may be cut short
                    number, count = map(int, line.split())
                    acknowledged[number] = count
    assert sum(acknowledged.values()) > 100
    if journal:

        async def whole() -> None:
            storage = SqliteStorage(path)
            for number, count in acknowledged.items():
                agent = await replay(storage, Counter, str(number))
                assert agent.state.n == agent.version >= count
                assert len(await history(storage, f"/Counter/{number}")) == agent.version
            storage.close()

        run(whole())


@pytest.mark.once
def test_D002_what_was_decided_is_done_once_whenever_its_process_is_killed(tmp_path: Path) -> None:
    """Killed at any point: all that was acknowledged was told, each number once and in order; each timer came once."""
    path, chance, acknowledged = tmp_path / "agents.db", random.Random(11), 0
    command = [sys.executable, "-m", "tests.agents.kill9_outbox", str(path)]
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(2, 40)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            for line in process.stdout:
                acknowledged = int(line) if line.endswith("\n") else acknowledged

    async def drained() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        loop.set_wall_time(
            path.stat().st_mtime + 10.0
        )  # what the processes have set is due by the clock of the machine
        storage = SqliteStorage(path)
        async with Runtime(watchdog=None, reports=False) as runtime:
            source, sink = await kill9_outbox.both(runtime, storage)
            await advance(5.0)
            count = source.state.n
            assert count >= acknowledged > 10
            assert sink.state.told == tuple(range(1, count + 1))
            assert source.state.ticks == count
        storage.close()

    run(drained())


@pytest.mark.once
def test_a_service_under_load_keeps_its_word_whenever_it_is_killed() -> None:
    """As its receiver of effects and those who ask for orders have it: a few rounds of the campaign."""
    command = [sys.executable, "-m", "bench", "crash", "--agents", "--kills", "6", "--seed", "5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found = {name: figure["value"] for name, figure in json.loads(done.stdout).items()}
    assert found["kills"] == 6
    assert found["effects"] > 0
    none = ("lost", "done_twice", "timers_lost", "timers_early", "unbalanced", "refused_done", "dead", "stuck")
    assert {name: found[name] for name in none} == dict.fromkeys(none, 0)
