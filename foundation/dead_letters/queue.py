"""The dead-letter queue: what cannot be delivered is kept on disk, and delivered when its receiver is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from foundation.dead_letters.letter import Letter, NotKept, letter_for
from foundation.events import LetterGivenUp
from foundation.naming import own_name
from foundation.protection.limits import positive
from foundation.readings import Reading
from foundation.store import Database, Table, Transaction
from supervision import Actor, CallError, Message, Refuse, Request, Runtime, UnhandledMessage, handle
from supervision.events import Event, Registered, Subscription
from supervision.reasons import ExitReason


class Keep(Request[int], frozen=True):
    """Keep a message. The answer is the number of the letter, once it is on the disk."""

    to: str
    message: Any
    reason: str


class Redeliver(Request[int], frozen=True):
    """Try again what waits, for one receiver or for all. The answer is how many letters those are."""

    to: str | None = None


class Purge(Request[int], frozen=True):
    """Forget letters that were given up. The answer is how many those were."""


class Tried(Message, frozen=True):
    """To itself: how an attempt went; without an error, the letter has arrived."""

    number: int
    error: BaseException | None


class Arrived(Message, frozen=True):
    """To itself: somebody has taken a name."""

    name: str


class Tick(Message, frozen=True):
    """To itself: try again what waits, and give up what is too old."""


class DeadLetters(Actor):
    """Keeps letters in a table of a store, and delivers them: when their receiver takes its name, and now and then.

    A request is delivered when it was answered, with whatever the receiver says; until then it is tried again, so that
    it may arrive twice: receivers must not mind. A message without an answer is delivered when its receiver lives. It
    is named ``dead_letters`` unless started with another name.

    Args:
        store: the name of the store.
        table: the table, which the store has to have.
        attempts: so often is a letter tried before it is given up.
        expiry: seconds after which it is given up.
        interval: seconds between two rounds of attempts.
        timeout: seconds to wait for the answer to a request.

    Raises:
        BadOption: a number is not positive.
    """

    infrastructure = True
    trap_exit = True

    def __init__(
        self,
        *,
        store: str = "store",
        table: str = "dead_letters",
        attempts: int = 5,
        expiry: float = 86_400.0,
        interval: float = 60.0,
        timeout: float = 5.0,
    ) -> None:
        options = {"attempts": attempts, "expiry": expiry, "interval": interval, "timeout": timeout}
        for name, value in options.items():
            positive("DeadLetters", name, value)
        self._store = store
        self._table = table
        self._attempts = attempts
        self._expiry = expiry
        self._interval = interval
        self._timeout = timeout
        #: Letters that are on their way at this moment.
        self._trying: set[int] = set()
        #: Whom letters wait for, and the table of which that is known.
        self._awaited: set[str] = set()
        self._looked_at: Table | None = None
        self._subscription: Subscription | None = None

    def init(self) -> None:
        """Look at what is there."""
        own_name(self, "dead_letters")
        self._database = Database.of(self.runtime, self._store)
        self._subscription = self.runtime.subscribe(self._see, Registered)
        self.send_interval(self._interval, Tick())
        self.ref.cast(Tick())

    def terminate(self, reason: ExitReason) -> None:
        """Look no more."""
        assert self._subscription is not None
        self._subscription.close()

    def _see(self, event: Event) -> None:
        assert isinstance(event, Registered)
        table = self._database.table(self._table)
        if table is not self._looked_at:  # names are taken often, and letters kept seldom
            self._looked_at = table
            self._awaited = {letter.to for _, letter in waiting(self._database, self._table)}
        if event.name in self._awaited:
            self.ref.cast(Arrived(event.name))

    # -- letters -----------------------------------------------------------------------------------------------------

    @handle
    async def keep(self, request: Keep) -> int:
        """Keep a message."""
        try:
            letter = letter_for(request.to, request.message, request.reason, self.runtime.clock.wall_time())
        except NotKept as error:
            raise Refuse(error) from error

        async def insert(tx: Transaction) -> int:
            number: int = tx.get(self._table, 0, 0) + 1
            tx.put(self._table, 0, number)  # under 0: the last number
            tx.put(self._table, number, letter)
            return number

        return await self._database.transact(insert)

    @handle
    def redeliver(self, request: Redeliver) -> int:
        """Try again."""
        found = [
            (number, letter)
            for number, letter in waiting(self._database, self._table)
            if request.to in (None, letter.to) and number not in self._trying
        ]
        for number, letter in found:
            self._try(number, letter)
        return len(found)

    @handle
    async def purge(self, request: Purge) -> int:
        """Forget what was given up."""
        gone = [number for number, letter in letters(self._database, self._table) if letter.state == "given up"]
        async with self._database.transaction() as tx:
            for number in gone:
                tx.delete(self._table, number)
        return len(gone)

    @handle
    def arrived(self, message: Arrived) -> None:
        """Deliver what waits for somebody who is there now."""
        self.redeliver(Redeliver(message.name))

    @handle
    async def tick(self, message: Tick) -> None:
        """Give up what is too old, and try the rest whose receivers are there."""
        now = self.runtime.clock.wall_time()
        for number, letter in list(waiting(self._database, self._table)):
            if now - letter.kept_at >= self._expiry:
                await self._give_up(number, letter, "it is too old")
            elif number not in self._trying and self.runtime.whereis(letter.to) is not None:
                self._try(number, letter)

    @handle
    async def tried(self, message: Tried) -> None:
        """Forget a letter that has arrived, and note why another one has not."""
        self._trying.discard(message.number)
        letter: Letter | None = read(self._database.table(self._table).get(message.number))
        if letter is None:
            return
        if message.error is None:
            async with self._database.transaction() as tx:
                tx.delete(self._table, message.number)
            return
        letter = msgspec.structs.replace(letter, attempts=letter.attempts + 1, reason=str(message.error))
        if letter.attempts >= self._attempts:
            await self._give_up(message.number, letter, letter.reason)
        else:
            await self._write(message.number, letter)

    def _try(self, number: int, letter: Letter) -> None:
        self._trying.add(number)
        try:
            message = letter.message
        except Exception as error:
            self.ref.cast(Tried(number, error))
            return
        address = self.runtime.name(letter.to)
        if isinstance(message, Request):
            address.call(message, self._timeout).add_done_callback(self._hearing(number))
        elif address.resolve() is None:
            self.ref.cast(Tried(number, NotThere("nobody holds this name")))
        else:
            address.cast(message)
            self.ref.cast(Tried(number, None))

    def _hearing(self, number: int) -> Callable[[asyncio.Future[Any]], None]:
        def hear(call: asyncio.Future[Any]) -> None:
            error = None if call.cancelled() else call.exception()
            arrived = error is None or not worth_keeping(error)
            self.ref.cast(Tried(number, None if arrived else error))

        return hear

    async def _give_up(self, number: int, letter: Letter, reason: str) -> None:
        await self._write(number, msgspec.structs.replace(letter, state="given up", reason=reason))
        self.runtime.events.emit(LetterGivenUp, number=number, to=letter.to, reason=reason, attempts=letter.attempts)

    async def _write(self, number: int, letter: Letter) -> None:
        async with self._database.transaction() as tx:
            tx.put(self._table, number, letter)


class NotThere(Exception):
    """Nobody holds a name."""


def worth_keeping(error: BaseException) -> bool:
    """Tell whether a request may be answered another time: whether its receiver was not there, or too busy."""
    return isinstance(error, CallError) and not isinstance(error, UnhandledMessage)


def read(row: Any) -> Letter | None:
    """Return a row of the table as a letter."""
    return None if row is None else msgspec.convert(row, Letter)


def letters(database: Database, table: str) -> Iterator[tuple[int, Letter]]:
    """Return all letters with their numbers, in the order in which they were kept."""
    for number, row in sorted(database.table(table).items()):
        if number:
            letter = read(row)
            assert letter is not None
            yield number, letter


def waiting(database: Database, table: str) -> Iterator[tuple[int, Letter]]:
    """Return the letters that are to be delivered."""
    return ((number, letter) for number, letter in letters(database, table) if letter.state == "waiting")


class DeadLetterQueue:
    """A dead-letter queue, as its users see it.

    Args:
        runtime: where it runs.
        actor: the name of the `DeadLetters`.
        store: the name of its store.
        table: its table.
    """

    def __init__(
        self, runtime: Runtime, *, actor: str = "dead_letters", store: str = "store", table: str = "dead_letters"
    ) -> None:
        self._runtime = runtime
        self._address = runtime.name(actor)
        self._database = Database.of(runtime, store)
        self._table = table
        runtime.shared[DeadLetterQueue, actor] = self

    async def send(
        self, to: str, message: Message | Request[Any], timeout: float | None = 5.0
    ) -> Literal["delivered", "kept"]:
        """Send a message to whoever holds a name, and keep it if it cannot be delivered now.

        When this returns, the message was delivered, or it is on the disk and will be.

        Args:
            to: the name of the receiver.
            message: a request, whose answer is not returned; or a message without an answer, for which it is enough
                that its receiver lives.
            timeout: seconds to wait for the answer to a request.

        Raises:
            NotKept: it could not be delivered, and cannot be kept.
            Exception: what the receiver refused the request with.
        """
        address = self._runtime.name(to)
        if not isinstance(message, Request):
            if address.resolve() is None:
                return await self._keep(to, message, "nobody holds this name")
            address.cast(message)
            return "delivered"
        try:
            await address.call(message, timeout)
        except CallError as error:
            if not worth_keeping(error):
                raise
            return await self._keep(to, message, str(error))
        return "delivered"

    async def _keep(self, to: str, message: Message | Request[Any], reason: str) -> Literal["kept"]:
        await self._address.call(Keep(to, message, reason), timeout=None)
        return "kept"

    def waiting(self) -> dict[int, Letter]:
        """Return the letters that are to be delivered, by number."""
        return dict(waiting(self._database, self._table))

    def given_up(self) -> dict[int, Letter]:
        """Return the letters that were given up, by number."""
        every = letters(self._database, self._table)
        return {number: letter for number, letter in every if letter.state == "given up"}

    async def redeliver(self, to: str | None = None) -> int:
        """Try again at once, for one receiver or for all. Return how many letters that are."""
        return await self._address.call(Redeliver(to))

    async def purge(self) -> int:
        """Forget the letters that were given up. Return how many those were."""
        return await self._address.call(Purge(), timeout=None)

    def readings(self) -> Iterator[Reading]:
        """Return the numbers, for the metrics."""
        text = "Dead letters that are kept."
        for state, kept in (("waiting", self.waiting()), ("given_up", self.given_up())):
            yield Reading("dead_letters_kept", text, "gauge", (("state", state),), len(kept))
