"""A team whose members do what a test tells them, and how it is served."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import dspy
from dspy.utils.dummies import DummyLM

from dspex.agents.dispatcher import AgentDown
from dspex.teams import Member, Team, TeamActor
from foundation.programs import RunProgram
from supervision import ChildSpec, Ref, Runtime, Supervisor


class Answering(dspy.Module):
    """Takes its time, and answers, or raises; what all of a name do is kept in the class, as members are copied."""

    seconds: dict[str, float] = {}
    raises: dict[str, BaseException] = {}
    asked: Counter[str] = Counter()
    runtime: Runtime | None = None

    def __init__(self, name: str, answer: str) -> None:
        super().__init__()
        self.name, self.answer = name, answer

    async def aforward(self, text: str) -> Any:
        """Answer."""
        Answering.asked[self.name] += 1
        assert self.runtime is not None
        await self.runtime.sleep(self.seconds.get(self.name, 0.0))
        if self.name in self.raises:
            raise self.raises[self.name]
        return dspy.Prediction(label=self.answer, said_by=self.name)


def forget() -> None:
    """Begin a test: nobody is slow, and nobody away."""
    Answering.seconds.clear()
    Answering.raises.clear()
    Answering.asked.clear()


def away(*names: str, error: BaseException | None = None) -> None:
    """Have these members be away, and no others."""
    Answering.raises.clear()
    Answering.raises.update(dict.fromkeys(names, error or AgentDown("gone")))


def desk(answers: str = "AAAAA", **options: Any) -> Team:
    """A team of as many as there are answers, a, b, c and so on."""
    members = (Member(name, Answering(name, answer)) for name, answer in zip("abcdefg", answers, strict=False))
    return Team("desk", tuple(members), field="label", **options)


async def serve(runtime: Runtime, team: object, **options: Any) -> Ref:
    """A team under the name of a program, supervised."""
    Answering.runtime = runtime
    options.setdefault("lm", DummyLM([]))
    await runtime.spawn(
        Supervisor, [ChildSpec("desk", TeamActor, (team,), options, name="program:desk")], max_restarts=1000
    )
    found = runtime.whereis("program:desk")
    assert found is not None
    return found


async def ask(actor: Ref, text: str = "x", timeout: float | None = None) -> dict[str, Any]:
    """What it answers."""
    found: dict[str, Any] = (await actor.call(RunProgram({"text": text}), timeout=timeout)).outputs
    return found


def members(runtime: Runtime) -> dict[str, Ref]:
    """The members' agents, by their names."""
    return {name.rsplit("/", 1)[1]: ref for name, ref in sorted(runtime.names().items()) if "/desk#" in name}


async def until(runtime: Runtime, true: Callable[[], object]) -> None:
    """Let the others work until something is true."""
    while not true():
        await runtime.sleep(0.001)
