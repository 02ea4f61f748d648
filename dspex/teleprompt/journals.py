"""Where optimisations are kept: a folder, in which one of them is at work, and the journals that are in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.durability import MemoryStorage, SqliteStorage, Storage, StorageConflict, StorageError
from dspex.teleprompt.errors import (
    BadOptimisationJournal,
    LogDirInUse,
    OptimisationStorageError,
    OtherOptimisation,
)
from dspex.workflow import errors as workflow
from dspex.workflow.journal import Journal

#: Under which key an optimisation is kept; those that were begun anew beside it have a number, too.
_KEY = "optimisation"
_ROOM = "make room on the disk or mend the file, and compile again with the same log_dir: what was kept is not lost"


def opened_storage(log_dir: Path | None) -> Storage:
    """Return the storage of a folder; one in memory for none."""
    return MemoryStorage() if log_dir is None else SqliteStorage(log_dir / "journal.sqlite", "normal")


@contextmanager
def storage_errors(log_dir: Path | None) -> Generator[None]:
    """Say of which file an error is, and what helps.

    Raises:
        OptimisationStorageError: instead of a ``StorageError``.
    """
    path = None if log_dir is None else log_dir / "journal.sqlite"
    try:
        yield
    except StorageConflict as error:
        remedy = "end that one, and compile again with the same log_dir to go on"
        raise OptimisationStorageError(path, f"another process writes it ({error})", remedy) from error
    except StorageError as error:
        raise OptimisationStorageError(path, str(error), _ROOM) from error


@contextmanager
def alone_in(log_dir: Path | None) -> Generator[None]:
    """Hold a folder: no other optimisation can be at work in it. With the process, the hold ends, however that does.

    Raises:
        LogDirInUse: another one is.
        OptimisationStorageError: the folder cannot be used.
    """
    if log_dir is None:
        yield
        return
    path = log_dir / "lock.sqlite"
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(path, isolation_level=None, timeout=0.0, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise OptimisationStorageError(path, str(error), _ROOM) from error
    try:
        _take(lock, path)
        yield
    finally:
        lock.close()


def _take(lock: sqlite3.Connection, path: Path) -> None:
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise LogDirInUse(path.parent) from None
        raise OptimisationStorageError(path, str(error), _ROOM) from error
    except sqlite3.DatabaseError as error:
        raise OptimisationStorageError(path, str(error), "delete this file: it keeps nothing") from error


async def opened_journal(
    storage: Storage, what: Mapping[str, Any], *, fresh: bool, path: Path | None
) -> tuple[Journal, bool]:
    """Open the journal of an optimisation, and return it, and whether the optimisation has begun before.

    Args:
        storage: where it is kept.
        what: tells the optimisation from others.
        fresh: whether it is begun anew, beside those that are there.
        path: of the file, for errors.

    Raises:
        OtherOptimisation: there are others, and not this one.
        BadOptimisationJournal: it cannot be read.
    """
    known = sorted(await storage.keys(_KEY), key=_number)
    if fresh or not known:
        journal = Journal(storage, _KEY if not known else f"{_KEY}/{_number(known[-1]) + 1}")
        await journal.open(what)
        return journal, False
    differing: Mapping[str, tuple[Any, Any]] = {}
    for key in known:  # of several others, the last one is compared with
        journal = Journal(storage, key)
        try:
            return journal, await journal.open(what)
        except workflow.OtherRun as error:
            differing = error.differing
        except workflow.BadJournal as error:
            raise BadOptimisationJournal(error.version, error.why, path) from error
    raise OtherOptimisation(differing)


def _number(key: str) -> int:
    return int(key.removeprefix(_KEY).removeprefix("/") or 1)
