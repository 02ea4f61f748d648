"""The calls of a served program: a record of each, the last of them kept, and told to whoever listens."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from dspex._compat import OVERLOADED, UNPARSED, UNREACHABLE, Metered, error_name, is_refused
from dspex.parsing.events import ParsingReporter
from dspex.telemetry.observation import Observation
from foundation.call_ids import CallIds, call_ids
from foundation.call_records import CallContent, CallRecord, Outcome
from foundation.options import named
from foundation.programs import PREFIX, Busy, OutOfTime, RunProgram, StreamProgram, Unavailable, as_json
from supervision import Actor, Ref, ReplyTo
from supervision.clock import Clock
from supervision.errors import BadOption
from supervision.logs import get_logger

_log: Any = get_logger("dspex")

#: What is kept of a call: figures only, or what it was given and has answered, too.
Keep: TypeAlias = Literal["figures", "content"]

DAY = 86_400.0


class FinishedCall(NamedTuple):
    """What a listener is told of a call: its record, and what it was about, as it is, to be looked at and not kept."""

    record: CallRecord
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] | None
    error: BaseException | None


Listener: TypeAlias = Callable[[FinishedCall], None]
Redact: TypeAlias = Callable[[CallRecord], CallRecord]


class Assignment(NamedTuple):
    """Which version of a program runs a call, and for which arm of a rollout."""

    program: Any
    version: int
    arm: str | None = None


class CallRequest(NamedTuple):
    """A call that has been taken.

    Attributes:
        id: its call id.
        key: who asks; empty if nobody says.
        reply: the right to answer it.
        deadline: the runtime's time until which its caller waits; None for ever.
        actor: that runs it.
    """

    id: str
    key: str
    reply: ReplyTo[Any]
    deadline: float | None
    actor: Ref


def key_digest(program: str, key: str) -> str:
    """Return what is kept of who asks: the same for each call to a program, and not the key.

    >>> key_digest("triage", "ada")
    '8daf25f6883dc00ed8768bc74aaf6f89'
    """
    return sha256(f"{program}\x1f{key}".encode()).hexdigest()[:32]


class CallInHand:
    """A call that runs: `CallRecords.take` makes its record when it ends.

    Attributes:
        observation: what it asks of language models.
        used: what it uses; set once that is measured.
        outputs: what it has answered; set when it has.
        parsing: is told of answers that cannot be read; set when it runs.
    """

    def __init__(
        self, request: CallRequest, assigned: Assignment, inputs: Mapping[str, Any], *, keep: bool = False
    ) -> None:
        self.request = request
        self.assigned = assigned
        self.inputs = inputs
        self.observation = Observation(request.id, assigned.version, assigned.arm, keep=keep)
        self.used: Metered | None = None
        self.outputs: Mapping[str, Any] | None = None
        self.parsing: ParsingReporter | None = None


class CallRecords:
    """Keeps the records of the last calls, by number and age.

    Args:
        program: whose calls they are.
        clock: tells the time.
        ids: makes ids for calls that come without one.
        last: how many records are kept.
        days: for how many days.
        keep: ``content`` to keep inputs and outputs, too.
        redact: is given each record with content, as plain data, and returns one of which the content is kept. If it
            raises, no content is kept.

    Raises:
        BadOption: a number makes no sense, or there is no such way to keep.
    """

    def __init__(
        self,
        program: str,
        clock: Clock,
        ids: CallIds,
        *,
        last: int = 10_000,
        days: float = 30.0,
        keep: Keep = "figures",
        redact: Redact | None = None,
    ) -> None:
        self.program = program
        self._clock = clock
        self._ids = ids
        self._records: OrderedDict[str, CallRecord] = OrderedDict()
        self._listeners: list[Listener] = []
        self.configure(last=last, days=days, keep=keep, redact=redact)

    def configure(
        self, *, last: int = 10_000, days: float = 30.0, keep: Keep = "figures", redact: Redact | None = None
    ) -> None:
        """Keep records in another way from now on, and tell nobody of calls until somebody asks to be told.

        Raises:
            BadOption: a number makes no sense, or there is no such way to keep; nothing has changed.
        """
        _check_options(last, days, keep, redact)
        self.last, self.days, self.keep = last, days, keep
        self._redact = redact
        self._listeners.clear()
        if keep == "figures":
            for id, record in self._records.items():
                self._records[id] = msgspec.structs.replace(record, content=None)
        self._forget()

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Have a function called once with each call that ends; return what ends that.

        It is called in the loop, right after the call, and must not block. What it raises is logged, and harms nobody.
        """
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def __len__(self) -> int:
        return len(self._records)

    def find(self, id: str) -> CallRecord | None:
        """Return the record of a call; None if there is none (any more)."""
        self._forget()
        return self._records.get(id)

    def latest(self, number: int) -> list[CallRecord]:
        """Return the records of so many calls, the last to end first."""
        self._forget()
        return list(islice(reversed(self._records.values()), number))

    def issue(self) -> str:
        """Return the id of a call that comes without one."""
        return self._ids.issue()

    def restore(self, record: CallRecord) -> None:
        """Take up the record of a call that has ended before this process began."""
        if record.id not in self._records:
            self._add(record if self.keep == "content" else msgspec.structs.replace(record, content=None))

    def forget(self, column: str, value: str) -> None:
        """Forget the call of an ``id``, or all of a ``key``."""
        for record in [each for each in self._records.values() if getattr(each, column) == value]:
            del self._records[record.id]

    def request(self, message: RunProgram | StreamProgram, reply: ReplyTo[Any], actor: Ref) -> CallRequest:
        """Return a message as a call that has been taken by an actor."""
        return CallRequest(message.call or self._ids.issue(), message.key, reply, reply.deadline, actor)

    @contextmanager
    def take(self, request: CallRequest, assigned: Assignment, inputs: Mapping[str, Any]) -> Generator[CallInHand]:
        """Record a call that runs in a ``with`` block, and tell the listeners when it ends."""
        call = CallInHand(request, assigned, inputs, keep=self.keep == "content")
        at, began = self._clock.wall_time(), self._clock.time()
        failed: BaseException | None = None
        try:
            yield call
        except BaseException as error:
            failed = error
            raise
        finally:
            self._end(call, at, self._clock.time() - began, failed)

    def _end(self, call: CallInHand, at: float, seconds: float, failed: BaseException | None) -> None:
        record = self._redacted(self._record(call, at, seconds, failed))
        self._add(record)
        told = FinishedCall(record, call.inputs, call.outputs, failed)
        for listener in list(self._listeners):
            try:
                listener(told)
            except Exception as error:
                _log.warning("call_listener_failed", listener=repr(listener), error=type(error).__name__)

    def _record(self, call: CallInHand, at: float, seconds: float, failed: BaseException | None) -> CallRecord:
        request, seen = call.request, call.observation
        error = seen.first_error or (None if failed is None else error_name(cause_of(failed)))
        return CallRecord(
            id=request.id,
            at=at,
            version=call.assigned.version,
            arm=call.assigned.arm,
            key=key_digest(self.program, request.key) if request.key else None,
            outcome=_cut_off(request, self._clock) if isinstance(failed, asyncio.CancelledError) else _outcome(failed),
            seconds=seconds,
            tokens={} if call.used is None else call.used.meter.get_total_tokens(),
            cost=0.0 if call.used is None else call.used.history.cost,
            retries=seen.failures,
            unparsed=0 if call.parsing is None else call.parsing.count,
            error=error,
            trace=seen.trace,
            content=self._content(call),
        )

    def _content(self, call: CallInHand) -> CallContent | None:
        if self.keep == "figures":
            return None
        try:
            conversations = _plain([*call.observation.conversations])
            return CallContent(_plain(call.inputs), _plain(call.outputs), conversations)
        except Exception as error:  # of a value that cannot be written
            _log.warning("call_not_kept", call=call.request.id, error=type(error).__name__)
            return None

    def _add(self, record: CallRecord) -> None:
        self._records.pop(record.id, None)
        self._records[record.id] = record
        self._forget()

    def _redacted(self, record: CallRecord) -> CallRecord:
        if record.content is None or self._redact is None:
            return record
        try:
            kept = self._redact(record)
        except Exception as error:
            _log.warning("call_not_redacted", call=record.id, error=type(error).__name__)
        else:
            if isinstance(kept, CallRecord):
                return msgspec.structs.replace(record, content=kept.content)
            _log.warning("call_not_redacted", call=record.id, error=f"it returned a {type(kept).__name__}")
        return msgspec.structs.replace(record, content=None)

    def _forget(self) -> None:
        """Forget what is too much, or too old."""
        oldest = self._clock.wall_time() - self.days * DAY
        while self._records and (len(self._records) > self.last or next(iter(self._records.values())).at < oldest):
            self._records.popitem(last=False)


