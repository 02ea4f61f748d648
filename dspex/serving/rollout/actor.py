"""The rollout's actor: the one writer of a program's rollouts. It counts, decides, and moves the traffic."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

from agents.durability import StorageConflict, StorageError
from dspex._tasks import on_end
from dspex.models.cause import cause_words
from dspex.serving.calls import Assignment, FinishedCall
from dspex.serving.feedback import FeedbackGiven
from dspex.serving.rollout.counts import Mark, StepCounts, UnitTally
from dspex.serving.rollout.events import (
    RolloutMoved,
    RolloutUnwritten,
    ScoreMissing,
    ShadowBudgetSpent,
    ShadowSkipped,
)
from dspex.serving.rollout.journal import REMEMBERED, PastRollout, RolloutJournal, UnreadableJournal
from dspex.serving.rollout.machine import (
    RULE,
    Move,
    RolloutRecord,
    counts_after,
    decided,
    first_move,
    move_entry,
    moved,
    next_move,
)
from dspex.serving.rollout.messages import (
    HELPFUL,
    AskRollout,
    CallSeen,
    ChangeVersion,
    FeedbackSeen,
    PairSeen,
    RolloutParts,
    ScoreSeen,
    ShadowSpent,
    Tick,
)
from dspex.serving.rollout.metrics import RolloutNumbers
from dspex.serving.rollout.scoring import ScoreMark, Scores, sampled
from dspex.serving.rollout.shadow import ShadowRuns, may_ask, why_unsafe, without_cache
from dspex.serving.rollout.start import MOST_CALLS, check_key, check_metrics, rollout_of, with_slowness
from dspex.serving.rollout.traffic import (
    RoutedCall,
    TrafficPlan,
    counts,
    is_away,
    marks_of,
)
from dspex.serving.rollout.view import NO_ETAG, rollout_state
from foundation.programs import BadVersion
from foundation.rollouts import (
    BadRollout,
    DecideRollout,
    GetRollout,
    GetRolloutHistory,
    NoRollout,
    Rollout,
    RolloutConflict,
    RolloutHistory,
    RolloutMove,
    RolloutPhase,
    RolloutState,
    Slo,
    StaleRollout,
    StartRollout,
)
from supervision import Actor, Timer, handle
from supervision.events import Event
from supervision.logs import get_logger

_log: Any = get_logger("dspex")

#: Seconds between looks at the time-outs, and at what is to be written.
TICK = 5.0
#: After so many calls the counts are written.
SNAPSHOT_EVERY = 50
#: Feedback that is a number is good from here on.
GOOD_ENOUGH = 0.5
#: So many calls are remembered for what people say of them.
MOST_AWAITED = 10_000


class RolloutActor(Actor):
    """Starts, judges, moves and ends the rollouts of one program, one at a time.

    Each move is written first, off the loop, and then traffic changes. What takes traffic away from a version needs
    no disk: it gets no more calls from the moment of the decision, also if that cannot be written, which is tried
    again.

    Args:
        parts: what the program's actor gives it.
    """

    infrastructure = True

    def __init__(self, parts: RolloutParts) -> None:
        self._parts = parts
        self._journal = RolloutJournal(parts.folder, parts.turn)
        self._past: list[PastRollout] = []
        self._record: RolloutRecord | None = None
        self._tallies: list[UnitTally] = []
        self._candidate: Any = None
        self._unusable: str | None = None
        #: A move that was decided, and could not be written.
        self._unwritten: tuple[Move, str] | None = None
        #: Whether the version that is to be current could not be made so.
        self._unapplied = False
        self._noted = 0
        self._shadows: ShadowRuns | None = None
        self._shadow: Any = None
        #: Calls of which people may say something, with when they began.
        self._awaited: OrderedDict[str, tuple[RoutedCall, float]] = OrderedDict()
        self._timer: Timer | None = None

    # -- its life ---------------------------------------------------------------------------------------------------

    async def init(self) -> None:
        """Take up the rollout that was open. Whatever is wrong with it, the program serves."""
        self._numbers = RolloutNumbers.of(self.runtime)
        self._scores = Scores(self._parts.metrics)
        self._remove = self._parts.calls.add_listener(self._listen)
        self._heard = self.runtime.subscribe(self._hear, FeedbackGiven)
        self._guard = on_end(self.ref, self._close)
        try:
            self._past = await self._journal.open()
        except UnreadableJournal as error:
            self._unusable = str(error)
            _log.error("rollouts_unreadable", program=self._parts.program, error=str(error))
            return
        if self._past:
            with suppress(StorageError):
                await self._resume(self._past[-1])
        self._keep_time()

    def _now(self) -> float:
        return self.runtime.clock.wall_time()

    def _keep_time(self) -> None:
        """Look at the time while there is something that it can change."""
        record = self._record
        needed = record is not None and (record.open or self._unwritten is not None or self._unapplied)
        if needed and self._timer is None:
            self._timer = self.send_interval(TICK, Tick())
        elif not needed and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._remove()
        self._heard.close()
        self._parts.traffic.plan = None
        self._scores.cancel()
        if self._shadows is not None:
            self._shadows.cancel()
        self._closing = asyncio.get_running_loop().create_task(self._journal.close(), context=Context())

    async def _resume(self, past: PastRollout) -> None:
        self._record = record = past.record
        self._tallies = [UnitTally(step) for step in past.counts]
        serving = self._parts.versions.number
        if _changes_version(past.moves[-1]) and past.applied is None:
            self._unapplied = True
            await self._apply()
        if not record.open:
            return
        if record.phase != "promoted" and serving != record.baseline:
            why = f"version {serving} serves, and not version {record.baseline}, with which it is compared"
            await self._make(Move("aborted", record.step, why, "version"))
            return
        try:
            self._candidate = await self._parts.versions.find(record.rollout.version)
        except (BadVersion, OSError) as error:
            target: RolloutPhase = "rolled_back" if record.phase == "promoted" else "aborted"
            await self._make(Move(target, record.step, f"its version cannot be used: {error}", "damaged"))
            return
        self._publish()
        self._numbers.stands(self._state())

    def summary(self) -> Mapping[str, object]:
        """Return how it stands, for ``/tree``."""
        if self._unusable is not None:
            return {"rollout": f"cannot be used: {self._unusable}"}
        record = self._record
        if record is None:
            return {"rollout": "none"}
        where = f" at {record.share:g}, step {record.step + 1} of {len(record.rollout.steps)}"
        return {
            "rollout": f"version {record.rollout.version} {record.phase}{where if record.phase == 'canary' else ''}"
        }

    # -- what it is asked -------------------------------------------------------------------------------------------

    @handle
    async def ask(self, message: AskRollout) -> None:
        """Answer a request."""
        if not message.token.waiting:
            return
        try:
            answer = await self._answer(message.request)
        except (BadRollout, NoRollout, RolloutConflict, StaleRollout, BadVersion, StorageError, OSError) as error:
            message.token.fail(error)
            return
        message.token.reply(answer)

    async def _answer(self, request: Any) -> Any:
        if isinstance(request, StartRollout):
            return await self._start(request)
        if isinstance(request, DecideRollout):
            return await self._decide(request)
        if isinstance(request, GetRolloutHistory):
            return [RolloutHistory(past.start.rollout, past.start.baseline, past.moves) for past in self._past]
        assert isinstance(request, GetRollout)
        return self._state()

    def _state(self) -> RolloutState:
        if self._record is None:
            raise NoRollout(self._unusable or f"program {self._parts.program!r} has had no rollout")
        return rollout_state(self._record, self._counts())

    def _counts(self) -> list[StepCounts]:
        return [tally.counts for tally in self._tallies]

    def _check_seen(self, seen: str) -> None:
        etag = NO_ETAG if self._record is None else self._record.etag
        if seen not in ("", "*", etag):
            raise StaleRollout(seen, etag)

    def _open(self) -> RolloutRecord | None:
        return self._record if self._record is not None and self._record.open else None

    async def _start(self, request: StartRollout) -> RolloutState:
        self._check_seen(request.seen)
        if self._unusable is not None:
            raise RolloutConflict(self._unusable)
        before = self._open()
        if before is not None and before.phase != "promoted" and not request.replace:
            raise RolloutConflict(
                f"rollout {before.id} of version {before.rollout.version} is {before.phase}; end it, or replace it",
                before.phase,
            )
        rollout = rollout_of(request.rollout, self._parts.policy)
        candidate = await self._parts.versions.find(rollout.version)
        rollout = self._checked(rollout, candidate)
        if before is not None:
            target: RolloutPhase = "promoted" if before.phase == "promoted" else "superseded"
            why = f"version {rollout.version} is tried from now on"
            await self._make(Move(target, before.step, why, "replaced"), request.who)
        return await self._begin(rollout, candidate, request.who)

    def _checked(self, rollout: Rollout, candidate: Any) -> Rollout:
        """Return a rollout that can be started, with all that it was left to find out."""
        parts, serving = self._parts, self._parts.versions.number
        if rollout.version == serving:
            raise BadRollout(f"version = {serving}: it serves already; try another one")
        check_metrics(rollout.slos, parts.metrics)
        check_key(rollout.key, parts.inputs)
        why = why_unsafe(candidate, parts.shadow_safe) if rollout.shadow else None
        if why is not None:
            raise BadRollout(f"shadow = {rollout.shadow:g}: a program cannot be asked twice if {why}")
        return with_slowness(rollout, serving, parts.calls.latest(MOST_CALLS), self._now())

    async def _begin(self, rollout: Rollout, candidate: Any, who: str) -> RolloutState:
        now = self._now()
        record = RolloutRecord(self._new_id(), self._parts.program, rollout, self._parts.versions.number, now)
        entry = move_entry(record, first_move(record), [], now, who)
        await self._journal.start(record, entry)
        self._past = [*self._past[1 - REMEMBERED :], PastRollout(record, [entry], [], None)]
        self._candidate, self._unwritten, self._unapplied, self._record = candidate, None, False, record
        self._tallies = []
        self._awaited.clear()
        self._accept(entry)
        return self._state()

    def _new_id(self) -> str:
        known = {past.start.id for past in self._past}
        ids = iter(lambda: f"{self.runtime.random.getrandbits(64):016x}", "")
        return next(id for id in ids if id not in known)

    async def _decide(self, request: DecideRollout) -> RolloutState:
        record = self._record
        if record is None:
            raise NoRollout(self._unusable or f"program {self._parts.program!r} has had no rollout")
        self._check_seen(request.seen)
        move = decided(record, request.to, request.why)
        if self._unwritten is not None and move.target in ("canary", "held", "promoted"):
            why = f"rollout {record.id} is to be {self._unwritten[0].target}, which cannot be written yet"
            raise RolloutConflict(why, record.phase)
        await self._make(move, request.who)
        return self._state()

    @handle
    async def change_version(self, message: ChangeVersion) -> None:
        """Change the version that serves."""
        try:
            await self._make_way(message.force)
            found = await message.change()
        except (RolloutConflict, StorageError, BadVersion, OSError) as error:
            message.token.fail(error)
            return
        message.token.reply(found)

    async def _make_way(self, force: bool) -> None:
        record = self._open()
        if record is None:
            return
        if record.phase == "promoted":
            move = Move("promoted", record.step, "another version was chosen", "version")
        elif force:
            move = Move("aborted", record.step, "another version was chosen", "version")
        else:
            why = f"rollout {record.id} of version {record.rollout.version} is {record.phase}; end it, or use force"
            raise RolloutConflict(why, record.phase)
        await self._make(move, "version")

    # -- moves ------------------------------------------------------------------------------------------------------

    async def _make(self, move: Move, who: str = RULE) -> None:
        """Write a move, and make it.

        Raises:
            StorageError: it cannot be written. If it takes traffic away, that is done, and the rest tried again.
        """
        record = self._record
        assert record is not None
        if move.target not in ("shadow", "canary", "held", "promoted"):
            self._take_away(record)
        entry = move_entry(record, move, self._counts(), self._now(), who)
        try:
            await self._journal.move(entry)
        except StorageError as error:
            self._unwritten = (move, who)
            self._keep_time()
            about = {"program": self._parts.program, "rollout": record.id, "target": move.target}
            self.runtime.events.emit(RolloutUnwritten, **about, why=str(error))
            if isinstance(error, StorageConflict):
                self._lost(error)
            raise
        self._unwritten = None
        self._past[-1].moves.append(entry)
        self._accept(entry)
        if _changes_version(entry):
            self._unapplied = True
            await self._apply()
        self._keep_time()

    def _take_away(self, record: RolloutRecord) -> None:
        """Let no more calls go to the version that is tried."""
        traffic = self._parts.traffic
        traffic.plan = None
        if record.phase == "promoted":
            with suppress(BadVersion):
                traffic.instead = Assignment(self._parts.versions.of(record.baseline), record.baseline)

    def _lost(self, error: StorageConflict) -> None:
        """Another process has written the journal: it is the writer from now on, and this one has no rollout."""
        self._unusable = f"another process moves the rollouts of this folder ({error})"
        self._parts.traffic.plan = None
        self._unwritten, self._record, self._tallies = None, None, []

    def _accept(self, entry: RolloutMove) -> None:
        """Be where a move leads that is written."""
        assert self._record is not None
        before = self._record
        self._record = record = moved(before, entry)
        tallies = self._tallies
        for index, step in enumerate(counts_after(record.rollout, entry)):
            if index >= len(tallies) or tallies[index].counts != step:
                tallies[index:] = [UnitTally(step)]
        self._publish()
        self._tell(before, record)

    def _publish(self) -> None:
        record, traffic = self._record, self._parts.traffic
        assert record is not None
        if not record.open:
            traffic.plan = None
            return
        rollout = record.rollout
        shadow = rollout.shadow if record.phase == "shadow" else 0.0
        if shadow and self._shadows is None:
            self._shadows = ShadowRuns(self.runtime, rollout.shadow_limit)
            self._shadow = without_cache(self._candidate)
        if not shadow and self._shadows is not None:
            self._shadows.cancel()
            self._shadows = self._shadow = None
        traffic.plan = TrafficPlan(
            record.id, self._candidate, rollout.version, record.share, shadow, rollout.key, self._tallies[-1]
        )

    def _tell(self, before: RolloutRecord, record: RolloutRecord) -> None:
        about = {
            "program": self._parts.program,
            "rollout": record.id,
            "version": record.rollout.version,
            "source": before.phase,
            "target": record.phase,
            "step": record.step,
            "share": record.share,
            "why": record.why,
            "who": record.who,
        }
        self.runtime.events.emit(RolloutMoved, **about)
        self._numbers.moved(self._state())
        wanted = record.phase in ("shadow", "canary", "promoted")
        _log.log(logging.INFO if wanted else logging.WARNING, "rollout_moved", **about)
        self._keep_time()

    async def _apply(self) -> None:
        """Make the version current that a move has left. It is tried again if it cannot be written."""
        record, versions = self._record, self._parts.versions
        assert record is not None
        number = record.rollout.version if record.phase == "promoted" else record.baseline
        try:
            if versions.number != number:
                await self._parts.use(number)
            await self._journal.applied(record.id, record.seq, number)
        except (BadVersion, OSError, StorageError) as error:
            about = {"program": self._parts.program, "rollout": record.id, "target": f"version {number}"}
            self.runtime.events.emit(RolloutUnwritten, **about, why=str(error))
            if record.phase == "promoted" and self._candidate is not None:
                self._parts.traffic.instead = Assignment(self._candidate, number)
            return
        self._unapplied = False
        self._parts.traffic.instead = None

    # -- what it sees -----------------------------------------------------------------------------------------------

    def _listen(self, call: FinishedCall) -> None:
        routed = self._parts.traffic.ended(call.record.id)
        if routed is not None:
            self.ref.cast(CallSeen(routed, call))

    @handle
    async def seen(self, message: CallSeen) -> None:
        """Count a call, have it judged, and decide."""
        routed, call = message.routed, message.call
        record = self._open()
        if record is None or routed.plan.id != record.id:
            return
        step = routed.plan.tally.counts
        step.calls.add(routed.arm)
        step.keyless += routed.unit is None
        other_serves = routed.arm == "canary" and step.streak.baseline >= 0
        away = is_away(call, other_serves=other_serves)
        if call.record.outcome != "cancelled":
            step.note_outcome(routed.arm, answered=not away)
        due = away or record.phase == "held"
        if record.phase == "shadow":
            self._ask_shadow(routed, call)
        elif counts(call, other_serves=other_serves) and record.phase != "held":
            due |= self._count(record.rollout, routed, call)
        await self._noted_one(due=due)

    def _count(self, rollout: Rollout, routed: RoutedCall, call: FinishedCall) -> bool:
        tally = routed.plan.tally
        warm = tally.counts.step > 0 or getattr(tally.counts.calls, routed.arm) > rollout.warm_up
        marks = marks_of(call, rollout.slos, warm=warm)
        for index, slo in enumerate(rollout.slos):
            if slo.kind == "feedback":
                self._await_feedback(routed, call)
            elif slo.kind == "score" and self._is_scored(slo, routed.plan, call):
                if call.outputs is None:
                    marks[index] = Mark.UNANSWERED
                else:
                    self._scores.start(partial(self._score, routed, call, index, slo))
        return tally.note(routed.arm, routed.unit, marks)

    async def _noted_one(self, *, due: bool) -> None:
        self._noted += 1
        if due:
            await self._decide_by_rule()
        if self._noted >= SNAPSHOT_EVERY:
            await self._snapshot()

    async def _decide_by_rule(self) -> None:
        record = self._open()
        if record is None or self._unwritten is not None:
            return
        move = next_move(record, self._counts(), self._now())
        if move is not None:
            with suppress(StorageError):
                await self._make(move)

    async def _snapshot(self) -> None:
        record = self._open()
        if record is None or not self._noted:
            return
        self._noted = 0
        self._numbers.stands(self._state())
        try:
            await self._journal.count(record.id, record.seq, self._counts())
        except StorageConflict as error:
            self._lost(error)
        except StorageError as error:
            _log.warning("rollout_counts_not_written", program=self._parts.program, error=str(error))

    @handle
    async def tick(self, message: Tick) -> None:
        """Look at the time, write what was counted, and try again what could not be written."""
        if self._unwritten is not None:
            (move, who), self._unwritten = self._unwritten, None
            with suppress(StorageError):
                await self._make(move, who)
        if self._unapplied:
            await self._apply()
        await self._snapshot()
        await self._decide_by_rule()
        self._keep_time()

    # -- the shadow -------------------------------------------------------------------------------------------------

    def _ask_shadow(self, routed: RoutedCall, call: FinishedCall) -> None:
        """Ask the new version, too."""
        shadows, record, step = self._shadows, self._record, routed.plan.tally.counts
        if shadows is None or record is None or not routed.shadowed or not counts(call, other_serves=False):
            return
        rollout = record.rollout
        about = {"program": self._parts.program, "rollout": record.id, "version": rollout.version}
        if not may_ask(rollout, step, shadows.running) and not shadows.running:
            self.ref.cast(ShadowSpent(routed.plan))
            return
        run = partial(self._run_shadow, rollout, routed.plan, call, self._shadow)
        if may_ask(rollout, step, shadows.running) and shadows.start(run):
            step.asked += 1
        else:
            step.skipped += 1
            self.runtime.events.emit(ShadowSkipped, **about, skipped=step.skipped)

    @handle
    async def shadow_spent(self, message: ShadowSpent) -> None:
        """Say that the shadow has spent its budget, and decide by what it has found."""
        record, step = self._open(), message.plan.tally.counts
        if record is None or record.phase != "shadow" or message.plan.id != record.id or step.exhausted:
            return
        step.exhausted = True
        rollout = record.rollout
        self.runtime.events.emit(
            ShadowBudgetSpent,
            program=self._parts.program,
            rollout=record.id,
            version=rollout.version,
            spent=step.spent,
            budget=rollout.shadow_budget,
            asked=step.asked,
            calls=rollout.shadow_calls,
        )
        await self._noted_one(due=True)

    async def _run_shadow(self, rollout: Rollout, plan: TrafficPlan, call: FinishedCall, version: Any) -> None:
        found = await self._parts.run(version, rollout.version, dict(call.inputs), rollout.shadow_seconds)
        plan.tally.counts.note_cost(found.record.cost)
        scores = {}
        for index, slo in enumerate(rollout.slos):
            if slo.kind == "score" and self._is_scored(slo, plan, call):
                new, old = [await self._marked(plan, slo, each) for each in (found, call)]
                scores[index] = (new, old)
        self.ref.cast(PairSeen(plan, found, call, scores))

    @handle
    async def pair(self, message: PairSeen) -> None:
        """Count a call that both versions were asked, and decide."""
        record, plan = self._open(), message.plan
        if record is None or record.phase != "shadow" or plan.id != record.id:
            return
        if not counts(message.canary, other_serves=True):
            return
        step, slos = plan.tally.counts, record.rollout.slos
        warm = step.calls.baseline > record.rollout.warm_up
        both = [marks_of(call, slos, warm=warm) for call in (message.canary, message.baseline)]
        for index, (new, old) in message.scores.items():
            both[0][index], both[1][index] = new.mark, old.mark
            step.slos[index].why = step.slos[index].why or new.why or old.why
        step.note_pair(*both)
        await self._noted_one(due=True)
        if record.rollout.shadow_budget is not None or record.rollout.shadow_calls is not None:
            await self._snapshot()  # a restart forgets nothing that was paid for

    # -- scores and feedback ----------------------------------------------------------------------------------------

    def _is_scored(self, slo: Slo, plan: TrafficPlan, call: FinishedCall) -> bool:
        return sampled(self._parts.program, plan.id, slo, call.record.id)

    async def _score(self, routed: RoutedCall, call: FinishedCall, index: int, slo: Slo) -> None:
        self.ref.cast(ScoreSeen(routed, index, await self._marked(routed.plan, slo, call)))

    async def _marked(self, plan: TrafficPlan, slo: Slo, call: FinishedCall) -> ScoreMark:
        """Return what a metric says of the answer of a call; it is told if it says nothing."""
        if call.outputs is None:
            return ScoreMark(Mark.UNANSWERED)
        about = {"program": self._parts.program, "rollout": plan.id, "version": call.record.version, "slo": slo.label}
        try:
            found = await self._scores.mark(slo, call.inputs, call.outputs)
        except Exception as error:
            self.runtime.events.emit(ScoreMissing, **about, why=f"metric: {cause_words(error)}")
            raise
        if found.why:
            self.runtime.events.emit(ScoreMissing, **about, why=found.why)
        return found

    @handle
    async def scored(self, message: ScoreSeen) -> None:
        """Count a score, or that there is none, and decide."""
        await self._said(message.routed, message.index, message.found.mark, message.found.why)

    def _await_feedback(self, routed: RoutedCall, call: FinishedCall) -> None:
        self._awaited[call.record.id] = routed, call.record.at
        if len(self._awaited) > MOST_AWAITED:
            self._awaited.popitem(last=False)

    def _hear(self, event: Event) -> None:
        """Hear what people say: not what metrics and models do, which have not asked for the answer."""
        assert isinstance(event, FeedbackGiven)
        if event.call in self._awaited and event.source in ("user", "expert") and event.value is not None:
            self.ref.cast(FeedbackSeen(event.call, event.value >= GOOD_ENOUGH, event.name))

    @handle
    async def feedback(self, message: FeedbackSeen) -> None:
        """Count what somebody says of a call, if it is told in time, and decide."""
        routed, at = self._awaited.get(message.call, (None, 0.0))
        record = self._open()
        if routed is None or record is None:
            return
        for index, slo in enumerate(record.rollout.slos):
            named = slo.kind == "feedback" and (slo.metric or HELPFUL) == message.name
            if named and self._now() - at <= slo.window:
                self._awaited.pop(message.call)
                await self._said(routed, index, Mark.GOOD if message.good else Mark.BAD)

    async def _said(self, routed: RoutedCall, index: int, signal: Mark, why: str = "") -> None:
        """Count what was said of a call later than it was answered, in the step in which it was."""
        record = self._open()
        if record is None or routed.plan.id != record.id or record.phase == "held":
            return
        said = [Mark.NONE] * len(record.rollout.slos)
        said[index] = signal
        seen = routed.plan.tally.counts.slos[index]
        seen.why = seen.why or why
        await self._noted_one(due=routed.plan.tally.note(routed.arm, routed.unit, said, new=False))


def _changes_version(move: RolloutMove) -> bool:
    """Whether another version is current after a move."""
    if move.target == "promoted":
        return move.source != "promoted"
    return move.target == "rolled_back" and move.source == "promoted"
