"""Seeded schedules: a seed decides the order in which actors get their turns.

The order of messages from one sender to one receiver is kept; everything else that can happen in production may happen
here: any runnable actor may be next, after any message, and the loop's own callbacks may run in between.
"""

from __future__ import annotations

from random import Random

from supervision._core.cell import Cell


class SeededQueue:
    """A run queue in an order that its seed decides: ``Runtime(run_queue=SeededQueue(7))``.

    One seed gives one order, as long as the program does the same. The event logs of two such runs are equal on a
    virtual clock.

    Args:
        seed: decides all choices.
        budget: how many messages an actor handles before another one may be next.
        pauses: how likely it is that, after a turn, the loop's other callbacks run first.
    """

    def __init__(self, seed: int, *, budget: int = 1, pauses: float = 0.1) -> None:
        self.seed = seed
        self.budget = budget
        self._pauses = pauses
        self._chance = Random(seed)
        self._cells: list[Cell] = []

    def append(self, cell: Cell, /) -> None:
        """Add a runnable actor."""
        self._cells.append(cell)

    def popleft(self) -> Cell:
        """Take out one of them, by chance."""
        cells = self._cells
        chosen = self._chance.randrange(len(cells))
        cells[chosen], cells[-1] = cells[-1], cells[chosen]
        return cells.pop()

    def pause(self) -> bool:
        """Whether the loop gets to run before the next turn."""
        return self._chance.random() < self._pauses

    def __len__(self) -> int:
        return len(self._cells)