def _plain(value: Any) -> Any:
    """Return something as JSON has it, and as it is now."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=as_json))


def call_records(actor: Actor, options: Mapping[str, Any]) -> CallRecords:
    """Return the place for the records of the calls of a program.

    That of an actor with a name belongs to the runtime, so that a restart loses no record. Listeners are those of the
    incarnation.

    Args:
        actor: runs the program.
        options: for `CallRecords`; ``redact`` may be ``package.module:name``.

    Raises:
        BadOption: there is no such option, or it makes no sense.
    """
    given = checked_options(options)
    runtime = actor.runtime
    info = runtime.info(actor.ref)
    name = None if info is None else info.name
    known: CallRecords | None = runtime.shared.get((CallRecords, name))
    if known is not None:
        known.configure(**given)
        return known
    made = CallRecords((name or actor.ref.path).removeprefix(PREFIX), runtime.clock, call_ids(runtime), **given)
    if name is not None:
        runtime.shared[CallRecords, name] = made
    return made


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for `CallRecords`, with what they name.

    Raises:
        BadOption: there is no such option, or it makes no sense.
    """
    given = dict(options)
    unknown = sorted(given.keys() - {"last", "days", "keep", "redact"})
    if unknown:
        raise BadOption("calls", unknown[0], "give last, days, keep, redact and folder, or some of them")
    if "redact" in given:
        given["redact"] = named("redact", given["redact"])
    _check_options(**given)
    return given


