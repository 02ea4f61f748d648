"""How tickets come in: ``POST /desk/tickets``. A ticket that was answered with 202 is kept, whatever happens then."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agents import Signal, connect, new_signal
from agents.errors import AgentError
from agents.instances import instances_at
from agents.signals import publish
from examples.triage_desk.board import BoardAgent
from examples.triage_desk.tickets import TicketAgent
from foundation.http.body import BodyReader
from foundation.http.limits import Limits
from foundation.http.problems import Problem, on_problem
from supervision import Actor, CallError, Message, Runtime, handle

LONGEST_KEY = 200


class NewTicket(msgspec.Struct, frozen=True):
    """The body of a request."""

    customer: str
    text: str


def opened(runtime: Runtime, ticket: NewTicket, key: str | None) -> Signal:
    """Return the signal of a ticket. With a key of the customer's, it is one ticket however often it is sent."""
    signal = new_signal(runtime, "ticket.opened", msgspec.to_builtins(ticket), source="/intake")
    id = key or signal.id
    return msgspec.structs.replace(signal, id=id, subject=id)


def application(runtime: Runtime) -> Starlette:
    """Return the pages of the desk."""
    bus, board = runtime.name("bus"), runtime.name("board")
    tickets, bodies = instances_at(runtime, "tickets", TicketAgent), BodyReader(Limits(max_body=1 << 16))

    async def place(request: Request) -> Response:
        ticket = await bodies.json_of(request, NewTicket, "with customer and text")
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise Problem(HTTPStatus.BAD_REQUEST, "bad-key", f"give a key of 1 to {LONGEST_KEY} characters")
        signal = opened(runtime, ticket, key)
        try:
            await publish(bus, signal)
        except (CallError, AgentError) as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-kept", str(error), retry_after=1.0) from error
        return JSONResponse({"ticket": signal.subject}, HTTPStatus.ACCEPTED)

    async def show(request: Request) -> Response:
        found = await tickets.find(request.path_params["id"])
        if found is None:
            raise Problem(HTTPStatus.NOT_FOUND, "no-such-ticket", "nobody has sent this ticket")
        return JSONResponse(msgspec.to_builtins(found.state))

    async def summary(_: Request) -> Response:
        state = (await connect(board, BoardAgent)).state
        return JSONResponse({"open": sorted(state.waiting), "closed": state.closed})

    routes = [
        Route("/tickets", place, methods=["POST"]),
        Route("/tickets", summary),
        Route("/tickets/{id}", show),
    ]
    return Starlette(routes=routes, exception_handlers={Problem: on_problem})


class Begin(Message, frozen=True):
    """A message of the visitors to themselves."""


class Visitors(Actor):
    """Sends some tickets when the desk opens, so that there is something to see. They are the same ones each time.

    Args:
        number: how many.
    """

    def __init__(self, number: int | str) -> None:
        self._number = int(number)

    def init(self) -> None:
        """Begin when all is up."""
        self.send_after(0.5, Begin())

    @handle
    async def begin(self, message: Begin) -> None:
        """Send them."""
        texts = ("I cannot login", "a refund please", "the crash again", "where is my invoice", "hello")
        for n in range(self._number):
            ticket = NewTicket(f"visitor {n + 1}", texts[n % len(texts)])
            await publish(self.runtime.name("bus"), opened(self.runtime, ticket, f"visitor-{n + 1}"))
