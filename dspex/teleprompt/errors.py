"""Errors of optimisations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex.workflow.errors import differences


class OptimisationError(Exception):
    """An optimisation cannot go on, or not begin."""


class OptimisationOver(BaseException):
    """Ends the thread of an optimisation that is over. DSPy's optimisers take every ``Exception`` for a bad score."""


class OtherOptimisation(OptimisationError):
    """The folder holds another optimisation. ``differing`` has for each difference what is there and what was given."""

    def __init__(self, differing: Mapping[str, tuple[Any, Any]]) -> None:
        self.differing = dict(differing)
        vouch = "; metric_id and program_id vouch for code that means the same" if _CODE & set(differing) else ""
        super().__init__(
            f"log_dir holds another optimisation ({differences(differing)}); give it a folder of its own, or begin anew"
            f" beside it with fresh=True{vouch}"
        )


#: What of an optimisation can be vouched for.
_CODE = {"metric", "program"}


class BadOptimisationJournal(OptimisationError):
    """An entry of the journal cannot be read; ``version`` is its number, and ``path`` the file, if there is one."""

    def __init__(self, version: int, why: str, path: Path | None = None) -> None:
        self.version, self.why, self.path = version, why, path
        super().__init__(
            f"entry {version} of the journal{'' if path is None else f' {path}'} cannot be read: {why}; nothing was"
            " changed; put a copy of the file back, or begin anew beside it with fresh=True"
        )


class OptimisationStorageError(OptimisationError):
    """The journal cannot be read or written. What was kept in it stays; ``path`` is the file, ``why`` what is wrong."""

    def __init__(self, path: Path | None, why: str, remedy: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"the journal {path or 'in memory'} cannot be used: {why}; {remedy}")


class LogDirInUse(OptimisationStorageError):
    """Another process, or another optimisation of this one, is at work in the folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "another optimisation is at work in this folder", "wait for it, or give another log_dir")


class BadTrainset(OptimisationError, ValueError):
    """The training set cannot be used."""

    def __init__(self, size: int, needed: int) -> None:
        self.size = size
        self.needed = needed
        found = "1 example" if size == 1 else f"{size} examples"
        remedy = "give more, or a smaller bsize" if needed > 1 else "give some"
        super().__init__(f"trainset has {found}: at least {needed} are needed; {remedy}")


class ModelUnavailable(OptimisationError):
    """The language model has been unavailable for longer than the optimisation waits.

    Nothing is lost: compiled again with the same ``log_dir``, it goes on where it was.
    """

    #: Whether calls on their way are still answered.
    answers = False

    def __init__(self, seconds: float, why: BaseException) -> None:
        self.seconds = seconds
        super().__init__(
            f"the language model has been unavailable for {seconds:.0f} s ({type(why).__name__}: {why}); "
            "compile again with the same log_dir to go on"
        )


class ModelRefused(OptimisationError):
    """A language model is not to be had in this way: no model, a wrong key, no money. It is not waited for.

    Nothing is lost: compiled again with the same ``log_dir``, it goes on where it was.
    """

    def __init__(self, why: BaseException) -> None:
        self.why = why
        super().__init__(
            f"the language model is not to be had: {type(why).__name__}: {why}; mend that, and compile again with the"
            " same log_dir to go on"
        )


class CallsSpent(OptimisationError):
    """So many calls as there may be are made: ``most``. With a higher number, it goes on where it was."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"all {most} calls are made; compile again with the same log_dir, and a higher max_calls")


class EveryExampleFailed(OptimisationError):
    """Not one example could be scored: what would come out is no result. ``first`` is what went wrong first."""

    def __init__(self, examples: int, first: str) -> None:
        self.examples, self.first = examples, first
        super().__init__(f"none of the first {examples} examples could be scored; the first one: {first}")
