"""Errors of workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervision.messages import describe


class WorkflowError(Exception):
    """A workflow cannot go on, or not begin."""


class OtherRun(WorkflowError):
    """The log holds another run. ``differing`` has for each difference what is there and what was given."""

    def __init__(self, differing: Mapping[str, tuple[Any, Any]]) -> None:
        self.differing = dict(differing)
        super().__init__(f"the log holds another run ({differences(differing)}); give it a log of its own")


class BadJournal(WorkflowError):
    """An entry of the journal cannot be read; ``version`` is its number, and ``why`` what is wrong with it."""

    def __init__(self, version: int, why: str) -> None:
        self.version = version
        self.why = why
        super().__init__(f"entry {version} of the journal cannot be read: {why}; nothing was changed")


def differences(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """Return the differences between two runs as text."""
    return "; ".join(f"{key}: {was!r} there, {now!r} here" for key, (was, now) in sorted(differing.items()))


class BadStepKey(WorkflowError, ValueError):
    """This cannot be the name or the key of a step."""

    def __init__(self, what: str, value: object, remedy: str) -> None:
        self.value = value
        super().__init__(f"{what} = {describe(value)}: {remedy}")


class NotEncodable(WorkflowError, TypeError):
    """An argument, or what a step has returned, cannot be kept. ``key`` is the step's."""

    def __init__(self, key: str, what: str, why: str, remedy: str) -> None:
        self.key = key
        super().__init__(f"{key}: {what} cannot be kept: {why}; {remedy}")


class DuplicateStep(WorkflowError):
    """A key was used twice in one incarnation of a run."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key} is there already; tell steps of one name apart by key=..., by what they are about")


class StepChanged(WorkflowError):
    """A step has other arguments than those with which it was begun. Nothing was run.

    Attributes:
        key: of the step.
        was: the fingerprint of the arguments then.
        now: that of the arguments now.
    """

    def __init__(self, key: str, was: str, now: str) -> None:
        self.key, self.was, self.now = key, was, now
        super().__init__(
            f"{key} was begun with other arguments ({was} then, {now} now); begin a new log, or forget() the step"
        )


class StepFailed(WorkflowError):
    """A step has failed for good: the same is raised whenever the run is repeated.

    Attributes:
        key: of the step.
        kind: the name of the class of its error.
        message: of the error.
    """

    def __init__(self, key: str, kind: str, message: str) -> None:
        self.key, self.kind, self.message = key, kind, message
        super().__init__(f"{key} has failed: {kind}: {message}")


class StepCancelled(WorkflowError):
    """A step was cancelled for good; ``why`` says what was given for a reason."""

    def __init__(self, key: str, why: str) -> None:
        self.key, self.why = key, why
        super().__init__(f"{key} was cancelled: {why}")


class StepTrimmed(WorkflowError):
    """A step was done before a checkpoint, and its value is not kept any more."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key} was done before a checkpoint, and its value was trimmed; begin from flow.restored")


class WorkflowSuspended(WorkflowError):
    """What a step needs has been unavailable for longer than its policy waits. Run again, the run goes on there.

    Attributes:
        key: of the step.
        attempts: how often it was tried now.
        seconds: for how long.
    """

    def __init__(self, key: str, attempts: int, seconds: float, why: BaseException) -> None:
        self.key, self.attempts, self.seconds = key, attempts, seconds
        super().__init__(
            f"{key} has found what it needs unavailable for {seconds:.1f} s, {attempts} times "
            f"({type(why).__name__}: {why}); run again with the same log to go on"
        )


class JournalFull(WorkflowError):
    """The journal has grown to its limit. Nothing was run."""

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            f"the journal has {size:,} bytes, and may have {limit:,}; make checkpoints, or raise the limit"
        )


class CannotUndo(WorkflowError):
    """Steps have compensations that this incarnation does not know. Nothing was undone."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(
            f"not undone: {', '.join(keys)} had undo=..., and were not reached in this run; reach them first"
        )


class UndoFailed(WorkflowError):
    """Compensations have failed for good: ``failures`` says how. The others were done."""

    def __init__(self, failures: Sequence[StepFailed]) -> None:
        self.failures = tuple(failures)
        super().__init__("not all was undone: " + "; ".join(str(failure) for failure in failures))


class UnsupportedVersion(WorkflowError):
    """A run was begun by a version of the code that is not supported any more."""

    def __init__(self, key: str, recorded: int, oldest: int, latest: int) -> None:
        self.key, self.recorded = key, recorded
        super().__init__(f"{key}: the run has version {recorded}, and this code supports {oldest} to {latest}")


class NoUsableCheckpoint(WorkflowError):
    """No checkpoint that is kept can be read, and what came before them was trimmed."""


class StaleFence(WorkflowError):
    """Somebody else has the item by now, or has done it: what is reported of it does not count, but for its usage."""

    def __init__(self, item: str, fence: int, current: int) -> None:
        self.item, self.fence, self.current = item, fence, current
        super().__init__(f"{item} was claimed with fence {fence}, and is at {current}: it was given to somebody else")
