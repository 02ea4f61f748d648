"""A tree that runs: started in order, stopped in order, and ended by force if it must be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from foundation.events import Serving
from foundation.tree.load import DEFAULT, load_tree
from foundation.tree.optional import LeftOutPart, leave_out, left_out
from foundation.tree.tree import Tree
from supervision import SHUTDOWN, ExitReason, Ref, Runtime, events, supervisor_info
from supervision.errors import NotRunning


class RunningTree:
    """A tree in a runtime.

    Args:
        tree: what to start.
        runtime: where.
    """

    def __init__(self, tree: Tree, runtime: Runtime) -> None:
        self.tree = tree
        self.runtime = runtime
        #: Under which URLs actors of the tree serve, by their paths.
        self.urls: dict[str, str] = {}
        self._root: Ref | None = None
        self._gave_up: events.GaveUp | None = None
        runtime.subscribe(self._note, Serving, events.GaveUp)
        leave_out(runtime, *tree.left_out)

    def _note(self, event: Serving | events.GaveUp) -> None:
        if isinstance(event, Serving):
            self.urls[event.path] = event.url
        elif event.path == f"/{self.tree.id}":
            self._gave_up = event

    @property
    def root(self) -> Ref:
        """The root supervisor.

        Raises:
            NotRunning: the tree has not been started.
        """
        if self._root is None:
            raise NotRunning("the tree has not been started")
        return self._root

    @property
    def left_out(self) -> tuple[LeftOutPart, ...]:
        """The optional parts that do not run."""
        return left_out(self.runtime)

    async def start(self) -> None:
        """Start the tree, and wait until all of it runs.

        Raises:
            StartError: something in it did not start; all the rest has been stopped again.
        """
        spec = self.tree.root
        kind = spec.kind
        assert kind is not None
        begun = self.runtime.begin(kind, tuple(spec.args), dict(spec.kwargs), name=spec.name, label=spec.id)
        self._root = begun
        assert begun.starting is not None  # a supervisor's start waits
        await begun.starting

    async def join(self) -> ExitReason:
        """Wait until the tree has ended, and return why."""
        return await self.root.join()

    @property
    def gave_up(self) -> str:
        """Why the root gave up, in one line; empty if it did not."""
        event = self._gave_up
        if event is None:
            return ""
        budget = f"more than {event.allowed} restarts in {event.seconds:g} s"
        return f"{event.path} gave up: {budget}; last, child {event.id!r} ended: {event.reason}"

    async def stop(self, limit: float) -> tuple[str, ...]:
        """Stop the tree in order; end it by force when ``limit`` seconds are over.

        Returns:
            The paths of the actors that had to be ended by force; none after a clean stop.
        """
        root = self._root
        if root is None or root.reason is not None:
            return ()
        self._give_up_starting()
        stopping = asyncio.ensure_future(self.runtime.shut_down(root, "infinity"))
        if await self.runtime.scheduler.wait(stopping, limit):
            return ()
        return self.force()

    def _give_up_starting(self) -> None:
        """End what still starts: its supervisors cannot be told to stop before, and then stop the rest in order."""
        for ref in self.runtime.actors():
            info = self.runtime.info(ref)
            if info is not None and info.state == "starting" and supervisor_info(ref) is None:
                ref.exit(SHUTDOWN)

    def force(self) -> tuple[str, ...]:
        """End all actors at once, and return their paths."""
        running = [ref for ref in self.runtime.actors() if ref.reason is None]
        for ref in running:
            ref.kill()
        return tuple(ref.path for ref in running)


@asynccontextmanager
async def running_tree(
    source: object = DEFAULT,
    *,
    values: Mapping[str, object] | None = None,
    without: Collection[str] = (),
    shutdown_timeout: float = 30.0,
    **options: Any,
) -> AsyncGenerator[RunningTree]:
    """Run a tree inside somebody's event loop: a web application's lifespan, a worker, a notebook.

    Nothing is installed in the process: no signal handlers, no logging, no loop.

    Args:
        source: the tree; see `load_tree`.
        values: what ``${name}`` in a file's arguments stands for.
        without: paths below the root of parts to do without, such as ``http`` where there is a web server already.
        shutdown_timeout: seconds that the tree has to stop in order when the block is left.
        options: for `Runtime`.

    Raises:
        TreeError: something is wrong with the tree; nothing was started.
        StartError: something in it did not start.

    >>> import asyncio
    >>> from supervision import Actor, ChildSpec
    >>> async def main() -> bool:
    ...     async with running_tree([ChildSpec("worker", Actor)]) as tree:
    ...         return tree.runtime.find("/tree/worker").alive
    >>> asyncio.run(main())
    True
    """
    tree = load_tree(source, values=values, without=without)
    async with Runtime(**options) as runtime:
        running = RunningTree(tree, runtime)
        try:
            await running.start()
            yield running
        finally:
            await running.stop(shutdown_timeout)
