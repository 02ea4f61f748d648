"""The link between two nodes: sessions, numbers, when it counts as broken. A machine without I/O; time is passed in.

NATS promises less than a connection of Erlang's: a message may be lost without a word, and one that lay in a buffer may
arrive long after its node was given up. So both nodes number what they send in a *session*. What has a wrong session is
late and dropped; a hole in the numbers breaks the link at both ends, and so does silence, in either direction. What is
delivered is in order and without holes, or whoever watches hears of a broken link.

A session of one direction is a number that only grows. `Hello` says three: the session in which I send, the one of
yours that I accept, and the last of yours that I gave up, so that you begin another one.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

#: Seconds between two beats, of silence after which a link is broken, and for which a message may be behind a beat.
BEAT, SILENCE, BEHIND = 0.25, 1.0, 0.5


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """What a node says to open a link.

    Attributes:
        session: in which it sends.
        accepted: the other one's session that it accepts; 0 for none.
        given_up: the last session of the other one that it will not accept any more.
    """

    session: int
    accepted: int
    given_up: int


class LinkReport(msgspec.Struct, frozen=True, array_like=True):
    """What a beat says of a link: the epoch of the peer, both sessions, and the number of the last message sent."""

    epoch: int
    session: int
    accepted: int
    sent: int


class Verdict(Enum):
    """What is to be done with a message that arrives."""

    DELIVER = auto()
    #: It belongs to a session that is over, or not begun.
    LATE = auto()
    DUPLICATE = auto()
    #: Others before it are lost: the link is broken.
    GAP = auto()


class Link:
    """One node's end of its link to another one.

    Attributes:
        session: the one in which this end sends.
        accepted: the peer's session that this end accepts; 0 for none.
        sent: the number of the last message sent in the session.
        received: the number of the last message that was delivered.
        up: whether both ends know each other's session.
    """

    __slots__ = ("_agreed", "_behind", "_given_up", "_heard", "accepted", "received", "sent", "session", "up")

    def __init__(self, now: float) -> None:
        self.session = 1
        self.accepted = self.sent = self.received = self._given_up = 0
        self.up = False
        self._heard = self._agreed = now
        #: Since when messages that were sent have not arrived, and how many had then.
        self._behind: tuple[float, int] | None = None

    def hello(self) -> Hello:
        """Return what opens the link."""
        return Hello(self.session, self.accepted, self._given_up)

    def report(self, epoch: int) -> LinkReport:
        """Return what the next beat says of it."""
        return LinkReport(epoch, self.session, self.accepted, self.sent)

    def broken(self) -> None:
        """The link is broken: begin another session, and give that of the peer up."""
        self._given_up = max(self._given_up, self.accepted)
        self.session += 1
        self.accepted = self.sent = self.received = 0
        self.up = False
        self._behind = None

    def on_hello(self, hello: Hello, now: float) -> tuple[bool, bool]:
        """Take what the peer says to open the link.

        Returns:
            Whether the link was up and is broken by it, and whether the peer has to hear `hello` in return.
        """
        broke = self.up and (hello.given_up >= self.session or hello.session > self.accepted)
        if broke:
            self.broken()
        elif hello.session > self.accepted:
            self._given_up = max(self._given_up, self.accepted)
        self.session = max(self.session, hello.given_up + 1)
        if hello.session <= self._given_up or hello.session < self.accepted:
            return broke, True
        new = hello.session != self.accepted
        self.accepted = hello.session
        self._heard = now
        confirmed = hello.accepted == self.session
        if confirmed:
            self._confirm(now)
        return broke, new or not confirmed

    def _confirm(self, now: float) -> None:
        if not self.up:
            self.up = True
            self._agreed = now

    def on_bye(self, session: int) -> bool:
        """The peer has given a session up; tell whether it is the one in which this end sends."""
        return self.up and session == self.session

    def number(self) -> int:
        """Return the number of the next message to be sent."""
        self.sent += 1
        return self.sent

    def arrived(self, session: int, number: int, now: float) -> Verdict:
        """Say what is to be done with a message. Who sends one in the session knows that of this end."""
        if session != self.accepted:
            return Verdict.LATE
        self._confirm(now)
        if number == self.received + 1:
            self.received = number
            return Verdict.DELIVER
        return Verdict.DUPLICATE if number <= self.received else Verdict.GAP

    def on_beat(self, report: LinkReport | None, now: float) -> None:
        """Take what a beat of the peer says of the link; None for nothing."""
        self._heard = now
        if report is None:
            return
        if report.accepted == self.session:
            self._agreed = now
            if report.session == self.accepted:
                self._confirm(now)
        if report.session != self.accepted or report.sent <= self.received:
            self._behind = None
        elif self._behind is None or self._behind[1] != self.received:  # others arrive all the time
            self._behind = now, self.received

    def paused(self, seconds: float) -> None:
        """This node stood still for so long: what the peer has said meanwhile is about to be heard."""
        self._heard += seconds
        self._agreed += seconds

    def why_broken(self, now: float) -> str | None:
        """Return why a link that is up counts as broken at this time; None if it does not."""
        if not self.up:
            return None
        if now - self._heard >= SILENCE:
            return f"nothing heard for {SILENCE:g} s"
        if now - self._agreed >= SILENCE:
            return f"not heard by it for {SILENCE:g} s"
        if self._behind is not None and now - self._behind[0] >= BEHIND and self._behind[1] == self.received:
            return "the last messages are lost"
        return None
