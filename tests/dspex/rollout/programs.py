"""Programs whose versions a test makes good, bad, slow or away."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dspy

from dspex import ProgramActor
from foundation.programs import AddVersion, RunProgram
from foundation.rollouts import DecideRollout, GetRollout, NoRollout, RolloutState, StartRollout
from supervision import ChildSpec, Ref, Runtime, Supervisor

#: How long the runtime of a test sleeps while something is to come about.
MOMENT = 0.001


class Teller(dspy.Module):
    """Answers with the demonstration that its version has, and does what the test has said for that.

    Args:
        acts: by the text of the demonstration; ``""`` for the program as it was written.
    """

    def __init__(self, acts: Mapping[str, Callable[[str], Any]] | None = None) -> None:
        super().__init__()
        self.told = dspy.Predict("text -> label")
        self.acts = acts or {}
        self.seen: list[tuple[str, str]] = []

    def __deepcopy__(self, memo: Any) -> Teller:
        """Share what the test says, and what it sees."""
        copied = Teller(self.acts)
        copied.told, copied.seen = self.told.deepcopy(), self.seen
        return copied

    @property
    def version(self) -> str:
        """The text of the demonstration."""
        return str(self.told.demos[0]["text"]) if self.told.demos else ""

    async def aforward(self, text: str, customer: str = "") -> Any:
        """Tell."""
        self.seen.append((self.version, text))
        found = self.acts[self.version](text) if self.version in self.acts else None
        if asyncio.iscoroutine(found):
            found = await found
        return dspy.Prediction(label=found or f"by {self.version or 'old'}")


def version(text: str) -> Any:
    """A version of the teller."""
    made = Teller()
    made.told.demos = [dspy.Example(text=text, label="x")]
    return made


def failing(text: str) -> Any:
    """What a bad version does."""
    raise ValueError(f"cannot {text}")


class Shop:
    """A teller that is served, with a version that serves nobody yet.

    Args:
        runtime: of the test.
        folder: for the versions; None for in memory.
        acts: see `Teller`.
        options: of the program's actor.
    """

    def __init__(
        self, runtime: Runtime, folder: Path | None = None, acts: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.runtime = runtime
        self.program = Teller(acts)
        self.options = {"lm": dspy.LM("openai/none"), "versions": folder, **options}
        self.kind = ProgramActor

    async def open(self, *candidates: str) -> Shop:
        """Serve, and add candidates."""
        spec = ChildSpec("p", self.kind, (self.program,), self.options, name="program:shop", restart="permanent")
        self.supervisor = await self.runtime.spawn(Supervisor, [spec])
        for text in candidates:
            await self.ref.call(AddVersion(version(text)))
        return self

    @property
    def ref(self) -> Ref:
        """The program's actor."""
        found = self.runtime.whereis("program:shop")
        assert found is not None
        return found

    async def ask(self, text: str = "hello", key: str = "", **inputs: Any) -> str:
        """Return by which version a request was answered, or the name of its error."""
        try:
            answer = await self.ref.call(RunProgram({"text": text, **inputs}, key=key), None)
        except Exception as error:
            return type(error).__name__
        return str(answer.outputs["label"])

    async def start(self, number: int = 1, **settings: Any) -> RolloutState:
        """Start a rollout."""
        extra = {name: settings.pop(name) for name in ("replace", "seen", "who") if name in settings}
        return await self.ref.call(StartRollout({"version": number, **settings}, **extra))

    async def decide(self, to: Any, **settings: Any) -> RolloutState:
        """Decide by hand."""
        return await self.ref.call(DecideRollout(to, **settings))

    async def state(self) -> RolloutState:
        """How it stands."""
        return await self.ref.call(GetRollout())

    async def phase(self) -> str:
        """Where it is; ``none`` if there was none."""
        try:
            return (await self.state()).state
        except NoRollout:
            return "none"

    async def restart(self) -> None:
        """Kill it, and wait for the next incarnation."""
        before = self.ref
        before.kill()
        await before.join()
        while self.runtime.whereis("program:shop") in (None, before):
            await self.runtime.sleep(MOMENT)