def _check_options(last: Any = 0, days: Any = 1.0, keep: Any = "figures", redact: Any = None) -> None:
    if isinstance(last, bool) or not isinstance(last, int) or last < 0:
        raise BadOption("last", last, "give how many calls are kept, from 0")
    if isinstance(days, bool) or not isinstance(days, (int, float)) or not 0 < days < 1e6:
        raise BadOption("days", days, "give for how many days calls are kept, above 0")
    if keep not in get_args(Keep):
        raise BadOption("keep", keep, f"choose one of {', '.join(get_args(Keep))}")
    if not (redact is None or callable(redact)):
        raise BadOption("redact", redact, "give a function, or its name as package.module:name")


def _cut_off(request: CallRequest, clock: Clock) -> Outcome:
    if request.actor.reason is not None:
        return "unavailable"
    if request.reply.waiting:
        return "failed"  # it has cancelled itself
    return "timeout" if request.deadline is not None and clock.time() >= request.deadline else "cancelled"


def _outcome(failed: BaseException | None) -> Outcome:
    if failed is None:
        return "answered"
    kinds: tuple[tuple[Any, Outcome], ...] = (
        ((Busy, *OVERLOADED), "busy"),
        ((Unavailable, *UNREACHABLE), "unavailable"),
        (UNPARSED, "unparsed"),
        (OutOfTime, "timeout"),
    )
    for kind, outcome in kinds:
        if isinstance(failed, kind):
            return outcome
    return "refused" if is_refused(failed) else "failed"


def cause_of(failed: BaseException) -> BaseException:
    """Return what has made a language model unavailable, instead of the platform's word for it."""
    return failed.__cause__ or failed if isinstance(failed, (Busy, Unavailable)) else failed
