"""Deliveries of a bus that somebody else than the subscriber handles: a worker of a pool, an instance."""

from __future__ import annotations

from typing import Any

from agents.errors import BadParams, NoRoute
from agents.server.messages import Ask, Reply
from agents.signals.heartbeat import at_work
from agents.signals.messages import Delivery
from supervision import Address, Ref, call_when_ready

#: The type of an error that no other attempt can mend: the signal's data do not fit.
_BAD_PARAMS = f"{BadParams.__module__}.{BadParams.__qualname__}"


def answer(reply: Reply[Any], delivery: Delivery) -> None:
    """Acknowledge a delivery, or refuse it, as its turn went."""
    if reply.errors:
        error = reply.errors[-1].error
        delivery.nack(str(error), final=error.kind == _BAD_PARAMS)
    else:
        delivery.ack()


async def pass_on(by: Ref, to: Address, delivery: Delivery) -> None:
    """Have an agent take the turn of a delivery, and acknowledge it, or refuse it.

    Args:
        by: who waits for that.
        to: the agent's server.
        delivery: what is delivered.
    """
    delivery.taken()
    try:
        with at_work(by, delivery):
            reply = await call_when_ready(to, Ask(delivery.signal), None)
    except Exception as error:
        delivery.nack(str(error), final=isinstance(error, NoRoute))
    else:
        answer(reply, delivery)
