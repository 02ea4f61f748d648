"""What the server of a durable agent begins and ends with, and what it is told, beside what every server is."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from agents.core.signal import Signal, uuid7
from agents.durability.storage import OutcomeUnknown
from agents.errors import Moved, NotSaved
from agents.server.compensation import UndoingOver
from agents.server.durable_turns import DurableTurns
from agents.server.kept import Keeping
from agents.server.messages import (
    CarryOn,
    CheckpointDue,
    EffectDue,
    FlushMarks,
    GetDeadEffects,
    Hibernate,
    RedriveEffects,
    TimersDue,
)
from agents.server.timers import declared_crons
from agents.signals.messages import Deliver
from supervision import Refuse, Shutdown, handle

if TYPE_CHECKING:
    from agents.durability.checkpointer import Checkpointer
    from agents.server.server import AgentServer


class DurableServer(DurableTurns):
    """The part of an `AgentServer` for which it has to be durable."""

    # -- beginning and ending ----------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """Read what was saved."""
        assert self._checkpointer is not None
        self.trap_exit = True
        checkpointer, runtime = self._checkpointer, self.runtime
        loaded = await checkpointer.load(self.agent, uuid7(runtime.random, runtime.clock.wall_time()))
        if loaded is not None:
            self.agent = loaded
        self.keeping = keeping = Keeping(cast("AgentServer", self), checkpointer)
        begin = Signal(type="agent.init", source=self.source, id="agent.init")
        kept = [keeping.timers.row(cron, "kept", begin) for cron in checkpointer.crons]
        keeping.timers.commit(kept, ())
        if checkpointer.since is not None:
            checkpointer.mark(*keeping.timers.migrate(self.kind, checkpointer.since))
        put, drop = keeping.timers.declare(declared_crons(self.kind), begin)
        keeping.timers.commit(put, drop)
        checkpointer.mark([*kept, *put], drop)
        if loaded is not None and checkpointer.unsaved:
            await checkpointer.save(loaded)
        await checkpointer.flush()

    async def _begin_with(self, directives: tuple[Any, ...]) -> None:
        """Carry out what the strategy and the plugins begin with: at each start anew, so that none of it is kept."""
        self.beginning = True
        try:
            rest = self._carry_out(directives, self.new_signal("agent.init"), None)
            if inspect.isawaitable(rest):
                await rest
        finally:
            self.beginning = False

    async def _save_last(self, checkpointer: Checkpointer) -> None:
        """Save what is not saved."""
        await checkpointer.settled()
        await checkpointer.save(self.agent)

    @handle
    async def hibernate(self, request: Hibernate) -> bool:
        """Save, and end; or stay, if it cannot be saved, or something has come meanwhile."""
        try:
            return await self._sleep("hibernate")
        except NotSaved as error:
            raise Refuse(error) from error

    async def _sleep(self, why: str) -> bool:
        """Save, and end, unless something waits to be handled; return whether it ends."""
        if self._checkpointer is not None and self.keeping is not None and self._checkpointer.unsaved:
            try:
                await self._checkpointer.save(self.agent)
            except (Moved, OutcomeUnknown) as error:
                self._disowned(error, None)
                return True
            self.keeping.saved()
        if self.ref.mailbox_statistics().length:
            return False
        self.stop(Shutdown(why))
        return True

    # -- messages -----------------------------------------------------------------------------------------------------

    @handle
    async def on_deliver(self, request: Deliver) -> None:
        """Take a turn for a signal of another agent's outbox."""
        self._stay()
        await self._take_number(request.signal, request.stream, request.number, request.floor)

    @handle
    async def on_timers_due(self, message: TimersDue) -> None:
        """Take a turn for a timer that is due."""
        await self._take_firings()
        self._stay()

    @handle
    async def on_effect_due(self, message: EffectDue) -> None:
        """Carry out an effect that is kept."""
        await self._try_again(message.id)
        self._stay()

    @handle
    def on_undoing_over(self, message: UndoingOver) -> None:
        """Take note of what has become of a compensation."""
        self._take_undoing(message)
        self._stay()

    @handle
    async def on_flush(self, message: FlushMarks) -> None:
        """Write what was marked."""
        await self._flush()
        self._stay()

    @handle
    async def on_carry_on(self, message: CarryOn) -> None:
        """Undo what was cut short, and carry on with what was kept."""
        assert self.keeping is not None
        kept = list(self.keeping.open)  # what cannot be undone joins them, with a try of its own
        await self._compensate()
        if message.directives:
            await self._begin_with(message.directives)
        self.keeping.timers.arm()
        self.keeping.outbox.pump()
        for id in kept:
            self.ref.cast(EffectDue(id))
        self._stay()

    @handle
    def get_dead_effects(self, request: GetDeadEffects) -> Any:
        """Return the effects that were given up."""
        self._stay()
        return () if self.keeping is None else self.keeping.outbox.dead()

    @handle
    def redrive_effects(self, request: RedriveEffects) -> int:
        """Try effects again that were given up, or forget them."""
        self._stay()
        if self.keeping is None:
            return 0
        outbox = self.keeping.outbox
        return outbox.forget(request.tokens) if request.forget else outbox.redrive(request.tokens)

    @handle
    async def on_checkpoint_due(self, message: CheckpointDue) -> None:
        """Write a checkpoint."""
        self._save_set = False
        assert self._checkpointer is not None
        if self._checkpointer.unsaved:
            await self._save(self.agent)
        self._stay()
