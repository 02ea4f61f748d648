"""Signals: what agents are sent, in the shape of CloudEvents 1.0, and the UUIDs that are their ids."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from agents.core.router import segments
from agents.errors import BadSignal
from supervision import Message
from supervision.messages import describe

if TYPE_CHECKING:
    from random import Random

    from supervision import Runtime


class Signal(Message, frozen=True, kw_only=True):
    """Something that happened, or that is asked for. Cast to an agent, it is routed by its type to actions.

    The attributes are those of CloudEvents 1.0. A signal is shared by all who get it: its data must not be changed.

    Attributes:
        type: what happened, in segments with dots between them, such as ``"order.placed"``.
        source: where, as a URI reference, such as ``"/order/17"``.
        id: distinguishes it from all other signals of its source.
        subject: about what in the source.
        time: when, with a time zone.
        data: more about it.
        datacontenttype: how ``data`` is to be read outside, such as ``"application/json"``.
        dataschema: a URI of the schema of ``data``.
        extensions: further attributes. ``causationid`` is the id of the signal that caused this one.
        specversion: always ``"1.0"``.

    Raises:
        BadSignal: an attribute that must not be empty is, one is no string that must be, a segment of the type is
            empty, or the time has no zone.

    >>> Signal(type="order.placed", source="/shop", id="1", data={"amount": 3}).data
    {'amount': 3}
    """

    type: str
    source: str
    id: str
    subject: str | None = None
    time: datetime | None = None
    data: Any = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: Mapping[str, Any] = {}
    specversion: Literal["1.0"] = "1.0"

    def __post_init__(self) -> None:
        for field, value in (("source", self.source), ("id", self.id)):
            if not isinstance(value, str) or not value:
                raise BadSignal(f"Signal.{field}", value, "give a string that is not empty")
        segments("Signal.type", self.type, BadSignal)
        # One test each for what is hardly ever given: a signal is made for each message.
        if self.subject is not None:
            check_text("Signal.subject", self.subject)
        if self.datacontenttype is not None:
            check_text("Signal.datacontenttype", self.datacontenttype)
        if self.dataschema is not None:
            check_text("Signal.dataschema", self.dataschema)
        time, extensions = self.time, self.extensions
        if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
            raise BadSignal("Signal.time", time, "give a datetime with a time zone, or None")
        if type(extensions) is not dict and not isinstance(extensions, Mapping):
            raise BadSignal("Signal.extensions", extensions, "give a dict of attributes by name")
        try:
            wrong = [name for name in extensions if not isinstance(name, str)] if extensions else None
        except Exception:
            raise BadSignal("Signal.extensions", extensions, "give a dict, which can be read") from None
        if wrong:
            why = f"its names are strings, and {describe(wrong[0])} is not one"
            raise BadSignal("Signal.extensions", extensions, why)
        if type(self.specversion) is not str or self.specversion != "1.0":
            raise BadSignal("Signal.specversion", self.specversion, "CloudEvents 1.0 is what is spoken here: '1.0'")


def check_text(where: str, value: object) -> None:
    """Check an attribute of a signal that is a string, or None.

    Raises:
        BadSignal: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise BadSignal(where, value, "give a string, or None")


def new_signal(
    runtime: Runtime, type: str, data: Any = None, *, source: str, subject: str | None = None, cause: str | None = None
) -> Signal:
    """Return a signal with an id and a time from a runtime.

    Args:
        runtime: whose clock and random numbers are used.
        type: what happened.
        data: more about it.
        source: where.
        subject: about what in the source.
        cause: the id of the signal that caused it.

    Raises:
        BadSignal: an argument is wrong.
    """
    now = runtime.clock.wall_time()
    return Signal(
        type=type,
        source=source,
        id=uuid7(runtime.random, now),
        subject=subject,
        time=datetime.fromtimestamp(now, UTC),
        data=data,
        extensions={} if cause is None else {"causationid": cause},
    )


def uuid7(chance: Random, seconds: float) -> str:
    """Return a UUID of version 7.

    Args:
        chance: where its 74 random bits come from, such as ``runtime.random``.
        seconds: since the epoch, such as ``runtime.clock.wall_time()``.

    >>> from random import Random
    >>> uuid7(Random(1), 1_700_000_000.5)
    '018bcfe5-69f4-7226-b63c-5ab791b7584a'
    """
    milliseconds = int(seconds * 1000) & (1 << 48) - 1
    bits = milliseconds << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
