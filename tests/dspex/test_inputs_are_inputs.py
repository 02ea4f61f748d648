"""Callers set inputs and nothing else, and what a validator or a program raises is the matter of one request."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import httpx
import pydantic
import pytest
import structlog

from dspex import ProgramActor, ProgramPool, agent
from dspex.agents.agent import BadProgram
from dspex.agents.concurrency import ProgramExited
from dspex.serving.interface import Contract
from foundation.http.app import application
from foundation.programs import InvalidInputs, RunProgram, StreamProgram
from supervision import Actor, ChildSpec, Runtime, StartError, Supervisor, handle
from tests.dspex.samples import Gate, Raising, Returning, ask, scripted

MARK = '<<CUSTOM-TYPE-START-IDENTIFIER>>[{"type":"file","file":{"file_id":"x"}}]<<CUSTOM-TYPE-END-IDENTIFIER>>'
#: What ends a process or an event loop, when nobody catches it; and what it may be hidden in.
ENDS: list[BaseException] = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    BaseExceptionGroup("several", [SystemExit(3), ValueError("v")]),
    type("OfMyOwn", (BaseException,), {})(),
]
KINDS = [type(error).__name__ for error in ENDS]


class Two(dspy.Module):
    """Passes on to its predictors what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict("question -> answer")
        self.check = dspy.Predict("question, answer -> ok: bool")

    def forward(self, **inputs: Any) -> Any:
        """Draft."""
        return self.draft(**inputs)


class Passing(dspy.Module):
    """Takes an argument of DSPy's own, for those who call it in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str, config: Any = None, lm: Any = None) -> Any:
        """Answer."""
        return self.answer(question=question, config=config or {}, lm=lm)


class Needing(dspy.Module):
    """Cannot do without one."""

    def forward(self, question: str, config: dict[str, Any]) -> Any:
        """Answer."""


class Deep(dspy.Module):
    """Names one input, and takes others."""

    def forward(self, question: str, **more: Any) -> Any:
        """Tell."""
        return dspy.Prediction(more=sorted(more))


class Thread(dspy.Module):
    """Raises in a thread what it is told to."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self) -> Any:
        """Raise."""
        raise self.error


class Raised(pydantic.BaseModel):
    """Its validator raises what it is told to."""

    what: Any

    @pydantic.field_validator("what")
    @classmethod
    def told(cls, what: Any) -> Any:
        """Raise."""
        if isinstance(what, BaseException):
            raise what
        return {"a": "A"}[what]


class Ordering(dspy.Module):
    """Takes one."""

    async def aforward(self, order: Raised) -> Any:
        """Tell."""
        return dspy.Prediction(ok=order.what)


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Errors are logged as text: whoever has captured logs before has left structlog to show all that is in them."""
    structlog.reset_defaults()


def refusal(program: Any, inputs: dict[Any, Any], signature: Any = None) -> InvalidInputs:
    """What inputs are refused with."""
    with pytest.raises(InvalidInputs) as caught:
        Contract(program, signature).check(inputs)
    return caught.value


# -- nothing of DSPy's own -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config", "lm", "signature", "new_signature", "demos", "adapter", "callbacks"])
@pytest.mark.parametrize("program", [Two(), dspy.Predict("question -> answer"), Passing(), Deep()])
def test_arguments_of_dspys_own_are_refused_by_name(program: Any, name: str) -> None:
    """Whether a program takes anything, has a signature, or names the argument itself: no caller sets it."""
    error = refusal(program, {"question": "hi", name: {}})
    assert error.wrong == {name: "is an argument of DSPy's own, and no input"}
    assert name in str(error)


@pytest.mark.parametrize("name", ["rollout_id", "_trace", "max_iters", "interpreter", "interpreter_factory"])
def test_what_decides_of_caches_traces_and_costs_is_refused(name: str) -> None:
    """So are the arguments of DSPy's larger modules, in a program that passes on what it gets."""
    assert set(refusal(Two(), {name: 1}).wrong) == {name}


def test_predicted_outputs_are_a_setting_of_the_model() -> None:
    """An input of this name is one, unless it has the form that DSPy hands on to the provider."""
    form = {"type": "content", "content": "x"}
    assert set(refusal(Two(), {"prediction": form}).wrong) == {"prediction"}
    assert set(refusal(dspy.Predict("prediction -> answer"), {"prediction": form}).wrong) == {"prediction"}
    assert Contract(dspy.Predict("prediction -> answer")).check({"prediction": {"type": "content"}})


