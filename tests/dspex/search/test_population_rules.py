"""Who copies from whom, and how settings are explored."""

from __future__ import annotations

from collections import Counter
from math import inf, nan
from random import Random
from typing import Any

import pytest

from dspex.search import PopulationRule
from dspex.variables import Choice, Float, Integer, Space
from supervision.errors import BadOption

RULE = PopulationRule()


@pytest.mark.parametrize(("members", "count"), [(10, 3), (4, 1), (8, 2), (5, 2), (1, 1), (2, 1), (0, 0)])
def test_the_worst_quarter_is_rounded_up(members: int, count: int) -> None:
    assert RULE.count(members) == count


def test_a_share_is_what_is_written() -> None:
    """Not what a float makes of it: a tenth of 30 is 3."""
    assert PopulationRule(quantile=0.1).count(30) == 3


def test_the_worst_copy_from_any_of_the_best_and_nobody_else() -> None:
    scores = {member: float(member) for member in range(10)}
    seen: set[int] = set()
    for seed in range(50):
        copies = RULE.copies(scores, Random(seed))
        assert set(copies) == {0, 1, 2}
        seen |= set(copies.values())
    assert seen == {7, 8, 9}


def test_nobody_copies_from_itself_nor_from_one_that_is_no_better() -> None:
    """Alone, or among equals, there is nobody to copy from; the best and the worst may be the same ones."""
    assert RULE.copies({}, Random(0)) == {}
    assert RULE.copies({3: 1.0}, Random(0)) == {}
    assert RULE.copies(dict.fromkeys(range(8), 0.5), Random(0)) == {}
    for seed in range(20):
        copies = PopulationRule(quantile=0.5).copies({0: 1.0, 1: 0.5, 2: 0.0}, Random(seed))
        assert copies[2] in (0, 1)
        assert copies[1] == 0
        assert 0 not in copies


def test_who_has_failed_is_the_worst() -> None:
    assert set(RULE.copies({0: -inf, 1: -5.0, 2: -9.0, 3: -inf}, Random(0))) == {3}
    assert RULE.copies({0: -inf, 1: -inf}, Random(0)) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"quantile": one} for one in (0, nan, 10**400, -0.1, 0.6, "x")),
        *({"resample": one} for one in (nan, -0.1, 1.1, 10**400)),
        *({"factors": one} for one in ((), (0.0,), (nan,), (-1.0,), (10**400,))),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(BadOption, match="PopulationRule"):
        PopulationRule(**wrong)


SPACE = Space(
    [
        Float(name="rate", low=0.1, high=1.0, default=0.5),
        Integer(name="size", low=1, high=10, default=5),
        Choice(name="tone", choices={"a": 1, "b": 2, "c": 3}, default="b"),
    ]
)


def explored(rule: PopulationRule, settings: Any, count: int = 400, space: Space = SPACE) -> dict[str, Counter[Any]]:
    """How often each value comes out."""
    found: dict[str, Counter[Any]] = {name: Counter() for name in space.variables}
    for seed in range(count):
        for name, value in rule.explored(space, settings, Random(seed)).items():
            found[name][value] += 1
    return found


def test_numbers_are_multiplied_and_categories_move_to_a_neighbour() -> None:
    found = explored(PopulationRule(resample=0.0), {"rate": 0.5, "size": 5, "tone": "b"})
    assert set(found["rate"]) == {0.6, 0.4}
    assert set(found["size"]) == {6, 4}
    assert set(found["tone"]) == {"a", "c"}
    assert all(150 < count < 250 for one in found.values() for count in one.values())


def test_what_would_leave_its_range_stays_at_the_edge() -> None:
    """Whole numbers are rounded first."""
    rule = PopulationRule(resample=0.0)
    top = explored(rule, {"rate": 1.0, "size": 10, "tone": "c"})
    assert (set(top["rate"]), set(top["size"]), set(top["tone"])) == ({1.0, 0.8}, {10, 8}, {"c", "b"})
    low = explored(rule, {"rate": 0.1, "size": 1, "tone": "a"})
    assert (set(low["size"]), set(low["tone"])) == ({1}, {"a", "b"})
    assert min(low["rate"]) == 0.1


def test_now_and_then_a_setting_is_drawn_anew() -> None:
    """A quarter of the time."""
    found = explored(RULE, {"rate": 0.5, "size": 5, "tone": "b"}, 1000)
    near = found["rate"][0.6] + found["rate"][0.4]
    assert 700 < near < 800
    assert len(found["rate"]) > 100
    assert found["tone"]["b"] > 40


def test_settings_stay_what_they_are_if_nothing_near_meets_the_constraints() -> None:
    only = Space(
        [Float(name="rate", low=0.1, high=1.0, default=0.5)], constraints={"a half": lambda f: f["rate"] == 0.5}
    )
    assert PopulationRule().explored(only, {"rate": 0.5}, Random(0)) == {"rate": 0.5}
    calm = Space([Float(name="rate", low=0.1, high=1.0, default=0.4)], constraints={"calm": lambda f: f["rate"] < 0.45})
    assert {round(rate, 2) for rate in explored(PopulationRule(resample=0.0), {"rate": 0.4}, 50, calm)["rate"]} == {
        0.32
    }


def test_settings_that_do_not_apply_have_their_defaults() -> None:
    """They are explored again once they apply."""
    bold = Choice(name="bold", choices={"no": 0, "yes": 1}, default="no")
    size = Integer(name="size", low=1, high=9, default=5, when=lambda found: found["bold"] == "yes")
    found = explored(PopulationRule(resample=0.0), {"bold": "no"}, 50, Space([bold, size]))
    assert set(found["bold"]) == {"no", "yes"}
    assert set(found["size"]) == {4, 6}
