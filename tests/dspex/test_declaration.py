"""What is said of a program is what the method takes and gives that runs when it is called."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypedDict

import dspy
import pydantic
import pytest

from dspex import ProgramActor
from dspex._compat import is_async
from dspex.serving.declaration import RESULT, Declaration, declaration_of
from dspex.serving.interface import Contract
from foundation.programs import Interface, RunProgram, json_form
from supervision import Runtime
from tests.dspex.samples import scripted


class Label(dspy.Signature):
    """Find the label."""

    text: str = dspy.InputField()
    label: str = dspy.OutputField()


class Scored(TypedDict, total=False):
    """Fields, as a mapping has them."""

    score: float


class Routing(dspy.Module):
    """Around a predictor, and not what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.predictor = dspy.ChainOfThought(Label)

    def forward(self, text: str) -> dspy.Prediction:
        """Route."""
        return dspy.Prediction(department=self.predictor(text=text).label.upper())


class Loose(Routing):
    def forward(self, **inputs: Any) -> Any:  # type: ignore[override]
        """Take anything."""
        return self.predictor(**inputs)


class Signed(dspy.Module):
    signature = Label

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """Take what the signature says."""


class SignedOpen(Signed):
    """Named and more."""

    def forward(self, text: str, **more: Any) -> Any:
        """Take more."""


class Louder(dspy.ChainOfThought):
    """Has a forward of its own, and DSPy's aforward above it."""

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Be loud."""
        return dspy.Prediction(loud=super().forward(**inputs).answer.upper())


class Comparing(dspy.Predict):
    """Made like `dspy.MultiChainComparison`: DSPy's own, with an input beside those that it passes on."""

    def __init__(self) -> None:
        super().__init__("question -> answer")

    def forward(self, completions: list[str], **inputs: Any) -> Any:
        """Compare."""


class Silent(dspy.Module):
    """Made like one of DSPy's own without a signature."""

    def forward(self, **inputs: Any) -> Any:
        """Do something."""


Comparing.__module__ = Silent.__module__ = "dspy.predict.of_this_test"


def around(function: Any) -> Any:
    """A decorator."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


class Decorated(dspy.Module):
    @around
    def forward(self, text: str, /, a: int, *, b: int = 1) -> list[int]:
        """Add."""
        return [a + b]


def returning(annotation: Any) -> Any:
    """A program that says that it returns this."""

    class Says(dspy.Module):
        async def aforward(self) -> Any:
            return None

    Says.aforward.__annotations__["return"] = annotation
    return Says()


def names(declared: Declaration) -> tuple[list[str], list[str], bool]:
    """The names of the inputs and of the outputs, and whether there may be other inputs."""
    return [field.name for field in declared.inputs], [field.name for field in declared.outputs], declared.open


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (Routing(), (["text"], [], False)),
        (Loose(), ([], [], True)),
        (Signed(), (["text"], ["label"], False)),
        (SignedOpen(), (["text"], ["label"], True)),
        (Louder("question -> answer"), ([], [], True)),
        (Decorated(), (["a", "b"], [RESULT], False)),
        (dspy.Predict(Label), (["text"], ["label"], False)),
        (dspy.ReAct("question -> answer", tools=[]), (["question"], ["answer"], False)),
        (dspy.BestOfN(dspy.Predict(Label), 2, lambda *_: 1.0, 1.0), (["text"], ["label"], False)),
        (dspy.Refine(Routing(), 2, lambda *_: 1.0, 1.0), (["text"], [], False)),
        (Comparing(), (["completions"], ["answer"], True)),
        (Silent(), ([], [], True)),
        (dspy.Module(), ([], [], True)),
    ],
)
def test_a_program_is_what_its_method_takes_and_gives(program: Any, expected: Any) -> None:
    """Outputs of an inner predictor are not those of the program; what DSPy's own modules give is known."""
    assert names(declaration_of(program)) == expected


