"""Heartbeats: a receiver of deliveries that works at one for long says so, so that it is not delivered again."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from agents.signals.messages import Delivery
from supervision import Ref


@contextmanager
def at_work(receiver: Ref, delivery: Delivery) -> Generator[None]:
    """Say that a delivery is being worked at, three times in the time that it has, while a block is run.

    Args:
        receiver: who works at it: when it has ended, nothing is said any more.
        delivery: what it works at.
    """
    runtime = receiver.runtime
    every = delivery.ack_within / 3

    def beat() -> None:
        if receiver.alive:
            delivery.working()

    timer = runtime.scheduler.timers.after(every, beat, every)
    try:
        yield
    finally:
        timer.cancel()
