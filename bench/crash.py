"""Suite ``crash``: a process that commits transactions on a disk that fails is killed with SIGKILL, thousands of times.

What it was told of each of them, done or not done, it has told its parent through a pipe. After each kill the parent
reads the file: each transaction that was acknowledged has to be there, none that was refused, and none in part. The
disk is full, fails, takes nothing that is to be safe, or is slow, in most processes; some are killed in the middle of a
fold, and in each the store is killed and restarted now and then.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from bench.faulty_disk import TROUBLES, FaultyDisk
from foundation.store import Database, OutcomeUnknown, Store
from foundation.store.file import StoreFile
from foundation.store.keys import decoded_key
from supervision import ChildSpec, Runtime, Supervisor

#: So many write at the same time, each its own row in two tables.
WRITERS = 8
#: The journal is folded so often that kills meet it, too.
FOLD_AFTER = 10
#: What is told of a commit: who, and its number; of one that was not done, with `REFUSED` added to who.
ACK = struct.Struct(">II")
REFUSED = 1 << 31
#: Seconds for which a process commits, on the average.
LIFE = 0.02
#: So many processes have a file, one after the other.
ROUNDS_PER_FILE = 40


def main(seed: int, kills: int, *, as_json: bool, sync: str) -> int:
    """Run the campaign and print its figures."""
    draw = random.Random(seed)
    found = StoreCampaign()
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for n in range(kills):
            found.round(found.path(Path(folder), n), draw, sync)
            if n % 20 == 0:
                left = (perf_counter() - began) / (n + 1) * (kills - n)
                line = f"{n}/{kills} kills, {found.acknowledged} acknowledged, {found.lost} lost, {left:.0f} s left"
                print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
    print(f"\r{'':<79}\r", end="", file=sys.stderr)
    figures: dict[str, Any] = {
        "kills": {"value": kills, "unit": "kills"},
        **found.figures(),
        "kills_per_s": {"value": kills / (perf_counter() - began), "unit": "kills/s"},
    }
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        for name, figure in figures.items():
            print(f"{name:<14}{figure['value']:>12,.6g} {figure['unit']}")
    return 1 if found.failed else 0


class Campaign:
    """What was found so far."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.lost = 0
        self.torn = 0
        self.replayed = 0
        self.unfinished = 0
        self.last = [0] * WRITERS

    @property
    def failed(self) -> bool:
        """Whether anything was found that should not be."""
        return bool(self.lost or self.torn)

    def figures(self) -> dict[str, Any]:
        """Return what was found, by name."""
        return {
            "acknowledged": {"value": self.acknowledged, "unit": "transactions"},
            "lost": {"value": self.lost, "unit": "transactions"},
            "torn": {"value": self.torn, "unit": "transactions"},
            "replayed": {"value": self.replayed, "unit": "transactions"},
            "unfinished": {
                "value": self.unfinished,
                "unit": "kills that left the begin of a write, which was left out",
            },
        }

    def path(self, folder: Path, n: int) -> Path:
        """Return the file for a process."""
        return folder / "store.db"

    def round(self, path: Path, draw: random.Random, sync: str) -> None:
        """Let a process commit, kill it, and look at what is there."""
        reading, writing = os.pipe()
        self.prepare(draw)
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setpgid(0, 0)
            try:
                asyncio.run(self.commit_for_ever(path, writing, sync))
            finally:
                os._exit(1)  # its disk did not let it start
        os.close(writing)
        select.select([reading], [], [], 10.0)  # until it is open, and has committed something
        alive = draw.expovariate(1 / LIFE)
        deadline = perf_counter() + alive
        acks = bytearray()
        while (left := deadline - perf_counter()) > 0 and select.select([reading], [], [], left)[0]:
            more = os.read(reading, 65536)
            if not more:
                break
            acks += more
        os.kill(child, signal.SIGKILL)
        while more := os.read(reading, 65536):
            acks += more
        os.close(reading)
        os.waitpid(child, 0)
        self.look(path, [*_acks(acks)])

    def prepare(self, draw: random.Random) -> None:
        """Decide on what the next process is to meet."""

    async def commit_for_ever(self, path: Path, pipe: int, sync: str) -> None:
        """Commit, and tell of each commit when it was acknowledged. Never returns."""
        raise NotImplementedError

    def look(self, path: Path, acks: list[tuple[int, int]]) -> None:
        """Look at what is there."""
        raise NotImplementedError


