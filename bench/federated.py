"""Suite ``federated``: what is learned from examples that stay where they are, beside one place and each alone.

Digits of scikit-learn (1,437 to learn from, 360 to test on), headlines of BBC News and sentences of four domains are
divided among four clients, by Dirichlet shares of each label: the smaller alpha, the less alike they are. Every figure
comes of `dspex.federated.Federation` with its clients, as actors; rules are those of the package.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from agents.durability import MemoryStorage
from bench.figure import Figure
from bench.quality_data import TASKS
from bench.team import _halves
from bench.team_members import LABELS, asking
from dspex.federated import (
    AveragingRule,
    CandidateScore,
    Client,
    ClientMissing,
    FedAdam,
    FedAvg,
    FederatedAveraging,
    FederatedChoice,
    FederatedRoundClosed,
    Federation,
    FederationResult,
    LocalUpdate,
    MedianOfMeans,
    MedianWeights,
    PluralityVote,
    PooledMean,
    Rounds,
    SoftmaxLearner,
)
from dspex.federated.stacking import StackingLearner, stacking_moments, stacking_rule, stacking_weights
from dspex.teams import FirstAnswer, RecordedVotes
from dspex.workflow import GetResult
from supervision import ChildSpec, Runtime, Supervisor

SEEDS, CLIENTS = 5, 4
#: Steps of a client in a round, and rounds.
STEPS, ROUNDS, RATE = 10, 30, 0.5
FEDAVG = FedAvg()
#: How often examples are divided anew, for each split into halves.
DIVISIONS = 20
#: How many ways of asking are the team, and the candidates: one wording, in the chat format and plainly, with and
#: without demonstrations.
WAYS = 4
DOMAINS = ("movie", "amazon", "tweets", "nyt")
#: Sentences of a domain; half of them is for the test.
SENTENCES = 40
#: By so much two ways to the same weights may differ.
EQUAL = 1e-9


# -- a federation ----------------------------------------------------------------------------------------------------


async def hold(plan: Any, works: Sequence[Any], watch: Any = None, **rounds: Any) -> FederationResult:
    """Hold a federation of clients, and return what it has found.

    Args:
        plan: of the federation.
        works: of the clients.
        watch: is called with each event about it, and the runtime.
        rounds: how rounds are held.
    """
    names = [f"client {number}" for number, _ in enumerate(works)]
    clients = [
        ChildSpec(name, Client, (work,), name=name, restart="temporary")
        for name, work in zip(names, works, strict=True)
    ]
    federation = ChildSpec("all", Federation, (plan, names, MemoryStorage()), {"rounds": Rounds(**rounds)}, name="all")
    async with Runtime(watchdog=None) as runtime:
        if watch is not None:
            runtime.subscribe(lambda event: watch(event, runtime), FederatedRoundClosed, ClientMissing)
        await runtime.spawn(Supervisor, [*clients, federation])
        found: FederationResult = await runtime.name("all").call(GetResult(), timeout=None)
        return found


def divided(labels: Sequence[Any], alpha: float, chance: Any) -> list[list[int]]:
    """Return the numbers of the examples of each client."""
    found: list[list[int]] = [[] for _ in range(CLIENTS)]
    for label in sorted(set(labels)):
        numbers = chance.permutation([number for number, one in enumerate(labels) if one == label])
        cuts = (np.cumsum(chance.dirichlet([alpha] * CLIENTS)) * len(numbers)).round().astype(int)
        for client, part in enumerate(np.split(numbers, cuts[:-1])):
            found[client] += part.tolist()
    return found


# -- digits ----------------------------------------------------------------------------------------------------------


class Digits:
    """The digits, divided among clients.

    Args:
        seed: by which they are shuffled and divided.
        alpha: how alike clients are.
    """

    def __init__(self, seed: int, alpha: float) -> None:
        images, digits = digits_of()
        chance = np.random.default_rng(seed)
        order = chance.permutation(len(digits))
        test, learn = order[:360], order[360:]
        self.all = SoftmaxLearner(images[learn], digits[learn].tolist(), 10)
        self.test = SoftmaxLearner(images[test], digits[test].tolist(), 10)
        parts = [learn[part] for part in divided(digits[learn].tolist(), alpha, chance)]
        self.clients = [SoftmaxLearner(images[part], digits[part].tolist(), 10) for part in parts]

    def accuracy(self, weights: Mapping[str, Any]) -> float:
        """Return how many of the test are right."""
        return self.test.measured(weights)["accuracy"]

    def alone(self, learner: SoftmaxLearner, steps: int = STEPS * ROUNDS) -> Mapping[str, Any]:
        """Return the weights of who learns as long, but alone."""
        return learner.train(learner.begin().arrays(), {"steps": steps, "rate": RATE}).weights

    def local(self) -> float:
        """Return the accuracy of clients that learn alone, on the average."""
        return statistics.fmean(self.accuracy(self.alone(client)) for client in self.clients)

    def plan(self, rule: AveragingRule = FEDAVG, rounds: int = ROUNDS, steps: int = STEPS) -> FederatedAveraging:
        """Return what the federation is to find."""
        settings = {"steps": float(steps), "rate": RATE}
        return FederatedAveraging(initial=self.all.begin(), rule=rule, rounds=rounds, settings=settings)

    async def found(self, rule: AveragingRule = FEDAVG, **more: Any) -> float:
        """Return the accuracy of what a federation finds."""
        result = await hold(self.plan(rule), self.clients, **more)
        assert result.weights is not None
        return self.accuracy(result.weights.arrays())


@cache
def digits_of() -> tuple[Any, Any]:
    """Return the images of all digits, from 0 to 1, and which digits they are."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise SystemExit("The digits are those of scikit-learn: pip install 'foundation-otp[digits]'") from None
    found: Any = load_digits()
    return found.data / 16.0, found.target


