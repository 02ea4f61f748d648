"""The requests of a store. `Database` and `Transaction` send them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.store.file import Content, RowChange
from foundation.store.snapshot import Row
from supervision import Message, Request


class CommitOutcome:
    """What became of a transaction, also if the store ended before it could answer.

    Attributes:
        taken: whether the store has begun to write it. Otherwise it was not done, whatever happened.
        number: of the transaction, if it was written.
        decided: set when it is known whether it was done.
    """

    __slots__ = ("decided", "number", "taken")

    def __init__(self) -> None:
        self.taken = False
        self.number = 0
        self.decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def decide(self, done: bool) -> None:
        """Say whether it was done."""
        self.decided.set_result(done)


class Commit(Request[int], frozen=True):
    """Do the writes of a transaction, all or none. The answer is its number.

    Attributes:
        reads: the version of each row that was read, by table and key; 0 for one that was not there.
        scans: the version of each table that was read as a whole.
        writes: new values by table and key, as `RowWrite`.
        registries: writes of registries, by the name of the registry.
        outcome: where it is noted what became of it.
    """

    reads: Mapping[tuple[str, Any], int]
    scans: Mapping[str, int]
    writes: Mapping[tuple[str, Any], Any]
    registries: Mapping[str, tuple[Any, ...]]
    outcome: CommitOutcome


class RowWrite(Message, frozen=True):
    """A value to be written, and as it is encoded; None for both if the row goes."""

    key: bytes
    body: bytes | None
    row: Row | None


def is_well_formed(request: Commit) -> bool:
    """Tell whether a request to commit is made of what it should be made of."""
    return (
        isinstance(request.outcome, CommitOutcome)
        and all(
            isinstance(each, Mapping) for each in (request.reads, request.scans, request.writes, request.registries)
        )
        and all(isinstance(written, RowWrite) for written in request.writes.values())
        and all(isinstance(name, str) and isinstance(writes, tuple) for name, writes in request.registries.items())
    )


class Flush(Request[None], frozen=True):
    """Answer when all that is on its way to the disk is there, and shown."""


class BackUp(Request[None], frozen=True):
    """Write a copy of the store's file."""

    path: Path


class OpenFile(Request[Content], frozen=True):
    """To the writer: open the file, and say what is in it."""


class Append(Request[bool], frozen=True):
    """To the writer: write transactions. The answer is whether maintenance is due."""

    transactions: tuple[tuple[RowChange, ...], ...]


class Appended(Message, frozen=True):
    """To the store: transactions were written, or not."""

    due: bool
    error: BaseException | None


class Maintain(Request[None], frozen=True):
    """To the writer: do what keeps the file short."""


class Maintained(Message, frozen=True):
    """To the store: that was done, or not."""

    error: BaseException | None


class MaintainAgain(Message, frozen=True):
    """To the store: try once more."""
