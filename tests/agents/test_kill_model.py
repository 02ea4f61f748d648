"""Durable agents that are cut at each point, or meet a fault, and what they promise then."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.core.tokens import Origin, effect_token
from agents.server.inbox import Inbox
from agents.server.kept import Keeping, Plan
from agents.server.sagas import Sagas
from tests.agents.kill_model import Desk, World, broken, live
from tests.agents.promises import FAULTS, PROMISES, Fault, table

#: What has become of the promises, by the name of the fault.
_found: dict[str, dict[str, str]] = {}


def cut_at(*numbers: int) -> World:
    """Return a world whose process is cut at points with these numbers, the first of all being 1."""
    return World(lambda world, name: len(world.points) in numbers)


async def points() -> int:
    """Return how many points there are if nothing is cut."""
    world = await live(World())
    assert broken(world) == {}
    assert world.redelivered == 0
    return len(world.points)


@pytest.mark.once
async def test_a_service_that_is_cut_at_any_point_ends_as_if_it_were_not() -> None:
    """At each write, before and behind it, and at each effect: state, effects, timers, and what was undone."""
    deaths = 0
    for number in range(1, await points() + 1):
        world = await live(cut_at(number))
        assert broken(world) == {}, f"cut at point {number}, {world.points[number - 1]}"
        deaths += world.deaths
    assert deaths > 80


@pytest.mark.once
async def test_a_service_that_is_cut_twice_ends_as_if_it_were_not() -> None:
    """The second time not long after the first, in what the next incarnation does before all else, or later."""
    draw = random.Random(1)
    for number in range(1, await points() + 1):
        second = number + 1 + int(draw.expovariate(0.1))
        world = await live(cut_at(number, second))
        assert broken(world) == {}, f"cut at points {number} and {second}, {world.points}"


# -- rules ------------------------------------------------------------------------------------------------------------


def _forgets(kinds: str) -> Callable[..., Any]:
    """Return a plan of a turn from which rows are left out."""
    plan = Keeping.plan

    def without(self: Keeping, *args: Any) -> Plan:
        made = plan(self, *args)
        made.put = [row for row in made.put if row.kind != kinds]
        made.drop = [name for name in made.drop if name[0] != kinds]
        return made

    return without


_numbers = itertools.count()


def _another_token(self: Origin, kind: str, place: str) -> str:
    return effect_token(kind, place, str(next(_numbers)))


RULES: dict[str, tuple[Any, str, Any]] = {
    "signals that were taken are remembered": (Inbox, "knows", lambda self, signal: False),
    "numbers that were taken are remembered": (Inbox, "knows_number", lambda *_: False),
    "tokens are the same in each try": (Origin, "token", _another_token),
    "effects are in the commit": (Keeping, "plan", _forgets("effect")),
    "timers are in the commit": (Keeping, "plan", _forgets("timer")),
    "ids are in the commit": (Keeping, "plan", _forgets("inbox")),
    "steps are written down before they are run": (Desk, "saga", False),
    "what comes again after it was undone has other tokens": (Sagas, "run_of", lambda self, signal: 0),
}


@pytest.mark.once
@pytest.mark.parametrize("rule", RULES)
async def test_a_rule_that_is_broken_is_noticed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing would tell that it holds."""
    count = await points()
    monkeypatch.setattr(*RULES[rule])
    for number in range(1, count + 1):
        if broken(await live(cut_at(number))):
            return
    raise AssertionError("no cut has shown it")


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", PROMISES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_promise(fault: Fault, letter: str) -> None:
    """What is promised holds, whatever happens."""
    if fault.name not in _found:
        world = await live(fault.world())
        assert (world.deaths, world.happened > 0 or fault.act is None) == (int(fault.at is not None), True)
        _found[fault.name] = broken(world)
    assert _found[fault.name].get(letter) is None


def test_the_table_of_the_documents_is_that_of_the_tests() -> None:
    """Each cell of it is a test."""
    document = Path(__file__).parents[2] / "docs" / "how-to" / "durable-agents.md"
    assert table() in document.read_text()
