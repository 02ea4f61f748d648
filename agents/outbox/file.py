"""The file of a `SqliteStorage`, for whoever looks after a service: what its agents have decided and not done."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from agents.core.signal import uuid7
from agents.core.tokens import effect_token
from agents.durability.checkpoint import decoded
from agents.durability.storage import StoredRow
from agents.errors import AgentError, BadCheckpoint
from agents.server.effects import DEAD, OPEN, Effect, again, effect_row, read_effect
from agents.server.sagas import COMPENSATION, STEP, KeptStep

#: Decided and not done: it waits for its first try, or its last one has failed, or it was given up. Or an action that
#: can be undone was begun in a turn that was not committed: the next incarnation undoes it.
EffectState: TypeAlias = Literal["waiting", "failing", "dead", "begun"]

_TABLES = frozenset({"agents", "heads", "rows"})
#: So many agents are named to somebody who has named another one.
_SOME = 5
#: SQLite wants to write beside a file to read it: it cannot be opened, or is read-only.
_WANTS_TO_WRITE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_PARKED = "parked by a fork of the file: nobody knows whether it was done since"


class OutboxFileError(AgentError):
    """A file cannot be looked at, or changed, as was asked for. Nothing was changed."""


class BadOutboxFile(OutboxFileError):
    """This is no file of a `SqliteStorage`, or it cannot be read."""


class FileInUse(OutboxFileError):
    """Another process has the file open, and its agents would not see what is changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} is open in another process: stop that service first, or have it done there (AgentHandle.redrive)"
        )


class NoSuchEffect(OutboxFileError):
    """There is no such effect, or not in a state in which this can be done with it."""


class NoSuchAgent(NoSuchEffect):
    """A file has no such agent, and so no effect of it."""

    def __init__(self, path: Path, agent: str, keys: list[str]) -> None:
        some = ", ".join(keys[:_SOME]) + (f", and {len(keys) - _SOME} more" if len(keys) > _SOME else "")
        super().__init__(f"{path} has no agent {agent}; it has {some or 'none'}")


class KeptEffect(msgspec.Struct, frozen=True):
    """What an agent has decided and not done.

    Attributes:
        agent: its key: partition, type and id, with slashes.
        state: what has become of it.
        token: under which its receiver knows it.
        what: the kind of directive; or what is undone.
        to: where a signal goes: the name of an actor; empty for where the agent sends by default.
        type: of the signal.
        at: when it was decided, or redriven, in seconds since the epoch.
        attempts: how often it was tried in vain.
        error: of the last try, or why it was given up.
        source: of the signal that caused it.
        cause: the id of that signal.
        data: of the signal, or of the directive.
    """

    agent: str
    state: EffectState
    token: str
    what: str
    to: str | None
    type: str | None
    at: float
    attempts: int
    error: str | None
    source: str
    cause: str
    data: Any


class _Found(msgspec.Struct, frozen=True):
    key: str
    row: StoredRow
    shown: KeptEffect


