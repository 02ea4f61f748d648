"""What a rollout's actor is given when it starts, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dspex.serving.calls import CallRecords, FinishedCall
from dspex.serving.rollout.scoring import ScoreMark
from dspex.serving.rollout.shadow import RunVersion
from dspex.serving.rollout.traffic import RolloutTraffic, RoutedCall, TrafficPlan
from dspex.serving.versions import Versions
from supervision import Message, ReplyTo

#: What feedback judges unless it says otherwise.
HELPFUL = "helpful"


class RolloutParts(NamedTuple):
    """What a rollout's actor is given by the program's.

    Attributes:
        program: the name of the program.
        versions: its versions.
        use: makes a version the one that serves, and tells of it.
        calls: the records of its calls.
        traffic: what assigns calls.
        policy: what a rollout is unless whoever starts it says otherwise.
        folder: where the journal is kept; None for in memory.
        turn: of the journal.
        run: runs a version on inputs, for the shadow.
        inputs: the names of the inputs that the program declares; None if it takes any.
        metrics: functions that score answers, by name.
        shadow_safe: whether the program may be asked twice; None if nobody says.
    """

    program: str
    versions: Versions
    use: Callable[[int], Awaitable[Any]]
    calls: CallRecords
    traffic: RolloutTraffic
    policy: Mapping[str, Any]
    folder: Path | None
    turn: asyncio.Lock
    run: RunVersion
    inputs: Collection[str] | None
    metrics: Mapping[str, Callable[..., Any]]
    shadow_safe: bool | None


class AskRollout(Message, frozen=True):
    """To the rollout's actor: answer a request of somebody else's."""

    request: Any
    token: ReplyTo[Any]


class ChangeVersion(Message, frozen=True):
    """To the rollout's actor: let the version that serves be changed, unless a rollout is open."""

    change: Callable[[], Awaitable[Any]]
    force: bool
    token: ReplyTo[Any]


class CallSeen(Message, frozen=True):
    """To itself: a call has ended."""

    routed: RoutedCall
    call: FinishedCall


class ShadowSpent(Message, frozen=True):
    """To itself: the shadow may not be asked any more, and all of its pairs were told before this."""

    plan: TrafficPlan


class PairSeen(Message, frozen=True):
    """To itself: the version in the shadow was asked a call, too; ``scores`` has, by objective, those of both."""

    plan: TrafficPlan
    canary: FinishedCall
    baseline: FinishedCall
    scores: Mapping[int, tuple[ScoreMark, ScoreMark]]


class ScoreSeen(Message, frozen=True):
    """To itself: the answer of a call has its score, or has none."""

    routed: RoutedCall
    index: int
    found: ScoreMark


class FeedbackSeen(Message, frozen=True):
    """To itself: somebody has said whether the answer of a call was good, as to what ``name`` says."""

    call: str
    good: bool
    name: str = HELPFUL


class Tick(Message, frozen=True):
    """To itself: time has passed."""
