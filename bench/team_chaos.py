"""Suite ``team-chaos``: a served team of five under a kill a second, in virtual time; each call must end as it should.

Members take a while to answer, so that kills find them at work, and are not asked again when they have died under a
call: each such kill shows in the answer. Every twentieth kill is one of the team's own actor.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from functools import cache
from typing import Any

import dspy
import msgspec
from dspy.utils.dummies import DummyLM

from bench.figure import Figure
from dspex.teams import Member, Team, TeamActor
from dspex.teams.metrics import TeamCounts
from foundation.programs import Busy, RunProgram, Unavailable
from supervision import CallError, CallTimeout, ChildSpec, Ref, Runtime, Supervisor
from supervision.testing import run

#: How often something is killed, and in how many seconds on the average.
KILLS, EACH = 1000, 1.0
#: What the members answer, in their order: most say what is right.
ANSWERS = {"a": "right", "b": "right", "c": "wrong", "d": "right", "e": "right"}
LADDER = ["quorum", "single", "cached:60", {"rung": "default", "outputs": {"label": "none"}}, "refuse"]
#: Callers at a time, and the seconds that each waits.
CALLERS, PATIENCE = 4, 2.0
_LABEL = re.compile(r"(quorum|single|cached|default):(lost|deadline|overload)( (\d) of (\d))?")


class Slow(dspy.Module):  # type: ignore[misc]
    """Answers after a while."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        super().__init__()
        self.name, self.runtime = name, runtime

    def __deepcopy__(self, memo: dict[int, Any]) -> Slow:
        return self

    async def aforward(self, text: str) -> Any:
        """Answer."""
        await self.runtime.sleep(self.runtime.random.uniform(0.05, 0.8))
        return dspy.Prediction(label=ANSWERS[self.name], said_by=self.name)


class TeamReport(msgspec.Struct):
    """What became of the calls.

    Attributes:
        answered: in full.
        degraded: by a lesser answer, with its label.
        refused: with a word why, or told that the team's actor has ended.
        hung: not told in time.
        wrong_label: answers of which the label, or its absence, does not say what they are.
        rungs: which rung has answered, and how often.
        coverage: answers by coverage, as the metrics have them.
        kills: how often something was killed, of these the team's actor ``of_team`` times.
        left: actors at the end.
    """

    answered: int = 0
    degraded: int = 0
    refused: int = 0
    hung: int = 0
    wrong_label: int = 0
    rungs: Counter[str] = msgspec.field(default_factory=Counter)
    coverage: dict[float, int] = {}
    kills: int = 0
    of_team: int = 0
    left: list[str] = []


def fits(answer: dict[str, Any]) -> bool:
    """Return whether the label of an answer says what it is."""
    outcomes = Counter(one.outcome for one in answer["ballot"])
    away = outcomes["lost"] + outcomes["late"]
    label = answer["degraded"]
    if label is None:
        return bool(away == 0 and answer["label"] == "right")
    found = _LABEL.fullmatch(label)
    if found is None:
        return False
    rung, reason = found.group(1), found.group(2)
    if rung == "quorum":
        count = outcomes["lost" if reason == "lost" else "late"]
        told = f" {count} of {sum(outcomes.values()) - outcomes['unasked']}"
        return bool(found.group(3) == told and count > 0 and answer["label"] == "right")
    if rung == "single":
        said = {one.member: one.value for one in answer["ballot"] if one.outcome == "answered"}
        return bool(said.get(answer["said_by"]) == answer["label"])
    return bool(answer["label"] == {"cached": "right", "default": "none"}[rung])


async def campaign(runtime: Runtime, kills: int, each: float) -> TeamReport:
    """Serve a team, kill, and ask, until there were so many kills; then ask until it is well again.

    Args:
        runtime: in which it is served.
        kills: how many.
        each: seconds between two, on the average.
    """
    report, over = TeamReport(), asyncio.Event()
    team = Team("desk", tuple(Member(name, Slow(name, runtime)) for name in ANSWERS), field="label")
    options = {"lm": DummyLM([]), "ladder": LADDER, "retries": 0, "waiting": None, "concurrency": 8}
    spec = ChildSpec("desk", TeamActor, (team,), options, name="program:desk")
    top = await runtime.spawn(Supervisor, [spec], max_restarts=100, max_seconds=1.0)

    async def ask(text: str) -> None:
        try:
            answer = await runtime.name("program:desk").call(RunProgram({"text": text}), PATIENCE)
        except CallTimeout:
            report.hung += 1
        except (Unavailable, Busy, CallError):
            report.refused += 1
        else:
            report.wrong_label += not fits(answer.outputs)
            report.rungs[(answer.outputs["degraded"] or "full").partition(":")[0]] += 1
            report.degraded += answer.outputs["degraded"] is not None
            report.answered += answer.outputs["degraded"] is None

    async def caller(number: int) -> None:
        while not over.is_set():
            await ask(str(number))
            await runtime.sleep(runtime.random.expovariate(5.0))

    callers = [asyncio.ensure_future(caller(number)) for number in range(CALLERS)]
    while report.kills < kills:
        await runtime.sleep(runtime.random.expovariate(1.0 / each))
        victims = members(runtime)
        mine = runtime.whereis("program:desk")
        victim = mine if report.kills % 20 == 19 or not victims else runtime.random.choice(victims)
        if victim is not None:
            victim.kill()
            report.kills += 1
            report.of_team += victim is mine
    over.set()
    await asyncio.gather(*callers)
    while len(members(runtime)) < len(ANSWERS):
        await runtime.sleep(0.1)
    report.coverage = {share: count for (_, share), count in TeamCounts.of(runtime).coverage.items()}
    kinds = [info.kind for ref in runtime.actors() if (info := runtime.info(ref)) is not None]
    report.left = sorted(kinds)
    top.kill()
    return report


def members(runtime: Runtime) -> list[Ref]:
    """Return the members' agents."""
    return [ref for name, ref in sorted(runtime.names().items()) if "/desk#" in name]


@cache
def _measured() -> TeamReport:
    async def measure() -> TeamReport:
        async with Runtime(seed=1, watchdog=None, reports=False) as runtime:
            return await campaign(runtime, KILLS, EACH)

    return run(measure())


async def _figure(name: str) -> Figure:
    report = await asyncio.to_thread(_measured)
    value = float(getattr(report, name))
    calls = float(report.answered + report.degraded + report.refused + report.hung)
    must = name in ("hung", "wrong_label")
    more = {f"by_{rung}": float(count) for rung, count in sorted(report.rungs.items())} if name == "degraded" else {}
    more |= {"kills": float(report.kills), "of_team": float(report.of_team)} if must else {}
    reach = 0.0 if name != "answered" else 0.5
    better: Any = "lower" if must else "higher"
    return Figure(value=value, unit="calls", limit=calls, ratio=value / calls, reach=reach, better=better, more=more)


async def hung() -> Figure:
    """Calls that were not told in time."""
    return await _figure("hung")


async def wrong_label() -> Figure:
    """Answers of which the label does not say what they are."""
    return await _figure("wrong_label")


async def answered() -> Figure:
    """Calls that were answered in full."""
    return await _figure("answered")


async def degraded() -> Figure:
    """Calls that were answered by a lesser answer, with its label."""
    return await _figure("degraded")


async def refused() -> Figure:
    """Calls that were refused, or told that the team's actor has ended."""
    return await _figure("refused")


FIGURES = {
    "hung": hung,
    "wrong_label": wrong_label,
    "answered": answered,
    "degraded": degraded,
    "refused": refused,
}
