"""Events of federations."""

from __future__ import annotations

from supervision.events import Event


class FederatedRoundClosed(Event, frozen=True, kw_only=True):
    """A round of a federation is closed.

    Attributes:
        federation: its name.
        round: which round.
        fence: the last one with which was asked.
        state: ``decided``, or ``void``: it has changed nothing.
        why: it is void.
        counted: how many reports were used, of ``asked``.
        metric: what the clients say of the weights, or the score of what was chosen; None if nothing.
    """

    federation: str
    round: int
    fence: int
    state: str
    why: str
    counted: int
    asked: int
    metric: float | None


class ClientMissing(Event, frozen=True, kw_only=True):
    """A round of a federation is closed without the report of a client that was asked.

    Attributes:
        federation: its name.
        client: the name of the client.
        round: which round.
        outcome: ``lost``, ``late``, or ``refused``: what it has reported cannot be used.
        why: the error, or what is wrong with the report.
    """

    federation: str
    client: str
    round: int
    outcome: str
    why: str
