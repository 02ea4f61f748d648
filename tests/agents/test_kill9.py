"""Agents whose process is killed: nothing that was acknowledged is lost, whenever it happens."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from agents.durability import SqliteStorage, history, replay
from supervision.testing import run
from tests.agents.kill9 import Counter


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
