"""Backlogs: what waits for one receiver, and in which order it is tried."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec


class WaitingLetter(msgspec.Struct, frozen=True):
    """What has to be known of a letter that waits."""

    attempts: int
    kept_at: float


class Backlog:
    """What waits for one receiver.

    Attributes:
        letters: all that wait, by number.
        trying: those on their way at this moment, with how that ends.
        due: those to be tried in this round, first tried first.
    """

    def __init__(self) -> None:
        self.letters: dict[int, WaitingLetter] = {}
        self.trying: dict[int, asyncio.Future[Any]] = {}
        self.due: deque[int] = deque()

    def begin(self) -> int:
        """Begin a round, unless there is one; return how many letters are tried that were not to be tried already.

        What was tried least often comes first, so that a letter that is never answered holds up nobody.
        """
        planned = {*self.due, *self.trying}
        more = [number for number in self.letters if number not in planned]
        self.due.extend(sorted(more, key=lambda number: (self.letters[number].attempts, number)))
        return len(more)

    def pause(self) -> None:
        """End the round: the receiver is away, or has too much to do."""
        self.due.clear()

    def next(self) -> int | None:
        """Take the next letter of the round out of it; None if there is none."""
        while self.due:
            number = self.due.popleft()
            if number in self.letters and number not in self.trying:
                return number
        return None
