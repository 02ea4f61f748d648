"""Suite ``team-search``: what a search in stages makes of a chain, beside joint searches of the same cost.

Three agents in a row, each with 32 wordings of known worth, the one that it has being right in 0.6 of the cases; the
chain is right if all are. Worlds are drawn by chance; in each, 60 items decide, and what was chosen is judged by what
it is truly worth, which nobody has to estimate. In 0.6 of the cases luck is that of the item, the same for all
wordings. What agents say differs from wording to wording: whoever comes behind a change is asked anew.

Searched are recorded answers, by the rules of the search itself; ``same_choice`` has the search as it is, with its
workers and its journal: it must choose the same, at the same number of calls. Joint searches try whole chains, which
are drawn at random, or proposed by a tree-structured Parzen estimator, as in BEACON.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

import dspy
import optuna

from bench.figure import Better, Figure
from bench.race import raced
from dspex.search import Halving, TeamSearch
from dspex.search.items import stratified
from dspex.testing.chain import ChainEngine, ScriptedChain, step_right
from dspex.testing.engine import exact, scripted_lm, task

FIELDS = ("draft", "plan", "label")
WORLDS, WORDINGS, ITEMS = 20, 32, 60
#: What a wording is worth: the one that an agent has, and how far others are from that.
WORTH, SPREAD = 0.6, 0.11
#: How many calls of agents a search may make.
CALLS = 5_400
#: In so many worlds the search itself is run.
WHOLE = 2
#: How wordings race.
RULE = Halving(first=10)
#: An agent but the last says whether it is right itself.
OWN = {"draft": step_right, "plan": step_right}

#: A wording for each agent, by its number; 0 is the one that it has.
Choice = tuple[int, ...]


class Found(NamedTuple):
    """What a search has chosen, and how many calls it has made."""

    choice: Choice
    calls: int


class World:
    """Agents whose wordings have known worths.

    Args:
        seed: says which.
    """

    def __init__(self, seed: int) -> None:
        chance = Random(f"world {seed}")
        self.seed = seed
        self.worths: dict[str, dict[str, float]] = {}
        for field in FIELDS:
            drawn = (min(0.98, max(0.02, chance.gauss(WORTH, SPREAD))) for _ in range(WORDINGS - 1))
            self.worths[field] = {f"{field}, way {n}": worth for n, worth in enumerate(drawn, 1)}
        self.examples, self.labels = task(ITEMS)
        self.items = [self.examples[number] for number in stratified(self.examples, 0)]
        self.engine = ChainEngine(self.labels, self.worths, base=WORTH, seed=seed)
        self._right = [[self._row(field, way) for way in self.ways(field)] for field in FIELDS]

    def ways(self, field: str) -> list[str]:
        """Return the wordings of an agent: first the one that it has."""
        (before,) = getattr(ScriptedChain(FIELDS), field).signature.input_fields
        return [f"Given the fields `{before}`, produce the fields `{field}`.", *self.worths[field]]

    def _row(self, field: str, way: str) -> list[float]:
        return [float(self.engine.right(field, way, item.text)) for item in self.items]

    def own(self, agent: int, way: int) -> list[float]:
        """Return where an agent is right itself."""
        return self._right[agent][way]

    def together(self, choice: Choice) -> list[float]:
        """Return where the chain is right."""
        return [float(all(one)) for one in zip(*(self.own(n, way) for n, way in enumerate(choice)), strict=True)]

    def worth(self, choice: Choice) -> float:
        """Return what a chain is truly worth."""
        found = 1.0
        for field, way in zip(FIELDS, choice, strict=True):
            found *= self.worths[field].get(self.ways(field)[way], WORTH)
        return found

    @property
    def best(self) -> float:
        """What the best chain is worth."""
        ways = [max(range(WORDINGS), key=lambda way: self.worth(_with((0, 0, 0), n, way))) for n in range(len(FIELDS))]
        return self.worth(tuple(ways))


@cache
def worlds() -> list[World]:
    """Return all worlds."""
    return [World(seed) for seed in range(WORLDS)]


def _with(choice: Choice, agent: int, way: int) -> Choice:
    return (*choice[:agent], way, *choice[agent + 1 :])


# -- in stages ---------------------------------------------------------------------------------------------------------


class _Calls:
    """Counts calls: with ``prefix``, those that were not made before."""

    def __init__(self, prefix: bool) -> None:
        self._prefix, self._made, self._count = prefix, set[tuple[Choice, int]](), 0

    def run(self, choice: Choice, item: int, agents: int) -> None:
        """Count a run of the first agents on an item."""
        self._count += agents
        self._made |= {(choice[: n + 1], item) for n in range(agents)}

    @property
    def total(self) -> int:
        """How many."""
        return len(self._made) if self._prefix else self._count


def staged(world: World, rule: Halving, *, own: bool, prefix: bool = True, passes: int = 1) -> Found:
    """Search agent by agent, as `TeamSearch` does.

    Args:
        world: the agents.
        rule: how wordings race.
        own: whether all agents but the last are judged by themselves.
        prefix: whether answers are asked for once.
        passes: how often all agents' wordings race.
    """
    choice: Choice = (0, 0, 0)
    calls = _Calls(prefix)
    for n in range(passes * len(FIELDS)):
        agent = n % len(FIELDS)
        alone = own and agent < len(FIELDS) - 1
        ways = [_with(choice, agent, way) for way in range(WORDINGS)]
        # What there is by now is the first; of equal ones the earlier is taken.
        ways = list(dict.fromkeys([choice, *ways]))
        rows = [world.own(agent, one[agent]) if alone else world.together(one) for one in ways]
        decisions = rule.decisions(len(ways), ITEMS)
        best, seen = raced(rule, rows)[0], _seen(decisions, rows)
        for which, items in seen.items():
            for item in range(items):
                calls.run(ways[which], item, agent + 1 if alone else len(FIELDS))
        choice = ways[best]
    for one in (choice, (0, 0, 0)):
        for item in range(ITEMS):
            calls.run(one, item, len(FIELDS))
    as_good = sum(world.together((0, 0, 0))) >= sum(world.together(choice))
    return Found((0, 0, 0) if as_good else choice, calls.total)


def _seen(decisions: Any, rows: Sequence[Sequence[float]]) -> Mapping[int, int]:
    """Return on how many items each was looked at."""
    seen: dict[int, int] = {}
    answer: Any = None
    while True:
        try:
            order = decisions.send(answer)
        except StopIteration:
            return seen
        seen |= {look.hypothesis: look.items for look in order.begin}
        answer = {one: rows[one][: seen[one]] for one in order.needed}


# -- jointly -----------------------------------------------------------------------------------------------------------


def joint_random(world: World, calls: int) -> Found:
    """Try whole chains that are drawn at random."""
    chance, tried = Random(world.seed), calls // (len(FIELDS) * ITEMS)
    drawn = [tuple(chance.randrange(WORDINGS) for _ in FIELDS) for _ in range(tried - 1)]
    return Found(max([(0, 0, 0), *drawn], key=lambda one: sum(world.together(one))), calls)


def joint_tpe(world: World, calls: int) -> Found:
    """Try whole chains that a Parzen estimator proposes."""
    sampler = optuna.samplers.TPESampler(seed=world.seed, multivariate=True, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(dict.fromkeys(FIELDS, 0))
    best: tuple[float, Choice] = (-1.0, (0, 0, 0))
    for _ in range(calls // (len(FIELDS) * ITEMS)):
        trial = study.ask()
        choice = tuple(trial.suggest_categorical(field, list(range(WORDINGS))) for field in FIELDS)
        score = sum(world.together(choice))
        study.tell(trial, score)
        best = max(best, (score, choice), key=lambda one: one[0])
    return Found(best[1], calls)


# -- figures -----------------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """A way to search, over all worlds: what its choice is worth, how sure that is, and its calls, at most."""

    worth: float
    error: float
    calls: int


@cache
def ways() -> dict[str, Way]:
    """Return what all ways to search come to."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried: dict[str, Callable[[World], Found]] = {
        "joint_random": lambda world: joint_random(world, CALLS),
        "joint_tpe": lambda world: joint_tpe(world, CALLS),
        "joint_tpe_16200": lambda world: joint_tpe(world, 3 * CALLS),
        "own": lambda world: staged(world, RULE, own=True),
        "own_of_20": lambda world: staged(world, Halving(first=20), own=True),
        "team": lambda world: staged(world, RULE, own=False),
        "team_no_prefix": lambda world: staged(world, Halving(first=5), own=False, prefix=False),
        "team_twice": lambda world: staged(world, Halving(first=5), own=False, passes=2),
    }
    found = {}
    for name, way in tried.items():
        each = [way(world) for world in worlds()]
        worth = [world.worth(one.choice) for world, one in zip(worlds(), each, strict=True)]
        error = statistics.stdev(worth) / len(worth) ** 0.5
        found[name] = Way(statistics.fmean(worth), error, max(one.calls for one in each))
    return found


