"""Answers that cannot be read, and prompts that are too long: what is tried, what it costs, and what is told."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import httpx
import pydantic
import pytest

from dspex import AnswerRepaired, AnswerUnparsed, CompactAdapter, Gateway, ProgramActor, ProgramPool, gateway_lm
from dspex._compat import lm15
from dspex.models.gateway import Configure
from dspex.parsing import (
    MoreTokens,
    NextModel,
    OnUnparsed,
    OtherAdapter,
    PromptTooLong,
    Reask,
    Repair,
    Shorten,
    UnparsedAnswer,
    guarded,
)
from dspex.parsing.events import ParsingReport, ParsingReporter, UnparsedCounts
from foundation.http.app import application
from foundation.programs import Chunk, RunProgram, StreamProgram
from foundation.telemetry.collectors import collect_samples
from supervision import ChildSpec, Ref, Runtime, Supervisor
from supervision.errors import BadOption
from supervision.events import Event
from tests.dspex.documented import DocumentedTransport
from tests.dspex.parsing.engine import Parrot

pytestmark = pytest.mark.usefixtures("quiet")

GIBBERISH = "I think it is four."
SECRET = "the launch code is 8472"
LONG = lm15.ContextLengthError("5000 tokens and no more")


def field(**values: object) -> str:
    """An answer as DSPy's `ChatAdapter` wants it."""
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def number() -> Any:
    """A program that asks for a number."""
    return dspy.Predict("q -> a: int")


