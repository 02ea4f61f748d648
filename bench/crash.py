"""Suite ``crash``: a process that commits transactions is killed with SIGKILL at random moments, thousands of times.

What it was told to be committed, it has told its parent through a pipe. After each kill the parent reads the file: each
transaction that was acknowledged has to be there, and none in part.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from foundation.store import Database, Store
from foundation.store.file import StoreFile
from supervision import Runtime

#: So many write at the same time, each its own row in two tables.
WRITERS = 8
#: The journal is folded so often that kills meet it, too.
FOLD_AFTER = 40
#: What is told of a commit: who, and its number.
ACK = struct.Struct(">II")


def main(seed: int, kills: int, *, as_json: bool, sync: str, found: Campaign | None = None) -> int:
    """Run the campaign and print its figures."""
    draw = random.Random(seed)
    found = found or Campaign()
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store.db")
        for n in range(kills):
            found.round(path, draw, sync)
            if n % 20 == 0:
                left = (perf_counter() - began) / (n + 1) * (kills - n)
                line = f"{n}/{kills} kills, {found.acknowledged} acknowledged, {found.lost} lost, {left:.0f} s left"
                print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
    print(f"\r{'':<79}\r", end="", file=sys.stderr)
    figures: dict[str, Any] = {
        "kills": {"value": kills, "unit": "kills"},
        "acknowledged": {"value": found.acknowledged, "unit": "transactions"},
        "lost": {"value": found.lost, "unit": "transactions"},
        "torn": {"value": found.torn, "unit": "transactions"},
        "replayed": {"value": found.replayed, "unit": "transactions"},
        "unfinished": {"value": found.unfinished, "unit": "kills that left the begin of a write, which was left out"},
        "kills_per_s": {"value": kills / (perf_counter() - began), "unit": "kills/s"},
    }
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        for name, figure in figures.items():
            print(f"{name:<14}{figure['value']:>12,.6g} {figure['unit']}")
    return 1 if found.lost or found.torn else 0


class Campaign:
    """What was found so far."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.lost = 0
        self.torn = 0
        self.replayed = 0
        self.unfinished = 0
        self.last = [0] * WRITERS

    def round(self, path: Path, draw: random.Random, sync: str) -> None:
        """Let a process commit, kill it, and look at what is there."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setpgid(0, 0)
            asyncio.run(self.commit_for_ever(path, writing, sync))
        os.close(writing)
        select.select([reading], [], [], 10.0)  # until it is open, and has committed something
        alive = draw.expovariate(1 / 0.01)
        deadline = perf_counter() + alive
        acks = bytearray()
        while (left := deadline - perf_counter()) > 0 and select.select([reading], [], [], left)[0]:
            acks += os.read(reading, 65536)
        os.kill(child, signal.SIGKILL)
        while more := os.read(reading, 65536):
            acks += more
        os.close(reading)
        os.waitpid(child, 0)
        self.look(path, [*_acks(acks)])

    async def commit_for_ever(self, path: Path, pipe: int, sync: str) -> None:
        """Commit, and tell of each commit when it was acknowledged. Never returns."""
        await commit_for_ever(path, pipe, sync, self.last)

    def look(self, path: Path, acks: list[tuple[int, int]]) -> None:
        """Look at what is there."""
        file = StoreFile(path, fold_after=FOLD_AFTER)
        file.close()
        content = file.content
        one, two = ({k: msgspec.msgpack.decode(v) for k, v in content.rows.get(name, {}).items()} for name in "ab")
        self.acknowledged += len(acks)
        self.replayed += content.replayed
        self.unfinished += not content.tail.clean
        for writer in range(WRITERS):
            key = msgspec.msgpack.encode(writer)
            last = max((number for who, number in acks if who == writer), default=self.last[writer])
            there = one.get(key, 0)
            self.torn += there != two.get(key, 0)
            self.lost += max(0, last - there)
            self.last[writer] = there


def _acks(content: bytearray) -> Iterator[tuple[int, int]]:
    return ACK.iter_unpack(content[: len(content) // ACK.size * ACK.size])


async def commit_for_ever(path: Path, pipe: int, sync: str, last: list[int]) -> None:
    """Commit, and tell of each commit when it was acknowledged. Never returns."""

    async def write(writer: int) -> None:
        number = last[writer]
        while True:
            number += 1
            async with database.transaction() as tx:
                tx.put("a", writer, number)
                if number % 3 == 0:
                    tx.put("filling", writer, bytes(number * 7919 % 100_000))  # many pages: kills meet half of them
                tx.put("b", writer, number)
            os.write(pipe, ACK.pack(writer, number))

    async with Runtime(watchdog=None, reports=False) as runtime:
        await runtime.spawn(Store, path, ["a", "b", "filling"], sync=sync, fold_after=FOLD_AFTER)
        database = Database.of(runtime)
        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
