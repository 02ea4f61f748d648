"""What a durable agent keeps beside its state, and what a turn adds to it, in the one write that commits the turn."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.directives import (
    Cron,
    Directive,
    Emit,
    ErrorDirective,
    Schedule,
    Unschedule,
    Withdraw,
)
from agents.core.plugin import emitted
from agents.core.tokens import Origin
from agents.durability.checkpoint import key_of
from agents.durability.storage import RowName, StoredRow
from agents.errors import NotSaved
from agents.server.effects import LOCAL, OPEN, Effect, destination, effect_row, keeper_of, read_effect
from agents.server.inbox import Inbox
from agents.server.kept_timers import KeptTimers
from agents.server.outbox import Outbox
from agents.server.sagas import COMPENSATION, Sagas
from supervision import inject_context

if TYPE_CHECKING:
    from agents.core.command import Step
    from agents.core.signal import Signal
    from agents.durability.checkpointer import Checkpointer
    from agents.server.server import AgentServer


class Cause(msgspec.Struct, frozen=True):
    """What a turn was caused by, if that is kept somewhere.

    Attributes:
        signal: whose id is remembered, so that it is not done again; None for one that is told apart otherwise.
        again: whether it comes again if the turn fails.
        stream: of another agent's outbox, its number in it, and the lowest number that may still come.
        drop: rows that the turn settles.
        put: rows that take their place.
    """

    signal: Signal | None = None
    again: bool = False
    stream: tuple[str, int, int] | None = None
    drop: tuple[RowName, ...] = ()
    put: tuple[StoredRow, ...] = ()


class Plan(msgspec.Struct):
    """What a turn adds to what is kept.

    Attributes:
        put: rows that come.
        drop: rows that go.
        sent: signals that it sends, with the ids of their rows.
        effects: by the place of a directive, the id and the effect as which it is kept.
        withdrawn: by the token of a signal that is taken back, whether it was surely not sent.
    """

    put: list[StoredRow] = []
    drop: list[RowName] = []
    sent: list[tuple[str, Effect]] = []
    effects: dict[int, tuple[str, Effect]] = {}
    withdrawn: dict[str, bool] = {}


class Keeping:
    """What one durable agent keeps beside its state.

    Args:
        server: of the agent.
        checkpointer: which writes it.
    """

    def __init__(self, server: AgentServer, checkpointer: Checkpointer) -> None:
        rows, agent = checkpointer.rows, server.agent
        self._server = server
        self._checkpointer = checkpointer
        self._key = key_of(agent)
        #: The name of the streams of the agent's outbox.
        self.stream = f"{self._key}#{checkpointer.generation}"
        self.inbox = Inbox(rows)
        self.outbox = Outbox(server, self.stream, rows)
        self.timers = KeptTimers(server, rows)
        self.sagas = Sagas(self._key, checkpointer)
        #: Effects that are no signals, by the ids of their rows; how often each has failed; those of children, by tag.
        self.open = {row.id: effect for row in rows if row.kind == OPEN and (effect := read_effect(row)).to is None}
        self.failures: dict[str, int] = {}
        self.children: dict[str, str] = {}
        #: Whether something is undone beside the turns, and what waits for that, by the ids of the rows.
        self.undoing = False
        self.to_undo: deque[str] = deque()
        #: Plans of turns that are not saved.
        self._waiting: list[Plan] = []

    @property
    def busy(self) -> bool:
        """Whether something is to be carried out for which nobody has to come."""
        return len(self.outbox) > 0 or len(self.open) > len(self.children)

    def counts(self) -> dict[str, Any]:
        """Return how much is kept, for people."""
        return {
            "outbox": len(self.outbox),
            "outbox_oldest": self.outbox.oldest,
            "dead": len(self.outbox.dead()),
            "effects": len(self.open),
            "compensations": sum(effect.what == COMPENSATION for effect in self.open.values()),
            "timers": len(self.timers),
            "sagas": len(self.sagas.steps),
            "inbox": len(self.inbox),
            "duplicates": self.inbox.duplicates,
        }

    @staticmethod
    def keeps(directive: Directive) -> bool:
        """Return whether a directive is kept until it is carried out."""
        return keeper_of(type(directive)) is not None

    def done(self, id: str) -> None:
        """Forget an effect that is carried out."""
        if self.open.pop(id, None) is not None:
            self.failures.pop(id, None)
            self._server.mark(drop=[(OPEN, id)])

    def child_started(self, id: str, effect: Effect) -> None:
        """Keep a child: the next incarnation of the server looks for it, and starts it again if it is gone."""
        # When it is started again one day, that is no part of the trace in which it was asked for.
        kept = msgspec.structs.replace(effect, data={**effect.data, "started": True}, trace={})
        self.open[id] = kept
        self.children[effect.data["tag"]] = id
        row = effect_row(OPEN, id, kept, effect.what)
        self._server.mark([msgspec.structs.replace(row, due=None)])

    def child_ended(self, tag: str, *, clean: bool) -> None:
        """Take note that a child has ended, perhaps to be started again."""
        effect = self.open.get(self.children.get(tag, ""))
        if effect is not None:
            restart = effect.data["restart"]
            if restart == "temporary" or (restart == "transient" and clean):
                self.child_gone(tag)

    def child_gone(self, tag: str) -> None:
        """Forget a child that has ended for good."""
        self.done(self.children.pop(tag, ""))

    def origin(self, signal: Signal) -> Origin:
        """Return what the tokens of a turn for a signal are made of."""
        agent = self._server.agent
        return Origin(agent.partition, agent.type, agent.id, self._checkpointer.generation, signal.source, signal.id)

    # -- planning ----------------------------------------------------------------------------------------------------

    def plan(self, step: Step[Any], signal: Signal, cause: Cause) -> Plan:
        """Return what a turn adds to what is kept.

        Raises:
            NotSaved: something of it cannot be kept; the error says what.
        """
        plan = Plan([], [], [], {}, {})
        keeps = step.agent.version != self._server.agent.version
        for place, directive in enumerate(step.directives):
            keeps = keeps or not isinstance(directive, ErrorDirective)
            self._plan_one(plan, place, directive, signal)
        if keeps or (cause.again and not step.errors):
            self._settle(plan, cause)
        plan.drop += self.sagas.names()
        return plan

    def _settle(self, plan: Plan, cause: Cause) -> None:
        """Have the turn remember what caused it, and settle the rows that did."""
        named = {(row.kind, row.id) for row in plan.put}
        plan.drop += [name for name in cause.drop if name not in named]
        plan.put += [row for row in cause.put if (row.kind, row.id) not in named]
        if cause.stream is not None:
            plan.put.append(self.inbox.taking_number(*cause.stream))
        if cause.signal is not None:
            now = self._server.runtime.clock.wall_time()
            row, forgotten = self.inbox.taking(cause.signal, self._checkpointer.next_turn, now)
            plan.put.append(row)
            plan.drop += forgotten

    def _plan_one(self, plan: Plan, place: int, directive: Directive, signal: Signal) -> None:
        if isinstance(directive, tuple(LOCAL)):
            return
        id = f"{self._checkpointer.next_turn:015d}.{place:04d}"
        if isinstance(directive, Emit):
            self._plan_signal(plan, place, id, directive, signal)
        elif isinstance(directive, (Schedule, Cron)):
            plan.put.append(self.timers.row(directive, id, signal))
        elif isinstance(directive, Unschedule):
            plan.drop.append(("timer", directive.id))
            plan.put = [row for row in plan.put if (row.kind, row.id) != ("timer", directive.id)]
        elif isinstance(directive, Withdraw):
            found = self.outbox.withdraw(directive.token)
            if found is not None:
                plan.drop.append(found[0])
                plan.withdrawn[directive.token] = found[1]
        else:
            self._plan_effect(plan, place, id, directive, signal)

    def _plan_signal(self, plan: Plan, place: int, id: str, directive: Emit, signal: Signal) -> None:
        server, token = self._server, self.origin(signal).token("e", str(place))
        to = destination(directive.to, "Emit", self._key)
        sent = server.new_signal(directive.type, directive.data, directive.subject, signal.id)
        extensions = {**sent.extensions, **({"partition": server.agent.partition} if server.agent.partition else {})}
        sent = msgspec.structs.replace(sent, id=token, extensions=extensions)
        if server.kind.mounted:
            sent = emitted(server.kind.mounted, sent, server.agent)
        number = self.outbox.next_number(to, sum(effect.to == to for _, effect in plan.sent))
        effect = Effect(token, "Emit", server.runtime.clock.wall_time(), signal.source, signal.id, to, number, sent)
        plan.put = [row for row in plan.put if (row.kind, row.id) != ("sent", to)]
        plan.put += [effect_row(OPEN, id, effect, "Emit"), self.outbox.counter(to, number)]
        plan.sent.append((id, effect))

    def _plan_effect(self, plan: Plan, place: int, id: str, directive: Directive, signal: Signal) -> None:
        found = keeper_of(type(directive))
        if found is None:
            name = type(directive).__name__
            why = f"{name}: say @executes({name}, durable=True) to have it kept, or local=True if it may be lost"
            raise NotSaved(self._key, why)
        what, (data, _) = found
        token, now = self.origin(signal).token("e", str(place)), self._server.runtime.clock.wall_time()
        effect = Effect(token, what, now, signal.source, signal.id, data=data(directive, self._key))
        effect = msgspec.structs.replace(effect, trace=inject_context(self._server.runtime))
        plan.put.append(effect_row(OPEN, id, effect, what))
        plan.effects[place] = (id, effect)

    # -- committing --------------------------------------------------------------------------------------------------

    def wait(self, plan: Plan) -> None:
        """Have a plan wait until its turn is saved."""
        self.sagas.committed()
        self._take(plan)
        self._waiting.append(plan)

    def saved(self, plan: Plan | None = None) -> None:
        """Have the plans of all turns that wait carried out, and then this one's signals sent and timers set."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self.timers.commit(one.put, one.drop)
            self.outbox.add(one.sent)
            for id, effect in one.effects.values():
                self._server.carry_on(id, effect)
        if plan is not None:
            self._take(plan)
            self.sagas.committed()
            self.timers.commit(plan.put, plan.drop)
            for kind, id in plan.drop:
                if kind == OPEN:
                    self.outbox.drop(id)
                    self.open.pop(id, None)
            self.outbox.add(plan.sent)

    def _take(self, plan: Plan) -> None:
        self.outbox.count(plan.sent)
        forgotten = self.inbox.commit(plan.put, plan.drop)
        if forgotten:
            self._server.tell_forgotten(forgotten)
