"""Conservation: what has arrived was handled, was dropped with a reason, or waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from supervision import Actor, ChildSpec, Mailbox, MailboxFull, Message, Runtime, Supervisor, handle, system
from supervision.testing import Chaos, ChaosPlan, Crash, Drop, Duplicate, Hang, Kill, Ledger, SeededQueue, run, settled
from supervision.testing.fault_injection.faults import AnyFault
from tests.supervision.probes import DoAndReply, Note, Probe


class Roomy(Probe):
    """A puppet with room for two, where senders wait."""

    mailbox = Mailbox(capacity=2)


class Strict(Probe):
    """A puppet with room for two, where senders are refused."""

    mailbox = Mailbox(capacity=2, overflow="refuse")


@pytest.fixture
async def ledger(runtime: Runtime) -> AsyncIterator[Ledger]:
    """A ledger of the runtime."""
    made = Ledger(runtime)
    yield made
    assert made.violations() == []
    made.close()


async def test_what_is_handled_what_waits_and_what_is_dropped_add_up(runtime: Runtime, ledger: Ledger) -> None:
    puppet = await runtime.spawn(Probe, name="p")
    message = Note("the same object")
    for _ in range(3):
        puppet.cast(message)
    assert await puppet.call(DoAndReply(lambda actor: "requests do not count")) is not None
    await system.suspend(puppet)
    puppet.cast(Note("waits"))
    puppet.cast(message)
    assert ledger.accounts() == {"/p": {"arrived": 5, "handled": 3, "dropped": 0, "waiting": 2}}
    puppet.kill()
    puppet.cast(Note("too late"))
    assert ledger.accounts() == {"/p": {"arrived": 6, "handled": 3, "dropped": 3, "waiting": 0}}


async def test_senders_who_wait_are_refused_or_give_up_are_counted_right(runtime: Runtime, ledger: Ledger) -> None:
    roomy, strict = await runtime.spawn(Roomy, name="r"), await runtime.spawn(Strict, name="s")
    for ref in (roomy, strict):
        await system.suspend(ref)
        for n in range(2):
            await ref.send(Note(n))
    waiting = [asyncio.ensure_future(roomy.send(Note(n))) for n in range(2)]
    with pytest.raises(MailboxFull):
        await strict.send(Note(3))
    strict.cast(Note("dropped"))
    await settled(runtime)
    assert ledger.accounts()["/r"] == {"arrived": 4, "handled": 0, "dropped": 0, "waiting": 4}
    waiting[0].cancel()
    await settled(runtime)
    for ref in (roomy, strict):
        await system.resume(ref)
    await settled(runtime)
    assert ledger.accounts()["/r"] == {"arrived": 3, "handled": 3, "dropped": 0, "waiting": 0}
    assert ledger.accounts()["/s"] == {"arrived": 3, "handled": 2, "dropped": 1, "waiting": 0}


async def test_a_message_that_vanishes_is_found(runtime: Runtime) -> None:
    plain = type(await runtime.spawn(Probe))
    ledger = Ledger(runtime)
    puppet = await runtime.spawn(Probe, name="p")
    puppet.cast(Note(1))
    puppet.cast(Note(2))
    puppet.box.clear()  # type: ignore[attr-defined]
    await settled(runtime)
    (violation,) = ledger.violations()
    assert violation.check == "conservation"
    assert "'arrived': 2, 'handled': 1, 'dropped': 0, 'waiting': 0" in violation.what
    ledger.close()
    assert type(puppet) is plain
    puppet.cast(Note(3))
    await settled(runtime)
    assert ledger.accounts()["/p"]["arrived"] == 2


def test_nothing_is_lost_unnoticed_under_chaos() -> None:
    async def main(seed: int) -> dict[str, Any]:
        async with Runtime(watchdog=None, reports=False, run_queue=SeededQueue(seed)) as runtime:
            ledger = Ledger(runtime)
            specs = [ChildSpec(n, Chatter, name=f"c{n}") for n in range(5)]
            await runtime.spawn(Supervisor, specs, name="top", max_restarts=100)
            faults: list[AnyFault] = [Kill(), Crash(), Hang(1), Drop(0.5), Duplicate(0.5)]
            async with Chaos(runtime) as chaos:
                report = await chaos.run(ChaosPlan.random(runtime, seed, faults=faults, steps=60, seconds=30))
            assert report.kills > 5
            assert ledger.violations() == []
            return ledger.accounts()["/top/0"]

    accounts = [run(main(seed)) for seed in range(5)]
    assert all(account["handled"] > 100 for account in accounts)
    assert sum(account["dropped"] for account in accounts) > 0


class Tick(Message, frozen=True):
    """Time to say something to all."""


class Chatter(Actor):
    """Sends messages to all, itself included."""

    def init(self) -> None:
        """Begin to talk."""
        self.send_interval(0.1, Tick())

    @handle
    def tick(self, message: Tick) -> None:
        """Talk."""
        for n in range(5):
            self.runtime.name(f"c{n}").cast(Note(n))

    @handle
    def hear(self, message: Note) -> None:
        """Listen."""
