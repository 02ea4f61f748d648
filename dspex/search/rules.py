"""The rules of a race: which hypotheses are looked at on how many examples, and which are dropped.

A rule is a value. Its `decisions` are a generator, which is given scores and says what it needs next; it knows neither
clock nor actors, and says the same whenever it is given the same scores.

The student is hypothesis 0, and is never dropped. A hypothesis whose runs were lost has no scores: it is neither
ranked nor dropped, and is asked for again with the next order.
"""

from __future__ import annotations

import heapq
from abc import abstractmethod
from bisect import insort
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from math import ceil, fsum
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import msgspec

from dspex.statistics import e_value, sign_test, wilcoxon
from foundation.options import finite, whole
from supervision.errors import BadOption

#: Among so many the student takes the place of the last one: of fewer, that may be the best.
_MANY = 4


class Look(NamedTuple):
    """A ``hypothesis``, by its number, is to be scored on the first ``items``."""

    hypothesis: int
    items: int


class Elimination(NamedTuple):
    """A ``hypothesis`` is dropped after so many ``items``: ``why``, in words."""

    hypothesis: int
    items: int
    why: str


class RaceOrder(NamedTuple):
    """What a rule wants.

    Attributes:
        begin: looks to begin.
        needed: the hypotheses whose scores have to be known before it says more.
        dropped: what it has decided since its last order.
    """

    begin: tuple[Look, ...]
    needed: tuple[int, ...]
    dropped: tuple[Elimination, ...] = ()


#: All scores of a hypothesis, in the order of the items; None if its runs were lost.
KnownScores: TypeAlias = "Mapping[int, Sequence[float] | None]"
#: Yields orders, is given the scores that are needed, and returns what it has decided since its last order.
Decisions: TypeAlias = "Generator[RaceOrder, KnownScores, tuple[Elimination, ...]]"


def mean(scores: Sequence[float]) -> float:
    """Return the mean, which does not depend on the order; 0 of nothing."""
    try:
        return fsum(scores) / len(scores) if scores else 0.0
    except OverflowError:  # their sum is too large, and their mean is not
        return fsum(score / len(scores) for score in scores)


def ranked(scores: KnownScores, hypotheses: Iterable[int]) -> list[int]:
    """Return those that have scores, the best first; of equal ones the earlier."""
    found = {one: known for one in hypotheses if (known := scores[one]) is not None}
    return sorted(found, key=lambda one: (-mean(found[one]), one))


def winner(scores: Mapping[int, Sequence[float]], live: Iterable[int]) -> int:
    """Return the best of those that were looked at on most items, unless the student is as good on these.

    Args:
        scores: of each hypothesis, as far as they are known.
        live: those that can win; the student is one of them.
    """
    seen = {one: scores[one] for one in live if scores.get(one)}
    if not seen:
        return 0
    most = max(len(known) for known in seen.values())
    best = ranked(seen, [one for one, known in seen.items() if len(known) == most])[0]
    own = scores.get(0, ())
    return 0 if own and mean(own) >= mean(scores[best][: len(own)]) else best


class RaceRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """How a race is decided."""

    @abstractmethod
    def decisions(self, hypotheses: int, items: int) -> Decisions:
        """Return what is decided about so many hypotheses, the student among them, with so many items."""

    @abstractmethod
    def expected(self, hypotheses: int, items: int) -> int:
        """Return how many runs that takes, about."""


