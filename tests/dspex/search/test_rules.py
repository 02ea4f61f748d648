"""The rules of a race, as functions of scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import pytest

from dspex.search.rules import (
    Asha,
    Halving,
    HalvingRung,
    PairedRace,
    RaceRule,
    mean,
    race_rule,
    ranked,
    winner,
    with_student,
)
from dspex.statistics import sign_test
from supervision.errors import BadOption

Scores = Sequence[Sequence[float]]


class Raced(NamedTuple):
    """What has become of a race over known scores."""

    winner: int
    runs: int
    rungs: Mapping[int, int]
    dropped: Mapping[int, int]


def raced(rule: RaceRule, scores: Scores, lost: Callable[[int, int], bool] = lambda *_: False) -> Raced:
    """Race over known scores; ``lost`` says of a hypothesis and its items whether the runs are lost."""
    decisions, items = rule.decisions(len(scores), len(scores[0])), len(scores[0])
    known: dict[int, int] = {}
    wanted: dict[int, int] = {}
    rungs: dict[int, int] = {}
    dropped: dict[int, int] = {}
    answer: Any = None
    while True:
        try:
            order = decisions.send(answer)
        except StopIteration as end:
            dropped |= {one.hypothesis: one.items for one in end.value}
            break
        dropped |= {one.hypothesis: one.items for one in order.dropped}
        for look in order.begin:
            assert look.items <= items
            assert look.hypothesis not in dropped
            wanted[look.hypothesis] = look.items
            rungs[look.items] = rungs.get(look.items, 0) + 1
        answer = {}
        for one in order.needed:
            if lost(one, wanted[one]):
                answer[one] = None
            else:
                known[one] = wanted[one]
                answer[one] = scores[one][: known[one]]
    assert 0 not in dropped
    seen = {one: scores[one][:size] for one, size in known.items()}
    return Raced(winner(seen, [one for one in seen if one not in dropped]), sum(known.values()), rungs, dropped)


def world(hypotheses: int, items: int, seed: int = 0) -> list[list[float]]:
    """Right and wrong answers, of which later hypotheses have fewer right ones."""
    chance = Random(seed)
    return [[float(chance.random() < 0.9 - 0.8 * one / hypotheses) for _ in range(items)] for one in range(hypotheses)]


# -- halving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hypotheses", "eta", "first", "items", "runs"),
    [(16, 2, 10, 80, 400), (27, 3, 1, 27, 81), (9, 3, 5, 45, 105), (24, 2, 10, 150, 670)],
)
def test_T056_halving_takes_as_many_runs_as_the_tables_say(
    hypotheses: int, eta: int, first: int, items: int, runs: int
) -> None:
    scores = [[1.0 - one / 100] * items for one in range(hypotheses)]
    found = raced(Halving(eta=eta, first=first), scores)
    assert Halving(eta=eta, first=first).expected(hypotheses, items) == runs
    assert (found.winner, found.runs) == (0, runs)


def test_T056_the_rungs_of_sixteen_hypotheses_have_half_as_many_each() -> None:
    scores = [[1.0 - one / 100] * 80 for one in range(16)]
    assert raced(Halving(eta=2, first=10), scores).rungs == {10: 16, 20: 8, 40: 4, 80: 2}


def test_the_student_goes_on_in_the_place_of_the_last_or_beside_a_few() -> None:
    """So it is compared with the winner on all that this has seen, and never takes the place of the best."""
    assert with_student([5, 4, 3, 2, 1, 0], 4) == [5, 4, 3, 0]
    assert with_student([3, 2, 1, 0], 2) == [3, 2, 0]
    assert with_student([3, 2, 1, 0], 1) == [3, 0]
    assert with_student([0, 3, 2, 1], 1) == [0]
    assert with_student([3, 2], 1) == [3]
    worst_first = [[one / 100] * 80 for one in range(16)]
    found = raced(Halving(eta=2, first=10), worst_first)
    assert (found.winner, found.rungs) == (15, {10: 16, 20: 8, 40: 4, 80: 3})


def test_the_student_comes_back_if_it_is_as_good_on_what_the_winner_has_seen() -> None:
    lucky = [[0.0] * 10 + [1.0] * 30, [1.0] * 10 + [0.0] * 30, [0.5] * 40]
    assert raced(Halving(eta=2, first=10), lucky).winner == 0
    assert winner({0: [1.0, 0.0], 1: [1.0, 0.0, 1.0]}, [0, 1]) == 0
    assert winner({0: [0.0, 0.0], 1: [1.0, 0.0, 1.0]}, [0, 1]) == 1
    assert winner({0: [], 1: [1.0]}, [0, 1]) == 1
    assert winner({}, [0]) == 0


def test_of_equal_ones_the_earlier_goes_on() -> None:
    assert ranked({0: [0.0], 1: [1.0], 2: [1.0], 3: None}, range(4)) == [1, 2, 0]
    assert raced(Halving(first=2), [[0.0] * 8] + [[1.0] * 8] * 7).winner == 1


def test_one_alone_is_looked_at_on_the_first_rung_and_wins() -> None:
    for rule in (Halving(first=3), Asha(first=3), PairedRace(block=3)):
        assert raced(rule, [[1.0] * 9])[:2] == (0, 3)


def test_a_first_rung_beyond_all_items_is_all_items() -> None:
    for rule in (Halving(first=100), Asha(first=100), PairedRace(block=100)):
        found = raced(rule, world(4, 10))
        assert (found.runs, found.rungs) == (40, {10: 4})


# -- lost runs -------------------------------------------------------------------------------------------------------


def test_T061_one_whose_runs_are_lost_is_no_part_of_a_rung_and_is_asked_for_again() -> None:
    """Of five, four are ranked, of which two go on beside the student; the one that comes back wins."""
    scores = [[0.1] * 40, [0.2] * 40, [0.3] * 40, [0.4] * 40, [0.9] * 40]
    found = raced(Halving(first=10), scores, lambda one, items: one == 4 and items == 10)
    assert found.rungs == {10: 5, 20: 4, 40: 3}
    assert found.winner == 4
    never = raced(Halving(first=10), scores, lambda one, _: one == 4)
    assert (never.winner, 4 in never.dropped) == (3, False)


def test_T061_the_paired_race_goes_on_without_one_whose_runs_are_lost() -> None:
    """It has ended when all others are decided."""
    scores = [[0.0, 1.0] * 20, [1.0, 0.0] * 20, [1.0] * 40]
    found = raced(PairedRace(), scores, lambda one, items: one == 2 and items < 20)
    assert (found.winner, found.rungs[5], found.rungs[20], found.dropped) == (2, 3, 3, {1: 20})
    decided = raced(PairedRace(), [[0.0] * 40, [1.0] * 40, [1.0] * 40], lambda one, _: one == 2)
    assert (decided.winner, decided.rungs, decided.dropped) == (1, {5: 3}, {})


def test_T061_asha_gives_one_whose_runs_are_lost_another_chance_at_the_end() -> None:
    scores = [[0.1] * 40, [0.2] * 40, [0.9] * 40]
    times = itertools.count()
    found = raced(Asha(first=10, places=1), scores, lambda one, _: one == 2 and next(times) == 0)
    assert found.winner == 2
    assert raced(Asha(first=10, places=1), scores, lambda one, _: one == 2).winner == 1


# -- ASHA ------------------------------------------------------------------------------------------------------------


def test_T059_asha_promotes_the_best_half_of_those_that_have_come() -> None:
    """As in the paper: not those that are above the median when they come, as elsewhere."""
    rung, values, promoted = HalvingRung(2), [2, 4, 1, 3, 5, 0], []
    for size, value in enumerate(values, 1):
        rung.add(size - 1, value)
        found = rung.promote()
        promoted += [] if found is None else [(values[found], size)]
    assert promoted == [(4, 2), (3, 4), (5, 5)]
    assert len(rung) == 6


@pytest.mark.parametrize("places", [1, 3, 16])
def test_asha_finds_the_best_with_fewer_runs(places: int) -> None:
    scores = world(16, 80)
    order = list(range(16))
    Random(1).shuffle(order)
    found = raced(Asha(first=10, places=places), [scores[one] for one in order])
    assert order[found.winner] == 0
    assert found.runs < 16 * 80 / 2
    assert found.rungs[10] == 16
    assert Asha(first=10).expected(16, 80) == 400


def test_asha_compares_the_student_with_the_winner_on_the_same_items() -> None:
    """It is looked at on these in the end, if it did not come so far by itself."""
    scores = [[0.0] * 40, [0.5] * 40, [1.0] * 40, [0.5] * 40]
    found = raced(Asha(first=10), scores)
    assert found.winner == 2
    assert found.rungs[40] == 2
    assert raced(Asha(first=10), [[1.0] * 40, [0.5] * 40]).winner == 0


# -- the paired race -------------------------------------------------------------------------------------------------


def test_T060_nine_of_ten_pairs_lost_is_out_and_five_of_seven_is_not() -> None:
    assert [sign_test(1, 9), sign_test(2, 8), sign_test(2, 5)] == pytest.approx([0.0107, 0.0547, 0.2266], abs=1e-4)
    student, leader = [0.5] * 20, [1.0] * 10 + [0.5] * 10
    nine = [1.5] + [0.5] * 9 + [0.5] * 10
    five = [1.5] * 2 + [0.5] * 5 + [1.0] * 3 + [0.5] * 10
    found = raced(PairedRace(block=10), [student, leader, nine, five])
    assert found.dropped == {2: 10, 3: 20}
    assert found.winner == 1


def test_the_paired_race_ends_when_all_but_the_leader_are_beaten() -> None:
    """Also the student, which is not dropped."""
    found = raced(PairedRace(block=5), [[0.0] * 100, [1.0] * 100, [0.0] * 100])
    assert (found.winner, found.dropped, max(found.rungs)) == (1, {2: 5}, 5)
    undecided = raced(PairedRace(block=5), [[0.0, 1.0] * 10, [1.0, 0.0] * 10])
    assert (undecided.winner, max(undecided.rungs), undecided.dropped) == (0, 20, {1: 20})
    assert PairedRace().expected(16, 200) == 3200


@pytest.mark.parametrize("test", ["sign", "wilcoxon", "sequential"])
@pytest.mark.parametrize("correct", [False, True])
def test_each_test_finds_the_best(test: Any, correct: bool) -> None:
    scores = [row[::-1] for row in reversed(world(8, 200))]
    found = raced(PairedRace(test=test, correct=correct), scores)
    assert found.winner == 7
    assert found.runs < 8 * 200


def test_a_test_that_holds_for_all_looks_drops_equal_ones_less_often() -> None:
    """One that is looked at again and again drops many that are as good as the leader."""

    def wrongly(**options: Any) -> int:
        return sum(
            raced(
                PairedRace(**options), [[float(chance.random() < 0.5) for _ in range(100)] for _ in range(2)]
            ).dropped.get(1, 100)
            < 100
            for chance in map(Random, range(60))
        )

    once, sequential, corrected = wrongly(), wrongly(test="sequential"), wrongly(correct=True)
    assert max(sequential, corrected) <= 6 < once


# -- options ---------------------------------------------------------------------------------------------------------


def test_a_rule_is_named_given_or_a_table() -> None:
    assert race_rule("paired") == PairedRace()
    assert race_rule({"kind": "halving", "eta": 3}) == Halving(eta=3)
    assert race_rule(Asha(places=2)) == Asha(places=2)
    for bad in ("fastest", {"eta": 2}, {"kind": "halving", "etas": 2}, 7):
        with pytest.raises(BadOption, match="halving, asha, paired"):
            race_rule(bad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Halving(eta=1),
        lambda: Halving(first=0),
        lambda: Asha(eta=1),
        lambda: Asha(first=0),
        lambda: Asha(places=0),
        lambda: PairedRace(block=0),
        lambda: PairedRace(alpha=1.0),
        lambda: PairedRace(alpha="a"),  # type: ignore[arg-type]
        lambda: PairedRace(test="t"),  # type: ignore[arg-type]
    ],
)
def test_bad_options_are_refused(make: Callable[[], RaceRule]) -> None:
    with pytest.raises(BadOption):
        make()


def test_the_mean_of_huge_scores_is_one_of_them() -> None:
    """Their sum is too large for a number."""
    assert mean([1e308, 1e308]) == 1e308
    assert mean([]) == 0.0