class StoreCampaign(Campaign):
    """The same, of a store."""

    def __init__(self) -> None:
        super().__init__()
        self.lies_done = 0
        self.lies_lost = 0
        self.refused = 0
        self._injected = mmap.mmap(-1, 64)
        self._acknowledged: set[tuple[int, int]] = set()
        self._refused: set[tuple[int, int]] = set()
        self._wrong: set[tuple[int, int]] = set()
        self._where: Path | None = None
        self._seed = 0
        self._trouble: Any = "none"
        self._in_place = False

    @property
    def failed(self) -> bool:
        """Whether anything was found that should not be."""
        return bool(super().failed or self.lies_done or self.lies_lost)

    def figures(self) -> dict[str, Any]:
        """Return what was found, by name."""
        failures, in_folds = struct.unpack_from("QQ", self._injected, 0)
        return {
            **super().figures(),
            "refused": {"value": self.refused, "unit": "transactions that were told not to be done"},
            "io_failures": {"value": failures, "unit": "failures of writes and syncs that were injected"},
            "kills_in_folds": {"value": in_folds, "unit": "kills in the middle of a fold"},
            "lies_done": {"value": self.lies_done, "unit": "transactions told not to be done, and found"},
            "lies_lost": {"value": self.lies_lost, "unit": "transactions acknowledged, and missing"},
        }

    def path(self, folder: Path, n: int) -> Path:
        """Return the file for a process; now and then a new one."""
        path = folder / str(n // ROUNDS_PER_FILE) / "store.db"
        if path != self._where:
            if self._where is not None:
                shutil.rmtree(self._where.parent)
            self._where, self.last = path, [0] * WRITERS
            for known in (self._acknowledged, self._refused, self._wrong):
                known.clear()
        return path

    def prepare(self, draw: random.Random) -> None:
        """Decide on what the next process is to meet, and whether the file is looked at in its place."""
        self._seed = draw.getrandbits(32)
        self._trouble = draw.choice(TROUBLES)
        self._in_place = draw.random() < 0.3

    async def commit_for_ever(self, path: Path, pipe: int, sync: str) -> None:
        """Commit, and tell of each commit what came of it. Never returns."""
        disk = FaultyDisk(self._seed, self._trouble, self._injected)
        disk.install()
        draw = random.Random(self._seed)
        tables = ["a", "b", "filling", "log"]
        options = {"sync": sync, "fold_after": FOLD_AFTER, "disk": disk}
        async with Runtime(watchdog=None, reports=False) as runtime:
            store = ChildSpec("store", Store, (path, tables), options, name="store")
            await runtime.spawn(Supervisor, [store], max_restarts=1_000_000)
            database = Database.of(runtime)
            writers = [write_for_ever(database, writer, self.last[writer], pipe) for writer in range(WRITERS)]
            await asyncio.gather(restart_for_ever(runtime, draw), *writers)

    def look(self, path: Path, acks: list[tuple[int, int]]) -> None:
        """Look at what is there: in its place, or at a copy, so that the next process finds it as it was left."""
        if self._in_place or not path.exists():
            self._look(path, acks)
        else:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(path.parent, Path(folder, "copy"))
                self._look(Path(folder, "copy", path.name), acks)

    def _look(self, path: Path, acks: list[tuple[int, int]]) -> None:
        file = StoreFile(path, fold_after=FOLD_AFTER)
        file.close()
        content = file.content
        one, two = ({k: msgspec.msgpack.decode(v) for k, v in content.rows.get(name, {}).items()} for name in "ab")
        done = {(who, number) for who, number in acks if who < REFUSED}
        refused = {(who - REFUSED, number) for who, number in acks if who >= REFUSED}
        self.acknowledged += len(done)
        self.refused += len(refused)
        self.replayed += content.replayed
        self.unfinished += not content.tail.clean
        self._compare(done, refused, {decoded_key(key) for key in content.rows.get("log", {})})
        for writer in range(WRITERS):
            key = msgspec.msgpack.encode(writer)
            last = max((number for who, number in done if who == writer), default=0)
            there = one.get(key, 0)
            self.torn += there != two.get(key, 0)
            self.lost += max(0, last - there)
            told = max((number for who, number in refused if who == writer), default=0)
            self.last[writer] = max(there, last, told, self.last[writer]) + 100  # those whose outcome nobody was told

    def _compare(self, done: set[tuple[int, int]], refused: set[tuple[int, int]], there: set[Any]) -> None:
        self._acknowledged |= done
        self._refused |= refused
        missing, found = self._acknowledged - there - self._wrong, (self._refused & there) - self._wrong
        self.lies_lost += len(missing)
        self.lies_done += len(found)
        self._wrong |= missing | found


def _acks(content: bytearray) -> Iterator[tuple[int, int]]:
    return ACK.iter_unpack(content[: len(content) // ACK.size * ACK.size])


async def write_for_ever(database: Database, writer: int, number: int, pipe: int) -> None:
    """Commit, and tell of each commit what came of it. Never returns."""
    while True:
        number += 1
        try:
            async with database.transaction() as tx:
                tx.put("a", writer, number)
                if number % 3 == 0:
                    tx.put("filling", writer, bytes(number * 7919 % 100_000))  # many pages: kills meet half of them
                tx.put("log", (writer, number), None)
                tx.put("b", writer, number)
            os.write(pipe, ACK.pack(writer, number))
        except OutcomeUnknown:
            pass  # nothing was told
        except Exception:
            os.write(pipe, ACK.pack(writer + REFUSED, number))
            await asyncio.sleep(0)


async def restart_for_ever(runtime: Runtime, draw: random.Random) -> None:
    """Kill the store, or its writer, now and then. Never returns."""
    while True:
        await asyncio.sleep(draw.expovariate(50))
        ends = [ref for ref in runtime.actors() if ref.kind.__name__ in ("Store", "Writer")]
        if ends:
            draw.choice(ends).kill()