class Halving(RaceRule, frozen=True, kw_only=True, tag="halving"):
    """Successive halving: of those that were looked at, the best go on, with more items (Jamieson, Talwalkar, 2016).

    >>> Halving(eta=2, first=10).expected(16, 80)
    400

    Args:
        eta: of how many one goes on, and by what the items grow.
        first: how many items each hypothesis is looked at on.

    Raises:
        BadOption: one of these makes no sense.
    """

    eta: int = 2
    first: int = 20

    def __post_init__(self) -> None:
        whole("Halving: eta", self.eta, 2)
        whole("Halving: first", self.first)

    def expected(self, hypotheses: int, items: int) -> int:
        """Return how many runs that takes, if the student is among the best; a few more if it is not."""
        return _halved(_rungs(self.first, self.eta, items), self.eta, hypotheses)

    def decisions(self, hypotheses: int, items: int) -> Decisions:
        """Look at all that are left, rung by rung."""
        live, wanted = list(range(hypotheses)), hypotheses
        dropped: tuple[Elimination, ...] = ()
        rungs = _rungs(self.first, self.eta, items)
        while True:
            rung = next(rungs)
            scores = yield RaceOrder(tuple(Look(one, rung) for one in live), tuple(live), dropped)
            order = ranked(scores, live)
            if wanted == 1 or rung == items:
                return _beaten(order, order[:1], rung, f"beaten on {rung} items")
            wanted = max(1, len(order) // self.eta)
            kept = with_student(order, wanted)
            dropped = _beaten(order, kept, rung, f"not among the best {wanted} of {len(order)} on {rung} items")
            gone = {one.hypothesis for one in dropped}
            live = [one for one in live if one not in gone]


def with_student(order: Sequence[int], wanted: int) -> list[int]:
    """Return the best, and the student: in the place of the last of them, or, where they are few, beside them."""
    kept = list(order[:wanted])
    if 0 in order and 0 not in kept:
        kept[wanted - 1 if wanted >= _MANY else wanted :] = [0]
    return kept


def _rungs(first: int, eta: int, items: int) -> Iterator[int]:
    rung = min(first, items)
    while rung < items:
        yield rung
        rung *= eta
    yield items


def _halved(rungs: Iterable[int], eta: int, hypotheses: int) -> int:
    total, before, live = 0, 0, hypotheses
    for rung in rungs:
        total += live * (rung - before)
        if live == 1:
            break
        before, live = rung, max(1, live // eta)
    return total


def _beaten(order: Sequence[int], kept: Sequence[int], items: int, why: str) -> tuple[Elimination, ...]:
    return tuple(Elimination(one, items, why) for one in order if one not in kept and one != 0)


class PairedRace(RaceRule, frozen=True, kw_only=True, tag="paired"):
    """A race by a paired test: whoever is shown to be worse than the leader on the same items is dropped.

    It looks after blocks of items. The leader is the best so far; when it changes, all are compared with the new one.

    Args:
        block: how many items there are between two looks.
        alpha: how probable it may be that one is dropped at a look that is as good as the leader.
        test: ``sign`` counts on which items one is better, ``wilcoxon`` also by how much. ``sequential`` may be looked
            at as often as one likes: ``alpha`` holds for all its looks together, and it takes more items.
        correct: whether ``alpha`` holds for all looks together with the other tests too, by dividing it among them.

    Raises:
        BadOption: one of these makes no sense.
    """

    block: int = 5
    alpha: float = 0.1
    test: Literal["sign", "wilcoxon", "sequential"] = "sign"
    correct: bool = False

    def __post_init__(self) -> None:
        whole("PairedRace: block", self.block)
        given = finite(self.alpha)
        if given is None or not 0 < given < 1:
            raise BadOption("PairedRace: alpha", self.alpha, "give a number between 0 and 1")
        if self.test not in _TESTS:
            raise BadOption("PairedRace: test", self.test, f"choose one of {', '.join(_TESTS)}")

    def expected(self, hypotheses: int, items: int) -> int:
        """Return how many runs that takes at most."""
        return hypotheses * items

    def decisions(self, hypotheses: int, items: int) -> Decisions:
        """Look at all that are left, block by block."""
        live = list(range(hypotheses))
        dropped: tuple[Elimination, ...] = ()
        alpha = self.alpha / ceil(items / self.block) if self.correct and self.test != "sequential" else self.alpha
        step = 0
        while True:
            step = min(step + self.block, items)
            scores = yield RaceOrder(tuple(Look(one, step) for one in live), tuple(live), dropped)
            order = ranked(scores, live)
            leader, found = order[0], {}
            for one in order[1:]:
                p = _TESTS[self.test](cast("Any", scores[one]), cast("Any", scores[leader]))
                if p < alpha:
                    found[one] = f"worse than the leader on {step} items: p = {p:.3g}"
            dropped = tuple(Elimination(one, step, why) for one, why in found.items() if one != 0)
            if step == items or set(order) - found.keys() == {leader}:
                return dropped + _beaten(
                    [one for one in order if one not in found], [leader], step, "beaten at the end"
                )
            live = [one for one in live if one == 0 or one not in found]


def _sign(one: Sequence[float], leader: Sequence[float]) -> float:
    return sign_test(*_counts(one, leader))


def _wilcoxon(one: Sequence[float], leader: Sequence[float]) -> float:
    found = wilcoxon([mine - other for mine, other in zip(one, leader, strict=True)])
    worse = 2 * found.rank_sum < found.pairs * (found.pairs + 1) / 2
    return found.p / 2 if worse else 1.0


def _sequential(one: Sequence[float], leader: Sequence[float]) -> float:
    better, worse = _counts(one, leader)
    return 1 / e_value(better, worse) if worse > better else 1.0


def _counts(one: Sequence[float], leader: Sequence[float]) -> tuple[int, int]:
    pairs = list(zip(one, leader, strict=True))
    return sum(mine > other for mine, other in pairs), sum(mine < other for mine, other in pairs)


_TESTS: Mapping[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "sign": _sign,
    "wilcoxon": _wilcoxon,
    "sequential": _sequential,
}


class Asha(RaceRule, frozen=True, kw_only=True, tag="asha"):
    """Asynchronous successive halving (Li et al., 2020): nobody waits for a whole rung to be complete.

    Whenever a place is free, one of the best ``1/eta`` of a rung goes up, from the highest rung where there is one that
    has not; else the next hypothesis is begun. What a decision depends on is who has come to a rung before, so time is
    counted in items here, as if each took as long: decisions do not depend on which run was faster.

    Args:
        eta: of how many one goes up, and by what the items grow.
        first: how many items the lowest rung has.
        places: how many hypotheses are looked at at a time.

    Raises:
        BadOption: one of these makes no sense.
    """

    eta: int = 2
    first: int = 20
    places: int = 4

    def __post_init__(self) -> None:
        whole("Asha: eta", self.eta, 2)
        whole("Asha: first", self.first)
        whole("Asha: places", self.places)

    def expected(self, hypotheses: int, items: int) -> int:
        """Return how many runs that takes, about: too early promotions make it more."""
        return _halved(_rungs(self.first, self.eta, items), self.eta, hypotheses)

    def decisions(self, hypotheses: int, items: int) -> Decisions:
        """Look at one after the other, several at a time."""
        ladder = _Ladder(self, hypotheses, list(_rungs(self.first, self.eta, items)))
        while (needed := ladder.begin()) is not None:
            scores = yield RaceOrder(ladder.begun(), (needed,))
            ladder.arrived(needed, scores[needed])
        best, rung = ladder.best()
        if ladder.at(0) < rung:
            yield RaceOrder((Look(0, rung),), (0,))
        return ladder.left_behind(best)


class HalvingRung:
    """A rung: who has come to it, and who went on.

    >>> rung = HalvingRung(2)
    >>> for number, score in enumerate([2, 4, 1, 3, 5, 0]):
    ...     rung.add(number, score)
    ...     print(rung.promote(), end=" ")
    None 1 None 3 4 None

    Args:
        eta: of how many one goes on.
    """

    def __init__(self, eta: int) -> None:
        self._eta = eta
        self._come: list[tuple[float, int]] = []
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._come)

    def add(self, hypothesis: int, score: float) -> None:
        """Take one that has come."""
        insort(self._come, (-score, hypothesis))

    def order(self) -> list[int]:
        """Return those that have come, the best first; of equal ones the earlier hypothesis."""
        return [hypothesis for _, hypothesis in self._come]

    def promote(self) -> int | None:
        """Return the best of those that are to go on and have not; None if there is none."""
        best = self._come[: len(self._come) // self._eta]
        found = next((one for _, one in best if one not in self._gone), None)
        if found is not None:
            self._gone.add(found)
        return found


class _Ladder:
    """The rungs, and who is on the way to one."""

    def __init__(self, rule: Asha, hypotheses: int, items: Sequence[int]) -> None:
        self._places, self._items = rule.places, items
        self._rungs = [HalvingRung(rule.eta) for _ in items]
        self._new = iter(range(hypotheses))
        #: When each that is on its way comes, in what order they have begun, and to which rung.
        self._coming: list[tuple[int, int, int, int]] = []
        self._now = self._number = 0
        self._begun: list[Look] = []
        self._lost: list[tuple[int, int]] = []
        self._again: set[int] = set()
        self._reached: dict[int, int] = {}

    def begin(self) -> int | None:
        """Fill the free places, and return who comes next; None if there is nobody."""
        while len(self._coming) < self._places and (found := self._next()) is not None:
            hypothesis, rung = found
            takes = self._items[rung] - (self._items[rung - 1] if rung else 0)
            heapq.heappush(self._coming, (self._now + takes, self._number, hypothesis, rung))
            self._number += 1
            self._begun.append(Look(hypothesis, self._items[rung]))
        if not self._coming:
            return None
        self._now, _, hypothesis, self._rung = heapq.heappop(self._coming)
        return hypothesis

    def _next(self) -> tuple[int, int] | None:
        for rung in range(len(self._items) - 2, -1, -1):
            found = self._rungs[rung].promote()
            if found is not None:
                return found, rung + 1
        new = next(self._new, None)
        if new is not None:
            return new, 0
        return self._lost.pop(0) if self._lost else None

    def begun(self) -> tuple[Look, ...]:
        """Return what was begun since this was asked last."""
        begun, self._begun = tuple(self._begun), []
        return begun

    def arrived(self, hypothesis: int, scores: Sequence[float] | None) -> None:
        """Take one that has come; one whose runs were lost gets another chance at the end."""
        if scores is not None:
            self._rungs[self._rung].add(hypothesis, mean(scores))
            self._reached[hypothesis] = self._rung
        elif hypothesis not in self._again:
            self._again.add(hypothesis)
            self._lost.append((hypothesis, self._rung))

    def at(self, hypothesis: int) -> int:
        """Return how many items one has come to; 0 for none."""
        return self._items[self._reached[hypothesis]] if hypothesis in self._reached else 0

    def best(self) -> tuple[int, int]:
        """Return the best of the highest rung, and how many items that has."""
        rung = max(number for number, rung in enumerate(self._rungs) if len(rung))
        return self._rungs[rung].order()[0], self._items[rung]

    def left_behind(self, best: int) -> tuple[Elimination, ...]:
        """Return all others."""
        others = (one for one in sorted(self._reached) if one not in (0, best))
        return tuple(Elimination(one, self.at(one), f"went no further than {self.at(one)} items") for one in others)


#: By their kind.
RULES: Mapping[str, type[RaceRule]] = {"halving": Halving, "asha": Asha, "paired": PairedRace}


def race_rule(given: Any) -> RaceRule:
    """Return a rule: itself, or one that is named, or given as a table with its ``kind``.

    Raises:
        BadOption: there is none.
    """
    if isinstance(given, RaceRule):
        return given
    if isinstance(given, str) and given in RULES:
        return RULES[given]()
    try:
        made: RaceRule = msgspec.convert(given, Halving | Asha | PairedRace)
    except msgspec.ValidationError as error:
        why = f"give a RaceRule, or the kind of one: {', '.join(RULES)}; or a table with a kind ({error})"
        raise BadOption("Race: rule", given, why) from None
    return made
