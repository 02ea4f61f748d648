"""Keeping a tree running: up, until a signal comes or the tree ends, and down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from foundation.access import Access
from foundation.cluster import Cluster, ClusterError
from foundation.cluster.port import Port
from foundation.events import NodeDown, NodeUp, NodeWithdrawn
from foundation.run.chaos import ChaosSettings, LiveChaos, opted_in
from foundation.run.console import Boot, Console
from foundation.run.output import Output
from foundation.run.stopping import StopSignals
from foundation.run.systemd import ServiceManager
from foundation.telemetry.collectors import MetricSample
from foundation.tree import RunningTree, Tree, explain
from supervision import ChildSpec, Propagator, Runtime, StartError, Supervisor
from supervision.errors import NotRunning
from supervision.events import Event

_log: Any = structlog.get_logger("foundation.run")

#: Seconds after which a stop tells what it waits for, and again, and of how many at the most.
PATIENCE, NAMED = 5.0, 10
#: How often another thread tries to look at the actors while the loop changes them.
ATTEMPTS = 100


class RunOutcome(msgspec.Struct, frozen=True):
    """How a run ended.

    Attributes:
        status: the exit status of the process.
        reason: why the tree failed; empty if it did not.
        forced: whether code had to be ended by force, and may still run.
    """

    status: int
    reason: str = ""
    forced: bool = False


class Joining(msgspec.Struct, frozen=True):
    """A cluster to be joined.

    Attributes:
        servers: where it is.
        node: as which node.
        names: those of the tree that are shared.
    """

    servers: tuple[str, ...] | Port
    node: str
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:  # servers may have passwords
        return f"Joining(node={self.node!r}, names={self.names!r})"


class TreeRun:
    """One run of a tree.

    Args:
        tree: what to run.
        console: where to tell of it.
        signals: what asks for its end.
        shutdown_timeout: seconds that the tree has to stop in order.
        chaos: faults to be let in when the tree is up; None for none.
        propagator: what goes along with messages.
        outputs: those whose dropped lines are counted in the metrics.
        access: who may ask over HTTP.
        joining: the cluster that the runtime is in while the tree runs; None for none.
    """

    def __init__(
        self,
        tree: Tree,
        console: Console,
        signals: StopSignals,
        shutdown_timeout: float,
        chaos: ChaosSettings | None = None,
        propagator: Propagator | None = None,
        outputs: tuple[Output, ...] = (),
        access: Access | None = None,
        joining: Joining | None = None,
    ) -> None:
        self._joining = joining
        self._access = Access() if access is None else access
        self._tree = tree
        self._console = console
        self._signals = signals
        self._limit = shutdown_timeout
        self._chaos = chaos
        self._outputs = DroppedLines(outputs)
        self._runtime = Runtime(propagator=propagator)

    def unended(self) -> tuple[str, ...]:
        """Return the paths of the actors that have not ended, or whose code still runs. Any thread may ask."""
        return _unended(self._runtime)

    async def run(self) -> RunOutcome:
        """Start the tree, keep it running, and return how it ended."""
        self._signals.listen()
        async with self._runtime as runtime:
            runtime.shared[DroppedLines] = self._outputs
            runtime.shared[Access] = self._access
            manager = ServiceManager.of(runtime)
            if self._joining is None:
                outcome = await self._run(runtime, manager)
            else:
                outcome = await self._run_as_node(runtime, manager, self._joining)
        left = _unended(runtime)
        if not left and outcome.status == 0 and self._signals.stop.is_set():
            self._console.say("stopped", "stopped")
        if not left or outcome.forced:
            return outcome
        why = outcome.reason or "the tree has stopped"
        return RunOutcome(1, f"{why}; what would not end, and is ended by force: {', '.join(left)}", forced=True)

    async def _run_as_node(self, runtime: Runtime, manager: ServiceManager, joining: Joining) -> RunOutcome:
        """Run the tree as a node of a cluster, which is left when the tree has ended."""
        node = joining.node
        cluster = Cluster(runtime, joining.servers, node=node, names=joining.names)
        runtime.subscribe(_log_node, NodeUp, NodeDown)
        self._console.say(f"joining the cluster as node {node} ...", "joining", node=node)
        withdrawn: list[str] = []

        def withdraw(event: Event) -> None:
            assert isinstance(event, NodeWithdrawn)
            withdrawn.append(event.why)
            self._signals.ask(f"node {node} is withdrawn")

        runtime.subscribe(withdraw, NodeWithdrawn)
        entering = asyncio.ensure_future(cluster.__aenter__())
        await _first(entering, self._signals.stop.wait(), cancel=False)
        if not entering.done():
            self._console.say(
                f"\n{self._signals.name}: stopping; node {node} had not joined yet",
                "stopping",
                signal=self._signals.name,
            )
            entering.cancel()
            await asyncio.wait([entering])
            return _outcome_of(node, withdrawn, RunOutcome(0))
        if isinstance(error := entering.exception(), ClusterError):
            return RunOutcome(1, f"node {node} did not join the cluster: {error}")
        entering.result()
        self._console.say(
            f"node {node} has joined, as its process number {cluster.identity.epoch}", "joined", node=node
        )
        try:
            outcome = await self._run(runtime, manager)
        finally:
            await cluster.__aexit__(None, None, None)
        return _outcome_of(node, withdrawn, outcome)

    async def _run(self, runtime: Runtime, manager: ServiceManager) -> RunOutcome:
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
            manager.tell("READY=1")
            await _first(self._tell_up(running, runtime.clock.time() - began), self._signals.stop.wait())
        boot.done()
        if self._chaos is not None:
            await self._let_chaos_in(runtime, self._chaos)
        return await self._until_down(running, boot, manager)

    async def _until_up(self, starting: asyncio.Future[None]) -> RunOutcome | None:
        """Wait until the tree runs, or is to stop; return why it did not start."""
        await _first(starting, self._signals.stop.wait(), cancel=False)
        if starting.done() and isinstance(error := starting.exception(), StartError):
            return RunOutcome(1, f"the tree did not start: {explain(error.reason)}")
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

    async def _let_chaos_in(self, runtime: Runtime, chaos: ChaosSettings) -> None:
        victims = opted_in(runtime, chaos.tag)
        if victims:
            what = f"on {len(victims)} actors that opted in{', dry' if chaos.dry else ''}; it is logged"
        else:
            what = f"nobody opted in so far; write tags = [{chaos.tag!r}] for a child"
        self._console.say(f"chaos: {what}", "chaos", victims=victims, dry=chaos.dry)
        child = ChildSpec("live", LiveChaos, (chaos,), restart="temporary")
        await runtime.spawn(Supervisor, [child], name="chaos")

    async def _until_down(self, running: RunningTree, boot: Boot, manager: ServiceManager) -> RunOutcome:
        """Wait until the tree has ended, by itself or because it is to stop."""
        await _first(running.join(), self._signals.stop.wait())
        if not self._signals.stop.is_set():
            return await self._ended(running)
        manager.tell("STOPPING=1")
        boot.stopping()
        line = f"\n{self._signals.name}: stopping, within {self._limit:g} s; once more ends it at once"
        self._console.say(line, "stopping", signal=self._signals.name, limit=self._limit)
        reminder = running.runtime.scheduler.timers.after(PATIENCE, lambda: self._still_stopping(running), PATIENCE)
        try:
            return self._stopped(await running.stop(self._limit))
        finally:
            reminder.cancel()

    def _still_stopping(self, running: RunningTree) -> None:
        """Tell what the stop waits for: the actors without children, as the others wait for theirs."""
        left = self.unended()
        ends = [path for path in left if not any(other.startswith(path + "/") for other in left)]
        line = f"still stopping; waits for {', '.join(ends[:NAMED])}{' and others' if len(ends) > NAMED else ''}"
        self._console.say(line, "still_stopping", actors=ends[:NAMED], left=len(left))

    async def _ended(self, running: RunningTree) -> RunOutcome:
        reason = await running.join()
        if running.gave_up or not reason.clean:
            return RunOutcome(1, running.gave_up or f"the tree ended: {explain(reason)}")
        self._console.say(f"the tree has ended by itself: {reason}", "ended", reason=str(reason))
        return RunOutcome(0)

    def _stopped(self, forced: tuple[str, ...]) -> RunOutcome:
        if not forced:
            return RunOutcome(0)
        return RunOutcome(1, f"not stopped within {self._limit:g} s; ended by force: {', '.join(forced)}", forced=True)


def _outcome_of(node: str, withdrawn: list[str], outcome: RunOutcome) -> RunOutcome:
    """Return how the run of a node ended: it is to be started again if it has been withdrawn."""
    if not withdrawn:
        return outcome
    why = f"node {node} takes no part in the cluster any more: {withdrawn[0]}; start it again"
    return RunOutcome(1, f"{why}; {outcome.reason}" if outcome.reason else why, outcome.forced)


def _log_node(event: Event) -> None:
    if isinstance(event, NodeDown):
        _log.warning("node_down", node=event.node, epoch=event.epoch, why=event.why)
    else:
        assert isinstance(event, NodeUp)
        _log.info("node_up", node=event.node, epoch=event.epoch)


class DroppedLines:
    """What is kept for the metrics: how many lines nobody read."""

    def __init__(self, outputs: tuple[Output, ...]) -> None:
        self._outputs = outputs

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers of all."""
        total = sum(output.dropped for output in self._outputs)
        text = "Lines of the log and of the output that nobody read."
        yield MetricSample("output_lines_dropped", text, "counter", (), total)


def _unended(runtime: Runtime) -> tuple[str, ...]:
    for _ in range(ATTEMPTS):
        with suppress(RuntimeError, NotRunning):  # the loop, in another thread, has changed what is looked at here
            zombies = [zombie.ref for zombie in runtime.zombies()]
            return tuple(ref.path for ref in dict.fromkeys([*runtime.actors(), *zombies]))
    return ()


async def _first(*waiting: Awaitable[Any], cancel: bool = True) -> None:
    """Wait for the first of these; let go of the others, but for those that are to go on."""
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks[0 if cancel else 1 :]:
            task.cancel()
