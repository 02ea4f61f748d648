"""The timers of a durable agent: they are rows of its commits, absolute in time, and outlive its server.

A timer never fires early. The row of one that fires goes in the commit of the turn that it causes: it is its own proof
that it has not fired yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.cron import CronSchedule
from agents.core.directives import Cron, Schedule
from agents.core.router import segments
from agents.core.signal import Signal
from agents.core.traces import with_trace
from agents.durability.checkpoint import check_kept, decoded, encoded, key_of
from agents.durability.storage import RowName, StoredRow
from agents.errors import BadCheckpoint, BadSignal, NotSaved
from agents.events import TicksMissed, TimerDropped
from agents.server.messages import TimersDue
from agents.server.timers import ClockWatch
from supervision import inject_context

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType
    from agents.server.server import AgentServer
    from supervision import Timer

KIND = "timer"
#: Of ticks that were missed at most so many are counted, and with ``missed="all"`` at most so many come one by one.
COUNTED = 1000
#: The first pause after a turn of a timer has failed, in seconds; they double up to the longest. Then it is given up.
FIRST_PAUSE, LONGEST_PAUSE, BUDGET = 0.25, 60.0, 24 * 3600.0
#: Timers further away than so many seconds (thirty million years) are not kept.
_FOREVER = 1e15


class KeptTimer(msgspec.Struct, frozen=True):
    """A timer.

    Attributes:
        due: when, in milliseconds since the epoch.
        type: of the signal.
        data: of the signal.
        source: of the signal that asked for it.
        cause: the id of that signal.
        seq: distinguishes it from earlier ones with its id.
        cron: what was asked for, if it comes again and again.
        declared: whether the agent's type asks for it.
        expires: when it is not wanted any more, in milliseconds since the epoch.
        late: how many ticks in a row came late, one by one.
        trace: that it belongs to, if it fires once; each tick of a cron job begins one.
    """

    due: int
    type: str
    data: Any
    source: str
    cause: str
    seq: str
    cron: Cron | None = None
    declared: bool = False
    expires: int | None = None
    late: int = 0
    trace: Mapping[str, str] = {}


class Firing(msgspec.Struct, frozen=True):
    """A timer that is due: the signal of its turn, and the rows that go and come with it."""

    id: str
    timer: KeptTimer
    signal: Signal
    put: tuple[StoredRow, ...]


class KeptTimers:
    """The timers of one durable agent.

    Args:
        server: whose.
        rows: what is kept of them.
    """

    def __init__(self, server: AgentServer, rows: Iterable[StoredRow] = ()) -> None:
        self.server = server
        self._timers = {row.id: decoded(row.id, row.body, KeptTimer) for row in rows if row.kind == KIND}
        #: By id: how often its turn has failed, and before when it is not tried again, in milliseconds.
        self._failed: dict[str, tuple[int, int]] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._timers)

    def _now(self) -> int:
        return int(self.server.runtime.clock.wall_time() * 1000)

    # -- rows --------------------------------------------------------------------------------------------------------

    def row(self, directive: Schedule | Cron, seq: str, signal: Signal, *, declared: bool = False) -> StoredRow:
        """Return the row of a timer that a directive asks for; that of a cron job that is there already stays.

        Raises:
            NotSaved: its data cannot be kept.
        """
        now = self.server.runtime.clock.wall_time()
        of = (directive.type, directive.data, signal.source, signal.id, seq)
        if isinstance(directive, Schedule):
            id = f"#{seq}" if directive.id is None else directive.id
            due = _instant("Schedule.after", directive.after, now, id)
            expires = None if directive.expires is None else _instant("Schedule.expires", directive.expires, now, id)
            return _row(id, KeptTimer(due, *of, expires=expires, trace=inject_context(self.server.runtime)))
        known = self._timers.get(directive.id)
        if known is not None and known.cron == directive:
            return _row(directive.id, msgspec.structs.replace(known, declared=declared))
        due = ceil(_schedule(directive).next_after(now) * 1000)
        return _row(directive.id, KeptTimer(due, *of, cron=directive, declared=declared))

    def declare(self, crons: Iterable[Cron], signal: Signal) -> tuple[list[StoredRow], list[RowName]]:
        """Return the rows by which the cron jobs that the agent's type declares come, change and go."""
        declared = {cron.id: cron for cron in crons}
        put = [self.row(cron, "declared", signal, declared=True) for cron in declared.values()]
        put = [row for row in put if decoded(row.id, row.body, KeptTimer) != self._timers.get(row.id)]
        gone = [id for id, timer in self._timers.items() if timer.declared and id not in declared]
        for id in gone:
            self._tell_dropped(id, "the agent's type does not declare it any more")
        return put, [(KIND, id) for id in gone]

    def migrate(self, kind: type[AgentType[Any]], since: int) -> tuple[list[StoredRow], list[RowName]]:
        """Return the rows by which timers that were set with an earlier schema change and go, and take them over.

        Args:
            kind: the agent's type.
            since: the schema.

        Raises:
            BadCheckpoint: `AgentType.migrate_signal` has failed.
            NotSaved: the data that it returned cannot be kept.
        """
        put, drop = [], []
        for id, timer in self._timers.items():
            if timer.declared:
                continue
            try:
                said = kind.migrate_signal(timer.type, timer.data, since)
                changed = None if said is None else _with_signal(timer, *said)
            except Exception as error:
                where = f"{kind.__name__}.migrate_signal of timer {id!r}, from schema {since} to {kind.schema}, failed"
                raise BadCheckpoint(key_of(self.server.agent), f"{where}: {type(error).__name__}: {error}") from error
            if changed is None:
                self._tell_dropped(id, f"it is of schema {since}, and {kind.__name__}.migrate_signal takes it away")
                drop.append((KIND, id))
            elif changed != timer:
                put.append(_row(id, changed))
        self.commit(put, drop)
        return put, drop

    def commit(self, put: Iterable[StoredRow], drop: Iterable[RowName]) -> None:
        """Take over what a turn has added and taken away, and wait for what is due next."""
        for kind, id in drop:
            if kind == KIND:
                self._timers.pop(id, None)
                self._failed.pop(id, None)
        for row in put:
            if row.kind == KIND:
                self._timers[row.id] = decoded(row.id, row.body, KeptTimer)
                self._failed.pop(row.id, None)
        self.arm()

    # -- waiting -----------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """Wait for what is due next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timers:
            left = min(map(self._when, self._timers)) - self.server.runtime.clock.wall_time() * 1000
            self._timer = self.server.send_after(max(left / 1000, 0.0), TimersDue())
            ClockWatch.of(self.server.runtime).add(self)
        else:
            ClockWatch.of(self.server.runtime).remove(self)

    def clock_was_set(self) -> None:
        """Look at the clock again."""
        self.server.ref.cast(TimersDue())

    def _when(self, id: str) -> int:
        return max(self._timers[id].due, self._failed.get(id, (0, 0))[1])

    def next_firing(self) -> Firing | None:
        """Return the timer that is due first, if one is now. Missed ticks are told, and by policy left out."""
        while self._timers:
            id = min(self._timers, key=self._when)
            timer, now = self._timers[id], self._now()
            if self._when(id) > now:
                return None
            if timer.cron is not None:
                firing = self._tick(id, timer, timer.cron, now)
            elif timer.expires is not None and now > timer.expires:
                self._tell_dropped(id, "it was not wanted any more")
                self._replace(id, None)
                continue
            else:
                firing = Firing(id, timer, self._signal(id, timer, timer.due), ())
            if firing is not None:
                return firing
        return None

    def _tick(self, id: str, timer: KeptTimer, cron: Cron, now: int) -> Firing | None:
        schedule = _schedule(cron)
        if now - timer.due <= cron.grace * 1000:
            after = max(timer.due, now) if cron.overlap == "skip" else timer.due
            return self._firing(id, timer, timer.due, schedule.next_after(after / 1000), {})
        ticks = _ticks(schedule, timer.due, now)
        following = schedule.next_after(now / 1000)
        if cron.missed == "all" and timer.late < COUNTED:
            return self._firing(id, timer, timer.due, schedule.next_after(timer.due / 1000), {}, timer.late + 1)
        self._tell_missed(id, len(ticks))
        if cron.missed == "skip":
            self._replace(id, msgspec.structs.replace(timer, due=ceil(following * 1000), late=0))
            return None
        about = {"missed": len(ticks), "first": ticks[0] / 1000, "last": ticks[-1] / 1000}
        return self._firing(id, timer, ticks[-1], following, about)

    def _firing(
        self, id: str, timer: KeptTimer, due: int, following: float, about: dict[str, Any], late: int = 0
    ) -> Firing:
        row = _row(id, msgspec.structs.replace(timer, due=ceil(following * 1000), late=late))
        return Firing(id, timer, self._signal(id, timer, due, about), (row,))

    def _signal(self, id: str, timer: KeptTimer, due: int, about: dict[str, Any] | None = None) -> Signal:
        server = self.server
        signal = server.new_signal(timer.type, timer.data, cause=timer.cause)
        token = server.kept_origin(timer.source, f"{id}@{due}").token("t", timer.seq)
        extensions = {**signal.extensions, **(about or {})}
        return with_trace(msgspec.structs.replace(signal, id=token, extensions=extensions), timer.trace)

    def _replace(self, id: str, timer: KeptTimer | None) -> None:
        """Change a timer without a turn."""
        if timer is None:
            self.server.mark(drop=[(KIND, id)])
            self.commit((), [(KIND, id)])
        else:
            row = _row(id, timer)
            self.server.mark([row])
            self.commit([row], ())

    def failed(self, firing: Firing, why: str) -> None:
        """Have a timer tried again after a pause, as its turn has failed; or give the tick up, and tell."""
        failures, now = self._failed.get(firing.id, (0, 0))[0] + 1, self._now()
        if self._timers.get(firing.id) != firing.timer:
            return
        if now - firing.timer.due >= BUDGET * 1000:
            self._tell_dropped(firing.id, why)
            self._replace(firing.id, decoded(firing.id, firing.put[0].body, KeptTimer) if firing.put else None)
            return
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 16), LONGEST_PAUSE)
        self._failed[firing.id] = (failures, now + ceil(pause * 1000))

    def _tell_missed(self, id: str, ticks: int) -> None:
        server = self.server
        server.runtime.events.emit(TicksMissed, ref=server.ref, agent_id=server.agent.id, timer=id, ticks=ticks)

    def _tell_dropped(self, id: str, why: str) -> None:
        server = self.server
        server.runtime.events.emit(TimerDropped, ref=server.ref, agent_id=server.agent.id, timer=id, why=why)


