"""Scores of answers while they are served: by metrics, on a sample, beside the calls and never in their way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import dspy

from dspex._compat import is_refused
from dspex.models.cause import LONGEST_MESSAGE, cause_words, without_secrets
from dspex.serving.rollout.bucketing import bucket
from dspex.serving.rollout.counts import Mark
from dspex.teleprompt.rollouts import MetricGuard
from foundation.rollouts import Slo
from supervision.messages import cut

#: So many answers are scored at a time; others are left out, of both versions alike.
MOST_AT_ONCE = 64


class ScoreMark(NamedTuple):
    """What a metric says of an answer: a ``mark``; and ``why`` that is no score, if it is none."""

    mark: Mark
    why: str = ""


class Scores:
    """Has metrics score answers.

    Args:
        metrics: functions of an example and a prediction, as DSPy has them, by name. The example has the inputs.
    """

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self.metrics = metrics
        self._guards = {name: MetricGuard(metric) for name, metric in metrics.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    async def mark(self, slo: Slo, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> ScoreMark:
        """Return whether an answer is good enough, or why it has no score.

        Raises:
            Exception: what the metric asks is away: that says nothing of anybody.
        """
        assert slo.metric is not None
        assert slo.over is not None
        example = dspy.Example(**inputs).with_inputs(*inputs)
        try:
            score, _, missing = await self._guards[slo.metric].score(example, dspy.Prediction(**outputs))
        except Exception as error:
            if is_refused(error):
                return ScoreMark(Mark.UNSCORED, f"metric: {cause_words(error)}")
            raise
        if missing is not None:
            return _unscored(missing)
        return ScoreMark(Mark.GOOD if score >= slo.over else Mark.BAD)

    def start(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do some scoring beside the calls, if there is room; return whether there was."""
        if len(self._tasks) >= MOST_AT_ONCE:
            return False
        task: asyncio.Task[None] = asyncio.ensure_future(work())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def cancel(self) -> None:
        """Score no more."""
        for task in self._tasks:
            task.cancel()


def sampled(program: str, rollout: str, slo: Slo, call: str) -> bool:
    """Return whether an objective looks at a call."""
    return bucket(program, f"{rollout}/{slo.label}", call) < slo.sample


def _unscored(why: str) -> ScoreMark:
    return ScoreMark(Mark.UNSCORED, cut(without_secrets(why), LONGEST_MESSAGE))