class OutboxFile:
    """A file of a `SqliteStorage`. It can be looked at while its service runs, and changed while it does not.

    Args:
        path: of the file.

    Raises:
        BadOutboxFile: it is not there, or no file of a storage of agents.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            found = self.path.is_file()
        except OSError as error:
            raise BadOutboxFile(f"{self.path} cannot be read: {error}") from error
        if not found:
            raise BadOutboxFile(f"{self.path}: there is no such file")
        with self._reading() as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= _TABLES:
            raise BadOutboxFile(f"{self.path} is no file of a SqliteStorage: give the one that the agents are kept in")

    # -- looking -----------------------------------------------------------------------------------------------------

    def effects(self, agent: str | None = None) -> list[KeptEffect]:
        """Return what was decided and not done, by agent, in the order of its decision.

        Args:
            agent: of which agent: its key, or the end of it, such as ``order/17`` or ``17``; None for all.

        Raises:
            NoSuchAgent: the file has no such agent.
            BadOutboxFile: the file, or a record in it, cannot be read.
        """
        with self._reading() as database:
            self._check_agent(database, agent)
            return [found.shown for found in _found(database, agent)]

    def effect(self, token: str) -> KeptEffect:
        """Return one of them.

        Raises:
            NoSuchEffect: there is none with this token.
            BadOutboxFile: the file, or a record in it, cannot be read.
        """
        with self._reading() as database:
            return _one(_found(database, None), token).shown

    # -- changing ----------------------------------------------------------------------------------------------------

    def redrive(self, *tokens: str, agent: str | None = None) -> int:
        """Have effects that were given up tried again when the service starts, with the tokens that they have.

        Args:
            tokens: which; none for all.
            agent: of which agent only; see `effects`.

        Returns:
            How many.

        Raises:
            NoSuchEffect: one is not there, or was not given up. Nothing is changed.
            NoSuchAgent: the file has no such agent.
            FileInUse: another process has the file open.
            BadOutboxFile: the file, or a record in it, cannot be read.
        """
        with self._owning() as database:
            self._check_agent(database, agent)
            every = list(_found(database, agent))
            some = [_one(every, token) for token in dict.fromkeys(tokens)] if tokens else _dead(every)
            for found in some:
                if found.row.kind != DEAD:
                    raise NoSuchEffect(f"{found.shown.token} was not given up: it is {found.shown.state}")
            for found in some:
                self._redrive(database, found)
            _take_over(database, {found.key for found in some})
        return len(some)

    @staticmethod
    def _redrive(database: sqlite3.Connection, found: _Found) -> None:
        fresh = again(read_effect(found.row), now())
        _drop(database, found)
        _put(database, found.key, effect_row(OPEN, found.row.id, fresh, fresh.what))

    def forget(self, token: str) -> KeptEffect:
        """Forget an effect: nobody will do it.

        Returns:
            What is forgotten.

        Raises:
            NoSuchEffect: it is not there, or is an action that is to be undone.
            FileInUse: another process has the file open.
            BadOutboxFile: the file, or a record in it, cannot be read.
        """
        with self._owning() as database:
            found = _one(_found(database, None), token)
            if found.row.kind == STEP:
                raise NoSuchEffect(f"{token} is an action that was begun: the next start of the service undoes it")
            _drop(database, found)
            _take_over(database, {found.key})
        return found.shown

    def fork(self) -> int:
        """Make agents of their own of those in a copy of a file, such as a backup.

        Their effects have other tokens from now on. What was open is given up for now (`redrive` has it done): nobody
        knows whether it was done since the copy was made.

        Returns:
            How many agents.

        Raises:
            FileInUse: another process has the file open.
            BadOutboxFile: the file, or a record in it, cannot be read.
        """
        with self._owning() as database:
            for found in _found(database, None):
                if found.row.kind != DEAD:
                    _drop(database, found)
                    parked = _parked_step(database, found) if found.row.kind == STEP else read_effect(found.row)
                    dead = msgspec.structs.replace(parked, why=_PARKED)
                    _put(database, found.key, effect_row(DEAD, found.row.id, dead, dead.what))
            keys = [key for (key,) in database.execute("SELECT key FROM heads")]
            chance = random.Random()
            for key in keys:
                fresh = uuid7(chance, now())
                database.execute("UPDATE heads SET generation = ?, epoch = epoch + 1 WHERE key = ?", (fresh, key))
        return len(keys)

    # -- the file ----------------------------------------------------------------------------------------------------

    def _check_agent(self, database: sqlite3.Connection, agent: str | None) -> None:
        if agent is None:
            return
        query = "SELECT key FROM heads UNION SELECT key FROM agents UNION SELECT key FROM rows ORDER BY key"
        keys = [key for (key,) in database.execute(query)]
        if not any(_matches(key, agent) for key in keys):
            raise NoSuchAgent(self.path, agent, keys)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        try:
            with closing(self._readable()) as database:
                yield database
        except (sqlite3.Error, BadCheckpoint) as error:
            raise BadOutboxFile(f"{self.path} cannot be read: {error}") from error

    @contextmanager
    def _owning(self) -> Generator[sqlite3.Connection]:
        """Give the file, which nobody else has open, for one change: all of it, or nothing."""
        try:
            with closing(self._connect("rw")) as database:
                database.execute("PRAGMA locking_mode = EXCLUSIVE")
                database.execute("BEGIN EXCLUSIVE")
                yield database
                database.execute("COMMIT")
        except (sqlite3.Error, BadCheckpoint) as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY:
                raise FileInUse(self.path) from error
            raise BadOutboxFile(f"{self.path} cannot be changed: {error}") from error

    def _readable(self) -> sqlite3.Connection:
        """Open the file for reading, also where nothing may be written beside it."""
        database = self._connect("ro")
        try:
            database.execute("PRAGMA schema_version")
        except sqlite3.Error as error:
            database.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _WANTS_TO_WRITE:
                raise
            log = Path(f"{self.path}-wal")
            if log.exists() and log.stat().st_size > 0:
                raise BadOutboxFile(
                    f"{self.path} cannot be read: its last changes are in {log}, which SQLite reads only where it may "
                    f"write: copy both files to a folder of your own, and look there"
                ) from error
            return self._connect("ro&immutable=1")
        return database

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.0)


def now() -> float:
    """Return the time in seconds since the epoch."""
    return datetime.now(UTC).timestamp()


def _matches(key: str, agent: str | None) -> bool:
    return agent is None or key == agent or key.endswith("/" + agent.lstrip("/"))


def _found(database: sqlite3.Connection, agent: str | None) -> Iterator[_Found]:
    query = "SELECT key, kind, id, body, due FROM rows WHERE kind IN (?, ?, ?) ORDER BY key, id, kind"
    for key, *values in database.execute(query, (OPEN, DEAD, STEP)).fetchall():
        if _matches(key, agent):
            row = StoredRow(*values)
            shown = _shown_step(key, row) if row.kind == STEP else _shown(key, row, read_effect(row))
            if shown is not None:
                yield _Found(key, row, shown)


def _shown(key: str, row: StoredRow, effect: Effect) -> KeptEffect | None:
    """Return an effect as it is shown; None for a child that runs, which is kept as long as it does."""
    if row.due is None and row.kind == OPEN:
        return None
    signal = effect.signal
    return KeptEffect(
        key,
        "dead" if row.kind == DEAD else "failing" if effect.attempts else "waiting",
        effect.token,
        effect.what,
        effect.to,
        None if signal is None else signal.type,
        effect.at,
        effect.attempts,
        effect.why if effect.error is None else effect.error,
        effect.source,
        effect.cause,
        effect.data if signal is None else signal.data,
    )


def _shown_step(key: str, row: StoredRow) -> KeptEffect:
    step = decoded(row.id, row.body, KeptStep)
    token, source, cause = effect_token(key, row.kind, row.id), step.signal.source, step.signal.id
    return KeptEffect(key, "begun", token, step.path, None, None, 0.0, 0, None, source, cause, step.params)


def _parked_step(database: sqlite3.Connection, found: _Found) -> Effect:
    """Return an action that was begun as an effect; undone, it has the token that it had."""
    ((generation,),) = database.execute("SELECT generation FROM heads WHERE key = ?", (found.key,)).fetchall()
    step = msgspec.structs.replace(decoded(found.row.id, found.row.body, KeptStep), generation=generation)
    data = msgspec.to_builtins(step, builtin_types=(bytes,))
    shown = found.shown
    return Effect(shown.token, COMPENSATION, now(), shown.source, shown.cause, data=data)


def _one(every: Iterable[_Found], token: str) -> _Found:
    for found in every:
        if found.shown.token == token:
            return found
    raise NoSuchEffect(f"there is no effect {token}: it was done or forgotten, or is one of another file or agent")


def _dead(every: list[_Found]) -> list[_Found]:
    return [found for found in every if found.row.kind == DEAD]


def _drop(database: sqlite3.Connection, found: _Found) -> None:
    name = (found.key, found.row.kind, found.row.id)
    database.execute("DELETE FROM rows WHERE key = ? AND kind = ? AND id = ?", name)


def _put(database: sqlite3.Connection, key: str, row: StoredRow) -> None:
    values = (key, row.kind, row.id, row.due, row.body)
    database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", values)


def _take_over(database: sqlite3.Connection, keys: set[str]) -> None:
    """Have commits of owners before this change refused."""
    database.executemany("UPDATE heads SET epoch = epoch + 1 WHERE key = ?", [(key,) for key in keys])