class InThread(dspy.Module):  # type: ignore[misc]
    """The same, in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = number()

    def forward(self, q: str) -> Any:
        """Ask."""
        return self.ask(q=q)


@pytest.fixture
def events(runtime: Runtime) -> list[Any]:
    """What was told."""
    found: list[Event] = []
    runtime.subscribe(found.append, AnswerUnparsed, AnswerRepaired)
    return found


async def served(
    runtime: Runtime, parrot: Parrot, program: Any = number, kind: Any = ProgramActor, **options: Any
) -> Ref:
    """A program of this language model, as it is found over HTTP."""
    options = {"lm": parrot.lm(), **options}
    spec = ChildSpec("x", kind, (program,), options, name="program:x")
    await runtime.spawn(Supervisor, [spec])
    found = runtime.whereis("program:x")
    assert found is not None
    return found


async def asked(actor: Ref, q: str = "2 + 2?") -> Any:
    """The outputs."""
    return (await actor.call(RunProgram({"q": q}), 30.0)).outputs


async def posted(runtime: Runtime, **inputs: Any) -> httpx.Response:
    """What comes back over HTTP."""
    transport = DocumentedTransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post("/programs/x", json={"q": "2 + 2?", **inputs})


def steps(events: list[Any]) -> list[tuple[str, bool]]:
    """What was done about each answer that could not be read, and whether it mended it."""
    return [(event.step, event.repaired) for event in events if isinstance(event, AnswerUnparsed)]


@pytest.mark.parametrize("program", [number, InThread])
async def test_E056_an_answer_that_cannot_be_read_is_shown_to_the_model_and_asked_for_again(
    runtime: Runtime, events: list[Any], program: Any
) -> None:
    """Once, by default; the second prompt ends with the answer and with what is wrong with which field."""
    parrot = Parrot(field(a="four"), field(a=4))
    await served(runtime, parrot, program)
    response = await posted(runtime)
    assert (response.status_code, response.json()) == (200, {"a": 4})
    first, second = parrot.prompts
    assert second[: len(first)] == first
    assert [turn["role"] for turn in second[len(first) :]] == ["assistant", "user"]
    assert "`a` is no int" in second[-1]["content"]
    assert "valid integer" in second[-1]["content"]
    assert steps(events) == [("reask", False)]
    assert len(events) == 1


@pytest.mark.parametrize(("given", "calls"), [(None, 2), ([{"step": "reask", "times": 5}], 3), ([], 1)])
async def test_E057_what_is_never_readable_is_a_502_that_names_the_fields(
    runtime: Runtime, given: Any, calls: int, events: list[Any]
) -> None:
    """After as many calls as the policy allows; what the model has written is not in it."""
    parrot = Parrot(SECRET)
    await served(runtime, parrot, unparsed=given)
    response = await posted(runtime)
    assert response.status_code == 502
    problem = response.json()
    assert problem["type"] == "/problems/unparsed"
    assert (problem["fields"], problem["attempts"], problem["adapter"]) == ({"a": "is missing"}, calls, "ChatAdapter")
    assert parrot.calls == calls
    assert SECRET not in response.text
    assert SECRET not in repr(events)
    assert steps(events)[-1] == ("none", False)


async def test_E058_what_misses_its_form_by_little_is_mended_for_nothing(runtime: Runtime, events: list[Any]) -> None:
    """JSON in a fence, in the midst of prose, with a comma too many."""
    parrot = Parrot('Sure, here it is:\n```json\n{"a": 1,}\n```\nAnything else?')
    actor = await served(runtime, parrot)
    assert await asked(actor) == {"a": 1}
    assert parrot.calls == 1
    assert steps(events) == [("repair", True)]
    assert isinstance(events[-1], AnswerRepaired)
    assert events[-1].fields == ("a",)


async def test_E058_a_required_text_that_is_empty_is_no_answer(runtime: Runtime) -> None:
    """Nor is one that was made of prose; a text that may be None may be empty."""
    parrot = Parrot(field(a=""), '{"a": ""}', field(a="blue"))
    actor = await served(runtime, parrot, lambda: dspy.Predict("q -> a"), unparsed=[Repair(), Reask(2)])
    assert await asked(actor) == {"a": "blue"}
    assert parrot.calls == 3
    assert "`a` is empty" in parrot.prompts[1][-1]["content"]


async def test_a_models_own_thoughts_and_optional_texts_may_be_empty(runtime: Runtime) -> None:
    parrot = Parrot(field(reasoning="", a=""))
    actor = await served(runtime, parrot, lambda: dspy.ChainOfThought("q -> a: str | None"))
    assert await asked(actor) == {"reasoning": "", "a": ""}


async def test_the_counts_are_by_program_version_and_step(runtime: Runtime) -> None:
    """Of each program the last five versions have a number of their own."""
    parrot = Parrot(GIBBERISH, field(a=4))
    actor = await served(runtime, parrot)
    await asked(actor)
    found = [sample for sample in collect_samples(runtime) if sample.name == "unparsed"]
    assert [(sample.prefix, dict(sample.labels), sample.value) for sample in found] == [
        ("dspex", {"program": "Predict", "version": "0", "step": "reask"}, 1)
    ]


async def test_a_function_of_the_programs_own_mends(runtime: Runtime, events: list[Any]) -> None:
    """It returns a text that can be read, or the fields; None passes on to the next step."""

    def texts(text: str, error: Any) -> Any:
        assert isinstance(error, dspy.AdapterParseError)
        return {"one": field(a=1), "two": {"a": "2"}, "bad": field(a="x"), "fields": {"b": 1}}.get(text)

    parrot = Parrot("one", "two", "bad", "fields", "none", field(a=6))
    actor = await served(runtime, parrot, unparsed=[Repair(texts), Reask(5)])
    assert [await asked(actor) for _ in range(2)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(UnparsedAnswer) as caught:
        await asked(actor)
    assert caught.value.attempts == 3
    assert await asked(actor) == {"a": 6}
    assert steps(events)[:2] == [("repair", True)] * 2


async def test_the_steps_are_taken_in_their_order(runtime: Runtime, events: list[Any]) -> None:
    """Question again, then in JSON: what the other adapter answers is mended, too."""
    parrot = Parrot(GIBBERISH, GIBBERISH, 'It is: {"a": 4,}')
    policy = [Reask(), OtherAdapter("dspy:JSONAdapter"), Repair()]
    actor = await served(runtime, parrot, unparsed=policy)
    assert await asked(actor) == {"a": 4}
    assert steps(events) == [("reask", False), ("adapter", False)]
    assert "JSON object" in parrot.prompts[2][-1]["content"]
    assert len(parrot.prompts[2]) == len(parrot.prompts[0])


async def test_the_other_adapter_may_fail_too(runtime: Runtime) -> None:
    actor = await served(runtime, Parrot(GIBBERISH), unparsed=[OtherAdapter(dspy.JSONAdapter())])
    with pytest.raises(UnparsedAnswer, match="2 calls: a is missing") as caught:
        await asked(actor)
    assert caught.value.adapter_name == "JSONAdapter"


class Picky(pydantic.BaseModel):
    """Has a validator that fails for a reason of its own."""

    n: int

    @pydantic.field_validator("n")
    @classmethod
    def known(cls, value: int) -> int:
        """Look the number up."""
        return {1: 1}[value]


@pytest.mark.parametrize("text", [field(a='{"n": 2}'), '{"a": {"n": 2}}'])
async def test_a_validator_that_is_at_fault_is_the_programs_error(runtime: Runtime, text: str) -> None:
    """After the policy: a 500, and not the model's."""
    parrot = Parrot(text)
    await served(runtime, parrot, lambda: dspy.Predict(dspy.Signature("q -> a", "x").with_updated_fields("a", Picky)))
    response = await posted(runtime)
    assert response.status_code == 500
    assert parrot.calls == 2
    with pytest.raises(KeyError):
        await runtime.name("program:x").call(RunProgram({"q": "?"}))


