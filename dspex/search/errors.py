"""Errors of searches."""

from __future__ import annotations

from collections.abc import Iterable

from dspex.teleprompt.errors import OptimisationError
from supervision.messages import describe


class BadHypotheses(ValueError):
    """What was given for hypotheses cannot be raced: ``value``, and ``why``."""

    def __init__(self, value: object, why: str) -> None:
        self.value, self.why = value, why
        super().__init__(f"hypotheses = {describe(value)}: {why}")


class BadMember(ValueError):
    """A program has no member of a name: ``name``, and ``names``, which there are."""

    def __init__(self, name: object, names: Iterable[str]) -> None:
        self.name, self.names = name, tuple(names)
        super().__init__(f"member = {describe(name)}: the program has none; choose among {', '.join(self.names)}")


class EveryMemberFailed(OptimisationError):
    """No member of a population could be trained and scored in an interval. ``first`` is what went wrong first."""

    def __init__(self, interval: int, members: int, first: str) -> None:
        self.interval, self.members, self.first = interval, members, first
        super().__init__(f"all {members} members have failed in interval {interval}; the first one: {first}")
