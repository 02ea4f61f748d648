"""About forty small programs, of all the kinds that there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import dspy
import pydantic


class Typed(dspy.Signature):  # type: ignore[misc]
    """Say yes or no."""

    text: str = dspy.InputField()
    label: Literal["yes", "no"] = dspy.OutputField()


class Place(pydantic.BaseModel):
    """Something nested."""

    name: str = "here"


class Nested(dspy.Module):  # type: ignore[misc]
    """Predictors in a list, a dict, and a module."""

    def __init__(self) -> None:
        super().__init__()
        self.many = [dspy.Predict("text -> label"), dspy.Predict("text -> label")]
        self.named = {"k": dspy.Predict("text -> label")}
        self.inner = Chain()

    def forward(self, text: str) -> Any:
        """Ask all of them."""
        found = [predictor(text=text).label for predictor in (*self.many, self.named["k"], self.inner)]
        return dspy.Prediction(label=found[-1], all=found)


class Chain(dspy.Module):  # type: ignore[misc]
    """One predictor behind the other, sync and async."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("text -> label")
        self.second = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Ask both."""
        self.first(text=text)
        return self.second(text=text)

    async def aforward(self, text: str) -> Any:
        """Ask both."""
        await self.first.acall(text=text)
        return await self.second.acall(text=text)


class OnlyAsync(dspy.Module):  # type: ignore[misc]
    """Has no ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    async def aforward(self, text: str) -> Any:
        """Ask twice, side by side."""
        both = await asyncio.gather(self.ask.acall(text=text), self.ask.acall(text=text))
        return both[0]


class Fans(dspy.Module):  # type: ignore[misc]
    """Asks in threads of DSPy's."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Ask twice."""
        pairs = [(self.ask, {"text": text}), (self.ask, {"text": "text 1"})]
        found = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
        return dspy.Prediction(label=found[0].label, other=found[1].label)


class Raises(dspy.Module):  # type: ignore[misc]
    """Asks, and raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")
        self.error = error

    def forward(self, text: str) -> Any:
        """Raise."""
        self.ask(text=text)
        raise self.error

    async def aforward(self, text: str) -> Any:
        """Raise."""
        await self.ask.acall(text=text)
        raise self.error


class Returns(dspy.Module):  # type: ignore[misc]
    """Returns anything."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, text: str) -> Any:
        """Return."""
        return self.value

    async def aforward(self, text: str) -> Any:
        """Return."""
        return self.value


class Overrides(dspy.Module):  # type: ignore[misc]
    """Has settings of its own inside."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")
        self.settings = settings

    def forward(self, text: str) -> Any:
        """Ask under other settings."""
        with dspy.context(**self.settings):
            return self.ask(text=text)

    async def aforward(self, text: str) -> Any:
        """Ask under other settings."""
        with dspy.context(**self.settings):
            return await self.ask.acall(text=text)


class Keeps(dspy.Module):  # type: ignore[misc]
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.ask = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Count, and ask."""
        self.calls += 1
        return dspy.Prediction(label=self.ask(text=text).label, calls=self.calls > 0)


class Positional(dspy.Module):  # type: ignore[misc]
    """Takes what it is given in order."""

    def forward(self, text: str, times: int = 2) -> Any:
        """Repeat."""
        return dspy.Prediction(label=text * times)

    async def aforward(self, text: str, times: int = 2) -> Any:
        """Repeat."""
        return dspy.Prediction(label=text * times)


class Own(dspy.Module):  # type: ignore[misc]
    """Says itself how it is pickled."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __reduce__(self) -> Any:
        """Made anew."""
        return Own, (self.number,)


class NoInit(dspy.Module):  # type: ignore[misc]
    """Forgets to call the base class."""

    def __init__(self) -> None:
        self.ask = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Ask."""
        return self.ask(text=text)


class Frozen(dspy.Module):  # type: ignore[misc]
    """A part of it is compiled already."""

    def __init__(self) -> None:
        super().__init__()
        self.open = dspy.Predict("text -> label")
        self.shut = Chain()
        self.shut._compiled = True

    def forward(self, text: str) -> Any:
        """Ask both."""
        self.shut(text=text)
        return self.open(text=text)


def echo(text: str) -> str:
    """A tool."""
    return text.upper()


def with_demos(program: Any) -> Any:
    """Give each predictor a demonstration."""
    for predictor in program.predictors():
        predictor.demos = [dspy.Example(text="text 0", label="yes").with_inputs("text")]
    return program


