"""Contractors: programs that bid for the tasks of a `dspex.teams.ContractNet`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

import anyio

from dspex._compat import is_infrastructure, metered
from dspex._tasks import on_end, start_in
from dspex.agents.agent import load
from dspex.teams.asking import ask_async
from dspex.teams.patterns.contract_net import AnnounceTask, AwardTask, ReportTask, TaskBid
from dspex.workflow.errors import StaleFence
from dspex.workflow.steps import error_message
from foundation.options import finite, is_a, whole
from supervision import Actor, Refuse, handle
from supervision.errors import BadOption, CallError

#: After how many seconds a report is sent again to a net that is not there; then it is given up.
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)


class Contractor(Actor):
    """Bids for tasks, and has a program do those that it is awarded. Their inputs are the program's.

    Args:
        program: a ``dspy.Module``, or what makes one.
        bid: what it claims for a task: a `TaskBid`, or a function of the task's inputs that returns one, or None.
        concurrency: how many tasks it does at the same time; it does not bid for more.

    Raises:
        BadProgram, BadOption: at its start, if there is no such program, or a number makes no sense.
    """

    def __init__(
        self, program: object, bid: TaskBid | Callable[[Any], TaskBid | None], *, concurrency: int = 1
    ) -> None:
        if not is_a(bid, TaskBid) and not callable(bid):
            raise BadOption("Contractor: bid", bid, "give a TaskBid, or a function that returns one")
        self._program = load(program)
        self._bid = bid
        self._concurrency = whole("Contractor: concurrency", concurrency)
        self._tasks: set[asyncio.Task[None]] = set()

    def init(self) -> None:
        """Make ready to work."""
        self._threads = anyio.CapacityLimiter(2 * self._concurrency)
        self._guard = on_end(self.ref, self._cancel)

    def summary(self) -> Mapping[str, object]:
        """Return how busy it is, for ``/tree``."""
        return {"running": len(self._tasks)}

    @handle
    def announced(self, request: AnnounceTask) -> TaskBid | None:
        """Bid, unless it has enough to do."""
        if len(self._tasks) >= self._concurrency:
            return None
        if isinstance(self._bid, TaskBid):
            return self._bid
        try:
            return self._bid(request.inputs)
        except Exception as error:
            raise Refuse(error) from error

    @handle
    def awarded(self, request: AwardTask) -> bool:
        """Begin a task; report when it is done."""
        if len(self._tasks) >= self._concurrency:
            return False
        task = start_in(copy_context(), self._work(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _work(self, award: AwardTask) -> None:
        with metered({}) as used:
            found, error = await ask_async(self._program, award.inputs, None, self._threads)
        usage = max(0.0, finite(used.history.cost) or 0.0)
        if error is None:
            report = ReportTask(award.task, award.fence, found, usage)
        else:
            why = f"{type(error).__name__}: {error_message(error)}"
            report = ReportTask(award.task, award.fence, None, usage, why, is_infrastructure(error))
        await self._report(award, report)

    async def _report(self, award: AwardTask, report: ReportTask) -> None:
        """Send a report, also if the net is being restarted; it may belong to somebody else by now."""
        for pause in (*PAUSES, None):
            try:
                await award.net.call(report)
            except StaleFence:
                return
            except CallError:
                if pause is not None:
                    await self.runtime.sleep(pause)
            else:
                return

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
