"""The figure ``bus`` of the suite ``agents``: signals kept, delivered and acknowledged, beside appends to SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path

from agents import Signal
from agents.durability import SqliteStorage
from agents.signals import Bus, Delivery, publish, subscribe
from bench.figure import Figure, compare, timed
from supervision import Actor, Runtime, handle

SIGNALS = 6_000
PUBLISHERS = 100


class Billing(Actor):
    """Acknowledges what it gets, and says when it has got all."""

    def __init__(self, expected: int, done: asyncio.Event) -> None:
        self._left = expected
        self._done = done

    @handle
    def bill(self, delivery: Delivery) -> None:
        """Acknowledge."""
        delivery.ack()
        self._left -= 1
        if not self._left:
            self._done.set()


async def bus() -> Figure:
    """Signals a second of a hundred publishers, each kept before its publisher is answered, and acknowledged.

    Beside it: plain appends of as many bytes, each committed by itself, as writers without a bus would do it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        count = 0

        async def ours() -> float:
            nonlocal count
            count += 1
            storage = SqliteStorage(path / f"bus{count}.db")
            async with Runtime(reports=False, watchdog=None) as runtime:
                done = asyncio.Event()
                address = await runtime.spawn(Bus, storage, name="bus")
                await runtime.spawn(Billing, SIGNALS, done, name="billing")
                await subscribe(address, "order.*", runtime.name("billing"), name="billing")

                async def publisher(number: int) -> None:
                    for n in range(SIGNALS // PUBLISHERS):
                        await publish(address, signal(f"{number}/{n}"))

                async def work() -> None:
                    await asyncio.gather(*map(publisher, range(PUBLISHERS)))
                    await done.wait()

                took = await timed(work)
            storage.close()
            return SIGNALS / took

        async def raw() -> float:
            database = sqlite3.connect(path / f"raw{count}.db", isolation_level=None)
            database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
            database.execute("CREATE TABLE IF NOT EXISTS log (body)")

            async def work() -> None:
                for n in range(SIGNALS):
                    database.execute("INSERT INTO log VALUES (?)", (signal(str(n)).id.encode() + b"x" * 100,))

            took = await timed(work)
            database.close()
            return SIGNALS / took

        return await compare(ours, raw, unit="signals/s", reach=0.3, repeats=3)


def signal(id: str) -> Signal:
    """Return a signal."""
    return Signal(type="order.placed", source="/shop", id=id, data={"amount": 3, "currency": "EUR"})
