"""Errors of evaluations."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.durability import StorageConflict, StorageError
from dspex._compat import is_refused
from dspex.jobs.spending import OverBudget
from dspex.workflow.errors import BadJournal, WorkflowError, differences

if TYPE_CHECKING:
    from dspex.evaluate.result import EvaluationResult


class EvaluationError(Exception):
    """An evaluation cannot go on, or not begin."""


class NoExamples(EvaluationError, ValueError):
    """There is nothing to evaluate on."""

    def __init__(self, what: str = "no examples: the devset is empty; give at least one") -> None:
        super().__init__(what)


class OtherEvaluation(EvaluationError):
    """The folder holds another evaluation. ``differing`` has for each difference what is there and what was given."""

    def __init__(self, differing: Mapping[str, tuple[Any, Any]]) -> None:
        self.differing = dict(differing)
        super().__init__(
            f"log_dir holds another evaluation ({differences(differing)}); "
            "begin anew beside it with fresh=True (--fresh), or give it a folder of its own"
        )


class EvaluationJournalError(EvaluationError):
    """The journal of an evaluation cannot be read, or not be written: in which ``path``, and ``why``."""

    def __init__(self, path: Path, why: str, remedy: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path}: {why}; {remedy}")


@contextmanager
def journal_errors(path: Path) -> Generator[None]:
    """Say of which file an error is, and what helps.

    Raises:
        EvaluationJournalError: instead of what says that a journal cannot be read, or not be written.
    """
    try:
        yield
    except BadJournal as error:
        why = f"entry {error.version} cannot be read: {error.why}"
        remedy = "restore the file from a copy, or begin anew beside it with fresh=True (--fresh)"
        raise EvaluationJournalError(path, why, remedy) from error
    except StorageConflict as error:
        remedy = "let that one end, and evaluate again to go on"
        raise EvaluationJournalError(path, "another process writes it", remedy) from error
    except StorageError as error:
        remedy = "make room on the disk, or mend the file, and evaluate again: what was kept is not lost"
        raise EvaluationJournalError(path, str(error).removeprefix(f"{path}: "), remedy) from error


class EvaluationFailed(EvaluationError):
    """No example has a score: this says more about the program, the metric or the model than a score of 0.

    Attributes:
        result: what became of the examples.
        why: of the first one.
    """

    def __init__(self, result: EvaluationResult, why: str) -> None:
        self.result, self.why = result, why
        super().__init__(f"none of {result.total} examples has a score; the first one: {why}")


class EvaluationRefused(EvaluationError, WorkflowError):
    """A language model is not to be had in this way: no model, a wrong key, no money. It is not waited for.

    Nothing is lost: evaluated again with the same ``log_dir``, it goes on where it was.
    """

    def __init__(self, why: BaseException) -> None:
        self.why = why
        super().__init__(
            f"the language model is not to be had: {type(why).__name__}: {why}; mend that, and evaluate again with the "
            "same log_dir to go on"
        )


class BudgetStop(WorkflowError):
    """The budget of an evaluation is spent: this ends the work on it. ``why`` says how."""

    def __init__(self, why: OverBudget) -> None:
        self.why = why
        super().__init__(str(why))


def refusal(error: Exception) -> Exception | None:
    """Return what ends an evaluation if an error says that no more can be asked; None if it does not."""
    if isinstance(error, OverBudget):
        return BudgetStop(error)
    return EvaluationRefused(error) if is_refused(error) else None


class EvaluationOverBudget(EvaluationError):
    """The next call of a language model may cost more than is left, or is one too many. Nothing is lost.

    Attributes:
        result: of the examples that are done; without a score.
        why: what was spent.
    """

    def __init__(self, result: EvaluationResult, why: OverBudget) -> None:
        self.result, self.why = result, why
        super().__init__(
            f"over budget with {result.counts['missing']} of {result.total} missing: {why}; "
            "evaluate again with the same log_dir and more to spend, to go on"
        )


class EvaluationSuspended(EvaluationError):
    """What the evaluation needs was unavailable for longer than its patience. Nothing is lost.

    Attributes:
        result: of the examples that are done; without a score.
    """

    def __init__(self, result: EvaluationResult, why: str) -> None:
        self.result = result
        super().__init__(
            f"suspended with {result.counts['missing']} of {result.total} missing: {why}; "
            "evaluate again with the same log_dir to go on"
        )


class NotComparable(EvaluationError, ValueError):
    """Two evaluations say nothing about each other; ``why`` names what stands against it."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"these evaluations cannot be compared: {why}")
