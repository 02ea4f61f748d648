"""The actor that holds the rounds of a federation, and goes on where it was when it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from agents.durability import Storage, StorageConflict, StorageError
from dspex.federated.client import client_names
from dspex.federated.errors import BadFederation, BadUpdate, CannotMerge, TooFewClients
from dspex.federated.events import ClientMissing, FederatedRoundClosed
from dspex.federated.messages import ClientReport, RunRound
from dspex.federated.metrics import FederationCounts
from dspex.federated.plans import FederationPlan, Merged
from dspex.federated.round import FederatedRound, RoundEnd, Rounds
from dspex.federated.weights import Weights
from dspex.workflow.actor import BodyEnded, ResumeWorkflow, WorkflowActor
from dspex.workflow.encoding import digest, encoded
from dspex.workflow.errors import WorkflowError, WorkflowSuspended
from dspex.workflow.retry import RetryPolicy
from dspex.workflow.steps import error_message
from dspex.workflow.workflow import Workflow
from foundation.options import above_zero, is_a
from foundation.tree.imports import BadImport, resolve
from supervision import ActorExited, Backoff, NoProcess, Request, call_when_ready, handle

#: Kinds of entries of the journal: the last fence, and the reports of the round that is open.
_FENCE, _REPORT = "federated/fence", "federated/report"
#: So much of an error's text is kept.
_TEXT = 300
#: So many rounds are kept.
_KEPT = 100
#: How the states begin of a federation that does not go on.
_HALTED = ("stopped", "suspended")
#: What cannot be had is not waited for inside of a step: the federation itself decides.
_AT_ONCE = RetryPolicy(attempts=1, backoff=Backoff(0.5, 1.0), on=lambda error: isinstance(error, TooFewClients))


class OpenedRound(msgspec.Struct, frozen=True):
    """Who is asked in a round, and until when, in seconds since the epoch."""

    asked: tuple[str, ...]
    opened: float
    deadline: float


class RoundSummary(msgspec.Struct, frozen=True):
    """What is kept of a round that has ended.

    Attributes:
        end: how.
        metric: of the weights that the clients got in it, or of what was chosen; None if it is void, or nobody says.
        metrics: all that the clients have said, each as much as it has examples.
        runs: how often clients have run an example in it.
        seconds: how long it took.
    """

    end: RoundEnd
    metric: float | None = None
    metrics: dict[str, float] = {}
    runs: int = 0
    seconds: float = 0.0


class _Closed(msgspec.Struct, frozen=True):
    summary: RoundSummary
    state: Any


class Progress(msgspec.Struct, frozen=True):
    """How far a federation is: what a checkpoint keeps.

    Attributes:
        state: of the plan, after the last round that was decided.
        decided: how many were.
        held: how many rounds were held, the void ones too.
        history: of the rounds, the last ones.
        runs: how often clients have run an example, in all rounds.
        best: the round with the best metric, and that.
    """

    state: Any
    decided: int = 0
    held: int = 0
    history: tuple[RoundSummary, ...] = ()
    runs: int = 0
    best: tuple[int, float] | None = None


class FederationResult(msgspec.Struct, frozen=True):
    """What a federation has found.

    Attributes:
        stopped: ``done``; or why it has ended before, such as ``void``: too many rounds in a row were.
        rounds: how many were decided.
        weights: after the last round; None if it was to choose.
        chosen: the candidate; None if it was to find weights, or nothing was chosen.
        best_candidate: its number.
        scores: what the rule has made of each candidate, as exact numbers; None for one that no client could run.
        personal: by client, the candidate that it takes for itself.
        best: the round with the best metric, and that.
        history: of the rounds, the last ones.
        runs: how often clients have run an example.
    """

    stopped: str
    rounds: int
    weights: Weights | None = None
    chosen: Any = None
    best_candidate: int | None = None
    scores: tuple[str | None, ...] = ()
    personal: dict[str, Any] = {}
    best: tuple[int, float] | None = None
    history: tuple[RoundSummary, ...] = ()
    runs: int = 0


class ResumeFederation(Request[None], frozen=True):
    """Have a federation go on that has ended for want of clients, or is suspended. To one that runs it is nothing."""


class Federation(WorkflowActor):
    """Holds rounds: asks clients for their part, and makes something of what they report.

    Which clients are asked, each report, and how a round has ended are written down before they count. Killed at any
    moment, it goes on where it was: no report counts twice, and none of an older round. Void rounds change nothing. Too
    few clients end it after `Rounds.join_patience` (`TooFewClients`); `ResumeFederation`, or a restart, has it go on. A
    storage that cannot be written suspends it for ``resume_after`` seconds.

    `GetResult` is answered with a `FederationResult` when it has ended.

    Args:
        plan: what to find, what makes it, or the import path of either.
        clients: the names of the client actors; their order decides ties.
        rounds: how rounds are held; a mapping of its fields in a tree file.
        store: the file that keeps the run, or a `Storage`.
        resume_after: seconds after which it is tried again to write.

    Raises:
        BadFederation, BadOption: an argument makes no sense.
        OtherRun, BadJournal, StorageError: at its start: the file has another run, or cannot be used.
    """

    def __init__(
        self,
        plan: object,
        clients: Sequence[str],
        store: str | Path | Storage,
        *,
        rounds: Rounds | Mapping[str, Any] | None = None,
        resume_after: float = 60.0,
    ) -> None:
        self._plan = _plan(plan)
        self._clients = client_names(clients)
        self._rounds = _rounds(rounds)
        self._needed = self._rounds.needed(len(self._clients))
        parameters = {"plan": _fingerprint(self._plan), "clients": list(self._clients)}
        super().__init__(self._hold_all, store, parameters=parameters, resume_after=resume_after)
        self._open: FederatedRound | None = None
        self._progress = Progress(self._plan.begin())

    @classmethod
    def check_arguments(
        cls,
        plan: object,
        clients: Sequence[str],
        store: object,
        *,
        rounds: Rounds | Mapping[str, Any] | None = None,
        resume_after: float = 60.0,
    ) -> None:
        """Check what stands in a tree file: what it names is imported, and nothing runs."""
        found = _named_plan(plan)
        if not callable(found):
            _checked_plan(found, plan)
        _rounds(rounds).needed(len(client_names(clients)))
        if not isinstance(store, (str, Path)) or not str(store).strip():
            raise BadFederation("Federation: store", store, "give the path of a file")
        above_zero("Federation: resume_after", resume_after)

    async def init(self) -> None:
        """Open the run, and begin or resume it."""
        self._counts = FederationCounts.of(self.runtime)
        await super().init()

    # -- how it ends -----------------------------------------------------------------------------------------------

    @handle
    def ended(self, message: BodyEnded) -> None:
        """Keep the outcome; or wait for the storage; or for somebody who says that there are clients again."""
        error = message.task.exception()
        if isinstance(error, WorkflowSuspended) and isinstance(error.__cause__, TooFewClients):
            self._settle(None, error.__cause__)
            self._state = f"stopped: {error.__cause__}"
        elif isinstance(error, StorageError) and not isinstance(error, StorageConflict):
            self._suspend(error)
        else:
            super().ended(message)

    def _suspend(self, error: Exception) -> None:
        self._state = f"suspended: {error}"
        self.send_after(self._resume_after, ResumeWorkflow())

    def _settle(self, value: Any, error: Exception | None) -> None:
        super()._settle(None if value is None else msgspec.convert(value, FederationResult), error)

    @handle
    async def resume(self, message: ResumeWorkflow) -> None:
        """Resume the run, if it does not go on."""
        if not self._state.startswith(_HALTED):
            return
        self._outcome = None
        try:
            await super().resume(message)
        except StorageError as error:
            self._suspend(error)

    @handle
    async def resume_now(self, request: ResumeFederation) -> None:
        """Go on, if it does not."""
        await self.resume(ResumeWorkflow())

    # -- what is seen ----------------------------------------------------------------------------------------------

    def summary(self) -> Mapping[str, object]:
        """Return its round, the best metric, what it has cost, and how long it may take, for ``/tree``."""
        progress, total = self._progress, self._plan.rounds
        best = "none" if progress.best is None else f"{progress.best[1]:.6g} in round {progress.best[0]}"
        taken = [one.seconds for one in progress.history if one.end.state == "decided"]
        left = f"about {fmean(taken) * (total - progress.decided):.0f} s" if taken else "unknown"
        waiting = "" if self._open is None else f", {len(self._open.reports)} of {len(self._open.asked)} reports"
        there = sum(self.runtime.whereis(name) is not None for name in self._clients)
        return {
            "state": self._state,
            "round": f"{progress.decided} of {total}{waiting}",
            "void": progress.held - progress.decided,
            "best": best,
            "cost": f"{progress.runs:,} runs of examples",
            "left": left if progress.decided < total else "nothing",
            "clients": f"{there} of {len(self._clients)}",
        }

    # -- the rounds ------------------------------------------------------------------------------------------------

    async def _hold_all(self, flow: Workflow, **_: Any) -> Any:
        if flow.restored is not None:
            kept = msgspec.convert(flow.restored, Progress)
            self._progress = msgspec.structs.replace(kept, state=self._plan.read(kept.state))
        stopped, voids = "done", 0
        while self._progress.decided < self._plan.rounds:
            closed = await self._round(flow)
            voids = voids + 1 if closed.summary.end.state == "void" else 0
            self._progress = self._after(self._progress, closed)
            await flow.checkpoint(self._progress, trim=["round"])
            self._tell_of(closed.summary)
            if voids == self._rounds.max_void:
                stopped = "void"
                break
        progress = self._progress
        found = self._plan.outcome(progress.state)
        return FederationResult(
            stopped, progress.decided, best=progress.best, history=progress.history, runs=progress.runs, **found
        )

    def _after(self, progress: Progress, closed: _Closed) -> Progress:
        summary = closed.summary
        decided = progress.decided + (summary.end.state == "decided")
        best = progress.best
        if summary.metric is not None and (best is None or self._better(summary.metric, best[1])):
            best = decided, summary.metric
        history = (*progress.history, summary)[-_KEPT:]
        state = self._plan.read(closed.state)
        return Progress(state, decided, progress.held + 1, history, progress.runs + summary.runs, best)

    def _better(self, one: float, other: float) -> bool:
        return one > other if self._plan.higher else one < other

    async def _round(self, flow: Workflow) -> _Closed:
        """Hold a round: who is asked is one step, and how it has ended, with what comes of it, is another."""
        number, state = self._progress.held + 1, self._progress.state
        part = flow.scope("round", number)
        opened: OpenedRound = await part.step("opened", self._open_round, retry=_AT_ONCE, type=OpenedRound)

        async def hold() -> _Closed:
            return await self._held(flow, number, opened, state)

        closed: _Closed = await part.step("closed", hold, type=_Closed)
        kept = [key for key, value in flow.journal.entries(_REPORT).items() if value is not None]
        await flow.journal.add_all(_REPORT, dict.fromkeys(kept), flush=False)
        return closed

    async def _open_round(self) -> OpenedRound:
        """Wait until enough clients are there, and say who of them is asked."""
        clock = self.runtime.clock
        until = clock.time() + self._rounds.join_patience
        while len(there := self._there()) < self._needed:
            away = [name for name in self._clients if name not in there]
            if not await self.runtime.wait_for_name(*away, until=until):
                raise TooFewClients(there, self._needed, self._rounds.join_patience)
        asked = set(self.runtime.random.sample(there, self._rounds.asked(len(there))))
        now = clock.wall_time()
        return OpenedRound(tuple(name for name in there if name in asked), now, now + self._rounds.deadline)

    def _there(self) -> list[str]:
        return [name for name in self._clients if self.runtime.whereis(name) is not None]

    async def _held(self, flow: Workflow, number: int, opened: OpenedRound, state: Any) -> _Closed:
        """Ask the clients, until the round has ended, and make something of what they report."""
        journal, wall_time = flow.journal, self.runtime.clock.wall_time
        # Whoever asked before has asked with a smaller one, also in this round.
        fence = 1 + (journal.find(_FENCE, "") or 0)
        await journal.add(_FENCE, "", fence)
        held = self._open = FederatedRound(number, opened.asked, self._rounds, opened.deadline, fence)
        try:
            for value in journal.entries(_REPORT).values():
                if value is not None and (report := msgspec.convert(value, ClientReport)).round == number:
                    held.restore(report, wall_time())
            end = await self._asked(flow, held, state)
        finally:
            self._open = None
        reports = [held.reports[client] for client in end.counted]
        merged = Merged(state, None)
        if end.state == "decided":
            try:
                merged = self._plan.merge(state, reports)
            except CannotMerge as error:
                end = msgspec.structs.replace(end, state="void", why=error.why)
        runs, seconds = sum(report.runs for report in reports), wall_time() - opened.opened
        return _Closed(RoundSummary(end, merged.metric, merged.metrics, runs, seconds), merged.state)

    async def _asked(self, flow: Workflow, held: FederatedRound, state: Any) -> RoundEnd:
        """Ask all who have not reported yet, side by side, and return how the round has ended."""
        wall_time = self.runtime.clock.wall_time
        name, task = flow.token(flow.name), self._plan.task(state)
        done: asyncio.Queue[asyncio.Task[ClientReport]] = asyncio.Queue()
        asked = {
            asyncio.ensure_future(
                self._ask(flow, held, RunRound(name, client, held.number, held.fence, task), state)
            ): client
            for client in held.asked
            if client not in held.heard
        }
        for asking in asked:
            asking.add_done_callback(done.put_nowait)
        try:
            while (end := held.look(wall_time())) is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, held.until - wall_time())):
                        answered = await done.get()
                    self._hear(held, asked[answered], answered)
            return end
        finally:
            for asking in asked:
                asking.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, flow: Workflow, held: FederatedRound, request: RunRound, state: Any) -> ClientReport:
        """Return the report of a client, as it counts; it is in the journal then."""
        report = await self._called(request, held.deadline)
        if report.client != request.client:
            raise BadUpdate(f"it reports as {report.client[:_TEXT]}")
        report = self._plan.check(report, state)
        if (report.round, report.fence) == (held.number, held.fence):
            await flow.journal.add(_REPORT, f"{held.number}/{report.client}", msgspec.to_builtins(report))
        return report

    async def _called(self, request: RunRound, deadline: float) -> ClientReport:
        """Ask a client; if it ends with the request in hand, ask the next incarnation."""
        retries = self._rounds.retries
        while True:
            # A little longer than the round, which says who is late.
            left = max(0.0, deadline - self.runtime.clock.wall_time()) + 1.0
            try:
                return await call_when_ready(self.runtime.name(request.client), request, timeout=left)
            except (ActorExited, NoProcess):
                if not retries:
                    raise
                retries -= 1

    def _hear(self, held: FederatedRound, client: str, task: asyncio.Task[ClientReport]) -> None:
        error = task.exception()
        if error is None:
            held.report(task.result(), self.runtime.clock.wall_time())
        elif isinstance(error, (WorkflowError, StorageError)):
            raise error
        elif isinstance(error, BadUpdate):
            held.refuse(client, error.why[:_TEXT])
        else:
            held.lose(client, f"{type(error).__name__}: {error_message(error)}"[:_TEXT])

    def _tell_of(self, summary: RoundSummary) -> None:
        end, name = summary.end, self._flow.name
        self._counts.rounds[name, end.state] += 1
        self._counts.reports[name, "counted"] += len(end.counted)
        late = dict.fromkeys(end.late, "it had not reported when the round was over")
        for outcome, missing in (("refused", end.refused), ("lost", end.lost), ("late", late)):
            self._counts.reports[name, outcome] += len(missing)
            for client, why in missing.items():
                about = {"federation": name, "client": client, "round": end.round}
                self.runtime.events.emit(ClientMissing, **about, outcome=outcome, why=why)
        self.runtime.events.emit(
            FederatedRoundClosed,
            federation=name,
            round=end.round,
            fence=end.fence,
            state=end.state,
            why=end.why,
            counted=len(end.counted),
            asked=len(end.counted) + len(end.refused) + len(end.lost) + len(end.late),
            metric=summary.metric,
        )


def _plan(source: object) -> FederationPlan:
    found = _named_plan(source)
    return _checked_plan(found() if callable(found) else found, source)


def _named_plan(source: object) -> Any:
    """Return a plan, or what makes one; of an import path, what it names."""
    if not isinstance(source, str):
        return source
    try:
        return resolve(source)
    except BadImport as error:
        raise BadFederation("Federation: plan", source, str(error)) from error


def _checked_plan(found: Any, source: object) -> FederationPlan:
    if not is_a(found, FederationPlan):
        raise BadFederation("Federation: plan", source, "give a FederatedAveraging or a FederatedChoice")
    return found  # type: ignore[no-any-return]


def _rounds(source: object) -> Rounds:
    if source is None or is_a(source, Rounds):
        return source or Rounds()  # type: ignore[return-value]
    try:
        return msgspec.convert(source, _StrictRounds)
    except msgspec.ValidationError as error:
        raise BadFederation("Federation: rounds", source, str(error)) from None


class _StrictRounds(Rounds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As a tree file has it, where a name that nobody knows is a mistake."""


def _fingerprint(plan: FederationPlan) -> str:
    return digest(encoded("Federation", "its plan", plan, typed=True))