def _promised(value: float, limit: float, reach: float, unit: str, better: Better, more: dict[str, float]) -> Figure:
    ratio = value / limit
    return Figure(value=value, unit=unit, limit=limit, ratio=ratio, reach=reach, better=better, promise=True, more=more)


async def _gain(name: str, reach: float) -> Figure:
    found = await asyncio.to_thread(ways)
    value = found[name].worth - found["joint_tpe"].worth
    assert found[name].calls <= CALLS
    more = {one: way.worth for one, way in found.items()}
    more |= {"error": found[name].error, "calls": found[name].calls}
    more["as_it_was"] = statistics.fmean(world.worth((0, 0, 0)) for world in worlds())
    more["best_possible"] = statistics.fmean(world.best for world in worlds())
    return _promised(value, 1.0, reach, "worth", "higher", more)


async def gain_own() -> Figure:
    """By how much a search in stages is better than a joint one, if agents have metrics of their own."""
    return await _gain("own", 0.1)


async def gain_team() -> Figure:
    """The same if all agents are judged by the whole chain."""
    return await _gain("team", 0.05)


def _told(wording: str) -> Any:
    def change(program: Any) -> None:
        program.signature = program.signature.with_instructions(wording)

    return change


def searched(world: World, *, own: bool, shared: bool = True) -> Found:
    """Have a world searched by the search itself."""
    search = TeamSearch(
        {field: [_told(way) for way in world.worths[field]] for field in FIELDS},
        metric=exact,
        member_metrics=OWN if own else None,
        rule=RULE,
        num_threads=8,
        display_progress=False,
    )
    search.shares_answers = shared
    before = world.engine.calls
    with dspy.context(lm=scripted_lm(world.engine)):
        found = search.compile(ScriptedChain(FIELDS), trainset=world.examples)
    said = [getattr(found, field).signature.instructions for field in FIELDS]
    choice = tuple(world.ways(field).index(one) for field, one in zip(FIELDS, said, strict=True))
    return Found(choice, world.engine.calls - before)


async def same_choice() -> Figure:
    """Whether the search itself chooses the same, at the same number of calls: 1 or 0."""

    def figure() -> Figure:
        same, calls = [], 0
        for world in worlds()[:WHOLE]:
            for own in (True, False):
                found = searched(world, own=own)
                same.append(found == staged(world, RULE, own=own))
                calls += found.calls
        value = statistics.fmean(same)
        more = {"searches": float(len(same)), "calls": float(calls)}
        return _promised(value, 1.0, 1.0, "", "higher", more)

    return await asyncio.to_thread(figure)


async def prefix_calls() -> Figure:
    """Which share of the calls is left if each answer is asked for once."""

    def figure() -> Figure:
        world = worlds()[0]
        with_it, without = (searched(world, own=False, shared=shared) for shared in (True, False))
        assert with_it.choice == without.choice
        return _promised(with_it.calls, without.calls, 0.75, "calls", "lower", {})

    return await asyncio.to_thread(figure)


FIGURES = {
    "gain_own": gain_own,
    "gain_team": gain_team,
    "same_choice": same_choice,
    "prefix_calls": prefix_calls,
}
