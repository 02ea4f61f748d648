"""Compensations: what was done is undone, the last first."""

from __future__ import annotations

from dspex.workflow.errors import CannotUndo, StepCancelled, StepFailed, UndoFailed
from dspex.workflow.state import RESULT, STEP, UNDO
from dspex.workflow.steps import RunContext, used_key


async def undo_steps(run: RunContext) -> None:
    """Undo the steps of a run that were done and have a compensation, the one done last first.

    Raises:
        CannotUndo, UndoFailed, WorkflowSuspended, StorageError: as for `Workflow.undo`.
    """
    done = {
        path: record.number
        for path, record in run.state.records(STEP)
        if record.state == "done" and (record.undo or path in run.undo)
    }
    unknown = [path for path in done if path not in run.undo]
    if unknown:
        raise CannotUndo(unknown)
    failures = []
    for path in sorted(done, key=lambda path: done[path], reverse=True):
        run.state.used.discard(used_key(UNDO, path))
        try:
            await run.do(UNDO, path, run.undo[path].undo, (), None)
        except StepFailed as error:
            failures.append(error)
    if failures:
        raise UndoFailed(failures)


async def give_up(run: RunContext, error: StepFailed | StepCancelled) -> None:
    """Undo what can be undone. If anything was, that is how the run has ended, whatever is done to its steps.

    Args:
        run: that is closed.
        error: that ends it.

    Raises:
        CannotUndo, UndoFailed, WorkflowSuspended, StorageError: as for `Workflow.undo`.
    """
    await undo_steps(run)
    if run.undo:
        known = [error.key, error.kind, error.message] if isinstance(error, StepFailed) else [error.key, error.why]
        await run.write(run.state.journal.add(RESULT, "", {"error": known}))