async def test_a_repair_that_raises_is_the_programs_error(runtime: Runtime) -> None:
    def broken(text: str, error: Any) -> Any:
        raise LookupError(text)

    actor = await served(runtime, Parrot(GIBBERISH), unparsed=[Repair(broken)])
    with pytest.raises(LookupError):
        await asked(actor)


async def test_an_answer_that_was_cut_off_is_not_asked_for_again(runtime: Runtime) -> None:
    """Nor mended, as its end is missing: it is told why. With room for more it is asked once more, if allowed."""
    cut = ('{"a": 12', "length")
    actor = await served(runtime, Parrot(cut))
    with pytest.raises(UnparsedAnswer, match=r"1 call: .* cut off .*max_tokens"):
        await asked(actor)
    parrot = Parrot(cut, field(a=1234))
    policy = [Repair(), Reask(), MoreTokens(500)]
    actor = await runtime.spawn(ProgramActor, number, lm=parrot.lm(max_tokens=5), unparsed=policy)
    assert await asked(actor) == {"a": 1234}
    assert [request.config.max_tokens for request in parrot.requests] == [5, 500]


async def test_a_refusal_is_no_parse_failure(runtime: Runtime, events: list[Any]) -> None:
    """It is a 502 of its own, after one call."""
    parrot = Parrot(("I can't help with that.", "content_filter"))
    await served(runtime, parrot)
    response = await posted(runtime)
    assert (response.status_code, response.json()["type"]) == (502, "/problems/refused")
    assert parrot.calls == 1
    assert events == []


async def test_an_outage_during_the_second_question_is_an_outage(runtime: Runtime) -> None:
    """It says nothing about the answer: the caller may try again."""
    await served(runtime, Parrot(GIBBERISH, lm15.TransportError("gone")))
    assert (await posted(runtime)).status_code == 503


# -- prompts that are too long ---------------------------------------------------------------------------------


async def test_a_prompt_that_is_too_long_is_a_502(runtime: Runtime) -> None:
    """What the provider has said of it is not passed on."""
    parrot = Parrot(LONG)
    await served(runtime, parrot)
    response = await posted(runtime)
    assert (response.status_code, response.json()["type"]) == (502, "/problems/context-window")
    assert response.json()["attempts"] == parrot.calls == 1
    assert "5000" not in response.text