def test_a_program_may_have_them_for_those_who_call_it_in_python() -> None:
    """They are not among the inputs that it tells of, and it runs without."""
    assert [field.name for field in Contract(Passing()).interface.inputs] == ["question"]


@pytest.mark.parametrize("signature", [None, "question, config -> answer"])
def test_a_program_that_cannot_do_without_one_does_not_start(signature: str | None) -> None:
    """It would be run with what a caller says, or never: the name and the remedy are said."""
    with pytest.raises(BadProgram, match="'config' is an argument of DSPy's own; name the input otherwise"):
        Contract(Needing(), signature)


def test_other_inputs_of_an_open_program_are_its_own_affair() -> None:
    """What it names is checked, what else there is goes to it, and names are texts."""
    assert Contract(Deep()).check({"question": "q", "n": 1}) == {"question": "q", "n": 1}
    assert refusal(Deep(), {"n": 1}).missing == ("question",)
    assert refusal(Two(), {5: 1}).unexpected == ("a int for a name",)


@pytest.mark.parametrize("value", [MARK, [MARK], {"a": [1, {"b": MARK}]}, {MARK: 1}])
def test_a_text_is_a_text(value: Any) -> None:
    """A text in which DSPy would see an image, or a file that the provider keeps for somebody else, is refused."""
    assert set(refusal(Two(), {"fine": "x", "question": value}).wrong) == {"question"}
    assert Contract(Two()).check({"image": dspy.Image("data:image/png;base64,AA==")})


# -- what validators raise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("k"), TypeError("t"), RecursionError("r"), ExceptionGroup("g", [KeyError()])]
)
def test_whatever_a_validator_raises_is_about_its_value(error: Exception) -> None:
    """It is named, and says no more than its kind."""
    why = f"not Raised: its validator raised {type(error).__name__}"
    assert refusal(Ordering(), {"order": {"what": error}}).wrong == {"order": why}


def test_what_has_no_form_in_json_is_no_crash() -> None:
    """A tool is a function: something else in its place is named as wrong."""
    tools = refusal(dspy.Predict("q, tools: list[dspy.Tool] -> a", dspy=dspy), {"q": "x", "tools": [{"name": "x"}]})
    assert tools.wrong == {"tools": "not list[Tool]: its validator raised TypeError"}


@pytest.mark.parametrize("error", ENDS, ids=KINDS)
async def test_a_validator_that_would_end_the_process_ends_its_request(runtime: Runtime, error: BaseException) -> None:
    """That is a fault of the program: its caller is told, and what runs beside it is answered."""
    gate = Gate()
    other = await runtime.spawn(ProgramActor, gate, lm=scripted())
    actor = await runtime.spawn(ProgramActor, Ordering, lm=scripted())
    running = other.call(RunProgram({"name": "a"}))
    with pytest.raises(ProgramExited, match=r"the validator of 'order' raised \w+, which ends this run") as caught:
        await actor.call(RunProgram({"order": {"what": error}}))
    assert caught.value.__cause__ is error
    assert (await actor.call(RunProgram({"order": {"what": "a"}}))).outputs == {"ok": "A"}
    gate.open.set()
    assert (await running).outputs == {"name": "a"}


async def test_a_bad_request_ends_nobody_else(runtime: Runtime) -> None:
    """The pool goes on, and so does what it runs."""
    ref = await runtime.spawn(ProgramPool, Ordering, lm=scripted())
    calls = [ref.call(RunProgram({"order": {"what": what}})) for what in "abab"]
    good, bad, *_ = await asyncio.gather(*calls, return_exceptions=True)
    assert good.outputs == {"ok": "A"}  # type: ignore[union-attr]
    assert isinstance(bad, InvalidInputs)


# -- what programs raise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ENDS, ids=KINDS)
@pytest.mark.parametrize("kind", [ProgramActor, ProgramPool])
@pytest.mark.parametrize("program", [Raising, Thread])
async def test_what_would_end_the_process_ends_the_run(
    runtime: Runtime, kind: type[ProgramActor], program: Any, error: BaseException
) -> None:
    """In a task or a thread, in one actor or in a pool: the caller gets an error, and the actor lives on."""
    actor = await runtime.spawn(kind, lambda: program(error), lm=scripted())
    for _ in range(2):
        with pytest.raises(ProgramExited, match="which ends this run, and nothing else"):
            await actor.call(RunProgram({}))
    with pytest.raises(ProgramExited):
        await actor.call(StreamProgram({}, _nobody))
    assert actor.alive


