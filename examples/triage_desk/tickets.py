"""One ticket: a durable agent that has it looked at, books an engineer, and tells the world, once."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from agents import (
    Action,
    AgentType,
    Attempts,
    AwaitReply,
    Branch,
    Chain,
    Context,
    Emit,
    Result,
    Schedule,
)
from examples.triage_desk.outside import Booking, CancelBooking


class Ticket(msgspec.Struct, frozen=True):
    """What the agent of a ticket knows."""

    status: Literal["new", "open", "closed"] = "new"
    customer: str = ""
    text: str = ""
    topic: str = ""
    engineer: str = ""
    late: bool = False


class Open(Action[Ticket]):
    """Take the ticket down, and ask the pool what it is about."""

    customer: str
    text: str

    def run(self, context: Context[Ticket]) -> Result[Ticket]:
        """Take it down. The question is a part of the commit: it is asked until there is an answer."""
        ticket = Ticket("open", self.customer, self.text)
        return Result(ticket, (_question(ticket),))


class Again(Action[None]):
    """Ask the pool again, if the ticket is still open."""

    def run(self, context: Context[Ticket]) -> Result[None]:
        """Ask it."""
        return Result(None, (_question(context.state),) if context.state.status == "open" else ())


class Answered(Action[None]):
    """Take the answer of the pool: what the ticket is about; or, if nobody could tell, ask again a little later."""

    status: str
    state: dict[str, Any] = {}
    errors: list[str] = []

    def run(self, context: Context[Ticket]) -> Result[None]:
        """Take it."""
        if self.status == "ok" and not self.errors:
            return Result(None, (Emit("ticket.found", {"topic": self.state["topic"]}),))
        return Result(None, (Schedule(1.0, "ticket.again", id="again"),))


class Booked(msgspec.Struct, frozen=True):
    """Who was booked."""

    topic: str
    engineer: str


class Book(Action[Booked]):
    """Book an engineer, with a service that knows tokens."""

    topic: str
    attempts = Attempts(retries=2, backoff=0.1)

    async def run(self, context: Context[Ticket]) -> Booked:
        """Book one. The token is the same in each try."""
        booking = Booking(context.token, context.agent_id, self.topic)
        return Booked(self.topic, await context.address("bookings").call(booking, timeout=10.0))

    async def compensate(self, context: Context[Ticket], done: Booked | None, error: Exception) -> None:
        """Cancel what was booked under that token, if anything was: after a ``kill -9`` nobody knows."""
        cancel = CancelBooking(context.done_token, context.agent_id)
        await context.address("bookings").call(cancel, timeout=10.0)


class Close(Action[Ticket]):
    """Close the ticket, and tell of it: the services outside, and all who listen to the bus."""

    topic: str
    engineer: str

    def run(self, context: Context[Ticket]) -> Result[Ticket]:
        """Close it."""
        ticket = msgspec.structs.replace(context.state, status="closed", topic=self.topic, engineer=self.engineer)
        told = {"customer": ticket.customer, "topic": self.topic, "engineer": self.engineer}
        id = context.agent_id
        return Result(
            ticket, (Emit("ticket.closed", told, id, to="webhook"), Emit("ticket.closed", told, id, to="bus"))
        )


class Remind(Action[Ticket]):
    """The board says that the ticket waits for too long: tell the services outside, once, and ask the pool again."""

    def run(self, context: Context[Ticket]) -> Result[Ticket]:
        """Tell them."""
        ticket = context.state
        if ticket.status != "open":
            return Result(ticket)
        late = Emit("ticket.late", {"customer": ticket.customer}, context.agent_id, to="webhook")
        effects = (_question(ticket),) if ticket.late else (late, _question(ticket))
        return Result(msgspec.structs.replace(ticket, late=True), effects)


def _question(ticket: Ticket) -> AwaitReply:
    return AwaitReply("workers", "triage.wanted", "triage.answered", {"text": ticket.text}, timeout=30.0)


def _is_open(context: Context[Ticket], _: Any) -> bool:
    return context.state.status == "open"  # two answers may come, as the question may be asked twice


class TicketAgent(AgentType[Ticket]):
    """The type of these agents."""

    name = "ticket"
    routes = {
        "ticket.opened": Open,
        "ticket.again": Again,
        "triage.answered": Answered,
        "ticket.found": Branch(_is_open, Chain(Book, Close)),
        "ticket.overdue": Remind,
    }
