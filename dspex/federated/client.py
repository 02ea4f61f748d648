"""A client of a federation: the actor that has the examples, and lets nothing out but what it is asked to reckon."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from inspect import isawaitable
from operator import index
from typing import Any, Protocol, TypeVar

import msgspec

from agents.core.failures import is_order
from dspex.federated.choices import CandidateScore
from dspex.federated.errors import BadFederation, BadUpdate, StaleRound
from dspex.federated.messages import ClientReport, RoundTask, RunRound, TrainWeights
from dspex.federated.weights import Weights
from foundation.tree.imports import BadImport, check_arguments, resolve
from supervision import Actor, Refuse, handle

T = TypeVar("T")

#: A client remembers so many federations: their fences, and its last report to each.
REMEMBERED = 16
_REMEDY = "give an object with a method `train`, or `score`, or what makes one"


class LocalUpdate(msgspec.Struct, frozen=True):
    """What a learner has made of the weights.

    Attributes:
        weights: arrays by name, of the shapes that it was given.
        examples: on how many examples.
        metrics: what it says of the weights that it *got*, such as its loss before the first step.
        runs: how often it has run an example; ``examples`` if None.
    """

    weights: Mapping[str, Any]
    examples: int
    metrics: Mapping[str, float] = {}
    runs: int | None = None


class Learner(Protocol):
    """Trains weights on examples of its own."""

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate | Awaitable[LocalUpdate]:
        """Make steps from weights, and return where they lead.

        Args:
            weights: arrays by name, its own.
            settings: of the federation and its rule: ``proximal`` is `FedProx.proximal`.
        """
        ...


class Scorer(Protocol):
    """Runs candidates on examples of its own."""

    def score(self, candidate: Any) -> CandidateScore | Awaitable[CandidateScore]:
        """Return the sums of a candidate's scores; `CandidateScore` as it is for one that it cannot resolve."""
        ...


class Client(Actor):
    """Does its part of the rounds of federations, on examples that stay here.

    Asked again in the same round, because its answer has not arrived, it reports what it has reported, and does nothing
    twice. It does not work for a coordinator that has been succeeded. Its work holds the loop of this process, unless
    it is async: use `ProcessClient` for work that reckons.

    Args:
        work: a `Learner`, a `Scorer`, or both; or what makes one; or the import path of either, such as
            ``shop.federation:client``.
        options: arguments for what makes it.

    Raises:
        BadFederation: at its start, if it is none.
    """

    raises = (StaleRound, BadUpdate)

    def __init__(self, work: object, **options: Any) -> None:
        self._work = _made(work, options)
        #: By federation: the latest fence, the round, its task, and what was reported to it.
        self._seen: dict[str, tuple[int, int, RoundTask | None, ClientReport | None]] = {}
        self._rounds = 0

    @classmethod
    def check_arguments(cls, work: object, **options: Any) -> None:
        """Check what stands in a tree file: what it names is imported, and nothing runs."""
        found = _named(work)
        if _works(found) and not isinstance(found, type):
            return
        if not callable(found):
            raise BadFederation("Client: work", work, _REMEDY)
        check_arguments(found, (), options)

    @handle
    async def run_round(self, request: RunRound) -> ClientReport:
        """Do its part of a round."""
        fence, number, task, report = self._seen.get(request.federation, (0, 0, None, None))
        if request.fence < fence:
            raise Refuse(StaleRound(request.federation, request.fence, fence))
        if report is None or (number, task) != (request.round, request.task):
            self._remember(request, None)
            try:
                report = await self._report(request)
            except BaseException as error:  # of its work: it does not report this time, and goes on
                if is_order(error):
                    raise
                raise Refuse(BadUpdate(f"{type(error).__name__}: {error}")) from error
            self._rounds += 1
        report = msgspec.structs.replace(report, fence=request.fence)
        self._remember(request, report)
        return report

    def _remember(self, request: RunRound, report: ClientReport | None) -> None:
        self._seen.pop(request.federation, None)
        self._seen[request.federation] = request.fence, request.round, request.task, report
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]

    async def _report(self, request: RunRound) -> ClientReport:
        task = request.task
        method = "train" if isinstance(task, TrainWeights) else "score"
        if not callable(getattr(self._work, method, None)):
            raise TypeError(f"{type(self._work).__name__} has no method `{method}`")
        about: dict[str, Any] = {"client": request.client, "round": request.round, "fence": request.fence}
        if isinstance(task, TrainWeights):
            update = _of_kind(LocalUpdate, method, await _value(self._work.train(task.weights.arrays(), task.settings)))
            examples = _count("examples", update.examples)
            runs = examples if update.runs is None else _count("runs", update.runs)
            weights = Weights.of(update.weights)
            metrics = {str(name): float(value) for name, value in update.metrics.items()}
            return ClientReport(**about, examples=examples, weights=weights, metrics=metrics, runs=runs)
        scores, counts = [], []
        for candidate in task.candidates:
            score = _of_kind(CandidateScore, method, await _value(self._work.score(candidate)))
            counts.append(_count("examples", score.examples))
            scores.append(msgspec.structs.replace(score, examples=counts[-1]))
        return ClientReport(**about, examples=max(counts, default=0), scores=tuple(scores), runs=sum(counts))

    def summary(self) -> Mapping[str, object]:
        """Return what it has done, for ``/tree``."""
        return {"federations": ", ".join(self._seen) or "none", "rounds": self._rounds}


class ProcessClient(Client):
    """A `Client` in an OS process of its own: the examples never were anywhere else.

    What it is started with has to be plain: the import path of what makes its work, and that one's options, such as the
    path of a file with its examples.
    """

    isolation = "process"


async def _value(found: Any) -> Any:
    return await found if isawaitable(found) else found


def _of_kind(kind: type[T], method: str, found: object) -> T:
    if not isinstance(found, kind):
        raise TypeError(f"`{method}` has to return a {kind.__name__}, and has returned {type(found).__name__}")
    return found


def _count(what: str, value: Any) -> int:
    """Return a whole number, NumPy's as well, as one of Python's."""
    if isinstance(value, bool):
        raise TypeError(f"`{what}` has to be a whole number, and is {value}")
    return index(value)


def _named(work: object) -> Any:
    """Return a work, or what makes one; of an import path, what it names."""
    if not isinstance(work, str):
        return work
    try:
        return resolve(work)
    except BadImport as error:
        raise BadFederation("Client: work", work, str(error)) from error


def _made(work: object, options: Mapping[str, Any]) -> Any:
    found = _named(work)
    if not _works(found) or isinstance(found, type):
        found = found(**options) if callable(found) else found
    if not _works(found):
        raise BadFederation("Client: work", work, _REMEDY)
    return found


def _works(found: Any) -> bool:
    return any(callable(getattr(found, method, None)) for method in ("train", "score"))


def client_names(clients: Sequence[str]) -> tuple[str, ...]:
    """Return the names of clients.

    Raises:
        BadFederation: they are none, or one stands there twice.
    """
    found = tuple(clients) if isinstance(clients, (list, tuple)) else ()
    if not found or any(not isinstance(name, str) or not name for name in found) or len(set(found)) != len(found):
        raise BadFederation("Federation: clients", clients, "give the names of the client actors, each once")
    return found