def _instant(where: str, after: float, now: float, id: str) -> int:
    """Return so many seconds from now in milliseconds since the epoch.

    Raises:
        NotSaved: that is beyond all that a storage can hold.
    """
    if after >= _FOREVER:
        raise NotSaved(id, f"{where} = {after!r} is too long to be kept: give fewer than {_FOREVER:.0e} seconds")
    return ceil((now + after) * 1000)


def _row(id: str, timer: KeptTimer) -> StoredRow:
    """Return a timer as a row.

    Raises:
        NotSaved: its data cannot be kept.
    """
    what = "Schedule" if timer.cron is None else "Cron"
    check_kept(Any, timer.data, f"{what}.data", id)
    return StoredRow(KIND, id, encoded(timer, what, id, KeptTimer), timer.due)


def _with_signal(timer: KeptTimer, type: str, data: Any) -> KeptTimer:
    """Return a timer that sends another signal.

    Raises:
        BadSignal: it cannot have this type.
    """
    segments("type", type, BadSignal)
    cron = None if timer.cron is None else msgspec.structs.replace(timer.cron, type=type, data=data)
    return msgspec.structs.replace(timer, type=type, data=data, cron=cron)


def _schedule(cron: Cron) -> CronSchedule:
    return CronSchedule(cron.expression, cron.timezone)


def _ticks(schedule: CronSchedule, first: int, now: int) -> list[int]:
    """Return the ticks from a first one until now; the last one stands for those that are too many to count."""
    ticks = [first]
    while len(ticks) < COUNTED and (due := ceil(schedule.next_after(ticks[-1] / 1000) * 1000)) <= now:
        ticks.append(due)
    return ticks
