"""Programs whose course a test decides."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import dspy
from dspy.utils.dummies import DummyLM

from supervision import current_actor

#: Something of the caller's own that is not DSPy's.
BINDING: contextvars.ContextVar[str] = contextvars.ContextVar("binding", default="nothing")


def scripted(*answers: str) -> Any:
    """A language model that gives these answers to the field ``answer``, one after the other."""
    return DummyLM([{"answer": answer} for answer in answers])


def ask() -> Any:
    """A plain predictor."""
    return dspy.Predict("question: str -> answer: str")


class Probe(dspy.Module):
    """Tells in what world it runs."""

    async def aforward(self) -> Any:
        """Tell."""
        settings = dspy.settings
        return dspy.Prediction(
            lm=settings.lm,
            adapter=settings.adapter,
            trace=settings.trace,
            errors=settings.max_errors,
            binding=BINDING.get(),
            actor=current_actor(),
        )


class Gate(dspy.Module):
    """Waits until the test lets it go on; notes who has come, and who was turned away."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[str] = []
        self.cancelled: list[str] = []
        self.open = asyncio.Event()
        self.arrivals: asyncio.Queue[str] = asyncio.Queue()

    async def aforward(self, name: str) -> Any:
        """Wait."""
        self.came.append(name)
        self.arrivals.put_nowait(name)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return dspy.Prediction(name=name)


class SlowThread(dspy.Module):
    """Waits in a thread until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)
        self.open = threading.Event()
        self.threads: list[str] = []

    def forward(self, name: str) -> Any:
        """Wait."""
        self.threads.append(threading.current_thread().name)
        self.arrived.release()
        self.open.wait(20)
        return dspy.Prediction(name=name, lm=dspy.settings.lm, binding=BINDING.get())


class Raising(dspy.Module):
    """Raises what it is told to."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def aforward(self) -> Any:
        """Raise."""
        raise self.error


class RaisingThread(dspy.Module):
    """Raises in a thread."""

    def forward(self) -> Any:
        """Raise."""
        raise KeyError("in a thread")


class Returning(dspy.Module):
    """Returns what it is told to."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    async def aforward(self) -> Any:
        """Return."""
        return self.value


#: Not a program.
FIVE = 5
#: A program that is there already.
READY = Returning("ready")