async def _mean(one: Callable[[int], Any]) -> tuple[float, float]:
    """Return the mean of what comes of each seed, and its spread."""
    found = [await one(seed) for seed in range(SEEDS)]
    return statistics.fmean(found), statistics.stdev(found)


async def fedavg_equals_pooled() -> Figure:
    """How far 300 rounds of one full step of all clients are from 300 steps on all digits in one place."""
    digits = Digits(0, 0.3)
    result = await hold(digits.plan(rounds=300, steps=1), digits.clients)
    assert result.weights is not None
    found, pooled = result.weights.arrays(), digits.alone(digits.all, 300)
    apart = max(float(np.abs(found[name] - pooled[name]).max()) for name in pooled)
    return Figure(value=apart, unit="apart", limit=EQUAL, ratio=apart / EQUAL, reach=1.0, better="lower", promise=True)


async def skewed() -> Figure:
    """Accuracy of `FedAvg` where each client has few of the digits, beside what is to be reached."""
    worlds = [Digits(seed, 0.1) for seed in range(SEEDS)]
    value, spread = await _mean(lambda seed: worlds[seed].found())
    adam, _ = await _mean(lambda seed: worlds[seed].found(FedAdam()))
    median, _ = await _mean(lambda seed: worlds[seed].found(MedianWeights()))
    more = {
        "spread": spread,
        "local": statistics.fmean(world.local() for world in worlds),
        "pooled": statistics.fmean(world.accuracy(world.alone(world.all)) for world in worlds),
        "fedadam": adam,
        "median": median,
    }
    return Figure(value=value, unit="accuracy", limit=0.92, ratio=value / 0.92, reach=1.0, better="higher", more=more)


class Hostile:
    """A client that reports the opposite of what it was sent, many times over, and that it has most examples."""

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate:
        """Report."""
        return LocalUpdate({name: -10.0 * array - 1.0 for name, array in weights.items()}, 500)


class Broken:
    """A client whose weights are not numbers."""

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate:
        """Report."""
        return LocalUpdate({name: array * np.nan for name, array in weights.items()}, 500)


class Slow(SoftmaxLearner):
    """A client that takes longer than is waited for."""

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> Any:
        """Report, much later."""

        async def later() -> LocalUpdate:
            await asyncio.sleep(3600.0)
            raise AssertionError("nobody waits for this")

        return later()


async def hostile() -> Figure:
    """One of four clients lies, and all are alike: the median, beside honest `FedAvg`; `mean` is `FedAvg` with it."""
    digits = Digits(0, 100.0)
    honest = await digits.found()
    digits.clients[0] = Hostile()  # type: ignore[call-overload]
    value, mean = await digits.found(MedianWeights()), await digits.found()
    clipped = await hold(
        FederatedAveraging(
            initial=digits.all.begin(), rounds=ROUNDS, settings={"steps": STEPS, "rate": RATE}, clip=1.0
        ),
        digits.clients,
    )
    assert clipped.weights is not None
    skew = Digits(0, 0.1)
    skew.clients[0] = Hostile()  # type: ignore[call-overload]
    more = {
        "mean": mean,
        "mean_clipped": digits.accuracy(clipped.weights.arrays()),
        "median_skewed": await skew.found(MedianWeights()),
    }
    return Figure(
        value=value, unit="accuracy", limit=honest, ratio=value / honest, reach=0.98, better="higher", more=more
    )


