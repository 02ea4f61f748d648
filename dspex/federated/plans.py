"""What a federation is to find: weights by averaging, or one of several candidates by sums of scores."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import msgspec
import numpy as np

from dspex.federated.averaging import AveragingRule, FedAvg, ServerState, WeightedUpdate, clipped
from dspex.federated.choices import ChoiceRule, PooledMean, personal_choice
from dspex.federated.errors import BadFederation, BadUpdate, CannotMerge
from dspex.federated.messages import ClientReport, RoundTask, ScoreCandidates, TrainWeights
from dspex.federated.noise import server_noise
from dspex.federated.weights import Weights
from dspex.workflow.encoding import encoded
from dspex.workflow.errors import NotEncodable
from foundation.options import above_zero, finite, from_zero, is_a, text, whole
from supervision.options import is_whole

#: No number of a report is larger, so that squares, and sums of these, are finite.
LARGEST = 1e100
#: No count is larger: beyond it, not every whole number is a float.
MOST = 2**53
#: A report may say so many things about the weights.
MOST_METRICS = 50


class Merged(msgspec.Struct, frozen=True):
    """What has come of a round.

    Attributes:
        state: what goes into the next one.
        metric: by which rounds are compared; None if there is none.
        metrics: what the clients have said, each as much as it has examples.
    """

    state: Any
    metric: float | None
    metrics: dict[str, float] = {}


class FederatedAveraging(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that all clients train, each on its own examples, and a rule that makes one of theirs.

    Attributes:
        initial: the weights to begin with.
        rule: makes new ones of those of the clients.
        rounds: how many.
        settings: for the learners, such as ``{"steps": 10, "rate": 0.5}``.
        clip: how far a client's weights may be from those that it got, by the length of the change: a longer change is
            shortened. None for any.
        most_examples: how many examples a client may say that it has: a larger number counts as this. None for any.
        noise: how much Gaussian noise the new weights get, as a multiple of ``clip`` divided by the number of clients
            (`server_noise`); 0 for none. Clients have to count alike (``most_examples=1``), and be clipped.
        metric: which of the clients' metrics says how good the weights are, such as ``loss``.
        higher: whether more of it is better.

    Raises:
        BadFederation, BadOption: one of them makes no sense.
    """

    initial: Weights
    rule: AveragingRule = FedAvg()
    rounds: int = 10
    settings: dict[str, float] = {}
    clip: float | None = None
    most_examples: int | None = None
    noise: float = 0.0
    metric: str = "loss"
    higher: bool = False

    def __post_init__(self) -> None:
        if not is_a(self.initial, Weights) or not np.isfinite(self.initial.vector()).all():
            raise BadFederation("FederatedAveraging: initial", self.initial, "give Weights, all of them finite")
        if not self.initial.vector().size:
            raise BadFederation("FederatedAveraging: initial", self.initial, "give Weights with one number or more")
        if not is_a(self.rule, AveragingRule):
            raise BadFederation("FederatedAveraging: rule", self.rule, "give a rule for weights, such as FedAvg()")
        whole("FederatedAveraging: rounds", self.rounds)
        if not is_a(self.settings, Mapping):
            raise BadFederation("FederatedAveraging: settings", self.settings, 'give numbers by name: {"rate": 0.5}')
        for name, value in self.settings.items():
            if not isinstance(name, str) or finite(value) is None:
                raise BadFederation(f"FederatedAveraging: settings[{name!r}]", value, "give finite numbers by name")
        if self.clip is not None:
            above_zero("FederatedAveraging: clip", self.clip)
        if self.most_examples is not None:
            whole("FederatedAveraging: most_examples", self.most_examples)
        if from_zero("FederatedAveraging: noise", self.noise) and (self.clip is None or self.most_examples != 1):
            raise BadFederation("FederatedAveraging: noise", self.noise, "give clip=... and most_examples=1, too")
        text("FederatedAveraging: metric", self.metric)

    def begin(self) -> ServerState:
        """Return the state before the first round."""
        return ServerState(self.initial)

    def read(self, plain: Any) -> ServerState:
        """Return a state that was kept."""
        return msgspec.convert(plain, ServerState)

    def task(self, state: ServerState) -> RoundTask:
        """Return what the clients are asked."""
        return TrainWeights(state.weights, {**self.settings, **self.rule.settings})

    def check(self, report: ClientReport, state: ServerState) -> ClientReport:
        """Return a report as it counts.

        Raises:
            BadUpdate: it cannot be used.
        """
        if report.weights is None:
            raise BadUpdate("it has no weights")
        try:
            weights = report.weights.in_order_of(state.weights)
        except ValueError as error:
            raise BadUpdate(str(error)) from None
        vector = weights.vector()
        # NaN is not smaller than anything.
        if not (np.abs(vector) < LARGEST).all():
            raise BadUpdate("a weight is NaN, infinite or huge")
        _check_counts(report)
        _check_metrics(report.metrics)
        examples = report.examples if self.most_examples is None else min(report.examples, self.most_examples)
        if self.clip is not None:
            weights = weights.with_vector(clipped(vector, state.weights.vector(), self.clip))
        return msgspec.structs.replace(report, weights=weights, examples=examples)

    def merge(self, state: ServerState, reports: Sequence[ClientReport]) -> Merged:
        """Return what comes of a round.

        Args:
            state: before it.
            reports: as they count, in the federation's order.

        Raises:
            CannotMerge: nothing does.
        """
        updates = [WeightedUpdate(report.weights.vector(), report.examples) for report in reports if report.weights]
        if not any(update.examples for update in updates):
            raise CannotMerge("the clients have no examples at all")
        metrics = _mean_metrics(reports)
        # A client without examples has nothing to say, whatever rule counts clients alike.
        updates = [update for update in updates if update.examples]
        after = self.rule.step(state, updates)
        if self.noise and self.clip is not None:
            vector, sigma = after.weights.vector(), server_noise(self.noise, self.clip, len(updates))
            # Not the runtime's chance: whoever knows its seed could take the noise off.
            noise = [secrets.SystemRandom().gauss(0.0, sigma) for _ in vector]
            after = msgspec.structs.replace(after, weights=after.weights.with_vector(vector + noise))
        return Merged(after, metrics.get(self.metric), metrics)

    def outcome(self, state: ServerState) -> Mapping[str, Any]:
        """Return what is found, for the result."""
        return {"weights": state.weights}


