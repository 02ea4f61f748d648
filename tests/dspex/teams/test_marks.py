"""Marks that fade, and quorums that are sensed."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import Any

import pytest

from dspex.teams import Marks, QuorumSensor, TeamRouter
from supervision.errors import BadOption
from tests.dspex.teams.members import ASKED, AWAY, team


def test_T035_a_mark_fades_and_is_added_to() -> None:
    """From 1, with a tenth lost at each tick, and a half added at the second: 1.179."""
    marks, found = Marks(0.1), []
    for added in ({}, {"a": 0.5}, {}, {}):
        marks.tick({"a": 0.0, **added})
        found.append(round(marks["a"], 6))
    assert found == [0.9, 1.31, 1.179, 1.0611]
    assert marks["b"] == 1.0


def test_choices_are_in_proportion_to_marks() -> None:
    """To a power of them; with 0 all are the same, and what has no mark is never taken."""

    def shares(power: float, **marks: float) -> dict[str, float]:
        made, chance = Marks(1.0, power=power), Random(4)
        made.tick(marks)
        taken = Counter()  # type: Counter[str]
        for _ in range(4000):
            drawn = made.scores({}, list(marks), chance)
            taken[max(drawn, key=drawn.__getitem__)] += 1
        return {name: count / 4000 for name, count in taken.items()}

    assert shares(1.0, a=3.0, b=1.0)["a"] == pytest.approx(0.75, abs=0.03)
    assert shares(2.0, a=3.0, b=1.0)["a"] == pytest.approx(0.9, abs=0.03)
    assert shares(0.0, a=3.0, b=0.0)["a"] == pytest.approx(0.5, abs=0.03)
    assert shares(1.0, a=3.0, b=0.0) == {"a": 1.0}


def test_a_draw_of_nothing_is_a_number() -> None:
    """As the chance of a test may be."""

    class Never(Random):
        def random(self) -> float:
            return 0.0

    assert math.isfinite(Marks().scores({}, ["a"], Never())["a"])


def test_a_router_takes_them() -> None:
    """What was worth more is asked more; of those that are lost nothing is known."""
    ASKED.clear()
    program = TeamRouter(team({"good": "good", "bad": "bad", "away": AWAY}), Marks(0.05), seed=2)
    for _ in range(300):
        answer = program(text="x")
        assert program.reward(answer.call, 1.0 if answer.label == "good" else -1.0)
    assert Counter(ASKED[-100:])["good"] > 80
    assert program.route["bad"] < 1e-3 < program.route["good"]  # type: ignore[index]


def test_it_is_said_once_that_there_is_enough() -> None:
    """Until it has become half as much."""
    sensor = QuorumSensor(4.0, 2)
    said = [sensor.tick(amount) for amount in (2, 2, 2, 2, 1, 0, 4, 4)]
    assert said == [False, True, False, False, False, False, True, False]
    assert sensor.amount == 8.0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Marks, {"fading": -0.1}),
        (Marks, {"fading": 1.1}),
        (Marks, {"power": -1}),
        (Marks, {"first": 0}),
        (QuorumSensor, {"threshold": 0, "window": 1}),
        (QuorumSensor, {"threshold": 1, "window": 0}),
        (QuorumSensor, {"threshold": 1, "window": 1, "hysteresis": 2}),
    ],
)
def test_numbers_make_sense(kind: Any, options: dict[str, Any]) -> None:
    """Or are refused by name."""
    with pytest.raises(BadOption, match=kind.__name__):
        kind(**options)


@pytest.mark.parametrize("amount", [math.nan, math.inf, 10**400, "1", None])
def test_amounts_are_numbers(amount: Any) -> None:
    """Or nothing changes."""
    marks, sensor = Marks(), QuorumSensor(1.0, 1)
    for tick in (lambda: marks.tick({"a": 0.5, "b": amount}), lambda: sensor.tick(amount)):
        with pytest.raises(BadOption):
            tick()
    assert (marks["a"], sensor.amount) == (1.0, 0.0)
