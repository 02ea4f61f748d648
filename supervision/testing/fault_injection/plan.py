"""Plans: which faults happen when, to whom. A plan is data: it is printed, saved, shrunk, and run again."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from supervision.clock import seconds as seconds_of
from supervision.errors import BadTime, SpecError
from supervision.events import Event, event_names
from supervision.options import check_choice, is_whole
from supervision.runtime import Runtime
from supervision.supervisors._base import supervisor_info
from supervision.testing.fault_injection.faults import AnyFault, Fault, Kill
from supervision.testing.fault_injection.victims import Victims

Mode = Literal["within_budget", "edge", "unlimited"]


class BadChaosPlan(SpecError):
    """A plan of a chaos test is wrong."""


class ChaosStep(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One fault of a plan.

    Args:
        at: seconds after the beginning.
        fault: what happens.
        path: to whom: the place of an actor in the tree; a pattern hits all that match.
        on: an `Event`, or its name; or the name of a `trace_point`, which begins with no capital letter. The fault
            waits, from ``at`` on, for the next such event about ``path``.
        until: seconds after the beginning at which what lasts is healed; None for the end of the run.

    Raises:
        BadChaosPlan: there is no such event; or another argument is wrong.
    """

    at: float
    fault: AnyFault
    path: str
    if TYPE_CHECKING:
        on: str | type[Event] | None = None
    else:  # what is kept, and written
        on: str | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        _check_time("step: at", self.at)
        _check_fault("step: fault", self.fault)
        if not isinstance(self.path, str) or not self.path:
            raise BadChaosPlan("step: path", self.path, "give the place of an actor in the tree, or a pattern")
        if self.until is not None:
            _check_time("step: until", self.until)
            if self.until < self.at:
                raise BadChaosPlan("step: until", self.until, f"it is healed before it happens, at {self.at:g}")
        if isinstance(self.on, type) and issubclass(self.on, Event):
            msgspec.structs.force_setattr(self, "on", self.on.__name__)
        if self.on is not None:
            _check_event(self.on)


def _check_time(where: str, time: Any) -> None:
    try:
        seconds_of(where, time)
    except BadTime as error:
        raise BadChaosPlan(where, time, error.remedy) from None


def _check_fault(where: str, fault: object) -> None:
    if not isinstance(fault, Fault):
        raise BadChaosPlan(where, fault, "give a fault, such as Kill(): not its class, not its name")


def _check_event(name: object) -> None:
    """Refuse the name of an event that there is not."""
    if not isinstance(name, str) or not name:
        raise BadChaosPlan("step: on", name, "give an event, its name, or that of a trace point")
    if name[0].isupper() and name not in (known := event_names()):
        near = get_close_matches(name, known, 1)
        meant = f"; is {near[0]} meant?" if near else ""
        raise BadChaosPlan(
            "step: on", name, f"no event has this name, and trace points begin with no capital letter{meant}"
        )


class ChaosPlan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Faults in the order of their times.

    Args:
        steps: the faults.
        seed: what the plan was drawn from, and decides what chance is left in its faults, such as which messages are
            dropped.
        mode: ``within_budget`` leaves out a fault that would make a supervisor give up, counting what the supervisor
            counts; ``unlimited`` does as it is told, and so does ``edge``, which is what `ChaosPlan.edge` makes.

    >>> plan = ChaosPlan((ChaosStep(1.0, Kill(), "/app/worker"),), seed=7)
    >>> print(plan)
    {"steps":[{"at":1.0,"fault":{"fault":"kill"},"path":"/app/worker"}],"seed":7}
    >>> ChaosPlan.of(str(plan)) == plan
    True
    """

    steps: tuple[ChaosStep, ...] = ()
    seed: int = 0
    mode: Mode = "within_budget"

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step, ChaosStep):
                raise BadChaosPlan("plan: steps", step, "give instances of ChaosStep")
        check_choice("plan: mode", self.mode, Mode, BadChaosPlan)

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()

    @property
    def duration(self) -> float:
        """Seconds until the last fault, and the healing of what lasts, if it is to be healed."""
        return max((max(step.at, step.until or 0.0) for step in self.steps), default=0.0)

    @classmethod
    def of(cls, text: str) -> ChaosPlan:
        """Return the plan that `str` made this text of.

        Raises:
            BadChaosPlan: it is not one.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadChaosPlan("plan", text, f"this is no plan: {error}") from None

    @classmethod
    def load(cls, path: str | Path) -> ChaosPlan:
        """Read a plan from a file.

        Raises:
            BadChaosPlan: there is none in it.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadChaosPlan("plan", str(path), f"cannot be read: {error}") from None
        return cls.of(text)

    def save(self, path: str | Path) -> None:
        """Write the plan into a file."""
        Path(path).write_text(f"{self}\n", encoding="utf-8")

    @classmethod
    def random(
        cls,
        runtime: Runtime,
        seed: int,
        *,
        faults: Sequence[AnyFault] = (Kill(),),
        steps: int = 50,
        seconds: float = 60.0,
        victims: Victims | None = None,
        mode: Mode = "within_budget",
    ) -> ChaosPlan:
        """Draw a plan for the actors that run at this moment. One tree and one seed give one plan.

        Args:
            runtime: where the victims are.
            seed: what it is drawn from.
            faults: what can happen; each step takes any of them.
            steps: how many.
            seconds: in which time they happen.
            victims: to whom; by default to any supervised actor that is not infrastructure.
            mode: see `ChaosPlan`.

        Raises:
            BadChaosPlan: there are no victims, or no faults; or an argument is wrong.
        """
        if victims is not None and not isinstance(victims, Victims):
            raise BadChaosPlan("victims", victims, "give Victims(path, ...)")
        if not isinstance(faults, Sequence):
            raise BadChaosPlan("faults", faults, "give a list of faults")
        for fault in faults:
            _check_fault("faults", fault)
        if not is_whole(steps, 0):
            raise BadChaosPlan("steps", steps, "give a whole number, 0 or more")
        _check_time("seconds", seconds)
        chosen = victims or Victims()
        paths = [cell.path for cell in chosen.among(runtime)]
        if steps and not paths:
            raise BadChaosPlan("victims", chosen, "no supervised actor of this runtime is one of them")
        if steps and not faults:
            raise BadChaosPlan("faults", faults, "name at least one")
        chance = Random(seed)
        times = sorted(round(chance.uniform(0, seconds), 6) for _ in range(steps))
        drawn = tuple(ChaosStep(at, chance.choice(faults), chance.choice(paths)) for at in times)
        return cls(drawn, seed, mode)

    @classmethod
    def edge(cls, runtime: Runtime, path: str, *, beyond: bool = False) -> ChaosPlan:
        """Return a plan that brings a supervisor to the last restart that it is allowed at this moment.

        Args:
            runtime: where it is.
            path: its place. Its first permanent child is killed again and again, in as many instants.
            beyond: whether it is killed once more, so that the supervisor has to give up.

        Raises:
            BadChaosPlan: there is no such supervisor, or it has no permanent child that runs.
        """
        supervisor = next((ref for ref in runtime.actors() if ref.path == path), None)
        seen = None if supervisor is None else supervisor_info(supervisor)
        children = () if seen is None else seen.children
        child = next((each.ref for each in children if each.ref and each.spec.restart == "permanent"), None)
        if seen is None or child is None:
            raise BadChaosPlan("edge", path, "is no supervisor with a permanent child that runs")
        kills = seen.budget.allowed - seen.budget.used + int(beyond)
        return cls(tuple(ChaosStep(number * 1e-6, Kill(), child.path) for number in range(kills)), mode="edge")
