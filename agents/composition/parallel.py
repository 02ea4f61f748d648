"""Parallels: side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.errors import BadPlan, Conflict
from agents.execution import Run, flowed, name_of
from agents.work import ActionLike, Composite, check_work


class Parallel(Composite):
    """Actions side by side, each with the same data. The first failure cancels the others, and what was done is undone.

    Its result has the fields of all results; two parts that return the same field are a failure, as none can be the
    last. Without a loop they are run one after the other.

    Args:
        branches: the parts.
        limit: how many are run at the same time; None for all.

    Raises:
        BadPlan: there are none, one is no work, or the limit is no whole number from 1.
    """

    __slots__ = ("branches", "limit")

    def __init__(self, *branches: ActionLike, limit: int | None = None) -> None:
        check_work("Parallel", *branches)
        check_limit("Parallel: limit", limit)
        self.branches = branches
        self.limit = limit

    @property
    def parts(self) -> tuple[ActionLike, ...]:
        """The branches."""
        return self.branches

    async def perform(self, run: Run, data: Any) -> Any:
        """Run them, and return what all of them return."""
        results = await run.together([(branch, data) for branch in self.branches], self.limit)
        return merged([name_of(branch) for branch in self.branches], results)


def check_limit(where: str, limit: int | None) -> None:
    """Check how many may run at the same time.

    Raises:
        BadPlan: the limit is no whole number from 1.
    """
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise BadPlan(where, limit, "give a whole number from 1, or None")


def merged(names: Sequence[str], results: Sequence[Any]) -> Any:
    """Return one result with the fields of all; None if there are none.

    Raises:
        Conflict: two of them have the same field.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, result in zip(names, results, strict=True):
        fields = flowed({}, result)
        twice = sorted(field for field in fields if field in found)
        if twice:
            raise Conflict(twice, [found[twice[0]][0], name])
        found.update((field, (name, value)) for field, value in fields.items())
    return {field: value for field, (_, value) in found.items()} or None
