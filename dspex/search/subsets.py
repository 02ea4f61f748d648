"""Teams over recorded answers: which candidates, and which rule. Nobody is asked anything.

>>> from dspex.teams import MemberVote, RecordedVotes
>>> rows = {"a": "xxxxx...", "b": "xxx..xxx", "c": "...xxxxx"}
>>> cast = [[MemberVote(name, row[n]) for name, row in rows.items()] for n in range(8)]
>>> scores = {name: [float(form == "x") for form in row] for name, row in rows.items()}
>>> recorded = RecordedCandidates(RecordedVotes(cast, "x" * 8), scores)
>>> teams = every_team(recorded, ["majority"])
>>> len(teams), best_team(teams).members, best_team(teams).score
(7, ('a', 'b', 'c'), 1.0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from math import inf, sqrt
from random import Random
from statistics import fmean, stdev

import msgspec

from dspex.search.team_variables import RULES, Fit
from dspex.teams import (
    CombinationRule,
    FirstAnswer,
    MemberVote,
    RecordedVotes,
    WeightedVote,
)
from dspex.teams.composition import MOST_CANDIDATES

#: The rules among which is searched. What each has learnt of a member does not depend on who else is in the team.
FITS: Mapping[str, Fit] = {
    **{name: RULES[name] for name in ("majority", "weighted", "confusion", "corrected")},
    "first": lambda _: FirstAnswer(),
}
#: Those that need to know what is right.
LEARNING = frozenset({"weighted", "confusion"})
#: The rule of greedily picked teams: each member counts as often as it was picked.
PICKED = "picks"
#: In so many parts examples are split: what a rule has learnt is judged on those that it was not learnt from.
_FOLDS = 5


class RecordedCandidates(msgspec.Struct, frozen=True):
    """What candidates have answered, and how good that was.

    Attributes:
        votes: of all candidates, in the order that decides ties. The labels are needed by rules that learn.
        scores: of each candidate, what the metric says of its answer to each example.
    """

    votes: RecordedVotes
    scores: Mapping[str, Sequence[float]]

    @property
    def best_single(self) -> str:
        """The candidate with the highest score; of equal ones the first."""
        return max(self.scores, key=lambda name: fmean(self.scores[name]))

    @property
    def oracle(self) -> float:
        """The mean over the examples of the best that any candidate has answered."""
        return fmean(map(max, zip(*self.scores.values(), strict=True)))

    def only(self, names: Iterable[str]) -> RecordedCandidates:
        """Return what some of them have answered."""
        chosen = list(names)
        return RecordedCandidates(self.votes.only(chosen), {name: self.scores[name] for name in chosen})


class TeamScore(msgspec.Struct, frozen=True):
    """A team that was scored.

    Attributes:
        members: names of candidates, in their order.
        rule: the name of its rule.
        scores: on each example.
    """

    members: tuple[str, ...]
    rule: str
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """The mean."""
        return fmean(self.scores)


class _Scorer:
    """Scores teams, with rules that were learnt from other examples than they are judged on."""

    def __init__(self, recorded: RecordedCandidates, fits: Mapping[str, Fit], enough: Callable[[float], bool]) -> None:
        self._recorded, self._enough = recorded, enough
        self._votes = [{vote.member: vote for vote in cast} for cast in recorded.votes.votes]
        self._rules = {name: self._crossed(fit) for name, fit in fits.items()}

    def _crossed(self, fit: Fit) -> list[CombinationRule]:
        """Return the rule by which each example is judged."""
        count = len(self._votes)
        parts = min(_FOLDS, count)
        if parts == 1:
            return [fit(self._recorded.votes)]
        others = [[number for number in range(count) if number % parts != part] for part in range(parts)]
        rules = [fit(self._recorded.votes.examples(numbers)) for numbers in others]
        return [rules[number % parts] for number in range(count)]

    def team(self, members: Sequence[str], rule: str) -> TeamScore:
        """Score a team."""
        return TeamScore(tuple(members), rule, tuple(self.scores(members, self._rules[rule])))

    def scores(self, members: Sequence[str], rules: Iterable[CombinationRule]) -> list[float]:
        """Return the scores of a team, with a rule for each example."""
        return [self._score(number, members, rule) for number, rule in enumerate(rules)]

    def _score(self, number: int, members: Sequence[str], rule: CombinationRule) -> float:
        """Return what the metric says of the answer that the team would give: that of the winning member."""
        said = self._votes[number]
        cast: list[MemberVote] = [said[name] for name in members if name in said]
        weight = sum(abs(rule.weight(name)) for name in members) or 1.0
        if not cast or not self._enough(sum(abs(rule.weight(vote.member)) for vote in cast) / weight):
            return 0.0
        form: Hashable = rule.decide(cast).form
        winner = next((vote.member for vote in cast if vote.form == form), None)
        if winner is None:  # a label that nobody has said
            return float(form == self._recorded.votes.truth[number])
        return self._recorded.scores[winner][number]


def scored_team(
    recorded: RecordedCandidates,
    members: Sequence[str],
    rule: str,
    fit: Fit,
    enough: Callable[[float], bool] = lambda share: share > 0.5,
) -> TeamScore:
    """Score one team, with a rule that is not one of `FITS`, or is.

    Args:
        recorded: the answers.
        members: the names of its members.
        rule: a name for the rule.
        fit: makes the rule.
        enough: whether such a share of the members' weight is enough for an answer.
    """
    return _Scorer(recorded, {rule: fit}, enough).team(members, rule)


def every_team(
    recorded: RecordedCandidates,
    rules: Iterable[str],
    *,
    max_size: int | None = None,
    enough: Callable[[float], bool] = lambda share: share > 0.5,
) -> list[TeamScore]:
    """Score each team of the candidates with each rule: the smaller ones first, then the earlier.

    Args:
        recorded: the answers.
        rules: their names, of `FITS`.
        max_size: how many members a team has at most; None for all.
        enough: whether such a share of the members' weight is enough for an answer.
    """
    fits = {name: FITS[name] for name in rules}
    scorer, names = _Scorer(recorded, fits, enough), list(recorded.scores)
    return [
        scorer.team(members, rule)
        for size in range(1, min(len(names), max_size or len(names)) + 1)
        for members in combinations(names, size)
        for rule in fits
    ]


def picks(recorded: RecordedCandidates, *, size: int, seed: int = 0, bags: int = 20) -> Counter[str]:
    """Return how often each candidate was picked, greedily and with replacement, in bags of half of the candidates.

    In each bag so many are picked, one after the other, each the one with which the vote of those picked is best. A
    candidate that is picked twice counts twice. That one bag lacks whoever fits by luck is what bags are for.

    Args:
        recorded: the answers.
        size: how many are picked in a bag.
        seed: says which candidates are in which bag.
        bags: how many there are.

    Source: Caruana et al. (2004), selection with replacement, bagged.
    """
    names, found = list(recorded.scores), Counter[str]()
    scorer = _Scorer(recorded, {}, lambda _: True)
    for bag in range(bags):
        inside = set(Random(f"{seed}/bag/{bag}").sample(names, (len(names) + 1) // 2))
        found.update(_greedy(scorer, [name for name in names if name in inside], size, len(recorded.votes.truth)))
    return found


def _greedy(scorer: _Scorer, names: Sequence[str], size: int, examples: int) -> Counter[str]:
    """Return the best of what there was after each pick."""

    def score(counts: Counter[str]) -> float:
        members = [name for name in names if counts[name]]
        rule = WeightedVote({name: float(counts[name]) for name in members})
        return fmean(scorer.scores(members, [rule] * examples))

    chosen: Counter[str] = Counter()
    best: tuple[float, Counter[str]] = (-inf, chosen)
    for _ in range(size):
        tried = [(score(chosen + Counter([name])), name) for name in names]
        reached, name = max(tried, key=lambda one: one[0])
        chosen += Counter([name])
        best = max(best, (reached, chosen.copy()), key=lambda one: one[0])
    return best[1]


def picked_teams(
    recorded: RecordedCandidates,
    rules: Iterable[str],
    *,
    max_size: int,
    seed: int = 0,
    enough: Callable[[float], bool] = lambda share: share > 0.5,
) -> tuple[list[TeamScore], Mapping[str, float]]:
    """Score teams of those that are picked most often, of each size, and return how much each counts by its `picks`.

    Args:
        recorded: the answers.
        rules: their names, of `FITS`; there is one more, by which a member counts as often as it was picked.
        max_size: how many members a team has at most.
        seed: of the bags.
        enough: whether such a share of the members' weight is enough for an answer.
    """
    names, counts = list(recorded.scores), picks(recorded, size=2 * max_size, seed=seed)
    ranked = sorted(counts, key=lambda name: (-counts[name], names.index(name)))
    weights = {name: float(counts[name]) for name in ranked}
    fits = {**{name: FITS[name] for name in rules}, PICKED: lambda _: WeightedVote(weights)}
    scorer, single = _Scorer(recorded, fits, enough), recorded.best_single
    teams = [scorer.team((single,), next(iter(fits)))]
    for size in range(1, min(max_size, len(ranked)) + 1):
        members = sorted(ranked[:size], key=names.index)
        teams += [scorer.team(members, rule) for rule in fits]
    return teams, weights


def searched_teams(
    recorded: RecordedCandidates,
    rules: Iterable[str],
    *,
    max_size: int,
    seed: int = 0,
    enough: Callable[[float], bool] = lambda share: share > 0.5,
) -> tuple[list[TeamScore], Mapping[str, float]]:
    """Score all teams of up to 12 candidates; of more, those of `picked_teams`. Return the weights by picks as well."""
    if len(recorded.scores) <= MOST_CANDIDATES:
        return every_team(recorded, rules, max_size=max_size, enough=enough), {}
    return picked_teams(recorded, rules, max_size=max_size, seed=seed, enough=enough)


def best_team(teams: Sequence[TeamScore], tolerance: float = 0.0) -> TeamScore:
    """Return the best team; or the smallest that is not surely worse.

    Args:
        teams: of equal ones the earlier is taken.
        tolerance: by how many standard errors of the difference, example by example, a smaller one may be worse.
    """
    best = max(teams, key=lambda one: (one.score, -len(one.members)))
    for size in range(1, len(best.members)):
        smaller = [one for one in teams if len(one.members) == size]
        found = max(smaller, key=lambda one: one.score, default=None)
        if found is not None and found.score >= best.score - tolerance * difference_error(best.scores, found.scores):
            return found
    return best


def difference_error(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the standard error of the mean difference of scores on the same examples; 0 of one example."""
    differences = [mine - its for mine, its in zip(one, other, strict=True)]
    return stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else 0.0


def distinct(recorded: RecordedCandidates, agreement: float = 0.95) -> list[str]:
    """Return the candidates without those that agree with a better one in more than a share of the examples.

    Args:
        recorded: the answers; where neither of two has one, they agree.
        agreement: the share.
    """
    names = list(recorded.scores)
    forms = {
        name: [next((v.form for v in cast if v.member == name), None) for cast in recorded.votes.votes]
        for name in names
    }
    kept: list[str] = []
    for name in sorted(names, key=lambda one: (-fmean(recorded.scores[one]), names.index(one))):
        same = [fmean(a == b for a, b in zip(forms[name], forms[other], strict=True)) for other in kept]
        if all(share <= agreement for share in same):
            kept.append(name)
    return sorted(kept, key=names.index)
