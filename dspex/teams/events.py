"""Events of served teams."""

from __future__ import annotations

from supervision.events import Event


class TeamAnswered(Event, frozen=True, kw_only=True):
    """A served team has answered.

    Attributes:
        team: its name.
        coverage: which share of the weight that was asked has answered.
        confidence: the share of the winner.
        degraded: why it is an answer of fewer members than it should be; None if it is not.
        asked: how many members were asked.
        seconds: how long it took.
    """

    team: str
    coverage: float
    confidence: float
    degraded: str | None
    asked: int
    seconds: float


class TeamDegraded(Event, frozen=True, kw_only=True):
    """A served team has given a lesser answer, or none.

    Attributes:
        team: its name.
        rung: of the ladder, that has answered; ``refuse`` if none has.
        why: the reason, such as ``lost 2 of 5``.
    """

    team: str
    rung: str
    why: str


class EscalationAlarm(Event, frozen=True, kw_only=True):
    """A member of a served cascade is not sure enough more often than when it was calibrated, or less often.

    It is told once, until that is over.

    Attributes:
        team: its name.
        member: who is not sure enough.
        calls: of how many of its last answers that is known.
        escalated: in which share of these the next member was asked.
        expected: the share of its calibration.
        why: the alarm in words.
    """

    team: str
    member: str
    calls: int
    escalated: float
    expected: float
    why: str


class TeamReshaped(Event, frozen=True, kw_only=True):
    """A served team has other members from now on.

    Attributes:
        team: its name.
        version: the number of the version that has them.
        before: the members that it had.
        after: those that it has.
        why: what whoever has changed it says.
    """

    team: str
    version: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    why: str


class MemberMissing(Event, frozen=True, kw_only=True):
    """A member of a served team has no answer in a call.

    Attributes:
        team: its name.
        member: the name of the member.
        outcome: ``failed``, ``lost`` or ``late``.
        why: the error, if there is one.
    """

    team: str
    member: str
    outcome: str
    why: str | None
