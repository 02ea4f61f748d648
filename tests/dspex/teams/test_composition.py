"""Composing: who makes a team, by recorded votes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dspex.statistics import wilson
from dspex.teams import (
    BadTeam,
    CompositionStep,
    Member,
    MemberVote,
    Need,
    RecordedVotes,
    Stacking,
    WeightedVote,
    best_teams,
    compose,
    shapley,
)
from dspex.teams.rules import CombinationRule, MajorityVote
from supervision.errors import BadOption


def rights(rows: Mapping[str, str]) -> RecordedVotes:
    """Votes on the truth x: a row of answers for each member, in which a blank is none."""
    count = len(next(iter(rows.values())))
    cast = [[MemberVote(name, row[n]) for name, row in rows.items() if row[n] != " "] for n in range(count)]
    return RecordedVotes(tuple(map(tuple, cast)), ("x",) * count)


def names(composed: Any) -> list[str]:
    return [member.name for member in composed.members]


def test_T038_of_who_was_right_nine_times_of_ten_and_thirty_of_forty_the_second_is_surer() -> None:
    """The lower ends are .5958 and .5981."""
    measures = rights({"few": "x" * 9 + "y" + " " * 30, "many": "x" * 30 + "y" * 10})
    assert (round(wilson(9, 10).low, 4), round(wilson(30, 40).low, 4)) == (0.5958, 0.5981)
    candidates = [Member("few", None, role="reader"), Member("many", None, role="reader")]
    found = compose(Need(roles=("reader",), max_size=1), candidates, measures)
    assert names(found) == ["many"]
    assert found.steps == (CompositionStep(("many",), "reader", 0.75),)


def test_T039_shapleys_shares_come_of_recorded_votes() -> None:
    """Of teams of any of the members."""
    measures = rights({"a": "xxyyx", "b": "xyxyx", "c": "yxxyx"})

    def value(team: frozenset[str]) -> float:
        return measures.only([name for name in "abc" if name in team]).accuracy(MajorityVote())

    found = shapley("abc", value)
    assert sum(found.values()) == pytest.approx(value(frozenset("abc")))
    assert found == pytest.approx({"a": 0.8 / 3, "b": 0.8 / 3, "c": 0.8 / 3})


def test_T043_each_team_of_four_is_looked_at_with_each_of_three_rules() -> None:
    """Fifteen teams, three rules, and nobody is asked."""
    looked: list[tuple[str, ...]] = []

    def majority(records: RecordedVotes) -> CombinationRule:
        looked.append(records.members)
        return MajorityVote()

    measures = RecordedVotes(
        tuple(
            tuple(MemberVote(name, form) for name, form in zip("abcd", row, strict=True))
            for row in ("xxyx", "xyxy", "yyxx", "yxyy")
        ),
        ("x", "x", "y", "y"),
    )
    fits = {"majority": majority, "weights": WeightedVote.fitted, "stacking": Stacking.fitted}
    found = best_teams(measures, measures, fits)
    assert len(found) == 45
    assert len(set(looked)) == len(looked) == 15
    assert {one.accuracy for one in found if one.rule == "stacking" and "a" in one.members} == {1.0}
    assert found[0].members == ("a",)
    assert (found[0].learned, found[0].accuracy, found[0].rule) == (1.0, 1.0, "majority")
    assert [one.accuracy for one in found] == sorted((one.accuracy for one in found), reverse=True)
    assert len(best_teams(measures, measures, fits, max_size=1)) == 12


def test_teams_are_judged_on_other_votes_than_their_rules_are_fitted_to() -> None:
    """Both accuracies are told."""
    learn, judge = rights({"a": "xxxx", "b": "yyyy"}), rights({"a": "yyyx", "b": "xxxy"})
    best, *others = best_teams(learn, judge, {"weights": WeightedVote.fitted})
    assert (best.members, best.learned, best.accuracy) == (("b",), 0.0, 0.75)
    assert [(one.learned, one.accuracy) for one in others] == [(1.0, 0.25), (1.0, 0.25)]


def test_who_adds_most_is_taken_until_nobody_adds_enough() -> None:
    """In a vote a second one adds nothing: two are tried together."""
    measures = rights({"a": "xxxxxyy", "b": "xxxxxyy", "c": "xxyyyxx", "d": "yyxxxxx"})
    found = compose(Need(), [Member(name, None) for name in "abcd"], measures)
    assert found.steps[0] == CompositionStep(("a",), None, 5 / 7)
    assert found.steps[1] == CompositionStep(("c", "d"), None, 1.0)
    assert names(found) == ["a", "c", "d"]
    assert found.accuracy == 1.0
    assert names(compose(Need(max_size=2), [Member(name, None) for name in "abcd"], measures)) == ["a"]
    assert names(compose(Need(least_gain=0.5), [Member(name, None) for name in "abcd"], measures)) == ["a"]


def test_members_whose_errors_depend_on_the_same_are_not_taken_together() -> None:
    """Neither beside one that is there, nor as two at once; nor for roles."""
    measures = rights({"a": "xxxxxyy", "c": "xxyyyxx", "d": "yyxxxxx"})
    same = [Member("a", None), Member("c", None, correlated_with="small"), Member("d", None, correlated_with="small")]
    assert names(compose(Need(), same, measures)) == ["a"]
    roles = [Member(name, None, role=role, correlated_with=model) for name, role, model in ROLES]
    found = compose(Need(roles=("reader", "judge"), max_size=2), roles, rights({"p": "xxx", "q": "xxy", "r": "xyy"}))
    assert names(found) == ["q", "p"], "p is the surest reader, but then there would be no judge"


#: p is surer than q; r, the only other judge, has the model of both.
ROLES = [("p", "reader", "one"), ("q", "reader", "two"), ("r", "judge", "one"), ("p", "judge", "one")]


def test_roles_come_first_and_in_their_order() -> None:
    """Then who adds most."""
    measures = rights({"a": "xxxxy", "b": "xyyyx", "c": "yxxxy"})
    candidates = [Member("a", None), Member("b", None, role="critic"), Member("c", None)]
    found = compose(Need(roles=("critic",)), candidates, measures)
    assert [(step.members, step.role) for step in found.steps] == [(("b",), "critic"), (("a", "c"), None)]
    assert found.accuracy == pytest.approx(4 / 5)


def test_the_rule_is_fitted_for_each_team_that_is_looked_at() -> None:
    """With weights, one of two can decide."""
    measures = rights({"a": "xxyyyyyy", "b": "xxxxxxxy"})
    members = [Member("a", None), Member("b", None)]
    found = compose(Need(roles=("",), least_gain=0), members, measures, fit=WeightedVote.fitted)
    assert names(found) == ["b"]


@pytest.mark.parametrize(
    ("need", "what"),
    [
        (Need(roles=("judge",)), "compose: roles"),
        (Need(roles=("reader", "reader")), "compose: roles"),
        (Need(least_gain=1.5), "compose: least_gain"),
    ],
)
def test_a_need_that_cannot_be_met_is_refused(need: Need, what: str) -> None:
    """With what there is."""
    candidates = [Member("a", None, role="reader"), Member("never measured", None, role="judge")]
    with pytest.raises(BadTeam, match=what):
        compose(need, candidates, rights({"a": "xy"}))


def test_candidates_that_nothing_is_known_of_are_refused() -> None:
    """A role must be measured before it is given."""
    with pytest.raises(BadTeam, match="these have some"):
        compose(Need(), [Member("b", None)], rights({"a": "xy"}))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"max_size": 0}, "max_size"),
        ({"max_size": 10**400}, "max_size"),
        ({"roles": ("a", "b"), "max_size": 1}, "max_size"),
        ({"least_gain": -1}, "least_gain"),
        ({"least_gain": float("nan")}, "least_gain"),
    ],
)
def test_a_need_that_makes_no_sense_is_refused(options: Any, what: str) -> None:
    """By name."""
    with pytest.raises((BadTeam, BadOption), match=f"Need: {what}"):
        Need(**options)


def test_too_many_teams_are_not_looked_at() -> None:
    """Thirteen members make 8,191."""
    many = rights({f"m{n}": "x" for n in range(13)})
    with pytest.raises(BadTeam, match="at most 12"):
        best_teams(many, many, {})
    with pytest.raises(BadOption, match="max_size"):
        best_teams(many, many, {}, max_size=0)
