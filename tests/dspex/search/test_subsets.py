"""Teams over recorded answers: each is scored without a call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

import pytest

from dspex.search import RecordedCandidates, TeamScore, best_team, distinct, every_team, picked_teams
from dspex.search.subsets import FITS, PICKED, difference_error, picks, scored_team, searched_teams
from dspex.teams import MajorityVote, MemberVote, RecordedVotes, WeightedVote, best_teams

#: Of each candidate, on which examples it is right.
ROWS = {"a": "1110110010", "b": "1011011101", "c": "0111101011", "d": "0000000001"}


def recorded(rows: dict[str, str]) -> RecordedCandidates:
    """What candidates have answered, each wrong in its own way; ``-`` is no answer."""
    cast = [
        [MemberVote(name, "x" if row[n] == "1" else f"{name} {n % 3}") for name, row in rows.items() if row[n] != "-"]
        for n in range(len(rows["a"]))
    ]
    scores = {name: [float(letter == "1") for letter in row] for name, row in rows.items()}
    return RecordedCandidates(RecordedVotes(cast, ["x"] * len(cast)), scores)


def test_T043_of_four_candidates_and_three_rules_45_teams_are_scored() -> None:
    """With no call, and as the package's other count says where rules learn nothing."""
    found = every_team(recorded(ROWS), ["majority", "weighted", "confusion"])
    assert len(found) == 45
    best = best_team(found)
    assert best.score == max(one.score for one in found)
    votes = recorded(ROWS).votes
    majority = [one for one in found if one.rule == "majority"]
    known = best_teams(votes, votes, {"majority": lambda _: MajorityVote()})
    assert {one.members: one.score for one in majority} == {one.members: one.accuracy for one in known}
    assert len(every_team(recorded(ROWS), ["majority"], max_size=2)) == 4 + 6


def test_the_score_of_a_team_is_what_the_metric_has_said_of_the_winning_answer() -> None:
    votes = RecordedVotes([[MemberVote("a", "x"), MemberVote("b", "y"), MemberVote("c", "y")]], ["z"])
    scores = {"a": [0.3], "b": [0.7], "c": [0.1]}
    given = RecordedCandidates(votes, scores)
    assert [one.scores for one in every_team(given, ["majority"])] == [
        *((0.3,), (0.7,), (0.1,)),
        *((0.3,), (0.3,), (0.7,)),
        (0.7,),
    ]
    assert (given.best_single, given.oracle) == ("b", 0.7)


def test_a_label_that_nobody_has_said_is_right_or_wrong() -> None:
    """A rule may find another one likelier."""
    cast = [[MemberVote("a", "no" if label == "yes" else "yes")] for label in ["yes", "no"] * 10]
    given = RecordedCandidates(RecordedVotes(cast, ["yes", "no"] * 10), {"a": [0.0] * 20})
    (found,) = every_team(given, ["confusion"])
    assert found.score == 1.0


def test_too_few_answers_are_none() -> None:
    given = recorded({"a": "11--", "b": "1-1-", "c": "1---"})
    found = {one.members: one.scores for one in every_team(given, ["majority"])}
    assert found["a", "b", "c"] == (1.0, 0.0, 0.0, 0.0)
    assert found["a", "b"] == (1.0, 0.0, 0.0, 0.0)
    lenient = {one.members: one.scores for one in every_team(given, ["majority"], enough=lambda share: share >= 0.5)}
    assert lenient["a", "b"] == (1.0, 1.0, 1.0, 0.0)


def test_what_a_rule_has_learnt_is_not_judged_on_what_it_was_learnt_from() -> None:
    """Of candidates that guess, none is worth more than a guess."""
    chance = Random(0)
    cast = [[MemberVote(name, chance.choice("xyz")) for name in "ab"] for _ in range(200)]
    truth = [chance.choice("xyz") for _ in cast]
    scores = {
        name: [float(row[n].form == label) for row, label in zip(cast, truth, strict=True)]
        for n, name in enumerate("ab")
    }
    given = RecordedCandidates(RecordedVotes(cast, truth), scores)
    crossed = every_team(given, ["confusion"])[-1].score
    learnt = given.votes.accuracy(FITS["confusion"](given.votes))
    assert crossed < learnt
    one = RecordedCandidates(given.votes.examples([0]), {name: row[:1] for name, row in scores.items()})
    assert len(every_team(one, ["weighted"])) == 3