async def test_a_prompt_is_shortened_as_the_program_says(runtime: Runtime) -> None:
    """As long as it gets shorter: the same is never asked twice."""

    def half(inputs: Any, error: Any) -> Any:
        assert isinstance(error, dspy.ContextWindowExceededError)
        return {**inputs, "q": inputs["q"][: max(2, len(inputs["q"]) // 2)]}

    parrot = Parrot(LONG, LONG, field(a=1))
    actor = await served(runtime, parrot, unparsed=[Shorten(half)])
    assert await asked(actor, "x" * 80) == {"a": 1}
    assert ["x" * 21 in prompt[-1]["content"] for prompt in parrot.prompts] == [True, True, False]
    with pytest.raises(PromptTooLong) as caught:
        await asked(await runtime.spawn(ProgramActor, number, lm=Parrot(LONG).lm(), unparsed=[Shorten(half)]), "xx")
    assert caught.value.attempts == 1


async def test_without_a_function_the_demonstrations_are_left_out(runtime: Runtime) -> None:
    program = number()
    program.demos = [dspy.Example(q="1 + 1?", a=2)]
    parrot = Parrot(LONG, field(a=4))
    actor = await served(runtime, parrot, program, unparsed={"steps": [{"step": "shorten"}]})
    assert await asked(actor) == {"a": 4}
    assert [len(prompt) for prompt in parrot.prompts] == [4, 2]
    with pytest.raises(PromptTooLong):
        await asked(await runtime.spawn(ProgramActor, number, lm=Parrot(LONG).lm(), unparsed=[Shorten()]))


# -- the gateway's chain ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failure", "isolation"), [(GIBBERISH, "none"), (LONG, "none"), (GIBBERISH, "process")])
@pytest.mark.parametrize("model", ["gateway/fast"])
async def test_the_next_model_of_the_chain_is_asked(
    runtime: Runtime, events: list[Any], failure: Any, isolation: str, model: str
) -> None:
    """The question as it was, also from a process; the last one's answer counts."""
    first, second, third = Parrot(failure), Parrot(failure), Parrot(field(a=4))
    endpoints = {
        name: {"lm": each.lm(f"known/{name}")} for name, each in zip("abc", (first, second, third), strict=True)
    }
    models = {"fast": {"endpoints": ["a", "b", "c"]}}
    await runtime.spawn(Supervisor, [ChildSpec("gateway", Gateway, (endpoints, models), name="gateway")])
    kind: Any = ProgramActor if isolation == "none" else ProgramPool
    options: dict[str, Any] = {} if isolation == "none" else {"size": 1, "isolation": isolation}
    actor = await runtime.spawn(
        kind, "tests.dspex.parsing.programs:number", lm=model, unparsed=[NextModel()], **options
    )
    assert await asked(actor) == {"a": 4}
    assert (first.calls, second.calls, third.calls) == (1, 1, 1)
    assert third.prompts == first.prompts
    if failure is GIBBERISH:
        assert steps(events) == [("chain", False)] * 2


async def test_without_a_gateway_there_is_no_chain(runtime: Runtime) -> None:
    parrot = Parrot(GIBBERISH)
    with pytest.raises(UnparsedAnswer):
        await asked(await served(runtime, parrot, unparsed=[NextModel()]))
    assert parrot.calls == 1


# -- ReAct -----------------------------------------------------------------------------------------------------


async def test_a_malformed_step_of_react_is_asked_for_again(runtime: Runtime) -> None:
    """It goes on with its steps; in stock DSPy the whole call ends."""

    def add(x: int, y: int) -> int:
        """Add."""
        return x + y

    step = field(next_thought="Add.", next_tool_name="add", next_tool_args='{"x": 2, "y": 2}')
    last = field(next_thought="Done.", next_tool_name="finish", next_tool_args="{}")
    parrot = Parrot(GIBBERISH, step, "{", last, field(reasoning="", a=4))
    actor = await served(runtime, parrot, lambda: dspy.ReAct("q -> a: int", tools=[add]))
    found = await asked(actor)
    assert (found["a"], found["trajectory"]["observation_0"]) == (4, 4)
    assert parrot.calls == 5


# -- where it applies ------------------------------------------------------------------------------------------


async def test_in_a_process_it_is_the_same_and_told_the_same(runtime: Runtime, events: list[Any]) -> None:
    """The events and the error come from there, without a word of the answer."""
    parrot = Parrot('{"a": 1,}', GIBBERISH, field(a=4), SECRET)
    await served(runtime, parrot, "tests.dspex.parsing.programs:number", ProgramPool, size=1, isolation="process")
    pool = runtime.whereis("program:x")
    assert pool is not None
    assert [await asked(pool) for _ in range(2)] == [{"a": 1}, {"a": 4}]
    response = await posted(runtime)
    assert (response.status_code, response.json()["fields"]) == (502, {"a": "is missing"})
    assert response.json()["attempts"] == 2
    assert steps(events) == [("repair", True), ("reask", False), ("reask", False), ("none", False)]
    assert {event.program for event in events} == {"Predict"}


async def test_another_adapter_of_a_program_is_its_own_affair(runtime: Runtime) -> None:
    """Its error is a 502 all the same."""

    class Own(dspy.Module):  # type: ignore[misc]
        async def aforward(self, q: str) -> Any:
            with dspy.context(adapter=dspy.JSONAdapter()):
                return await number().acall(q=q)

    class Long(dspy.Module):  # type: ignore[misc]
        async def aforward(self, q: str) -> Any:
            raise dspy.ContextWindowExceededError(model="m")

    parrot = Parrot(GIBBERISH)
    await served(runtime, parrot, Own)
    assert (await posted(runtime)).json()["type"] == "/problems/unparsed"
    assert parrot.calls == 1
    with pytest.raises(PromptTooLong):
        await (await runtime.spawn(ProgramActor, Long, lm=parrot.lm())).call(RunProgram({"q": "?"}))


async def test_a_callers_own_adapter_counts(runtime: Runtime, events: list[Any]) -> None:
    """With the policy of the program."""
    parrot = Parrot(GIBBERISH, '{"a": 4}')
    actor = await served(runtime, parrot)
    with dspy.context(adapter=dspy.JSONAdapter()):
        assert await asked(actor) == {"a": 4}
    assert events[0].adapter == "JSONAdapter"


async def test_callbacks_see_each_call_of_the_adapter_once(runtime: Runtime) -> None:
    """As without the policy."""
    seen: list[str] = []

    class Watching(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
        def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            seen.append(f"format {type(instance).__name__}")

        def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            seen.append(f"parsed {type(exception).__name__}")

    actor = await served(runtime, Parrot(GIBBERISH, field(a=4)), settings={"callbacks": [Watching()]})
    await asked(actor)
    assert seen == ["format ChatAdapter", "parsed AdapterParseError", "format ChatAdapter", "parsed NoneType"]


async def test_without_a_program_an_adapter_has_its_policy_too() -> None:
    """In scripts: nobody is told, and the rest is the same; it can be copied, and is a ChatAdapter."""
    parrot = Parrot(GIBBERISH, field(a=4))
    adapter = guarded(guarded(dspy.ChatAdapter(), OnUnparsed(())), OnUnparsed())
    assert isinstance(adapter, dspy.ChatAdapter)
    with dspy.context(lm=parrot.lm(), adapter=adapter.__reduce__()[0](*adapter.__reduce__()[1])):
        assert (await asyncio.to_thread(number(), q="?")).a == 4
    assert adapter.parse(dspy.Signature("q -> a: int"), field(a=3)) == {"a": 3}
    assert len(adapter.format(dspy.Signature("q -> a: int"), [], {"q": "?"})) == 2


# -- streams ---------------------------------------------------------------------------------------------------


async def streamed(actor: Ref) -> tuple[str, Any]:
    """The text of the chunks, and the outputs or the error."""
    chunks: list[str] = []

    async def send(piece: Any) -> None:
        if isinstance(piece, Chunk):
            chunks.append(piece.text)

    try:
        found: Any = (await actor.call(StreamProgram({"q": "?"}, send))).outputs
    except Exception as error:
        found = error
    return "".join(chunks), found


async def test_of_a_stream_nothing_is_asked_again_once_a_piece_was_seen(runtime: Runtime) -> None:
    """Before that, it is."""
    parrot = Parrot(field(b="red, and so on", a="x"))
    actor = await served(runtime, parrot, lambda: dspy.Predict("q -> b, a: int"))
    text, found = await streamed(actor)
    assert (text, type(found), parrot.calls) == ("red, and so on", UnparsedAnswer, 1)
    parrot = Parrot(GIBBERISH, field(b="red, and so on", a=4))
    actor = await runtime.spawn(ProgramActor, lambda: dspy.Predict("q -> b, a: int"), lm=parrot.lm())
    assert await streamed(actor) == ("red, and so on", {"b": "red, and so on", "a": 4})


# -- what is given ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("repair", "list of steps"),
        ([5], "give a step"),
        ([{"step": "again"}], "give a step"),
        ([{"step": "reask", "often": 2}], "no such name"),
        ([{"step": "reask", "times": 0}], "whole number"),
        ([{"step": "reask", "times": 10**400}], "whole number"),
        ([{"step": "adapter"}], "give its adapter"),
        ([{"step": "more_tokens"}], "give its max_tokens"),
        ([{"step": "more_tokens", "max_tokens": -1}], "whole number"),
        ([{"step": "adapter", "adapter": "dspy:LM.copy"}], "dspy.Adapter"),
        ([{"step": "adapter", "adapter": "no.such:thing"}], "package.module:name"),
        ([{"step": "repair", "function": "dspy:__name__"}], "give a function"),
        ({"steps": [], "max_calls": 0}, "whole number"),
        ({"most": 1}, "no such name"),
    ],
)
def test_a_policy_that_makes_no_sense_is_named(given: Any, why: str) -> None:
    with pytest.raises(BadOption, match=why):
        OnUnparsed.of(given)


def test_a_policy_is_a_value() -> None:
    """Given as it is, as a list, or as a tree file has it."""
    policy = OnUnparsed((Repair(), Reask(2)), 4)
    assert OnUnparsed.of(policy) == policy
    assert OnUnparsed.of({"steps": [{"step": "repair"}, Reask(2)], "max_calls": 4}) == policy
    assert OnUnparsed.of(None) == OnUnparsed.of({}) == OnUnparsed()
    assert OnUnparsed.of([{"step": "chain"}, {"step": "shorten"}]).steps == (NextModel(), Shorten())


async def test_an_endpoint_that_has_left_the_chain_is_named(runtime: Runtime) -> None:
    """Who still has its model is told which there are."""
    endpoints = {"a": {"lm": Parrot("").lm()}, "b": {"lm": Parrot("").lm()}}
    models = {"fast": {"endpoints": ["a", "b"]}}
    await runtime.spawn(Supervisor, [ChildSpec("gateway", Gateway, (endpoints, models), name="gateway")])
    (second,) = gateway_lm(runtime, "fast").dspex_chain
    await runtime.name("gateway").call(Configure(models={"fast": {"endpoints": ["a"]}}))
    with pytest.raises(dspy.LMError, match="choose among a"):
        await second.acall("hello")


async def test_a_report_of_a_thread_that_outlives_the_loop_is_dropped(runtime: Runtime) -> None:
    reporter = ParsingReporter(runtime, await runtime.spawn(ProgramActor, number, lm=Parrot("").lm()), "P", 0)
    loop = asyncio.new_event_loop()
    loop.close()
    reporter._loop = loop
    reporter(ParsingReport("none", False, 1, "A", ()))
    assert list(UnparsedCounts.of(runtime).samples()) == []


async def test_adapters_that_ask_no_second_question_have_the_policy_too(runtime: Runtime) -> None:
    """The compact one, for small models."""
    parrot = Parrot("Answer: four\nOr so.", "A: 4")
    actor = await served(runtime, parrot, adapter=CompactAdapter())
    assert await asked(actor) == {"a": 4}
    assert parrot.calls == 2