@pytest.mark.parametrize(
    ("annotation", "outputs"),
    [
        (Label, ["label"]),
        (Scored, ["score"]),
        (int, [RESULT]),
        (list[str], [RESULT]),
        (str | None, [RESULT]),
        (Mapping[str, int], []),
        (dspy.Prediction | None, []),
        (dspy.Example, []),
        (Any, []),
        (object, []),
        ("Missing", []),
    ],
)
def test_the_annotation_of_what_it_returns_is_believed(annotation: Any, outputs: list[str]) -> None:
    """A signature or typed dictionary names outputs; what is no mapping comes as one output; others are not known."""
    assert names(declaration_of(returning(annotation)))[1] == outputs


def test_outputs_that_need_not_be_there() -> None:
    """A key of a typed dictionary that may be missing is not required."""
    assert [field.required for field in declaration_of(returning(Scored)).outputs] == [False]
    assert [field.required for field in Contract(returning(Scored)).interface.outputs] == [False]


@pytest.mark.parametrize(
    ("program", "about"),
    [
        (Routing(), "Around a predictor, and not what it is."),
        (Loose(), "Around a predictor, and not what it is."),
        (Signed(), "Take what the signature says."),
        (Decorated(), "Add."),
        (dspy.Predict(Label), "Find the label."),
        (returning(int), ""),
        (dspy.Module(), ""),
    ],
)
def test_what_the_author_says_describes_a_program(program: Any, about: str) -> None:
    """Its class, or else its method, or its signature; never what DSPy says of modules in general."""
    assert declaration_of(program).description == about


async def test_a_forward_of_its_own_runs_and_not_the_aforward_above_it(runtime: Runtime) -> None:
    """A program that changes only `forward` of one of DSPy's modules is served as it is written."""
    assert (is_async(Louder("question -> answer")), is_async(dspy.Module())) == (False, False)
    actor = await runtime.spawn(
        ProgramActor, lambda: Louder("question -> answer"), lm=dspy.utils.DummyLM([{"reasoning": "r", "answer": "a"}])
    )
    assert (await actor.call(RunProgram({"question": "?"}))).outputs == {"loud": "A"}


# -- schemas ---------------------------------------------------------------------------------------------------------


def schema_of(annotation: Any) -> Any:
    """The schema of what a program returns."""
    interface: Interface = Contract(returning(annotation)).interface
    return interface.outputs[0].schema


class Picture(dspy.Type):
    """A type of the user's own."""

    pixels: int

    def format(self) -> list[dict[str, Any]]:
        """For prompts."""
        return [{"type": "text", "text": str(self.pixels)}]


class Short(Picture):
    """One that is a text."""

    def format(self) -> str:  # type: ignore[override]
        """For prompts."""
        return "short"


@pytest.mark.parametrize(
    "value",
    [
        dspy.Image("data:image/png;base64,AA=="),
        Picture(pixels=1),
        Short(pixels=1),
        dspy.Code(code="x"),
        dspy.History(messages=[{"a": 1}]),
    ],
)
def test_dspys_types_are_written_as_their_schemas_say(value: Any) -> None:
    """Not with the marks that they have in prompts: what comes out can go in."""
    written: Any = json_form(value)
    schema = schema_of(type(value))
    shape = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(written, str):
        assert (shape["type"], "CUSTOM" in written) == ("string", False)
    else:
        assert (shape["type"], set(shape["properties"])) == ("object", set(written))
    again = pydantic.TypeAdapter(type(value)).validate_python(written) if not isinstance(value, Short) else value
    assert again == value


def test_what_cannot_be_json_may_come_as_anything_and_never_in() -> None:
    """A function is no JSON value; the other fields of a tool keep their types."""
    tool = Contract(dspy.Predict("tool: dspy.Tool -> answer", dspy=dspy)).interface.inputs[0].schema["$defs"]["Tool"]
    assert tool["properties"]["func"]["not"] == {}
    assert schema_of(type(len)) == {}


def test_a_type_with_no_schema_at_all_has_none() -> None:
    """One whose author has not said it."""

    class Secretive(pydantic.BaseModel):
        @classmethod
        def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
            raise pydantic.PydanticUserError("none", code=None)

    assert schema_of(Secretive) == {}
    assert scripted() is not None
