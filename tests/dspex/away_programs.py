"""Programs that run in another process, which imports them from here."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import dspy
from dspy.utils.syncify import syncify

#: In the process of the agent: how a thread has ended.
ENDED: list[str] = []
GONE = threading.Event()


class Fragile:
    """Can be read in its own process only."""

    def __reduce__(self) -> Any:
        """Remember where it comes from."""
        return at_home, (os.getpid(),)


def at_home(pid: int) -> Fragile:
    """Make one, in the process that it comes from."""
    if pid != os.getpid():
        raise ValueError("it is broken")
    return Fragile()


class Says(dspy.Module):  # type: ignore[misc]
    """Does as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.label = dspy.Predict("text -> label")
        self.calls = 0

    def forward(self, text: str) -> Any:
        """Do it, in a thread."""
        self.calls += 1
        match text:
            case "pid":
                return dspy.Prediction(pid=os.getpid(), calls=self.calls)
            case "lock":
                return threading.Lock()
            case "error with a lock":
                error = ValueError("it holds a lock")
                error.lock = threading.Lock()  # type: ignore[attr-defined]
                raise error
            case "die":
                os._exit(9)
            case "caused":
                raise ValueError("because") from KeyError("k")
            case "best of several":
                return dspy.BestOfN(self.label, N=2, reward_fn=lambda *_: 1.0, threshold=1.0)(text="text 1")
            case "side by side":
                pairs = [(self.label, {"text": "text 1"}), (self.label, {"text": "hello"})]
                return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]
            case "fragile":
                for _ in range(2):
                    dspy.settings.trace.append((self.label, {}, Fragile()))
                return dspy.Prediction()
            case "threads end" | "wait for the thread":
                return self._thread(text)
            case "async inside":
                return syncify(self.label)(text="text 1")
            case "loop of its own":
                return asyncio.run(self.label.acall(text="text 1"))
            case "replaced":
                with dspy.context(lm=dspy.settings.lm.copy(temperature=0.5)):
                    return self.label(text="text 1")
        return self.label(text=text)

    def _thread(self, text: str) -> Any:
        """Tell in one run how another has ended."""
        if text == "wait for the thread":
            GONE.wait()
            return dspy.Prediction(errors=ENDED)
        for _ in range(2):  # it does not take no for an answer at once
            try:
                self.label(text="text 1")
            except dspy.LMError as error:
                ENDED.append(str(error))
        GONE.set()
        return None

    async def aforward(self, text: str) -> Any:
        """Do it, in a task."""
        match text:
            case "pid":
                return dspy.Prediction(pid=os.getpid())
            case "block":
                return self.label(text=text)
            case "block and stream":
                return next(dspy.settings.lm.engine.stream(None))
            case "impatient":
                first = asyncio.ensure_future(self.label.acall(text="first"))
                await asyncio.wait([first], timeout=0.05)
                first.cancel()
            case "wait":
                await self.label.acall(text="text 1")
                await asyncio.Event().wait()
            case "once":
                folder = os.environ["AWAY_FOLDER"]
                with open(os.path.join(folder, "lives"), "a") as file:  # noqa: ASYNC230, PTH118, PTH123
                    file.write("x")
                    lives = file.tell()
                if lives == 1:
                    os._exit(9)
                return dspy.Prediction(lives=lives)
        return await self.label.acall(text=text)