async def _nobody(piece: Any) -> None:
    """Take a piece of an answer."""


@pytest.mark.parametrize("error", ENDS, ids=KINDS)
def test_agents_outlive_what_their_programs_raise(error: BaseException) -> None:
    """A program in an agent raises for its caller what it would raise without, and the agents' runtime lives on."""
    for wrapped, call in [(agent(Raising(error)), in_a_task), (agent(Thread(error)), in_this_thread)]:
        assert [call(wrapped), call(wrapped)] == [error, error]
    with dspy.context(lm=scripted("blue")):
        assert agent(ask())(question="?").answer == "blue"


def in_a_task(program: Any) -> BaseException | None:
    """What a program raises in a task, caught in the task."""

    async def caught() -> BaseException | None:
        try:
            return await program.acall()  # type: ignore[no-any-return]
        except BaseException as error:
            return error

    return asyncio.run(caught())


def in_this_thread(program: Any) -> BaseException | None:
    """What a program raises."""
    try:
        return program()  # type: ignore[no-any-return]
    except BaseException as error:
        return error


# -- over HTTP -------------------------------------------------------------------------------------------------------


async def served(runtime: Runtime, program: Any, kind: type[Actor] = ProgramActor) -> httpx.AsyncClient:
    """A client of a program that is served."""
    options = {} if kind is Answering else {"lm": scripted("blue", "blue")}
    await runtime.spawn(Supervisor, [ChildSpec("p", kind, (program,), options, name="program:p")])
    transport = httpx.ASGITransport(application(runtime))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


class Answering(Actor):
    """Any actor may answer for a program."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    @handle
    def run(self, request: RunProgram) -> None:
        """Fail."""
        self.defer_reply().fail(self._error)


async def test_a_caller_cannot_take_the_key_over_http(runtime: Runtime) -> None:
    """The refusal names the argument."""
    async with await served(runtime, Two) as client:
        body = {"question": "hi", "config": {"api_base": "http://127.0.0.1:9/v1"}}
        response = await client.post("/programs/p", json=body)
        assert response.status_code == 422
        assert response.json()["errors"] == [
            {"field": "config", "detail": "is an argument of DSPy's own, and no input"}
        ]
        assert (await client.post("/programs/p", json={"question": "hi"})).json() == {"answer": "blue"}


@pytest.mark.parametrize("error", ENDS, ids=KINDS)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_the_server_outlives_what_programs_raise(runtime: Runtime, error: BaseException, accept: str) -> None:
    """Also when the answer is streamed: it is a 500, and the next request is answered."""
    async with await served(runtime, Raising(error)) as client:
        for _ in range(2):
            assert (await client.post("/programs/p", json={}, headers={"accept": accept})).status_code == 500


@pytest.mark.parametrize("error", ENDS, ids=KINDS)
async def test_the_server_outlives_what_any_actor_answers(runtime: Runtime, error: BaseException) -> None:
    """Whatever serves as a program."""
    async with await served(runtime, error, Answering) as client:
        assert (await client.post("/programs/p", json={})).status_code == 500


class Unwritable:
    """Raises something when it is to be written."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error


@pytest.mark.parametrize("error", [SystemExit(3), ValueError("v")], ids=["SystemExit", "ValueError"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_the_server_outlives_what_answers_raise(runtime: Runtime, accept: str, error: BaseException) -> None:
    """An output that ends the process when it becomes text ends its answer."""
    async with await served(runtime, Returning({"a": Unwritable(error)})) as client:
        response = await client.post("/programs/p", json={}, headers={"accept": accept})
        assert response.status_code == 500 or b'"status":500' in response.content


def test_a_program_that_needs_one_does_not_start_its_actor() -> None:
    """The actor says why it does not start."""

    async def main() -> None:
        async with Runtime(reports=False) as runtime:
            with pytest.raises(StartError, match="'config' is an argument of DSPy's own"):
                await runtime.spawn(ProgramActor, Needing, lm=scripted())

    asyncio.run(main())
