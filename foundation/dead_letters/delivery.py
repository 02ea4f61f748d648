"""Delivery of dead letters: the actor that keeps them, and the backlog of each receiver."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from foundation.dead_letters.letter import (
    Letter,
    NotSerializable,
    letter_for,
    letter_rows,
    letter_state,
    read_letter,
    storable_text,
)
from foundation.dead_letters.messages import (
    AwaitHandled,
    DeliverNext,
    DeliveryAttempted,
    KeepLetter,
    PurgeLetters,
    ReceiverArrived,
    RedeliverLetters,
    RetryRound,
    WriteOutcomes,
    has_room,
    mailbox_full,
    receiver_name,
    worth_keeping,
)
from foundation.events import LetterGivenUp, LettersNotWritten
from foundation.naming import own_name
from foundation.options import above_zero, is_a, text, whole
from foundation.store import Database, Transaction
from supervision import (
    Actor,
    CallError,
    MailboxFull,
    NoProcess,
    NotRunning,
    Ref,
    Refuse,
    ReplyTo,
    Request,
    handle,
)
from supervision.clock import ClockStepDetector
from supervision.errors import BadName, BadOption
from supervision.events import Event, Registered, Subscription
from supervision.reasons import ExitReason

#: How many letters are looked at before others get their turn.
_AT_ONCE = 64


class DeadLetters(Actor):
    """Keeps letters in a table of a store, and delivers them: when their receiver takes its name, and now and then.

    A receiver gets its letters at its own pace: the next one goes out when one was answered, at most ``window`` are on
    their way, and each has its own time-out, which begins when it goes out. A receiver that does not answer, or is
    gone, gets no more until the next round; those that were tried least often go first then.

    A request is delivered when it was answered, with whatever the receiver says; until then it is tried again, so that
    it may arrive twice: receivers must not mind. A message without an answer is delivered when it was handled: however
    long that takes, the next one waits for it. It is named ``dead_letters`` unless started with another name.

    If the store does not take what is to be written, as the disk is full, say, whoever wanted to have a message kept
    gets that error. What became of letters is written later, and told as a `LettersNotWritten` event.

    Args:
        store: the name of the store.
        table: the table, which the store has to have.
        attempts: so often is a letter tried before it is given up.
        expiry: seconds after which it is given up. A wall clock that is set while the runtime runs makes no letter
            older; over a restart, its age is told by the wall clock.
        interval: seconds between two rounds of attempts.
        timeout: seconds to wait for the answer to a request.
        window: how many letters may be on their way to one receiver at once. With more than one, they may be handled in
            another order than they were kept.

    Raises:
        BadOption: a number is not finite and positive, or not whole.
        NoTable: at its start, if the store has no such table.
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
        window: int = 1,
    ) -> None:
        self._store = text("DeadLetters: store", store)
        self._table = text("DeadLetters: table", table)
        self._attempts = whole("DeadLetters: attempts", attempts)
        self._expiry = above_zero("DeadLetters: expiry", expiry)
        self._interval = above_zero("DeadLetters: interval", interval)
        self._timeout = above_zero("DeadLetters: timeout", timeout)
        self._window = whole("DeadLetters: window", window)
        self._backlogs: dict[str, Backlog] = {}
        self._subscription: Subscription | None = None
        #: What is to be written: new letters; and what became of others, None if they have arrived.
        self._new: list[UnwrittenLetter] = []
        self._outcomes: dict[int, Letter | None] = {}
        self._writing = False
        self._looked = False
        #: The last number that is known of. The last incarnation's writes may come to the disk after this one's look.
        self._last = 0

    def init(self) -> None:
        """Look at what is there."""
        own_name(self, "dead_letters")
        kept = (AgeCorrection, self._store, self._table)
        self._ages: AgeCorrection = self.runtime.shared.setdefault(
            kept, AgeCorrection(ClockStepDetector(self.runtime.clock))
        )
        self._database = Database.of(self.runtime, self._store)
        self._look()
        self._subscription = self.runtime.subscribe(self._see, Registered)
        self.send_interval(self._interval, RetryRound())
        self.ref.cast(RetryRound())

    def terminate(self, reason: ExitReason) -> None:
        """Look no more."""
        assert self._subscription is not None
        self._subscription.close()

    def _see(self, event: Event) -> None:
        assert isinstance(event, Registered)
        if event.name in self._backlogs:
            self.ref.cast(ReceiverArrived(event.name))

    def _look(self) -> None:
        """Learn what waits, once the store is there.

        Raises:
            NoTable: the store has no such table.
        """
        if self._looked or not self._database.root.tables:
            return
        for number, row in letter_rows(self._database, self._table):
            letter = read_letter(row)
            if letter is None:
                self._tell_given_up(number, Letter("", "", b"", "it cannot be read", 0, 0.0, "given up"))
            elif letter.state == "waiting":
                self._note(number, msgspec.structs.replace(letter, kept_at=letter.kept_at + self._ages.moved))
            self._last = max(self._last, number)
        self._looked = True
        if self._ages.moved:
            self._write_soon()

    def _look_for_more(self) -> None:
        """Load letters that the previous incarnation committed late, after this one had looked."""
        last: int = self._database.table(self._table).get(0, 0) if self._looked else 0
        for number in range(self._last + 1, last + 1):
            letter = self._letter(number)
            if letter is not None and letter.state == "waiting":
                self._note(number, letter)
        self._last = max(self._last, last)

    def _note(self, number: int, letter: Letter) -> None:
        backlog = self._backlogs.setdefault(letter.to, Backlog())
        backlog.letters[number] = WaitingLetter(letter.attempts, letter.kept_at)

    def _forget(self, to: str, number: int) -> None:
        backlog = self._backlogs[to]
        backlog.letters.pop(number, None)
        if not backlog.letters:
            del self._backlogs[to]

    # -- what is asked for -------------------------------------------------------------------------------------------

    @handle
    def keep(self, request: KeepLetter) -> None:
        """Keep a message."""
        self._correct()
        try:
            to = receiver_name(request.to)
            letter = letter_for(to, request.message, storable_text(request.reason), self.runtime.clock.wall_time())
        except (NotSerializable, BadName) as error:
            raise Refuse(error) from error
        try:
            reply = self.defer_reply()
        except NotRunning:  # it was cast
            reply = None
        self._new.append(UnwrittenLetter(reply, letter, request.tried))
        self._write_soon()

    @handle
    def redeliver(self, request: RedeliverLetters) -> int:
        """Try again."""
        if request.to is not None and not is_a(request.to, str):
            raise Refuse(BadOption("redeliver: to", request.to, "give the name of a receiver, or None for all"))
        return sum(self._begin(to) for to in list(self._backlogs) if request.to in (None, to))

    @handle
    async def purge(self, request: PurgeLetters) -> int:
        """Delete letters that will not be retried."""

        async def delete(tx: Transaction) -> int:
            gone = [
                number for number, row in letter_rows(self._database, self._table) if letter_state(row) != "waiting"
            ]
            for number in gone:
                tx.delete(self._table, number)
            return len(gone)

        try:
            return await self._database.transact(delete)
        except Exception as error:
            raise Refuse(error) from error

    @handle
    def arrived(self, message: ReceiverArrived) -> None:
        """Deliver what waits for somebody who is there now."""
        if is_a(message.name, str) and message.name in self._backlogs:
            self._begin(message.name)

    @handle
    def tick(self, message: RetryRound) -> None:
        """Give up what is too old, and try the rest whose receivers are there."""
        self._correct()
        self._look()
        self._look_for_more()
        now = self.runtime.clock.wall_time()
        for to, backlog in list(self._backlogs.items()):
            for number, letter in list(backlog.letters.items()):
                if now - letter.kept_at >= self._expiry and number not in backlog.trying:
                    self._give_up(to, number, letter.attempts, "it is too old")
            if to in self._backlogs and self.runtime.whereis(to) is not None:
                self._begin(to)
        if self._outcomes:
            self._write_soon()

    # -- delivery ----------------------------------------------------------------------------------------------------

    def _begin(self, to: str) -> int:
        """Begin a round. The letters go out later, without the requester's deadline and context."""
        self.ref.cast(DeliverNext(to))
        return self._backlogs[to].begin()

    def _correct(self) -> None:
        """When the wall clock was set, set along with it when letters were kept: none is older than it was."""
        moved = self._ages.corrections.step()
        if not moved:
            return
        self._ages.moved += moved
        for backlog in self._backlogs.values():
            backlog.letters = {
                number: WaitingLetter(one.attempts, one.kept_at + moved) for number, one in backlog.letters.items()
            }
        for new in self._new:
            new.letter = msgspec.structs.replace(new.letter, kept_at=new.letter.kept_at + moved)
        self._write_soon()

    @handle
    def deliver(self, message: DeliverNext) -> None:
        """Let out as many letters as may be on their way."""
        to = message.to
        for _ in range(_AT_ONCE):
            backlog = self._backlogs.get(to) if is_a(to, str) else None
            if backlog is None or len(backlog.trying) >= self._window:
                return
            number = backlog.next()
            if number is None:
                return
            self._try(to, backlog, number)
        self.ref.cast(message)

    def _try(self, to: str, backlog: Backlog, number: int) -> None:
        letter = self._letter(number)
        if letter is None:
            self._forget(to, number)
            return
        try:
            message = letter.message
        except Exception as error:
            self._failed(to, number, error, counts=True)
            return
        attempt = self._sent(to, message)
        if isinstance(attempt, asyncio.Future):
            backlog.trying[number] = attempt
            attempt.add_done_callback(self._hearing(to, number))
        else:
            self._ended(to, number, attempt)

    def _sent(self, to: str, message: Any) -> asyncio.Future[Any] | CallError:
        """Send a message; return how that ends."""
        ref = self.runtime.whereis(to)
        if isinstance(message, Request):
            return self.runtime.name(to).call(message, self._timeout)
        if ref is None:
            return NoProcess(self.runtime.name(to), message, "nobody holds this name")
        if has_room(ref):
            ref.cast(message)
            return ref.call(AwaitHandled(), None)
        if ref.kind.mailbox.overflow == "wait":
            return asyncio.ensure_future(self._wait_for_room(ref, message))
        return mailbox_full(ref, message)

    async def _wait_for_room(self, ref: Ref, message: Any) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await ref.send(message)
        except TimeoutError:
            raise mailbox_full(ref, message) from None
        await ref.call(AwaitHandled(), None)

    def _hearing(self, to: str, number: int) -> Callable[[asyncio.Future[Any]], None]:
        def hear(attempt: asyncio.Future[Any]) -> None:
            if not attempt.cancelled():
                attempt.exception()  # it is not lost if this actor has ended meanwhile
            self.ref.cast(DeliveryAttempted(to, number, attempt))

        return hear

    @handle
    def tried(self, message: DeliveryAttempted) -> None:
        """Note whether a letter has arrived, and go on with the next."""
        to, number = message.to, message.number
        backlog = self._backlogs.get(to) if is_a(to, str) else None
        attempt = None if backlog is None or not is_a(number, int) else backlog.trying.get(number)
        if backlog is None or attempt is None or attempt is not message.attempt:
            return
        del backlog.trying[number]
        if attempt.cancelled():
            backlog.pause()
            return
        self._ended(to, number, attempt.exception())
        self.deliver(DeliverNext(to))

    def _ended(self, to: str, number: int, error: BaseException | None) -> None:
        """Note whether a letter has arrived; who did not take it gets no more in this round."""
        if error is None or not worth_keeping(error):
            self._arrived(to, number)
        else:
            self._backlogs[to].pause()
            self._failed(to, number, error, counts=not isinstance(error, MailboxFull))

    def _arrived(self, to: str, number: int) -> None:
        self._forget(to, number)
        self._outcomes[number] = None
        self._write_soon()

    def _failed(self, to: str, number: int, error: BaseException, *, counts: bool) -> None:
        letter = self._letter(number)
        if letter is None:
            self._forget(to, number)
            return
        known = self._backlogs[to].letters[number]
        attempts = max(letter.attempts, known.attempts) + counts
        reason = storable_text(error)
        if attempts >= self._attempts:
            self._give_up(to, number, attempts, reason)
            return
        changed = msgspec.structs.replace(letter, attempts=attempts, reason=reason, kept_at=known.kept_at)
        self._note(number, changed)
        self._outcomes[number] = changed
        self._write_soon()

    def _give_up(self, to: str, number: int, attempts: int, reason: str) -> None:
        self._forget(to, number)
        letter = self._letter(number)
        if letter is not None:
            given_up = msgspec.structs.replace(letter, attempts=attempts, reason=reason, state="given up")
            self._outcomes[number] = given_up
            self._write_soon()

    def _letter(self, number: int) -> Letter | None:
        """Return a letter, if nobody has taken it out of the table."""
        return read_letter(self._database.table(self._table).get(number))

    def _tell_given_up(self, number: int, letter: Letter) -> None:
        attempts, reason = letter.attempts, letter.reason
        self.runtime.events.emit(LetterGivenUp, number=number, to=letter.to, reason=reason, attempts=attempts)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self.ref.cast(WriteOutcomes())

    @handle
    async def write(self, message: WriteOutcomes) -> None:
        """Write all that has come together: one commit for many letters, and never in the way of their delivery."""
        self._writing = False
        asked, self._new = self._new, []
        outcomes, self._outcomes = self._outcomes, {}
        new = [one for one in asked if one.wanted]
        moved = self._ages.moved

        async def put(tx: Transaction) -> int:
            if moved:
                self._put_ages(tx)
            return self._put(tx, new, outcomes)

        try:
            last = await self._database.transact(put) if new or outcomes or moved else 0
        except Exception as error:
            self._outcomes = {**outcomes, **self._outcomes}
            self._not_written(asked, error)
        else:
            self._ages.moved -= moved
            self._written(new, last, outcomes)
            for one in asked:
                one.answer(last)  # of those who have given up; the others have their answer

    def _put_ages(self, tx: Transaction) -> None:
        """Write into a transaction when letters were kept, as the clock says now."""
        for backlog in self._backlogs.values():
            for number, known in backlog.letters.items():
                letter = read_letter(tx.get(self._table, number))
                if letter is not None:
                    tx.put(self._table, number, msgspec.structs.replace(letter, kept_at=known.kept_at))

    def _put(self, tx: Transaction, new: list[UnwrittenLetter], outcomes: dict[int, Letter | None]) -> int:
        """Write into a transaction; return the last number."""
        last: int = tx.get(self._table, 0, 0)  # under 0: the last number
        for number, one in enumerate(new, last + 1):
            tx.put(self._table, number, one.letter)
        if new:
            tx.put(self._table, 0, last + len(new))
        for number, outcome in outcomes.items():
            if outcome is None:
                tx.delete(self._table, number)
            elif tx.get(self._table, number) is not None:
                tx.put(self._table, number, outcome)
        return last + len(new)

    def _written(self, new: list[UnwrittenLetter], last: int, outcomes: dict[int, Letter | None]) -> None:
        self._look_for_more()
        for number, one in enumerate(new, last - len(new) + 1):
            to = one.letter.to
            self._note(number, one.letter)
            one.answer(number)
            there = self.runtime.whereis(to)
            if there is not None and there is not one.tried:  # it has come meanwhile
                self._begin(to)
        for number, outcome in outcomes.items():
            if outcome is not None and outcome.state == "given up":
                self._tell_given_up(number, outcome)

    def _not_written(self, asked: list[UnwrittenLetter], error: Exception) -> None:
        for one in asked:
            one.refuse(error)
        if self._outcomes:
            text = storable_text(error)
            self.runtime.events.emit(LettersNotWritten, letters=len(self._outcomes), error=text)


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


class WaitingLetter(msgspec.Struct, frozen=True):
    """What has to be known of a letter that waits."""

    attempts: int
    kept_at: float


class UnwrittenLetter:
    """A letter that is to be written, and whom that is to be told."""

    __slots__ = ("_reply", "letter", "tried")

    def __init__(self, reply: ReplyTo[int] | None, letter: Letter, tried: Ref | None) -> None:
        self._reply = reply
        self.letter = letter
        self.tried = tried

    @property
    def wanted(self) -> bool:
        """Whether whoever wanted it to be kept has not given up meanwhile."""
        return self._reply is None or self._reply.waiting

    def answer(self, number: int) -> None:
        """Say under which number it is kept, if that was not said."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.reply(number)

    def refuse(self, error: Exception) -> None:
        """Say that it is not."""
        if self._reply is not None:
            self._reply.fail(error)


class AgeCorrection(msgspec.Struct):
    """By how much the letters of a table seem older than they are, as the wall clock was set; outlives the actor."""

    corrections: ClockStepDetector
    moved: float = 0.0