def test_a_smaller_team_is_taken_if_it_is_not_surely_worse() -> None:
    def team(size: int, row: str) -> TeamScore:
        return TeamScore(tuple("abcdef"[:size]), "majority", tuple(map(float, row)))

    large, small, poor = team(3, "11111111"), team(1, "11111110"), team(1, "11110000")
    assert best_team([small, large]) is large
    assert difference_error(large.scores, small.scores) == pytest.approx(0.125)
    assert best_team([small, large], tolerance=1.0) is small
    assert best_team([poor, large], tolerance=1.0) is large
    assert best_team([large], tolerance=1.0) is large
    assert best_team([small, team(1, "11111110")]) is small
    assert difference_error([1.0], [0.0]) == 0.0


def many(count: int, examples: int, chance: Random, share: float = 0.6) -> RecordedCandidates:
    """Candidates that are right in a share of the examples."""
    rows = {
        chr(97 + n): "".join("1" if chance.random() < share else "0" for _ in range(examples)) for n in range(count)
    }
    return recorded(rows)


def test_of_more_than_twelve_those_that_were_picked_most_often_make_the_teams() -> None:
    given = many(14, 60, Random(1))
    counts = picks(given, size=8, seed=3)
    assert counts == picks(given, size=8, seed=3)
    assert counts != picks(given, size=8, seed=4)
    # In each of twenty bags, eight at most.
    assert 20 <= counts.total() <= 160
    found, weights = picked_teams(given, ["majority", "weighted"], max_size=4, seed=3)
    assert len(found) == 1 + 4 * 3
    assert {one.rule for one in found} == {"majority", "weighted", PICKED}
    assert weights == {name: float(count) for name, count in counts.items()}
    assert found[0].members == (given.best_single,)
    same, _ = searched_teams(given, ["majority", "weighted"], max_size=4, seed=3)
    assert same == found
    few, none = searched_teams(recorded(ROWS), ["majority"], max_size=2)
    assert (len(few), none) == (10, {})
    own = scored_team(given, list(weights), PICKED, lambda _: WeightedVote(weights))
    assert math.isclose(own.score, sum(own.scores) / 60)


def test_bags_are_worth_about_as_much_as_looking_at_all() -> None:
    """On other examples, of eight candidates."""
    gains: list[float] = []
    for seed in range(4):
        given = many(8, 200, Random(seed))
        learn = _part(given, range(100))
        full, _ = searched_teams(learn, ["majority"], max_size=5)
        bagged, weights = picked_teams(learn, ["majority"], max_size=5, seed=seed)
        exhaustive, greedy = best_team(full), best_team(bagged)
        gains.append(_test(given, greedy, weights) - _test(given, exhaustive, weights))
    assert sum(gains) / len(gains) > -0.05


def _part(given: RecordedCandidates, numbers: Sequence[int]) -> RecordedCandidates:
    scores = {name: [row[n] for n in numbers] for name, row in given.scores.items()}
    return RecordedCandidates(given.votes.examples(numbers), scores)


def _test(given: RecordedCandidates, team: TeamScore, weights: Mapping[str, float]) -> float:
    rest = _part(given, range(100, 200))
    rule = WeightedVote(weights) if team.rule == PICKED else MajorityVote()
    return scored_team(rest, team.members, team.rule, lambda _: rule).score


def test_whoever_agrees_with_a_better_one_is_no_other_candidate() -> None:
    rows = {"a": "1" * 36 + "0000", "b": "1" * 39 + "0", "c": "0" * 20 + "1" * 20, "d": "1" * 39 + "-"}
    assert distinct(recorded(rows)) == ["a", "b", "c"]
    assert distinct(recorded(rows), 0.8) == ["b", "c"]
    assert distinct(recorded(rows), 1.0) == ["a", "b", "c", "d"]
