"""What the platform adds to the event stream of a runtime."""

from __future__ import annotations

from supervision.events import ActorEvent, Event


class Serving(ActorEvent, frozen=True, kw_only=True):
    """An actor serves at a URL from now on."""

    url: str


class HttpHandled(Event, frozen=True, kw_only=True):
    """An HTTP request was answered, after ``seconds``. ``route`` is the pattern that matched, not the path."""

    method: str
    route: str
    status: int
    seconds: float
