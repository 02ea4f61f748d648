"""Programs that run in another process, which imports them from here."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import os
import pathlib
import threading
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import dspy
import numpy as np
import pydantic
from dspy import lm15
from dspy.utils.syncify import syncify

#: In the process of the agent: how a thread has ended.
ENDED: list[str] = []
GONE = threading.Event()


class Fragile:
    """Is no data, and would say so if it was made elsewhere."""

    def __reduce__(self) -> Any:
        """Remember where it comes from."""
        return at_home, (os.getpid(),)

    def __repr__(self) -> str:
        return "<Fragile>"


def at_home(pid: int) -> Fragile:
    """Make one, in the process that it comes from."""
    if pid != os.getpid():
        raise ValueError("it is broken")
    return Fragile()


#: What `Compares` has found.
COMPARED: list[tuple[bool, bool, bool]] = []


class Compares(dspy.Module):  # type: ignore[misc]
    """Sees whether what it is given, and what that has, is its own part, and one model twice."""

    def __init__(self) -> None:
        super().__init__()
        self.label = dspy.Predict("text -> label")

    def forward(self, part: Any, models: list[Any]) -> Any:
        """Look."""
        judges, twins = ([model.kwargs[key] for model in models] for key in ("judge", "twin"))
        COMPARED.append((part is self.label, judges[0] is judges[1] is self.label, twins[0] is twins[1]))
        return dspy.Prediction()


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


class Shows(dspy.Module):  # type: ignore[misc]
    """Returns what it has been sent, and may change it after that."""

    def __init__(self, signature: Any = "text -> label") -> None:
        super().__init__()
        self.label = dspy.Predict(signature)
        self.seen: list[str] = []

    async def aforward(self, text: str) -> Any:
        """Return it."""
        signature, lm, adapter = self.label.signature, dspy.settings.lm, dspy.settings.adapter
        field = signature.model_fields["label"]
        shown = dspy.Prediction(
            pid=os.getpid(),
            seen=[*self.seen],
            instructions=signature.instructions,
            desc=field.json_schema_extra["desc"],
            adapter=None if adapter is None else type(adapter).__name__,
            temperature=None if lm is None else lm.kwargs.get("temperature"),
            rounds=dspy.settings.get("rounds"),
        )
        self.seen.append(text)
        if text == "change":
            signature.instructions = "Changed."
            field.json_schema_extra["desc"] = "changed"
            signature.more = "added"
        return shown


class Mood(enum.Enum):
    """A mood."""

    GOOD = "good"


class Place(pydantic.BaseModel):
    """A place, whose name cannot be parsed twice."""

    name: str
    when: datetime.datetime | None = None
    size: int = None  # type: ignore[assignment]
    inner: list[Place] = []
    _secret: int = pydantic.PrivateAttr(default=3)

    @pydantic.field_validator("name", mode="before")
    @classmethod
    def shouted(cls, name: str) -> str:
        """Add something each time."""
        return f"{name}!"


class Pair(NamedTuple):
    """Two things."""

    left: int
    right: str


@dataclasses.dataclass(frozen=True)
class Spot:
    """A place in a picture."""

    at: Pair
    words: tuple[str, ...] = ()
    score: Callable[[int], int] | None = None


class Shut(Exception):
    """An error that the program declares."""

    def __init__(self, place: str, why: str) -> None:
        self.place = place
        super().__init__(f"{place} is shut: {why}")


class Secret(Exception):
    """An error that nobody declares."""


class Leaves(pydantic.BaseModel):
    """Does something when it goes away."""

    name: str

    def __del__(self) -> None:
        """Leave a trace."""
        LEFT.append(self.name)


LEFT: list[str] = []


class Where(dspy.Signature):  # type: ignore[misc]
    """Say where."""

    text: str = dspy.InputField()
    place: Place = dspy.OutputField()
    mood: Mood = dspy.OutputField()


class Undeclared(pydantic.BaseModel):
    """A model that no signature names."""

    name: str = ""


class Declares(dspy.Module):  # type: ignore[misc]
    """Returns values of all kinds that it declares, and some that it does not."""

    raises = (Shut,)

    def __init__(self) -> None:
        super().__init__()
        self.where = dspy.Predict(Where)

    def forward(self, text: str) -> Spot | Leaves | None:
        """Do it."""
        return getattr(self, text)()

    def everything(self) -> Any:
        """Return one of each."""
        return dspy.Prediction(**everything())

    def asked(self) -> Any:
        """Ask the language model."""
        return self.where(text="where?")

    def shut(self) -> Any:
        """Raise what is declared."""
        raise Shut("it", "late")

    def secret(self) -> Any:
        """Raise what is not."""
        raise Secret("hidden")

    def leaves(self) -> Any:
        """Return what does something when it goes away."""
        return Leaves(name="x")

    def undeclared(self) -> Any:
        """Return what nobody declares."""
        return dspy.Prediction(it=Undeclared())

    def wrong(self) -> Any:
        """Return a model that is not what it says."""
        return Place.model_construct(name=7)

    def exits(self) -> Any:
        """Leave the interpreter."""
        raise SystemExit(3)

    def cancels(self) -> Any:
        """Say that it was cancelled."""
        raise asyncio.CancelledError

    def many(self) -> Any:
        """Return too much."""
        return [[] for _ in range(300_000)]

    def huge(self) -> Any:
        """Return too many bytes."""
        return b"x" * ((1 << 26) + 1)

    def forks(self) -> Any:
        """Have a child that keeps the connection."""
        pid = os.fork()
        if pid == 0:
            threading.Event().wait()
        return pid


def everything() -> dict[str, Any]:
    """Return values of all kinds that can come from a process."""
    return {
        "plain": [None, True, 1, -(2**70), 2**64, 1.5, "x", "\ud800", b"y"],
        "containers": ({"a": (1, 2), (1, "b"): [3]}, {1, 2}, frozenset({"x"})),
        "place": Place(
            name="here", when=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), inner=[Place(name="there")]
        ),
        "mood": Mood.GOOD,
        "spot": Spot(Pair(1, "x"), ("a", "b")),
        "times": [datetime.date(2026, 1, 2), datetime.time(3, 4), datetime.timedelta(days=1, microseconds=2)],
        "numbers": [decimal.Decimal("1.10"), uuid.UUID(int=7), pathlib.Path("/tmp/x"), 1 + 2j],
        "counts": collections.Counter("aab"),
        "image": dspy.Image("data:image/png;base64,iVBORw0KGgo="),
        "history": dspy.History(messages=[{"question": "a", "answer": "b"}]),
        "demo": dspy.Example(a=1, b="c").with_inputs("a"),
        "several": dspy.Prediction.from_completions([{"label": "a"}, {"label": "b"}], signature=Where),
        "message": lm15.Message.user("hello"),
        "model": Place,
        "signature": Where,
        "made": dspy.Signature("a: list[str], b: int | None -> c: Literal['x', 'y']", "Do it."),
        "scores": np.arange(6, dtype="float32").reshape(2, 3),
        "score": np.float64(0.5),
    }
