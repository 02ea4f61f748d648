"""The messages by which a version of a program is tried on a part of its traffic, whatever decides about it.

`StartRollout` begins with a version that is there already; the program judges it by itself, by what `Rollout` says,
and promotes it or rolls it back. `GetRollout` says how it stands, `DecideRollout` is for people, and
`GetRolloutHistory` has each move that was made, and why.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import msgspec

from foundation.options import above_zero, finite, from_zero, whole
from supervision import Request
from supervision.errors import BadOption

#: What a service-level objective is about; see `Slo`.
SloKind: TypeAlias = Literal["errors", "latency", "score", "feedback", "first_try"]
#: Where a rollout stands; see `RolloutState`.
RolloutPhase: TypeAlias = Literal[
    "candidate", "shadow", "canary", "held", "promoted", "rolled_back", "inconclusive", "aborted", "superseded"
]
#: What a person may ask for.
Decision: TypeAlias = Literal["promoted", "rolled_back", "held", "canary", "aborted"]
#: Phases that end a rollout. ``promoted`` does so only when it is watched no longer.
FINAL: frozenset[RolloutPhase] = frozenset(("rolled_back", "inconclusive", "aborted", "superseded"))

#: The most steps, and objectives, that a rollout has.
MOST_STEPS, MOST_SLOS = 20, 10
#: So many units at most may have to be told apart at a time.
MOST_UNITS = 1_000_000


class BadRollout(ValueError):
    """A rollout cannot be as it was asked for. The message names what is wrong, and the remedy."""


class NoRollout(LookupError):
    """The program has had no rollout."""


class RolloutConflict(Exception):
    """This cannot be done as the rollout stands; ``state`` is where it stands, None if there is no rollout."""

    def __init__(self, why: str, state: str | None = None) -> None:
        self.state = state
        super().__init__(why)


class StaleRollout(Exception):
    """The rollout has moved since whoever asks has looked at it; ``etag`` is what it has now."""

    def __init__(self, seen: str, etag: str) -> None:
        self.etag = etag
        super().__init__(f"the rollout has moved on: it was {seen}, and is {etag}; look at it again")


def _between(what: str, value: Any, low: float, high: float) -> None:
    if finite(value) is None or not low < value < high:
        raise BadRollout(f"{what} = {value!r}: give a number above {low} and below {high}")


def _checked(check: Any, what: str, value: Any, *more: Any) -> None:
    try:
        check(what, value, *more)
    except BadOption as error:
        raise BadRollout(str(error)) from None


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service-level objective: what of a call, or of all calls of one key, is a bad event.

    Attributes:
        kind: ``errors`` (the program failed, or its model's answer could not be read; never a model that is away, nor
            what the caller did wrong), ``latency`` (longer than ``over``), ``score`` (a metric gives less than
            ``over``), ``feedback`` (somebody says that it was bad), ``first_try`` (the model's first answer could not
            be read).
        bound: the share of bad ones that is good enough, whatever the other version has.
        ratio: how many times as often as with the old version must be caught.
        over: seconds, for ``latency``; None for the 95th percentile of the hour before. For ``score`` the least that is
            good.
        metric: for ``score``: the name of one of the program's metrics. For ``feedback``: what is judged; ``helpful``
            if None.
        sample: for ``score``: which share of the calls is scored.
        window: for ``feedback``: seconds after a call in which it counts.
    """

    kind: SloKind
    bound: float
    ratio: float = 2.0
    over: float | None = None
    metric: str | None = None
    sample: float = 1.0
    window: float = 86_400.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(SloKind):
            raise BadRollout(f"slo kind = {self.kind!r}: choose one of {', '.join(get_args(SloKind))}")
        _between(f"{self.kind}: bound", self.bound, 0, 1)
        _between(f"{self.kind}: ratio", self.ratio, 1, 1_000)
        if self.over is not None and finite(self.over) is None:
            raise BadRollout(f"{self.kind}: over = {self.over!r}: give a number")
        if self.kind == "latency" and self.over is not None:
            _checked(above_zero, "latency: over", self.over)
        if self.kind == "score" and (self.over is None or self.metric is None):
            raise BadRollout("score: give metric, the name of one of the program's metrics, and over, the least score")
        if finite(self.sample) is None or not 0 < self.sample <= 1:
            raise BadRollout(f"{self.kind}: sample = {self.sample!r}: give a share above 0, up to 1")
        _checked(above_zero, f"{self.kind}: window", self.window)

    @property
    def label(self) -> str:
        """What tells it from others."""
        return self.kind if self.metric is None else f"{self.kind}:{self.metric}"


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a version is tried. A *unit* is a key that asks, however often; or a call that has none.

    Attributes:
        version: the number of the version.
        shadow: the share of calls that the new version is asked too, without being answered, before it answers any; 0
            for none.
        steps: the shares of the units that it answers, one after the other.
        slos: what it is judged by.
        alpha: how often a version that is as good as the old one may be rolled back.
        beta: how often one that is as bad as ``ratio`` says may be promoted.
        step_units: after so many units of the new version in a step comes the next.
        min_units: it is not promoted before it had so many.
        max_units: after so many it is decided, if need be by ``bound`` alone.
        max_seconds: after so long it is undecided, and the old one serves.
        key: the input that names who asks; None for what the request says, over HTTP the header ``X-Session-Key``.
        min_pairs: how many calls both versions must have been asked before the first step.
        max_pairs: after so many it is decided, if need be by ``bound`` alone.
        shadow_limit: so many calls of the new version run side by side; more are skipped.
        shadow_seconds: so long each of them may take.
        shadow_budget: dollars that the new version may spend in the shadow; None for any sum.
        shadow_calls: how often it is asked in the shadow, at most; None for any number.
        watch_seconds: so long it is watched after it was promoted, and rolled back if it breaks a ``bound``.
        warm_up: so many calls of each version do not count for ``latency``.
    """

    version: int
    shadow: float = 0.0
    steps: tuple[float, ...] = (0.05, 0.25, 0.5)
    slos: tuple[Slo, ...] = (Slo("errors", 0.02),)
    alpha: float = 0.05
    beta: float = 0.05
    step_units: int = 50
    min_units: int = 200
    max_units: int = 3_000
    max_seconds: float = 86_400.0
    key: str | None = None
    min_pairs: int = 50
    max_pairs: int = 500
    shadow_limit: int = 4
    shadow_seconds: float = 30.0
    watch_seconds: float = 3_600.0
    warm_up: int = 0
    shadow_budget: float | None = None
    shadow_calls: int | None = None

    def __post_init__(self) -> None:
        _checked(whole, "version", self.version, 0)
        if finite(self.shadow) is None or not 0 <= self.shadow <= 1:
            raise BadRollout(f"shadow = {self.shadow!r}: give a share of the calls, from 0 to 1")
        self._check_steps()
        labels = [slo.label for slo in self.slos]
        if not 0 < len(labels) <= MOST_SLOS or len({*labels}) < len(labels):
            raise BadRollout(f"slos: give from 1 to {MOST_SLOS} objectives, each once; there are {labels}")
        for name in ("alpha", "beta"):
            _between(name, getattr(self, name), 0, 0.5)
        for name in ("step_units", "min_units", "max_units", "min_pairs", "max_pairs", "shadow_limit"):
            _checked(whole, name, getattr(self, name))
        for name in ("max_seconds", "shadow_seconds"):
            _checked(above_zero, name, getattr(self, name))
        if self.shadow_budget is not None:
            _checked(above_zero, "shadow_budget", self.shadow_budget)
        if self.shadow_calls is not None:
            _checked(whole, "shadow_calls", self.shadow_calls)
        _checked(from_zero, "watch_seconds", self.watch_seconds)
        _checked(whole, "warm_up", self.warm_up, 0)
        self._check_units()

    def _check_steps(self) -> None:
        for share in self.steps:
            _between("steps", share, 0, 1)
        if not 0 < len(self.steps) <= MOST_STEPS or list(self.steps) != sorted({*self.steps}):
            raise BadRollout(
                f"steps = {list(self.steps)}: give from 1 to {MOST_STEPS} shares, each above the one before"
            )

    def _check_units(self) -> None:
        if self.max_units < self.min_units:
            raise BadRollout(f"max_units = {self.max_units}: give at least min_units, {self.min_units}")
        before = self.step_units * (len(self.steps) - 1)
        if self.max_units <= before:
            raise BadRollout(f"max_units = {self.max_units}: the steps before the last take {before}; give more")
        if self.max_pairs < self.min_pairs:
            raise BadRollout(f"max_pairs = {self.max_pairs}: give at least min_pairs, {self.min_pairs}")
        most = max(self.max_units / self.steps[-1], *(self.step_units / share for share in self.steps))
        if most > MOST_UNITS:
            remedy = "give a larger share in steps, or fewer max_units"
            raise BadRollout(
                f"steps = {list(self.steps)}: a step may take {most:,.0f} units, over {MOST_UNITS:,}; {remedy}"
            )


class ArmState(msgspec.Struct, frozen=True):
    """What an objective has seen of one version: ``bad`` of ``units``, a share with its 95 % interval (Wilson).

    ``unscored`` is how many units had an answer that was to be scored, and has no score, or had no answer.
    """

    bad: int
    units: int
    share: float | None
    low: float | None
    high: float | None
    unscored: int = 0


class SloState(msgspec.Struct, frozen=True):
    """How an objective stands.

    Attributes:
        slo: the objective, with what it was left to find out.
        verdict: ``open``, ``accepted``, ``rejected``, or ``void`` if the answers of people cannot be compared.
        llr: the logarithm of the likelihood ratio: above 0 it speaks against the new version.
        reject_at: from where on it is rejected.
        accept_at: until where it is accepted.
        canary: the new version.
        baseline: the old one.
        why: why the first answer without a score has none.
    """

    slo: Slo
    verdict: str
    llr: float
    reject_at: float
    accept_at: float
    canary: ArmState
    baseline: ArmState
    why: str = ""


class RolloutState(msgspec.Struct, frozen=True):
    """How a rollout stands.

    Attributes:
        state: its phase: ``shadow`` (the new version is asked too), ``canary`` (it answers a share), ``held`` (as it
            was, and waiting for a person, or for an outage to end), ``promoted`` (it answers all; watched for a while),
            and those that leave the old version: ``rolled_back``, ``inconclusive``, ``aborted``, ``superseded``.
        open: whether it can still move.
        id: its id.
        etag: changes with each move.
        program: the program.
        version: the number of the new version.
        baseline: that of the old one.
        step: in which of its steps it is, from 0.
        share: which share of the units the new version answers.
        shadow: which share of the calls it is asked too.
        why: why it is where it is.
        who: who has moved it there: ``rule``, or a person.
        at: when, in seconds since the epoch.
        started: when it was started.
        units: how many units each version had, in all steps.
        keyless: the share of calls that named no key, so that who asks may meet both versions.
        slos: its objectives.
        pairs: how many calls both versions were asked, in the shadow.
        skipped: how many calls the shadow left out.
        asked: how often the new version was asked in the shadow.
        spent: dollars that this has cost, as far as the prices are known.
        rollout: as it was asked for.
    """

    state: RolloutPhase
    open: bool
    id: str
    etag: str
    program: str
    version: int
    baseline: int
    step: int
    share: float
    shadow: float
    why: str
    who: str
    at: float
    started: float
    units: dict[str, int]
    keyless: float
    slos: tuple[SloState, ...]
    pairs: int
    skipped: int
    asked: int
    spent: float
    rollout: Rollout


class RolloutMove(msgspec.Struct, frozen=True):
    """A move of a rollout, as the journal has it.

    Attributes:
        rollout: its id.
        seq: the number of the move, from 1.
        source: from which phase.
        target: to which.
        step: in which of its steps it is from then on.
        why: the reason in words, with its numbers.
        cause: the reason in a word.
        counts: what each step had counted; see `dspex.serving.rollout`.
        llr: of each objective then.
        at: when, in seconds since the epoch.
        who: ``rule``, or a person.
        version: of the program that is tried.
    """

    rollout: str
    seq: int
    source: RolloutPhase
    target: RolloutPhase
    step: int
    why: str
    cause: str
    counts: Any
    llr: dict[str, float]
    at: float
    who: str
    version: int


class RolloutHistory(msgspec.Struct, frozen=True):
    """A rollout that was started: how, beside which version, and all of its moves."""

    rollout: Rollout
    baseline: int
    moves: list[RolloutMove]


class StartRollout(Request[RolloutState], frozen=True):
    """Try a version.

    Answered with `BadRollout` if it cannot be, `BadVersion` if there is no such version, `RolloutConflict` if another
    is open, and `StaleRollout` if it is not the one that was seen.

    Attributes:
        rollout: how; or a table of what differs from what the program's actor was told.
        replace: whether another one that is open ends for it.
        seen: the etag that must be there; empty for any.
        who: who asks.
    """

    raises = (BadRollout, RolloutConflict, StaleRollout)
    rollout: Any
    replace: bool = False
    seen: str = ""
    who: str = "person"


class DecideRollout(Request[RolloutState], frozen=True):
    """Move a rollout by hand.

    Attributes:
        to: where to.
        why: the reason, for the history.
        seen: the etag that must be there; empty for any.
        who: who decides.
    """

    raises = (NoRollout, RolloutConflict, StaleRollout)
    to: Decision
    why: str = ""
    seen: str = ""
    who: str = "person"


class GetRollout(Request[RolloutState], frozen=True):
    """How does the rollout stand that is open, or was the last?"""

    raises = (NoRollout,)


class GetRolloutHistory(Request[list[RolloutHistory]], frozen=True):
    """Which rollouts were there, the oldest first, and which moves has each made?"""
