"""What a chaos run did: as an object, as JSON, as one table."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from random import Random

import msgspec

from supervision import events
from supervision._core.cell import Cell
from supervision._core.info import ZombieInfo
from supervision.events import Event
from supervision.reasons import ExitReason
from supervision.ref import Ref
from supervision.runtime import Runtime
from supervision.testing.checks import Violation
from supervision.testing.fault_injection.client import RequestCounts
from supervision.testing.fault_injection.plan import ChaosPlan


class Recovery(msgspec.Struct, frozen=True):
    """Seconds from the end of an actor to the start of its replacement."""

    number: int
    median: float
    p95: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, times: Iterable[float]) -> Recovery:
        """Sum up some times."""
        found = sorted(times)
        ordered = found or [0.0]

        def at(share: float) -> float:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

        return cls(len(found), at(0.5), at(0.95), at(0.99), ordered[-1])

    def __str__(self) -> str:
        return f"median {self.median:.6f} s, p95 {self.p95:.6f} s, p99 {self.p99:.6f} s, max {self.maximum:.6f} s"


class Reservoir:
    """Some times out of many, each with the same chance to be among them (Vitter's algorithm R); the longest always.

    Args:
        size: how many are kept. As long as there are no more, all are.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._kept = array("d")
        self._size = size
        self._number = 0
        self._longest = 0.0
        self._chance = Random(0)

    def add(self, time: float) -> None:
        """Take a time."""
        self._number += 1
        self._longest = max(self._longest, time)
        if len(self._kept) < self._size:
            self._kept.append(time)
        elif (place := self._chance.randrange(self._number)) < self._size:
            self._kept[place] = time

    def recovery(self) -> Recovery:
        """Sum them up."""
        return msgspec.structs.replace(Recovery.of(self._kept), number=self._number, maximum=self._longest)


class GiveUp(msgspec.Struct, frozen=True):
    """A supervisor that gave up: too many restarts, the last one for ``reason``."""

    path: str
    time: float
    reason: str


class Report(msgspec.Struct, frozen=True):
    """A chaos run.

    Attributes:
        plan: what was to happen.
        complete: whether it was carried out to its end, and every event that a fault waited for (`ChaosStep.on`)
            came.
        planned: how many faults the plan has; those with a pattern for a path count for each actor they met.
        done: how many have struck.
        missed: how many found nobody at their path, or waited for something, such as a message, that did not come.
        held_back: how many were left out, as they would have made a supervisor give up.
        kills: how many actors were ended by a fault.
        replacements: how many actors supervisors started again.
        cascades: how many of those had not been hit themselves.
        gave_up: the supervisors that gave up.
        lost: the paths of actors that were ended by a fault and have no replacement.
        recovery: how long replacements took.
        requests: what became of the requests of the clients that took part.
        zombies: killed actors whose code still runs.
        blocked: seconds for which the loop was blocked, by the actor that did it.
        violations: what the checks found.
        digest: the hash of the event log.
    """

    plan: ChaosPlan
    complete: bool
    planned: int
    done: int
    missed: int
    held_back: int
    kills: int
    replacements: int
    cascades: int
    gave_up: tuple[GiveUp, ...]
    lost: tuple[str, ...]
    recovery: Recovery
    requests: RequestCounts
    zombies: tuple[str, ...]
    blocked: dict[str, float]
    violations: tuple[Violation, ...]
    digest: str

    def json(self) -> str:
        """Return it as one line of JSON."""
        return msgspec.json.encode(self).decode()

    def table(self) -> str:
        """Return it as a table for a terminal."""
        rows = [
            ("faults", f"{self.planned} planned, {self.done} done, {self.missed} missed, {self.held_back} held back"),
            ("kills", f"{self.kills}"),
            ("replacements", f"{self.replacements}, of which cascades {self.cascades}"),
            ("gave up", ", ".join(each.path for each in self.gave_up) or "none"),
            ("lost for good", ", ".join(self.lost) or "none"),
            ("recovery", str(self.recovery)),
            ("requests", str(self.requests)),
            ("zombies", ", ".join(self.zombies) or "none"),
            ("loop blocked", ", ".join(f"{who} {s:.3f} s" for who, s in self.blocked.items()) or "never"),
            ("violations", "; ".join(f"{v.check}: {v.what}" for v in self.violations) or "none"),
            ("seed, mode", f"{self.plan.seed}, {self.plan.mode}{'' if self.complete else ' (incomplete)'}"),
            ("digest", self.digest),
        ]
        width = max(len(title) for title, _ in rows)
        return "\n".join(f"{title:<{width}}  {text}" for title, text in rows)


class FaultRecord:
    """The outcome of one fault: it strikes, is held back, or, as long as it waits, is missed."""

    def __init__(self, report: ReportBuilder) -> None:
        self._report = report
        self._state = ""

    def done(self) -> None:
        """It strikes, if not for the first time; what was spared before does not count."""
        if self._state == "held back":
            self._report.held_back -= 1
        if self._state != "done":
            self._report.done += 1
        self._state = "done"

    def held_back(self) -> None:
        """An actor is spared."""
        if not self._state:
            self._report.held_back += 1
            self._state = "held back"


class ReportBuilder:
    """Counts for the report while a plan is carried out."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.planned = self.done = self.held_back = 0
        #: Whether the last plan was carried out to its end.
        self.complete = True
        self.kills = self.replacements = self.cascades = 0
        self.gave_up: list[GiveUp] = []
        self.blocked: defaultdict[str, float] = defaultdict(float)
        self.recovery = Reservoir()
        self._blocked_before = 0.0
        #: Who was hit by a fault that ends it: for which reason, None for any; and whether it should come back.
        self._hit: dict[Ref, tuple[ExitReason | None, bool]] = {}
        self._ended: set[Ref] = set()
        self._since: dict[str, float] = {}
        self._lost: dict[str, None] = {}
        kinds = (events.Exited, events.StartFailed, events.Started, events.Restarted, events.GaveUp, events.LoopBlocked)
        self._subscription = runtime.subscribe(self._count, *kinds)

    def book(self) -> FaultRecord:
        """Return the record of a fault."""
        self.planned += 1
        return FaultRecord(self)

    def hit(self, cell: Cell, reason: ExitReason | None = None, *, for_good: bool = True) -> None:
        """Note that a fault that ends an actor is about to strike.

        Args:
            cell: the actor.
            reason: if the actor may also live on, or end otherwise: the reason by which one can tell.
            for_good: whether it is lost if it has no replacement. One that was told to end anyway is not.
        """
        self._hit[cell] = reason, for_good

    def _count(self, event: Event) -> None:
        match event:
            case events.Exited() | events.StartFailed():
                self._exited(event)
            case events.Started():
                self._lost.pop(event.path, None)
                since = self._since.pop(event.path, None)
                if since is not None:
                    self.recovery.add(event.time - since)
            case events.Restarted():
                self.replacements += 1
                if event.old in self._ended:
                    self._ended.discard(event.old)
                else:
                    self.cascades += 1
            case events.GaveUp():
                self.gave_up.append(GiveUp(event.path, event.time, str(event.reason)))
            case _:
                assert isinstance(event, events.LoopBlocked)
                self.blocked[event.path or "?"] += event.seconds - (self._blocked_before if event.again else 0.0)
                self._blocked_before = event.seconds

    def _exited(self, event: events.Exited | events.StartFailed) -> None:
        reason, for_good = self._hit.pop(event.ref, (None, None))
        if for_good is None or (reason is not None and reason != event.reason):
            return
        self.kills += 1
        self._ended.add(event.ref)
        if for_good:
            self._since[event.path] = event.time
            self._lost[event.path] = None

    def report(self, plan: ChaosPlan, requests: RequestCounts, violations: Iterable[Violation], digest: str) -> Report:
        """Return the report."""
        zombies: list[ZombieInfo] = self._runtime.zombies()
        return Report(
            plan,
            self.complete,
            self.planned,
            self.done,
            self.planned - self.done - self.held_back,
            self.held_back,
            self.kills,
            self.replacements,
            self.cascades,
            tuple(self.gave_up),
            tuple(self._lost),
            self.recovery.recovery(),
            requests,
            tuple(zombie.path for zombie in zombies),
            dict(self.blocked),
            tuple(violations),
            digest,
        )

    def close(self) -> None:
        """Stop counting."""
        self._subscription.close()
