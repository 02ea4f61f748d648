"""Programs that send the pieces of their answers while they make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import dspy
import pytest

from dspex import ProgramActor, ProgramPool
from dspex.testing.engine import AsyncScriptedEngine, ScriptedEngine, scripted_lm
from foundation.programs import (
    Answer,
    Chunk,
    InvalidInputs,
    Piece,
    ProgramStatus,
    RunProgram,
    StreamProgram,
    Unavailable,
)
from supervision import Ref, Runtime
from tests.dspex.samples import Returning

pytestmark = pytest.mark.usefixtures("quiet")


class Writer(ScriptedEngine):
    """A language model that fills every field that it is asked for with a few words, one at a time."""

    def __init__(self, said: str = "one two three") -> None:
        super().__init__({"text": "label"})
        self.said = said

    def answer(self, messages: Any) -> str:
        """Return the text of the answer."""
        fields = [name for name in ("label", "reasoning", "other") if f"[[ ## {name} ## ]]" in messages[0]["content"]]
        return "\n\n".join(f"[[ ## {name} ## ]]\n{self.said}" for name in fields) + "\n\n[[ ## completed ## ]]"


def twice() -> Any:
    """A program of two predictors that write a field of the same name."""

    class Twice(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("text -> label")
            self.second = dspy.ChainOfThought("text -> label, score: int")

        async def aforward(self, text: str) -> Any:
            found = await self.first.acall(text=text)
            return await self.first.acall(text=found.label)

    return Twice()


async def streamed(actor: Ref, **inputs: Any) -> tuple[list[Piece], Answer]:
    """The pieces that a program sends, and its answer."""
    pieces: list[Piece] = []

    async def send(piece: Piece) -> None:
        pieces.append(piece)

    return pieces, await actor.call(StreamProgram(inputs, send))


def text_of(pieces: list[Piece], field: str) -> str:
    """What the chunks of a field are together."""
    return "".join(piece.text for piece in pieces if isinstance(piece, Chunk) and piece.field == field)


@pytest.mark.parametrize("kind", [ProgramActor, ProgramPool])
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), None])
async def test_the_chunks_of_a_field_are_its_text(runtime: Runtime, kind: Any, adapter: Any) -> None:
    """In several pieces, in order, from a program that runs in a thread; the answer is that of a plain run."""
    actor = await runtime.spawn(
        kind, lambda: dspy.ChainOfThought("text -> label"), lm=scripted_lm(Writer()), adapter=adapter
    )
    pieces, answer = await streamed(actor, text="t")
    assert text_of(pieces, "label") == text_of(pieces, "reasoning") == "one two three"
    assert len(pieces) > 4
    assert {piece.predictor for piece in pieces if isinstance(piece, Chunk)} == {"predict"}
    assert answer == await actor.call(RunProgram({"text": "t"}))
    assert answer.usage


async def test_a_predictor_that_runs_twice_streams_twice(runtime: Runtime) -> None:
    """Asynchronous programs stream, too; each run of a predictor begins anew, and its last chunk says so."""
    actor = await runtime.spawn(ProgramActor, twice, lm=scripted_lm(Writer()))
    pieces, _ = await streamed(actor, text="t")
    assert text_of(pieces, "label") == "one two three" * 2
    assert {piece.predictor for piece in pieces if isinstance(piece, Chunk)} == {"first"}
    assert [piece.last for piece in pieces if isinstance(piece, Chunk)].count(True) == 2


async def test_an_adapter_that_dspy_cannot_follow_gives_the_answer_alone(runtime: Runtime) -> None:
    """There are no chunks, and no error."""

    class Own(dspy.ChatAdapter):  # type: ignore[misc]
        """An adapter that DSPy has never heard of."""

    actor = await runtime.spawn(
        ProgramActor, lambda: dspy.Predict("text -> label"), lm=scripted_lm(Writer()), adapter=Own()
    )
    pieces, answer = await streamed(actor, text="t")
    assert (pieces, answer.outputs) == ([], {"label": "one two three"})


async def test_a_field_that_is_cut_off_is_streamed_to_its_end(runtime: Runtime) -> None:
    """What was held back, as it might have been the beginning of the next field, comes last."""

    class Cut(Writer):
        def answer(self, messages: Any) -> str:
            return "[[ ## label ## ]]\none two ["

    actor = await runtime.spawn(ProgramActor, lambda: dspy.Predict("text -> label"), lm=scripted_lm(Cut()))
    pieces, answer = await streamed(actor, text="t")
    assert text_of(pieces, "label") == "one two [" == answer.outputs["label"]


async def test_tools_are_told_of(runtime: Runtime) -> None:
    """As status messages, whether the program runs in a task or in a thread."""

    def look(where: str) -> str:
        """Look."""
        return f"nothing {where}"

    class Looks(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tool = dspy.Tool(look)

    class InATask(Looks):
        async def aforward(self) -> Any:
            return dspy.Prediction(found=self.tool(where="here"))

    class InAThread(Looks):
        def forward(self) -> Any:
            return dspy.Prediction(found=self.tool(where="here"))

    for kind in (InATask, InAThread):
        actor = await runtime.spawn(ProgramActor, kind, lm=scripted_lm(Writer()))
        told = asyncio.Event()
        pieces: list[Piece] = []

        async def send(piece: Piece, told: asyncio.Event = told, pieces: list[Piece] = pieces) -> None:
            pieces.append(piece)
            if len(pieces) == 2:
                told.set()

        answer = await actor.call(StreamProgram({}, send))
        await told.wait()
        assert answer.outputs == {"found": "nothing here"}
        finished = "Tool calling finished! Querying the LLM with tool calling results..."
        assert pieces == [ProgramStatus("Calling tool look..."), ProgramStatus(finished)]


async def test_whatever_a_program_returns_ends_the_stream(runtime: Runtime) -> None:
    """Also what is no prediction; inputs that do not fit are refused."""
    actor = await runtime.spawn(ProgramActor, Returning([3]), lm=scripted_lm(Writer()))
    assert await streamed(actor) == ([], Answer({"result": [3]}, {}, version=0))
    with pytest.raises(InvalidInputs):
        await streamed(actor, unknown=1)


async def test_a_slow_reader_slows_the_model(runtime: Runtime) -> None:
    """No word is read from the model before the one before it has been taken; giving up stops the model."""
    taken, go = asyncio.Event(), asyncio.Event()

    class Words(AsyncScriptedEngine):
        """Notes how many events were asked of it."""

        events = 0
        closed = asyncio.Event()

        async def stream(self, request: Any) -> AsyncIterator[Any]:
            try:
                async for event in super().stream(request):
                    self.events += 1
                    yield event
            finally:
                self.closed.set()

    async def send(piece: Piece) -> None:
        taken.set()
        await go.wait()

    engine = Writer("many " * 50)
    words = Words(engine)
    lm = dspy.LM("known/model", engine=engine, async_engine=words, cache=False)

    class Async(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict("text -> label")

        async def aforward(self, text: str) -> Any:
            return await self.predict.acall(text=text)

    actor = await runtime.spawn(ProgramActor, Async, lm=lm)
    asked = asyncio.ensure_future(actor.call(StreamProgram({"text": "t"}, send)))
    await taken.wait()
    assert words.events < 12
    asked.cancel()
    await words.closed.wait()
    assert words.events < 12


async def test_a_stream_is_not_begun_again(runtime: Runtime) -> None:
    """When its agent dies, the reader is told, as it has seen the beginning; a plain request is run again."""
    began = asyncio.Event()

    async def send(piece: Piece) -> None:
        began.set()
        await asyncio.Event().wait()

    actor = await runtime.spawn(ProgramPool, lambda: dspy.Predict("text -> label"), size=1, lm=scripted_lm(Writer()))
    asked = asyncio.ensure_future(actor.call(StreamProgram({"text": "t"}, send)))
    await began.wait()
    (member,) = [ref for name, ref in runtime.names().items() if name.endswith("/0")]
    member.kill()
    with pytest.raises(Unavailable, match="1 times"):
        await asked
