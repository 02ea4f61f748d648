"""Chaos on a live tree: off unless asked for, with victims that opted in, few at a time, healed when it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import structlog

from supervision import Actor, Message, Ref, Runtime, handle
from supervision.testing import BadChaosPlan, Chaos, ChaosPlan, ChaosStep, Kill, Report, Victims
from supervision.testing.fault_injection.faults import AnyFault, Crash, ExitFault, Hang, LateReply, Suspend
from supervision.testing.fault_injection.plan import Mode

#: The faults that can be named on the command line. All can be in a plan.
FAULTS: dict[str, AnyFault] = {
    "kill": Kill(),
    "exit": ExitFault(),
    "crash": Crash(),
    "hang": Hang(1.0),
    "late_reply": LateReply(1.0),
    "suspend": Suspend(1.0),
}
#: Plans are drawn for so many seconds at a time, from the actors that are there then.
MINUTE = 60.0


class ChaosSettings(msgspec.Struct, frozen=True):
    """What was asked for.

    Attributes:
        seed: what the faults are drawn from.
        rate: faults a minute.
        seconds: for how long; None for as long as the tree runs.
        most: faults that are inflicted within any minute, whatever the plan says.
        faults: the names of what can happen.
        tag: what a child specification, or that of a supervisor above it, must have among its ``tags``.
        mode: whether supervisors may be brought to give up.
        dry: whether faults are only told, not inflicted.
        plan: carried out instead of random faults.
    """

    seed: int = 0
    rate: float = 6.0
    seconds: float | None = None
    most: int = 10
    faults: tuple[str, ...] = ("kill",)
    tag: str = "chaos"
    mode: Mode = "within_budget"
    dry: bool = False
    plan: ChaosPlan | None = None

    @classmethod
    def of(cls, text: str) -> ChaosSettings:
        """Read ``seed=7,rate=6,...`` or the name of a file with a plan; both: ``plan.json,dry=true``.

        Raises:
            ValueError: there is no such setting, or not with this value; the message says what there is.
        """
        settings: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            if equals:
                settings[name] = _setting(name, value)
            else:
                settings["plan"] = _plan(part)
        if not settings:
            raise ValueError(f"give the file of a plan, or {', '.join(f'{name}=...' for name in _READERS)}")
        return cls(**{_FIELDS.get(name, name): value for name, value in settings.items()})


def _plan(path: str) -> ChaosPlan:
    try:
        return ChaosPlan.load(path)
    except BadChaosPlan as error:
        raise ValueError(str(error)) from None


def _choice(choices: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"choose one of {', '.join(choices)}")
        return text

    return read


def _number(kind: type[int | float], least: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = kind(least - 1)
        if not least <= number < float("inf"):
            raise ValueError(f"give a {'whole ' if kind is int else ''}number from {least:g}")
        return number

    return read


def _faults(text: str) -> tuple[str, ...]:
    return tuple(_choice(tuple(FAULTS))(name) for name in text.split("+"))


_READERS: dict[str, Callable[[str], Any]] = {
    "seed": _number(int, 0),
    "rate": _number(float, 0),
    "for": _number(float, 0),
    "max": _number(int, 0),
    "faults": _faults,
    "tag": str,
    "mode": _choice(get_args(Mode)),
    "dry": lambda text: _choice(("true", "false"))(text) == "true",
}
_FIELDS = {"for": "seconds", "max": "most"}


def _setting(name: str, value: str) -> Any:
    if name not in _READERS:
        raise ValueError(f"{name}: there is no such setting; there are {', '.join(_READERS)}")
    try:
        return _READERS[name](value)
    except ValueError as error:
        raise ValueError(f"{name}={value}: {error}") from None


class Begin(Message, frozen=True):
    """The order to itself to begin."""


class LiveChaos(Actor):
    """Lets chaos into its runtime. When it ends, or is killed, what lasts is healed.

    Args:
        settings: what was asked for.
        log: where each fault is told; a structlog logger.
    """

    infrastructure = True

    def __init__(self, settings: ChaosSettings, log: Any = None) -> None:
        self._settings = settings
        self._log: Any = structlog.get_logger("chaos") if log is None else log
        self._times: deque[float] = deque()

    def init(self) -> None:
        """Begin when the start is over."""
        self.continue_with(Begin())

    @handle
    async def begin(self, message: Begin) -> None:
        """Carry out the plan, or one after the other."""
        asked = self._settings
        async with Chaos(self.runtime, may_hit=self._may_hit, before=self._tell, dry=asked.dry) as chaos:
            if asked.plan is not None:
                report = await chaos.run(asked.plan)
            else:
                report = await self._go_on(chaos)
        self._log.info("chaos_over", **_summary(report))
        self.stop()

    async def _go_on(self, chaos: Chaos) -> Report:
        asked, begun = self._settings, self.runtime.clock.time()
        minute = 0
        while True:
            over = begun + minute * MINUTE
            left = MINUTE if asked.seconds is None else min(MINUTE, asked.seconds - minute * MINUTE)
            if left <= 0:
                return chaos.report()
            if opted_in(self.runtime, asked.tag):
                await chaos.run(self._plan(asked.seed + minute, left))
            await self.runtime.sleep(max(0.0, over + left - self.runtime.clock.time()))
            minute += 1

    def _plan(self, seed: int, seconds: float) -> ChaosPlan:
        asked = self._settings
        return ChaosPlan.random(
            self.runtime,
            seed,
            faults=[FAULTS[name] for name in asked.faults],
            steps=round(asked.rate * seconds / MINUTE),
            seconds=seconds,
            victims=Victims(tag=asked.tag),
            mode=asked.mode,
        )

    def _may_hit(self, ref: Ref) -> bool:
        now = self.runtime.clock.time()
        while self._times and self._times[0] <= now - MINUTE:
            self._times.popleft()
        opted_in = Victims(tag=self._settings.tag, infrastructure=True).includes(ref)
        if not opted_in or len(self._times) >= self._settings.most:
            return False
        self._times.append(now)
        return True

    def _tell(self, step: ChaosStep, ref: Ref) -> None:
        fault = msgspec.to_builtins(step.fault)
        self._log.warning("chaos", actor=ref.path, **fault, **({"dry": True} if self._settings.dry else {}))


def opted_in(runtime: Runtime, tag: str) -> list[str]:
    """Return the paths of the actors that opted in."""
    return [cell.path for cell in Victims(tag=tag).among(runtime)]


def _summary(report: Report) -> dict[str, Any]:
    return {
        "done": report.done,
        "missed": report.missed,
        "held_back": report.held_back,
        "kills": report.kills,
        "replacements": report.replacements,
        "gave_up": [each.path for each in report.gave_up],
        "recovery": str(report.recovery),
        "violations": len(report.violations),
    }
