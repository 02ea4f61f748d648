"""Turns of a durable agent: planned, saved in one write, then shown, answered, and carried on."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import msgspec

from agents.core.action import ActionLike
from agents.core.command import Step, Turn
from agents.core.directives import (
    AwaitReply,
    Cron,
    Directive,
    Emit,
    ErrorDirective,
    RunInstruction,
    Schedule,
    SpawnAgent,
    Unschedule,
    Withdraw,
    error_directive,
)
from agents.core.execution import Saga
from agents.core.failures import awaited, raise_end
from agents.core.signal import Signal
from agents.core.tokens import Origin
from agents.durability.checkpointer import EverySeconds, OnCommit
from agents.durability.storage import OutcomeUnknown, RowName, StoredRow
from agents.errors import HookFailed, Moved, NoRoute, NotSaved
from agents.events import CompensationDelayed, EffectDead, SignalsForgotten
from agents.server.compensation import Undoing, UndoingOver
from agents.server.effects import OPEN, Effect, directive_of, effect_row, tried
from agents.server.executors import executor_of
from agents.server.kept import Cause, Keeping, Plan
from agents.server.messages import (
    CheckpointDue,
    DirectiveResult,
    EffectDue,
    FlushMarks,
    Reply,
    TimersDue,
)
from agents.server.outbox import BUDGET, FIRST_PAUSE, LONGEST_PAUSE, NotTaken
from agents.server.sagas import BUDGET as UNDO_BUDGET
from agents.server.sagas import COMPENSATION, KeptSaga, KeptStep, buried, step_of, told
from agents.server.turns import Turns
from supervision import CallError, Refuse, Shutdown, resume_context
from supervision.reasons import crashed

if TYPE_CHECKING:
    from agents.durability.checkpointer import Turn as SavedTurn
    from agents.server.inbox import Taken
    from agents.server.kept_timers import Firing
    from agents.server.server import AgentServer

#: Marks are written with the next commit, or after so many seconds.
FLUSH_AFTER = 0.05
#: Kept by the plan of their turn, and carried out from there.
_PLANNED = (Emit, Schedule, Cron, Unschedule, Withdraw)
#: Kept until their result has been taken.
_ERRANDS = (RunInstruction, AwaitReply)
#: Behind all steps of sagas.
_LAST_STEP = 10**12
_DAY = 24 * 3600.0
_NOTHING_KEPT = Cause()


class DurableTurns(Turns):
    """What the server of a durable agent does in a turn, beside what every server does.

    Attributes:
        keeping: what the agent keeps beside its state; None if it is not durable.
        beginning: whether what is carried out is what a start begins with, which is not kept.
    """

    keeping: Keeping | None = None
    beginning = False
    _cause: Cause = _NOTHING_KEPT
    _plan: Plan | None = None
    #: Whether the last turn has failed, so that nothing of it was committed.
    _refused: bool = False
    _save_set: bool = False
    _save_failures: int = 0
    _flush_set: bool = False

    # -- what is kept --------------------------------------------------------------------------------------------

    def mark(self, put: Iterable[StoredRow] = (), drop: Iterable[RowName] = ()) -> None:
        """Have rows come and go with the next commit, or soon."""
        assert self._checkpointer is not None
        self._checkpointer.mark(put, drop)
        if not self._flush_set:
            self._flush_set = True
            self.send_after(FLUSH_AFTER, FlushMarks())

    def kept_origin(self, source: str, cause: str) -> Origin:
        """Return what the tokens of a turn are made of."""
        agent = self.agent
        generation = "" if self._checkpointer is None else self._checkpointer.generation
        return Origin(agent.partition, agent.type, agent.id, generation, source, cause)

    @property
    def token_in_hand(self) -> str | None:
        """The token of the directive that is being carried out; None if it is not kept."""
        effect = None if self.effect_in_hand is None or self.keeping is None else self.keeping.open[self.effect_in_hand]
        return None if effect is None else effect.token

    def carry_on(self, id: str, effect: Effect) -> None:
        """Have an effect carried out between turns."""
        assert self.keeping is not None
        self.keeping.open[id] = effect
        self.ref.cast(EffectDue(id))

    def tell_dead(self, effect: Effect) -> None:
        """Tell that an effect was given up."""
        about = {"what": effect.what, "destination": effect.to, "token": effect.token, "why": effect.why or ""}
        self.runtime.events.emit(EffectDead, ref=self.ref, agent_id=self.agent.id, **about)
        self.ref.cast(DirectiveResult("agent.effect.dead", about, effect.cause))

    def tell_forgotten(self, taken: Iterable[Taken]) -> None:
        """Tell that ids were forgotten that are not old."""
        now = self.runtime.clock.wall_time()
        young = sum(now - one.at < _DAY for one in taken)
        if young:
            self.runtime.events.emit(SignalsForgotten, ref=self.ref, agent_id=self.agent.id, count=young)

    # -- taking signals ------------------------------------------------------------------------------------------

    def _take(self, signal: Signal, call: Any, cause: Cause | None = None) -> Any:
        """Take a turn for a signal, unless it was taken before."""
        if self.keeping is None:
            return self._turn(signal, call)
        if self.keeping.inbox.knows(signal):
            self._stay()
            return self._reply((), call, duplicate=True)
        return self._turn_for(cause or Cause(signal), signal, call)

    def _turn_for(self, cause: Cause, signal: Signal, call: Any) -> Any:
        """Take a turn whose cause is kept somewhere."""
        self._cause = cause
        try:
            turn = self._turn(signal, call)
        except BaseException:
            self._cause = _NOTHING_KEPT
            raise
        if inspect.isawaitable(turn):
            return self._until_over(turn)
        self._cause = _NOTHING_KEPT
        return turn

    async def _until_over(self, turn: Any) -> Any:
        try:
            return await turn
        finally:
            self._cause = _NOTHING_KEPT

    async def _take_number(self, signal: Signal, stream: str, number: int, floor: int) -> None:
        """Take a turn for a signal of another agent's outbox.

        Raises:
            Refuse: it failed, and is to come again, or never.
        """
        keeping = self.keeping
        if keeping is not None and keeping.inbox.knows_number(stream, number):
            return
        cause = Cause(again=keeping is not None, stream=(stream, number, floor))
        try:
            reply = self._turn_for(cause, signal, PATIENT_CALLER)
            reply = await reply if inspect.isawaitable(reply) else reply
        except Refuse as refused:
            own = keeping is not None and stream.partition(">")[0] == keeping.stream
            if isinstance(refused.error, NoRoute) and own:
                return  # nobody has to listen to what an agent says to itself
            final = isinstance(refused.error, (NoRoute, HookFailed))
            raise Refuse(NotTaken(str(refused.error), final=final)) from refused
        failed = [one for one in reply.errors if one.stage != "effect"]
        if failed and (keeping is None or not keeping.inbox.knows_number(stream, number)):
            error = failed[-1].error
            final = error.kind == "agents.errors.BadParams"
            if final or keeping is not None:  # what is not durable has taken it up when it has tried
                raise Refuse(NotTaken(str(error), final=final))

    async def _take_firings(self) -> None:
        """Take a turn for each timer that is due."""
        assert self.keeping is not None
        timers = self.keeping.timers
        firing = timers.next_firing()
        if firing is not None:
            await self._take_firing(firing)
            self.ref.cast(TimersDue())
        timers.arm()

    async def _take_firing(self, firing: Firing) -> None:
        assert self.keeping is not None
        drop = () if firing.put else (("timer", firing.id),)
        cause = Cause(again=True, drop=drop, put=firing.put)
        with resume_context(self.runtime, firing.timer.trace, self.ref, TimersDue()):
            reply = self._turn_for(cause, firing.signal, PATIENT_CALLER_OF_OWN)
            reply = await reply if inspect.isawaitable(reply) else reply
        if reply is None:
            # Nobody listens to it: the tick is over all the same.
            self.mark(firing.put, drop)
            self.keeping.timers.commit(firing.put, drop)
        elif reply.errors:
            self.keeping.timers.failed(firing, str(reply.errors[-1].error))

    async def _take_result(self, message: DirectiveResult) -> None:
        """Take a turn for the result of an errand; if it fails, again later."""
        keeping, signal = self.keeping, self.new_signal(message.type, message.data, cause=message.cause)
        if keeping is None or message.effect is None:
            turn = self._turn(signal, None)
            return await turn if inspect.isawaitable(turn) else turn  # type: ignore[no-any-return]
        effect = keeping.open.get(message.effect)
        if effect is None:
            return None
        turn = self._turn_for(Cause(again=True, drop=((OPEN, message.effect),)), signal, PATIENT_CALLER_OF_OWN)
        reply = await turn if inspect.isawaitable(turn) else turn
        if reply is not None and reply.errors and message.effect in keeping.open:
            self._again_later(message.effect, effect, reply.errors[-1].error, message)
        else:
            keeping.done(message.effect)
        return None

    # -- saving --------------------------------------------------------------------------------------------------

    def _finish(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        """Save the turn with all that it adds, commit it, and carry out its directives."""
        checkpointer, keeping = self._checkpointer, self.keeping
        unfit = self._unfit(step.directives)
        if unfit is not None:
            return self._not_committed(step, unfit, signal, call)
        if checkpointer is None or keeping is None:
            return self._commit(step, signal, call, work)
        now = self.runtime.clock.wall_time()
        try:
            plan = keeping.plan(step, signal, self._cause)
            turn = checkpointer.change(step.agent, self.agent, signal, now, tuple(plan.put), tuple(plan.drop))
        except Exception as error:  # whatever is in it that cannot be kept is a failure of this turn alone
            return self._not_committed(step, error_directive("checkpoint", error, "commit"), signal, call)
        if turn is None:
            self._refused = len(step.errors) > 0
            return self._commit(step, signal, call, work)
        if isinstance(checkpointer.durability.policy, OnCommit) or self._cause.again:
            return self._save_first(step, plan, turn, signal, call, work)
        keeping.wait(plan)
        if checkpointer.add(turn):
            return self._save_all(step, signal, call, work)
        self._save_soon()
        return self._commit(step, signal, call, work)

    def _not_committed(self, step: Step[Any], error: ErrorDirective, signal: Signal, call: Any) -> Any:
        """Commit nothing, and have the answer say so."""
        self._refused = True
        return super()._not_committed(step, error, signal, call)

    async def _save_first(
        self, step: Step[Any], plan: Plan, turn: SavedTurn, signal: Signal, call: Any, work: tuple[ActionLike, ...]
    ) -> Any:
        """Save a turn, and then commit it."""
        assert self._checkpointer is not None
        assert self.keeping is not None
        try:
            await self._checkpointer.save(step.agent, turn)
        except NotSaved as error:
            rest = self._not_committed(step, error_directive("checkpoint", error, "commit"), signal, call)
        except (Moved, OutcomeUnknown) as error:
            return self._disowned(error, call)
        else:
            self._plan = plan
            self.keeping.saved(plan)
            self._tell_withdrawn(step.directives, plan)
            rest = self._commit(step, signal, call, work)
        try:
            return await rest if inspect.isawaitable(rest) else rest
        finally:
            self._plan = None

    async def _save_all(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        """Save the turns that wait, and commit the last one, which is one of them."""
        await self._save(step.agent)
        rest = self._commit(step, signal, call, work)
        return await rest if inspect.isawaitable(rest) else rest

    async def _save(self, agent: Any) -> None:
        """Save the turns that wait; if that fails, again after a pause."""
        assert self._checkpointer is not None
        assert self.keeping is not None
        try:
            await self._checkpointer.save(agent)
        except NotSaved as error:
            self._save_failures = min(self._save_failures + 1, 16)
            self._save_soon()
            self.failed(
                error_directive("checkpoint", error, "commit", retried=True), self.new_signal("agent.checkpoint")
            )
        except (Moved, OutcomeUnknown) as error:
            self._disowned(error, None)
        else:
            self._save_failures = 0
            self.keeping.saved()

    def _save_soon(self) -> None:
        """Have the turns that wait saved in time; or, after a failure, again after a pause."""
        assert self._checkpointer is not None
        policy = self._checkpointer.durability.policy
        pause = policy.seconds if isinstance(policy, EverySeconds) else None
        if self._save_failures:
            pause = min(0.25 * 2 ** (self._save_failures - 1), 30.0)
        if pause is not None and not self._save_set:
            self._save_set = True
            self.send_after(pause, CheckpointDue())

    async def _flush(self) -> None:
        """Write marks that wait; if that fails, again after a pause."""
        assert self._checkpointer is not None
        self._flush_set = False
        try:
            await self._checkpointer.flush()
        except NotSaved:
            self._flush_set = True
            self.send_after(1.0, FlushMarks())
        except (Moved, OutcomeUnknown) as error:
            self._disowned(error, None)

    def _disowned(self, error: Exception, call: Any) -> None:
        """End: another owner has the agent, or nobody knows what is saved."""
        self.stop(Shutdown(str(error)) if isinstance(error, Moved) else crashed(error))
        if call is not None:
            raise Refuse(error) from error

    # -- effects -------------------------------------------------------------------------------------------------

    def _turn_around(self, signal: Signal, facts: Any) -> Turn:
        """Return what surrounds the command of a turn."""
        if self._checkpointer is None:
            return super()._turn_around(signal, facts)
        assert self.keeping is not None
        generation, again, sagas = self._checkpointer.generation, self._cause.again, self.keeping.sagas
        return Turn(
            signal=signal,
            ref=self.ref,
            provided=facts,
            generation=generation,
            again=again,
            run=sagas.run_of(signal),
            saga=KeptSaga(sagas, self._park) if self.kind.saga else Saga(),
        )

    async def _compensate(self) -> None:
        """Undo what an earlier incarnation has begun and not committed, the newest first, before anything else.

        Each step is tried once, and not for long: what cannot be undone now is undone later, beside turns.
        """
        assert self.keeping is not None
        sagas = self.keeping.sagas
        for id in reversed(list(sagas.steps)):
            why = await self._tried_to_undo(sagas.steps[id])
            if why is None:
                await self._step_over(id)
            else:
                self._park(id, why)

    async def _tried_to_undo(self, step: KeptStep) -> str | None:
        """Try to undo a step; return why that has failed."""
        undoing = self._undoing(step)
        if isinstance(undoing, str):
            return undoing
        with suppress(CallError):
            await undoing.over
        return undoing.end()

    def _undoing(self, step: KeptStep) -> Undoing | str:
        """Begin to undo a step; or return why that cannot be."""
        try:
            return Undoing(cast("AgentServer", self), step)
        except Exception as error:
            return told(error)

    def _park(self, id: str, why: str) -> None:
        """Have a step undone later, beside other turns: it could not be undone at once."""
        assert self.keeping is not None
        effect = buried(self, self.keeping.sagas.over(id))  # type: ignore[arg-type]
        # The newest comes first, also after a restart.
        name = f"undo.{_LAST_STEP - int(id):012d}.{effect.token}"
        self._undo_later(name, effect, why)

    def _undo_later(self, id: str, effect: Effect, why: str) -> None:
        about = {"action": effect.data["path"].rpartition(":")[2], "token": effect.token, "why": why}
        self.runtime.events.emit(CompensationDelayed, ref=self.ref, agent_id=self.agent.id, **about)
        self._again_later(id, effect, why, EffectDue(id))

    async def _step_over(self, id: str) -> None:
        """Write down that a step was undone; if that fails, it is undone once more by the next incarnation."""
        assert self.keeping is not None
        try:
            await self.keeping.sagas.undone(id)
        except NotSaved as error:
            self.failed(
                error_directive("checkpoint", error, "commit", retried=True), self.new_signal("agent.checkpoint")
            )
        except (Moved, OutcomeUnknown) as error:
            self._disowned(error, None)

    def _execute(self, place: int, directive: Directive, signal: Signal) -> Any:
        """Carry out a directive that is not kept; or try one that is for the first time."""
        if self.keeping is None or self.beginning:
            return super()._execute(place, directive, signal)
        if isinstance(directive, _PLANNED):
            return None
        if self._plan is not None and place in self._plan.effects:
            id, effect = self._plan.effects[place]
            self.keeping.open[id] = effect
            return self._try(id, effect, directive, signal)
        if self._plan is None and self.keeping.keeps(directive):
            return None  # it waits until its turn is saved
        return super()._execute(place, directive, signal)

    async def _try(self, id: str, effect: Effect, directive: Directive, signal: Signal) -> None:
        """Try an effect; if it fails, again later."""
        assert self.keeping is not None
        self.effect_in_hand = id
        try:
            said = executor_of(directive)(self, directive, signal)  # type: ignore[arg-type]
            if inspect.isawaitable(said):
                await awaited(said)
        except BaseException as error:
            raise_end(error, self.ref)
            self._again_later(id, effect, crashed(error), EffectDue(id))
            raise
        finally:
            self.effect_in_hand = None
        if isinstance(directive, SpawnAgent):
            self.keeping.child_started(id, effect)
        elif not isinstance(directive, _ERRANDS):
            self.keeping.done(id)

    def _again_later(self, id: str, effect: Effect, why: Any, message: Any) -> None:
        assert self.keeping is not None
        failures = self.keeping.failures[id] = self.keeping.failures.get(id, 0) + 1
        effect = tried(effect, str(why))
        budget = UNDO_BUDGET if effect.what == COMPENSATION else BUDGET
        if self.runtime.clock.wall_time() - effect.at >= budget:
            del self.keeping.open[id], self.keeping.failures[id]
            self.keeping.outbox.bury(id, effect, str(why))
        else:
            self.keeping.open[id] = effect
            self.mark([effect_row(OPEN, id, effect, effect.what)])
            self.send_after(min(FIRST_PAUSE * 2 ** min(failures - 1, 16), LONGEST_PAUSE), message)

    async def _try_again(self, id: str) -> None:
        """Try an effect between turns."""
        assert self.keeping is not None
        effect = self.keeping.open.get(id)
        if effect is None:
            return None
        if effect.what == COMPENSATION:
            return self._undo_again(id, effect)
        try:
            directive = directive_of(effect)
        except Exception as error:
            del self.keeping.open[id]
            self.keeping.outbox.bury(id, effect, f"it cannot be read any more: {type(error).__name__}: {error}")
            return None
        signal = Signal(type="agent.effect", source=effect.source, id=effect.cause)
        if isinstance(directive, SpawnAgent) and directive.restart == "temporary" and effect.data["started"]:
            # It has ended with nobody there to be told.
            self.keeping.children[directive.tag] = id
            self.keeping.child_gone(directive.tag)
            data = {"tag": directive.tag, "id": directive.id, "reason": "found gone", "clean": False}
            self.ref.cast(DirectiveResult("agent.child.exit", data, effect.cause))
            return None
        try:
            with resume_context(self.runtime, effect.trace, self.ref, EffectDue(id)):
                await self._try(id, effect, directive, signal)
        except BaseException as error:
            raise_end(error, self.ref)
            self.failed(error_directive(effect.what, error, "effect", retried=True), signal)

    def _undo_again(self, id: str, effect: Effect) -> None:
        """Try a compensation again, beside the turns, one at a time."""
        assert self.keeping is not None
        if self.keeping.undoing:
            self.keeping.to_undo.append(id)
            return
        undoing = self._undoing(step_of(effect))
        if isinstance(undoing, str):
            self._undo_later(id, effect, undoing)
        else:
            self.keeping.undoing = True
            undoing.over.add_done_callback(lambda over: self._undoing_over(UndoingOver(id, undoing)))

    def _undoing_over(self, message: UndoingOver) -> None:
        error = message.undoing.over.exception()
        if error is None or self.ref.alive:  # else it has ended with its server, and is tried by the next one
            self.ref.cast(message)

    def _take_undoing(self, message: UndoingOver) -> None:
        """Take note of how a try beside the turns has ended, and go on with the next one."""
        assert self.keeping is not None
        why = message.undoing.end()
        if why is None:
            self.keeping.done(message.id)
        else:
            self._undo_later(message.id, self.keeping.open[message.id], why)
        self.keeping.undoing = False
        if self.keeping.to_undo:
            self.ref.cast(EffectDue(self.keeping.to_undo.popleft()))

    def _tell_withdrawn(self, directives: tuple[Directive, ...], plan: Plan) -> None:
        for directive in directives:
            if isinstance(directive, Withdraw):
                data = {"token": directive.token, "in_time": plan.withdrawn.get(directive.token, False)}
                self.ref.cast(DirectiveResult("agent.effect.withdrawn", data, ""))

    def _effect_failed(self, place: int, directive: Directive, error: BaseException) -> ErrorDirective:
        retried = self._plan is not None and place in self._plan.effects
        return error_directive(type(directive).__name__, error, "effect", retried=retried)

    # -- answers -------------------------------------------------------------------------------------------------

    def _reply(
        self, directives: tuple[Any, ...], call: Any, failures: tuple[Any, ...] = (), *, duplicate: bool = False
    ) -> Reply[Any] | None:
        reply = super()._reply(directives, call, failures)
        refused, self._refused = self._refused, False
        if reply is None or self._checkpointer is None or self.keeping is None:
            return reply
        kept, pending = not self._checkpointer.waiting and not refused, len(self.keeping.outbox)
        return msgspec.structs.replace(reply, kept=kept, duplicate=duplicate, pending=pending)


class _PatientCaller:
    """A caller without a deadline: a bus, or the outbox of another agent.

    Args:
        wants_errors: whether it wants to be told that there is no route.
    """

    __slots__ = ("wants_errors",)

    def __init__(self, *, wants_errors: bool) -> None:
        self.wants_errors = wants_errors

    def done(self) -> bool:
        """Return that the answer is still waited for."""
        return False


PATIENT_CALLER = _PatientCaller(wants_errors=True)
#: The server itself: nobody has to listen to what it says.
PATIENT_CALLER_OF_OWN = _PatientCaller(wants_errors=False)