async def _kept(change: Callable[[Digits], Any], **rounds: Any) -> Figure:
    """Return how many of the rounds are decided with one client less."""
    digits = Digits(0, 100.0)
    missing: list[str] = []
    act = change(digits)

    def watch(event: Any, runtime: Runtime) -> None:
        if isinstance(event, ClientMissing):
            missing.append(event.outcome)
        elif act is not None:
            act(event, runtime)

    result = await hold(digits.plan(), digits.clients, watch, enough=3, **rounds)
    assert result.weights is not None
    decided = sum(one.end.state == "decided" for one in result.history)
    counts = {outcome: float(missing.count(outcome)) for outcome in sorted({*missing})}
    more = {"accuracy": digits.accuracy(result.weights.arrays()), **counts}
    return Figure(
        value=decided, unit="rounds", limit=ROUNDS, ratio=decided / ROUNDS, reach=1.0, better="higher", more=more
    )


async def one_dead() -> Figure:
    """A client is killed in the sixth round, for good: how many of the rounds are decided all the same."""

    def change(_: Digits) -> Any:
        def act(event: Any, runtime: Runtime) -> None:
            victim = runtime.whereis("client 3")
            if event.round == 5 and victim is not None:
                victim.kill()

        return act

    return await _kept(change)


async def one_late() -> Figure:
    """A client takes an hour for each round: how many are decided all the same, within a second."""

    def change(digits: Digits) -> None:
        late = digits.clients[3]
        digits.clients[3] = Slow(late.features, late.truth.argmax(axis=1).tolist(), 10)

    return await _kept(change, deadline=1.0, linger=0.05)


async def one_broken() -> Figure:
    """A client reports NaN: how many rounds are decided all the same."""

    def change(digits: Digits) -> None:
        digits.clients[3] = Broken()  # type: ignore[call-overload]

    return await _kept(change)


# -- headlines: the choice of a prompt, and the weights of a team ----------------------------------------------------


@cache
def _headlines() -> RecordedVotes:
    return asking(lambda asked: asked.record(asked.members()[:WAYS], asked.headlines))


class Recorded:
    """A scorer that has asked before: candidates are members.

    Args:
        records: what they have answered.
    """

    def __init__(self, records: RecordedVotes | None) -> None:
        self._right: dict[str, list[float]] = {}
        for cast, truth in zip(records.votes, records.truth, strict=True) if records else ():
            for vote in cast:
                self._right.setdefault(vote.member, []).append(float(vote.form == truth))

    def score(self, candidate: str) -> CandidateScore:
        """Return the sums."""
        return CandidateScore.of(self._right.get(candidate, []))


def _parts(learn: RecordedVotes, alpha: float, seed: int) -> list[RecordedVotes | None]:
    parts = divided(learn.truth, alpha, np.random.default_rng(seed))
    return [learn.examples(sorted(part)) if part else None for part in parts]


def _splits() -> list[tuple[RecordedVotes, RecordedVotes]]:
    records = _headlines()
    halves = [_halves(seed, len(records.truth)) for seed in range(SEEDS)]
    return [(records.examples(learn), records.examples(test)) for learn, test in halves]


async def choice_equals_pooled() -> Figure:
    """In which share of the divisions the clients' sums choose the prompt, by the same scores, that one place would."""
    same = total = 0
    others = {"plurality": 0, "median": 0}
    for learn, _ in await asyncio.to_thread(_splits):
        candidates = [*learn.members]
        pooled = PooledMean().choose({"all": tuple(map(Recorded(learn).score, candidates))})
        expected = pooled.best, tuple(str(score) for score in pooled.scores)
        for seed in range(DIVISIONS):
            works = [Recorded(part) for part in _parts(learn, 0.1, seed)]
            result = await hold(FederatedChoice(candidates=candidates), works)
            same += (result.best_candidate, result.scores) == expected
            for name, rule in (("plurality", PluralityVote()), ("median", MedianOfMeans())):
                tallies = {str(n): tuple(map(work.score, candidates)) for n, work in enumerate(works)}
                others[name] += rule.choose(tallies).best == pooled.best
            total += 1
    more = {name: count / total for name, count in others.items()}
    return Figure(
        value=same / total, unit="the same", limit=1, ratio=same / total, reach=1.0, better="higher", promise=True,
        more=more,
    )  # fmt: skip