class ChoiceState(msgspec.Struct, frozen=True):
    """What was chosen.

    Attributes:
        best: the number of the candidate; None before the round.
        scores: what the rule has made of each, as a text such as ``7/10``; None for one that no client could run.
        personal: for each client the candidate that it takes for itself.
    """

    best: int | None = None
    scores: tuple[str | None, ...] = ()
    personal: dict[str, int] = {}


class FederatedChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of several candidates, each run by all clients on their own examples, and a rule that chooses.

    It takes one round. There is nothing to average in a text; of scores the sums are exact.

    Attributes:
        candidates: plain values, such as configurations of a program's variables.
        rule: chooses.
        personal: whether a client for which another one is surely better takes that for itself.
        most_examples: how many examples a client may say that it has; it is refused if it says more. None for any.
        noisy: whether the scorers add noise, so that a sum can be anything.

    Raises:
        BadFederation, BadOption: one of them makes no sense.
    """

    #: It takes one round, and the higher its score, the better a candidate is.
    rounds: ClassVar[int] = 1
    higher: ClassVar[bool] = True

    candidates: list[Any]
    rule: ChoiceRule = PooledMean()
    personal: bool = False
    most_examples: int | None = None
    noisy: bool = False

    def __post_init__(self) -> None:
        if not is_a(self.candidates, list) or not self.candidates:
            raise BadFederation("FederatedChoice: candidates", self.candidates, "give a list of one or more")
        try:
            encoded("FederatedChoice", "candidates", self.candidates)
        except NotEncodable as error:
            raise BadFederation("FederatedChoice: candidates", self.candidates, f"give plain values: {error}") from None
        if not is_a(self.rule, ChoiceRule):
            raise BadFederation("FederatedChoice: rule", self.rule, "give a rule for choices, such as PooledMean()")
        if self.most_examples is not None:
            whole("FederatedChoice: most_examples", self.most_examples)

    def begin(self) -> ChoiceState:
        """Return the state before the round."""
        return ChoiceState()

    def read(self, plain: Any) -> ChoiceState:
        """Return a state that was kept."""
        return msgspec.convert(plain, ChoiceState)

    def task(self, state: ChoiceState) -> RoundTask:
        """Return what the clients are asked."""
        return ScoreCandidates(self.candidates)

    def check(self, report: ClientReport, state: ChoiceState) -> ClientReport:
        """Return a report as it counts.

        Raises:
            BadUpdate: it cannot be used.
        """
        if len(report.scores) != len(self.candidates):
            raise BadUpdate(f"it has scores of {len(report.scores)} candidates, and {len(self.candidates)} were asked")
        _check_counts(report)
        for score in report.scores:
            score.check(self.most_examples, noisy=self.noisy)
        return report

    def merge(self, state: ChoiceState, reports: Sequence[ClientReport]) -> Merged:
        """Return what comes of the round.

        Raises:
            CannotMerge: nothing does.
        """
        found = self.rule.choose({report.client: report.scores for report in reports})
        score = found.scores[found.best]
        assert score is not None
        personal = {report.client: personal_choice(report.scores, found.best) for report in reports if self.personal}
        scores = tuple(None if one is None else str(one) for one in found.scores)
        return Merged(ChoiceState(found.best, scores, personal), float(score))

    def outcome(self, state: ChoiceState) -> Mapping[str, Any]:
        """Return what is found, for the result."""
        if state.best is None:
            return {}
        chosen = self.candidates[state.best]
        own = {client: self.candidates[number] for client, number in state.personal.items()}
        return {"chosen": chosen, "best_candidate": state.best, "scores": state.scores, "personal": own}


FederationPlan: TypeAlias = FederatedAveraging | FederatedChoice


def _check_counts(report: ClientReport) -> None:
    for count, what in ((report.examples, "examples"), (report.runs, "runs")):
        if not is_whole(count, 0) or count > MOST:
            raise BadUpdate(f"it tells of {count!r} {what}")


def _check_metrics(metrics: Mapping[str, float]) -> None:
    if len(metrics) > MOST_METRICS:
        raise BadUpdate(f"it has {len(metrics)} metrics, where {MOST_METRICS} may be")
    for name, value in metrics.items():
        if (number := finite(value)) is None or abs(number) > LARGEST:
            raise BadUpdate(f"its {name[:50]} is no finite number")


def _mean_metrics(reports: Sequence[ClientReport]) -> dict[str, float]:
    """Return the mean of each metric, weighted by examples, over the clients that tell it."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for report in reports for name in report.metrics):
        told = [(report.metrics[name], report.examples) for report in reports if name in report.metrics]
        if total := sum(examples for _, examples in told):
            found[name] = math.fsum(value * (examples / total) for value, examples in told)
    return found
