"""Self-consistency: one program is asked several times, and what it says most often is the answer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from typing import Any

import dspy

from dspex.agents.agent import load
from dspex.teams.ballot import normal_form
from dspex.teams.errors import BadTeam
from dspex.teams.program import TeamProgram
from dspex.teams.team import Member, Team
from foundation.options import finite, whole


class SelfConsistency(TeamProgram):
    """Asks one program several times, until it is decided what it says most often.

    It is a `TeamProgram` whose members are the samples ``name 0``, ``name 1`` and so on: there are a ballot, and
    ``confidence`` is the share of the answer. Sample ``i`` asks each language model with ``rollout_id`` ``i``, so that
    DSPy's cache has the same samples again in the next run; if the models have a ``rollout_id`` of their own, they have
    that times ``samples`` more.

    Args:
        program: a ``dspy.Module``, or what makes one. It is copied.
        samples: how many at most. What is decided by fewer is not asked any further.
        temperature: of the samples; by default what the program and its models have. 0 is refused, as all samples were
            the same.
        field: the output that is compared; by default the last one.
        side_by_side: how many are asked at the same time (``acall``): with more it is faster, and costs more, as some
            are under way that turn out not to be needed.
        deadline: seconds after which samples are late.
        name: of the samples.
        normal: makes of an answer what is compared, and None of an abstention.

    Raises:
        BadProgram, BadTeam, BadOption: it makes no sense; the text says what, and what would.

    Source: Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022).
    """

    #: Its members are samples of one program.
    reshapable = False
    uses_rule = False

    def __init__(
        self,
        program: object,
        samples: int = 5,
        *,
        temperature: float | None = None,
        field: str | None = None,
        side_by_side: int = 1,
        deadline: float | None = None,
        name: str = "sample",
        normal: Callable[[Any], Hashable] = normal_form,
    ) -> None:
        count = whole("SelfConsistency: samples", samples)
        if temperature is not None and (finite(temperature) is None or temperature < 0):
            raise BadTeam("SelfConsistency: temperature", temperature, "give a number above 0, or 0 for one sample")
        super().__init__(Team(name, (Member(name, load(program)),), field=field))
        self.temperature = temperature
        self._only = name
        self.team = Team(
            name,
            tuple(Member(f"{name} {number}", None) for number in range(count)),
            field=field,
            deadline=deadline,
            side_by_side=side_by_side,
            normal=normal,
        )
        self._samples = {member.name: number for number, member in enumerate(self.team.members)}
        #: The predictors of samples, by their identity: whose copies they are.
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._check(None)

    def _check(self, default: Any) -> None:
        """Refuse a temperature of 0.

        Args:
            default: the language model of predictors that have none of their own.
        """
        for path, predictor in self.members[self._only].named_predictors():
            if len(self._samples) > 1 and self._temperature(predictor, predictor.lm or default) == 0:
                remedy = f"raise the temperature of {path}, or give temperature=0.7: at 0 all samples are the same"
                raise BadTeam("SelfConsistency: samples", len(self._samples), remedy)

    def _temperature(self, predictor: Any, lm: Any) -> Any:
        if self.temperature is not None:
            return self.temperature
        own = predictor.config.get("temperature")
        return getattr(lm, "kwargs", {}).get("temperature") if own is None else own

    def asked_as(self, member: str) -> Any:
        """Return a copy of the program, whose models give the sample of this name."""
        number, program = self._samples[member], self.members[self._only]
        made = program.deepcopy()
        for predictor, own in zip(made.predictors(), program.predictors(), strict=True):
            lm = own.lm or dspy.settings.lm
            if lm is not None:
                first = (lm.kwargs.get("rollout_id") or 0) * len(self._samples)
                predictor.lm = lm.copy(rollout_id=first + number, **self._set())
            predictor.config = {**own.config, **self._set()}
            self._copies[id(predictor)] = predictor, own
        return made

    def _set(self) -> dict[str, float]:
        return {} if self.temperature is None else {"temperature": self.temperature}

    def forward(self, **inputs: Any) -> Any:
        """Ask one sample after another, until it is decided.

        Raises:
            BadTeam: the temperature is 0.
            TooFewAnswers, NoAnswer: too few have answered.
        """
        call = self._call()
        with call._own_traces():
            return TeamProgram.forward(call, **inputs)

    async def aforward(self, **inputs: Any) -> Any:
        """Ask the samples, until it is decided or the deadline has come.

        Raises:
            BadTeam: the temperature is 0.
            TooFewAnswers, NoAnswer: too few have answered.
        """
        call = self._call()
        with call._own_traces():
            return await TeamProgram.aforward(call, **inputs)

    def _call(self) -> Any:
        """Return what keeps the samples of one call."""
        self._check(dspy.settings.lm)
        call = copy.copy(self)
        call._copies = {}
        return call

    @contextmanager
    def _own_traces(self) -> Generator[None]:
        """Give the caller the traces with the program's own predictors, and not those of the samples."""
        outer = dspy.settings.trace
        if outer is None:
            yield
            return
        with dspy.context(trace=[]):
            try:
                yield
            finally:
                for predictor, *rest in dspy.settings.trace:
                    outer.append((self._copies.get(id(predictor), (None, predictor))[1], *rest))
