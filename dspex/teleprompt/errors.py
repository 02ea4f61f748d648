"""Errors of optimisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.workflow.errors import differences


class OptimisationError(Exception):
    """An optimisation cannot go on, or not begin."""


class OtherOptimisation(OptimisationError):
    """The folder holds another optimisation. ``differing`` has for each difference what is there and what was given."""

    def __init__(self, differing: Mapping[str, tuple[Any, Any]]) -> None:
        self.differing = dict(differing)
        named = differences(differing)
        super().__init__(f"log_dir holds another optimisation ({named}); give it a folder of its own")


class BadOptimisationJournal(OptimisationError):
    """An entry of the journal cannot be read; ``version`` is its number."""

    def __init__(self, version: int, why: str) -> None:
        self.version = version
        self.why = why
        super().__init__(f"entry {version} of the journal cannot be read: {why}; nothing was changed")


class BadTrainset(OptimisationError, ValueError):
    """The training set cannot be used."""

    def __init__(self, size: int, needed: int) -> None:
        self.size = size
        self.needed = needed
        super().__init__(f"trainset has {size} examples: at least {needed} are needed; give more, or a smaller bsize")


class ModelUnavailable(OptimisationError):
    """The language model has been unavailable for longer than the optimisation waits.

    Nothing is lost: compiled again with the same ``log_dir``, it goes on where it was.
    """

    def __init__(self, seconds: float, why: BaseException) -> None:
        self.seconds = seconds
        super().__init__(
            f"the language model has been unavailable for {seconds:.0f} s ({type(why).__name__}: {why}); "
            "compile again with the same log_dir to go on"
        )