def reward(_: Any, prediction: Any) -> float:
    """Any answer is good enough."""
    return float(bool(prediction.label))


def compiled(program: Any) -> Any:
    """Say that it is compiled."""
    program._compiled = True
    return program


class Twice(dspy.Module):  # type: ignore[misc]
    """Modules in modules."""

    def __init__(self) -> None:
        super().__init__()
        self.chains = [Chain(), Chain()]

    def forward(self, text: str) -> Any:
        """Ask all four."""
        return [chain(text=text) for chain in self.chains][-1]

    async def aforward(self, text: str) -> Any:
        """Ask all four."""
        return [await chain.acall(text=text) for chain in self.chains][-1]


class Other:
    """An engine that always says no, and can be saved."""

    def complete(self, request: Any) -> Any:
        """Say no."""
        from dspex._compat import plain_response

        return plain_response(request, "[[ ## label ## ]]\nno\n\n[[ ## completed ## ]]")

    def stream(self, request: Any) -> Any:
        """Say no, piece by piece."""
        from dspex._compat import streamed_words

        return streamed_words(Other.complete(self, request))

    def dump_state(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> Other:
        """Nothing to load."""
        return cls()


class AsyncOther(Other):
    """The same for ``acall``."""

    async def complete(self, request: Any) -> Any:
        """Say no."""
        return super().complete(request)

    async def stream(self, request: Any) -> Any:
        """Say no, piece by piece."""
        for event in super().stream(request):
            yield event


def other_lm() -> Any:
    """A program with a language model of its own."""
    program = dspy.Predict("text -> label")
    program.lm = dspy.LM("other/model", engine=Other(), async_engine=AsyncOther(), cache=False)
    return program


PROGRAMS: dict[str, Callable[[], Any]] = {
    "predict": lambda: dspy.Predict("text -> label"),
    "predict with types": lambda: dspy.Predict(Typed),
    "predict with config": lambda: dspy.Predict("text -> label", temperature=0.7, max_tokens=5),
    "predict with two answers": lambda: dspy.Predict("text -> label", n=2, temperature=1.0),
    "predict with demos": lambda: with_demos(dspy.Predict("text -> label")),
    "predict that cannot be read": lambda: dspy.Predict("text -> label: int"),
    "predict with a field too many": lambda: dspy.Predict("text -> label, other"),
    "predict that is compiled": lambda: compiled(dspy.Predict("text -> label")),
    "chain of thought": lambda: dspy.ChainOfThought("text -> label"),
    "chain": Chain,
    "chain with demos": lambda: with_demos(Chain()),
    "nested": Nested,
    "nested with demos": lambda: with_demos(Nested()),
    "only async": OnlyAsync,
    "fans out": Fans,
    "react": lambda: dspy.ReAct("text -> label", tools=[echo], max_iters=2),
    "best of n": lambda: dspy.BestOfN(dspy.Predict("text -> label"), N=2, reward_fn=reward, threshold=1.0),
    "refine": lambda: dspy.Refine(dspy.Predict("text -> label"), N=2, reward_fn=reward, threshold=1.0),
    "raises a key error": lambda: Raises(KeyError("k")),
    "raises a value error": lambda: Raises(ValueError("v")),
    "raises what an lm raises": lambda: Raises(dspy.LMRateLimitError("slow down")),
    "raises an assertion": lambda: Raises(AssertionError()),
    "returns nothing": lambda: Returns(None),
    "returns a text": lambda: Returns("text"),
    "returns a list": lambda: Returns([1, 2]),
    "returns a prediction": lambda: Returns(dspy.Prediction(label="x", score=1.0)),
    "returns an example": lambda: Returns(dspy.Example(a=1).with_inputs("a")),
    "returns a model": lambda: Returns(dspy.Prediction(place=Place())),
    "overrides the adapter": lambda: Overrides(adapter=dspy.JSONAdapter()),
    "overrides the trace": lambda: Overrides(trace=[]),
    "overrides the callbacks": lambda: Overrides(callbacks=[]),
    "keeps no history": lambda: Overrides(disable_history=True),
    "tracks usage": lambda: Overrides(track_usage=True),
    "keeps a count": Keeps,
    "positional": Positional,
    "forgets the base class": NoInit,
    "frozen inside": Frozen,
    "chain of two chains": Twice,
    "has another lm": other_lm,
    "with a callback of its own": Chain,
}