async def stacking() -> Figure:
    """Accuracy of a team's stacking rule that skewed clients have found together, beside what is to be reached."""
    settings = {"steps": 10.0, "rate": 0.5, "penalty": 0.01}
    found, local, pooled, single = [], [], [], []
    for seed, (learn, test) in enumerate(await asyncio.to_thread(_splits)):
        members = [*learn.members]

        async def fitted(
            works: Sequence[StackingLearner],
            rounds: int = 100,
            steps: int = 4,
            test: RecordedVotes = test,
            members: Sequence[str] = members,
        ) -> float:
            moments = await hold(FederatedAveraging(initial=stacking_moments(members, LABELS), rounds=1), works)
            assert moments.weights is not None
            plan = FederatedAveraging(
                initial=stacking_weights(moments.weights, LABELS), rounds=rounds, settings={**settings, "steps": steps}
            )
            result = await hold(plan, works)
            assert result.weights is not None
            return test.accuracy(stacking_rule(result.weights, members, LABELS))

        single.append(test.only([learn.best_member]).accuracy(FirstAnswer()))
        pooled.append(await fitted([StackingLearner(learn, members, LABELS)], 1, 400))
        for division in range(DIVISIONS // SEEDS):
            works = [StackingLearner(part, members, LABELS) for part in _parts(learn, 0.1, 100 * seed + division)]
            found.append(await fitted(works))
            local += [await fitted([work], 1, 400) for work in works if len(work.features)]
    value = statistics.fmean(found)
    more = {
        "spread": statistics.stdev(found),
        "local": statistics.fmean(local),
        "pooled": statistics.fmean(pooled),
        "best_single": statistics.fmean(single),
    }
    return Figure(value=value, unit="accuracy", limit=0.70, ratio=value / 0.70, reach=1.0, better="higher", more=more)


# -- sentiment: four domains as they are -----------------------------------------------------------------------------


@cache
def _sentences() -> dict[str, RecordedVotes]:
    def record(asked: Any) -> dict[str, RecordedVotes]:
        found = {}
        for domain in DOMAINS:
            task = TASKS[domain]
            wordings = (task.signature.instructions, *task.instructions)
            members = [
                asked.member(f"wording {number}", task.signature.with_instructions(wording), "chat")
                for number, wording in enumerate(wordings)
            ]
            found[domain] = asked.record(members, task.examples()[:SENTENCES], "sentiment")
        return found

    return asking(record)


async def sentiment() -> Figure:
    """One wording for four domains, chosen by the sums of all, beside each domain's own choice (`limit`)."""
    together, alone, oracle = [], [], []
    for seed in range(SEEDS):
        learn, test = _halves(seed, SENTENCES)
        records = await asyncio.to_thread(_sentences)
        candidates = [*records[DOMAINS[0]].members]
        works = [Recorded(records[domain].examples(learn)) for domain in DOMAINS]
        result = await hold(FederatedChoice(candidates=candidates), works)

        def right(domain: str, member: str, test: Sequence[int] = test) -> float:
            return _sentences()[domain].examples(test).only([member]).accuracy(FirstAnswer())

        together.append(statistics.fmean(right(domain, result.chosen) for domain in DOMAINS))
        own = [records[domain].examples(learn).best_member for domain in DOMAINS]
        alone.append(statistics.fmean(right(domain, member) for domain, member in zip(DOMAINS, own, strict=True)))
        oracle.append(max(statistics.fmean(right(domain, member) for domain in DOMAINS) for member in candidates))
    value, limit = statistics.fmean(together), statistics.fmean(alone)
    more = {"spread": statistics.stdev(together), "best_for_all": statistics.fmean(oracle)}
    return Figure(
        value=value, unit="accuracy", limit=limit, ratio=value / limit, reach=0.95, better="higher", more=more
    )


FIGURES = {
    "fedavg_equals_pooled": fedavg_equals_pooled,
    "skewed": skewed,
    "hostile": hostile,
    "one_dead": one_dead,
    "one_late": one_late,
    "one_broken": one_broken,
    "choice_equals_pooled": choice_equals_pooled,
    "stacking": stacking,
    "sentiment": sentiment,
}
