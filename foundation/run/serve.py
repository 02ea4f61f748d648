"""Keeping a tree running: up, until a signal comes or the tree ends, and down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec

from foundation.access import Access
from foundation.run.chaos import ChaosSettings, LiveChaos, opted_in
from foundation.run.console import Boot, Console
from foundation.run.notify import notify
from foundation.run.signals import StopSignals
from foundation.tree import RunningTree, Tree, explain
from supervision import Carrier, ChildSpec, Runtime, StartError, Supervisor


class Outcome(msgspec.Struct, frozen=True):
    """How a run ended.

    Attributes:
        status: the exit status of the process.
        reason: why the tree failed; empty if it did not.
        forced: whether code had to be ended by force, and may still run.
    """

    status: int
    reason: str = ""
    forced: bool = False


class Service:
    """One run of a tree.

    Args:
        tree: what to run.
        console: where to tell of it.
        signals: what asks for its end.
        shutdown_timeout: seconds that the tree has to stop in order.
        chaos: faults to be let in when the tree is up; None for none.
        carrier: what goes along with messages.
        access: who may ask over HTTP.
    """

    def __init__(
        self,
        tree: Tree,
        console: Console,
        signals: StopSignals,
        shutdown_timeout: float,
        chaos: ChaosSettings | None = None,
        carrier: Carrier | None = None,
        access: Access | None = None,
    ) -> None:
        self._access = Access() if access is None else access
        self._tree = tree
        self._console = console
        self._signals = signals
        self._limit = shutdown_timeout
        self._chaos = chaos
        self._carrier = carrier

    async def run(self) -> Outcome:
        """Start the tree, keep it running, and return how it ended."""
        async with Runtime(carrier=self._carrier) as runtime:
            runtime.shared[Access] = self._access
            running = RunningTree(self._tree, runtime)
            boot = self._console.watch(runtime, self._tree)
            began = runtime.clock.time()
            for part in self._tree.left_out:
                self._console.left_out(part)
            starting = asyncio.ensure_future(running.start())
            failure = await self._until_up(starting)
            if failure is not None:
                return failure
            if not self._signals.stop.is_set():
                await self._tell_up(running, runtime.clock.time() - began)
            boot.done()
            if self._chaos is not None:
                await self._let_chaos_in(runtime, self._chaos)
            return await self._until_down(running, boot)

    async def _until_up(self, starting: asyncio.Future[None]) -> Outcome | None:
        """Wait until the tree runs, or is to stop; return why it did not start."""
        await _first(starting, self._signals.stop.wait())
        if starting.done() and isinstance(error := starting.exception(), StartError):
            return Outcome(1, f"the tree did not start: {explain(error.reason)}")
        if starting.done():
            starting.result()
        return None

    async def _tell_up(self, running: RunningTree, seconds: float) -> None:
        for part in running.left_out[len(self._tree.left_out) :]:
            self._console.left_out(part)
        actors = running.runtime.statistics().actors
        line = f"\nup after {seconds:.2f} s with {actors} actors; Ctrl-C stops it\n"
        self._console.say(line, "up", seconds=round(seconds, 3), actors=actors)
        await self._console.where_to_look(running)
        self._console.say("", "ready")
        notify("READY=1")

    async def _let_chaos_in(self, runtime: Runtime, chaos: ChaosSettings) -> None:
        victims = opted_in(runtime, chaos.tag)
        if victims:
            what = f"on {len(victims)} actors that opted in{', dry' if chaos.dry else ''}; it is logged"
        else:
            what = f"nobody opted in so far; write tags = [{chaos.tag!r}] for a child"
        self._console.say(f"chaos: {what}", "chaos", victims=victims, dry=chaos.dry)
        child = ChildSpec("live", LiveChaos, (chaos,), restart="temporary")
        await runtime.spawn(Supervisor, [child], name="chaos")

    async def _until_down(self, running: RunningTree, boot: Boot) -> Outcome:
        """Wait until the tree has ended, by itself or because it is to stop."""
        await _first(running.join(), self._signals.stop.wait())
        if not self._signals.stop.is_set():
            return await self._ended(running)
        notify("STOPPING=1")
        boot.stopping()
        line = f"\n{self._signals.name}: stopping, within {self._limit:g} s; once more forces it"
        self._console.say(line, "stopping", signal=self._signals.name, limit=self._limit)
        stopping = asyncio.ensure_future(running.stop(self._limit))
        await _first(stopping, self._signals.force.wait(), cancel=False)
        forced = stopping.result() if stopping.done() else running.force()
        if not stopping.done():
            await stopping
        return self._stopped(forced)

    async def _ended(self, running: RunningTree) -> Outcome:
        reason = await running.join()
        if running.gave_up or not reason.clean:
            return Outcome(1, running.gave_up or f"the tree ended: {explain(reason)}")
        self._console.say(f"the tree has ended by itself: {reason}", "ended", reason=str(reason))
        return Outcome(0)

    def _stopped(self, forced: tuple[str, ...]) -> Outcome:
        if not forced:
            self._console.say("stopped", "stopped")
            return Outcome(0)
        why = "forced" if self._signals.force.is_set() else f"not stopped within {self._limit:g} s"
        return Outcome(1, f"{why}; ended by force: {', '.join(forced)}", forced=True)


async def _first(*waiting: Awaitable[Any], cancel: bool = True) -> None:
    """Wait for the first of these; let go of the others, but for those that are to go on."""
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks[0 if cancel else 1 :]:
            task.cancel()
