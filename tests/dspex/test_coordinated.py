"""Variables that coordinate agents, and learn."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from dspex.variables import (
    BadVariable,
    BadVariableValue,
    ChangeRefused,
    ChangeVariable,
    Choice,
    CoordinatedVariable,
    EpsilonGreedy,
    Feedback,
    Float,
    GetVariable,
    Integer,
    Momentum,
    ProposeChange,
    SettleChange,
    SubscribeToVariable,
    ThompsonSampling,
    UnsubscribeFromVariable,
    UpperConfidenceBound,
    VariableChanged,
    VersionedValue,
)
from supervision import Actor, ChildSpec, Ref, Refuse, Runtime, Supervisor, handle
from supervision.errors import BadOption

HEAT = Float(name="heat", low=0.0, high=2.0, default=1.0)
TONE = Choice(name="tone", choices={"a": 1, "b": 2, "c": 3}, default="a")


class Member(Actor):
    """Agrees to what is below its limit; notes what it is told."""

    def __init__(self, most: float = 9.0) -> None:
        self.most = most
        self.told: list[Any] = []
        self.silent = asyncio.Event()

    @handle
    async def proposed(self, request: ProposeChange) -> None:
        """Agree, refuse, or say nothing."""
        self.told.append(request)
        if self.most < 0:
            await self.silent.wait()
        if request.new > self.most:
            raise Refuse(ValueError(f"{request.new} is too much"))

    @handle
    def settled(self, request: SettleChange) -> None:
        """Note."""
        self.told.append(request)


async def member(runtime: Runtime, variable: Ref, most: float = 9.0, **options: Any) -> tuple[Ref, Member]:
    """A member that has subscribed."""
    made: list[Member] = []

    class Kept(Member):
        def init(self) -> None:
            made.append(self)

    ref = await runtime.spawn(Kept, most, **options)
    assert isinstance(await variable.call(SubscribeToVariable(ref)), VersionedValue)
    return ref, made[0]


async def test_a_change_counts_when_all_agree(runtime: Runtime) -> None:
    """It is proposed to each, made, told to each, and has the next version."""
    events: list[Any] = []
    runtime.subscribe(events.append, VariableChanged)
    variable = await runtime.spawn(CoordinatedVariable, HEAT)
    members = [(await member(runtime, variable))[1] for _ in range(3)]
    assert await variable.call(ChangeVariable(1.5)) == VersionedValue(1.5, 1)
    for one in members:
        assert one.told == [ProposeChange("heat", 1.0, 1.5, 1), SettleChange("heat", 1.5, 1, True)]
    assert await variable.call(ChangeVariable(1.5)) == VersionedValue(1.5, 1)
    assert await variable.call(GetVariable()) == VersionedValue(1.5, 1)
    assert [(event.outcome, event.version, event.agents) for event in events] == [("changed", 1, 3)]
    info = runtime.info(variable)
    assert info is not None
    assert info.summary == {"value": "1.5", "version": "1", "agents": "3"}


async def test_one_refusal_takes_it_back(runtime: Runtime) -> None:
    """Whoever had agreed is told so; the refusal names who and why; an agent that says nothing has refused."""
    variable = await runtime.spawn(CoordinatedVariable, HEAT, limit=0.02)
    _, willing = await member(runtime, variable)
    strict, _ = await member(runtime, variable, 1.2)
    with pytest.raises(ChangeRefused, match=r"'heat' was refused .*1\.5 is too much") as caught:
        await variable.call(ChangeVariable(1.5))
    assert list(caught.value.refusals) == [strict.path]
    assert willing.told[-1] == SettleChange("heat", 1.0, 0, False)
    assert await variable.call(GetVariable()) == VersionedValue(1.0, 0)
    assert await variable.call(ChangeVariable(1.1)) == VersionedValue(1.1, 1)
    silent, mute = await member(runtime, variable, -1.0)
    with pytest.raises(ChangeRefused, match=r"no answer within 0\.02 s"):
        await variable.call(ChangeVariable(1.0))
    mute.silent.set()
    await variable.call(UnsubscribeFromVariable(silent))
    await variable.call(UnsubscribeFromVariable(silent))
    assert (await variable.call(ChangeVariable(1.0))).version == 2


async def test_who_has_ended_is_not_asked(runtime: Runtime) -> None:
    """Neither afterwards, nor when it ends in the middle."""
    variable = await runtime.spawn(CoordinatedVariable, HEAT)
    first, _ = await member(runtime, variable)
    first.kill()
    await runtime.sleep(0.001)
    second, silent = await member(runtime, variable, -1.0)
    change = asyncio.ensure_future(variable.call(ChangeVariable(1.5)))
    while not silent.told:
        await runtime.sleep(0.001)
    second.kill()
    assert await change == VersionedValue(1.5, 1)


async def test_the_scope_is_a_place_in_the_tree(runtime: Runtime) -> None:
    """An agent from elsewhere cannot subscribe."""
    team = await runtime.spawn(Supervisor, [ChildSpec("one", Member, name="one")], name="team")
    variable = await runtime.spawn(CoordinatedVariable, HEAT, scope=team.path)
    one = runtime.whereis("one")
    assert one is not None
    assert (
        await variable.call(SubscribeToVariable(one))
        == await variable.call(SubscribeToVariable(one))
        == VersionedValue(1.0, 0)
    )
    with pytest.raises(BadOption, match="only what is below /team/"):
        await variable.call(SubscribeToVariable(await runtime.spawn(Member)))


async def test_wrong_values_change_nothing(runtime: Runtime) -> None:
    """They are refused before anybody is asked."""
    variable = await runtime.spawn(CoordinatedVariable, HEAT)
    _, asked = await member(runtime, variable)
    with pytest.raises(BadVariableValue, match="from 0 to 2"):
        await variable.call(ChangeVariable(3.0))
    with pytest.raises(BadOption, match="no adaptation"):
        await variable.call(Feedback(1.0))
    assert asked.told == []


async def test_feedback_leads_to_better_values(runtime: Runtime) -> None:
    """A variable that learns ends where performance is best; a refusal leaves it where it is."""
    variable = await runtime.spawn(CoordinatedVariable, TONE, adaptation=EpsilonGreedy)
    worth = {"a": 0.1, "b": 0.9, "c": 0.2}
    seen = []
    for _ in range(60):
        now = await variable.call(GetVariable())
        seen.append(now.value)
        await variable.call(Feedback(worth[now.value]))
    assert seen[-30:].count("b") > 20
    stuck = await runtime.spawn(CoordinatedVariable, HEAT, adaptation=Momentum)
    await member(runtime, stuck, 0.5)
    assert await stuck.call(Feedback(1.0)) == VersionedValue(1.0, 0)


@pytest.mark.parametrize("kind", [EpsilonGreedy, UpperConfidenceBound, ThompsonSampling])
def test_bandits_find_the_best_choice(kind: Any) -> None:
    """After a while it is taken most of the time, and all have been tried."""
    chance, bandit, taken = Random(1), kind(TONE), []
    current = "a"
    for _ in range(400):
        bandit.note(current, float(chance.random() < {"a": 0.3, "b": 0.5, "c": 0.8}[current]))
        current = bandit.propose(current, chance)
        taken.append(current)
    assert set(taken) == {"a", "b", "c"}
    assert taken[-100:].count("c") > 60
    with pytest.raises(BadVariable, match="needs a Choice"):
        kind(HEAT)


@pytest.mark.parametrize("variable", [HEAT, Integer(name="n", low=0, high=100, default=10)])
def test_momentum_climbs(variable: Any) -> None:
    """To where performance is best, and stays about there; it never leaves the range."""
    best = 0.7 * variable.high
    found, momentum, chance = variable.default, Momentum(variable), Random(1)
    way = []
    for _ in range(80):
        momentum.note(found, -abs(found - best) / variable.high)
        found = momentum.propose(found, chance)
        way.append(found)
        assert variable.low <= found <= variable.high
    assert min(abs(value - best) for value in way[-20:]) < 0.1 * variable.high
    edge = Momentum(variable, step=2.0)
    assert edge.propose(variable.default, chance) == variable.high
    with pytest.raises(BadVariable, match="needs a number"):
        Momentum(TONE)
