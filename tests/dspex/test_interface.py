"""What programs take and give, and whether inputs fit."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

from typing import Any, Literal

import dspy
import pydantic
import pytest

from dspex.serving.interface import Contract
from foundation.programs import InvalidInputs, ProgramField


class Point(pydantic.BaseModel):
    """A point."""

    x: int
    y: int = 0


class Opaque:
    """A type that has no JSON schema."""


class Draw(dspy.Signature):
    """Draw it."""

    point: Point = dspy.InputField(desc="where")
    tags: list[str] = dspy.InputField()
    size: int = dspy.InputField(default=3)
    note: str | None = dspy.InputField()
    style: Literal["thin", "thick"] = dspy.OutputField(desc="how")


class Plain(dspy.Module):
    """Adds."""

    def forward(self, a: int, b: int = 1) -> dspy.Prediction:
        """Add."""
        return dspy.Prediction(total=a + b)


class AsyncOnly(dspy.Module):
    """Waits."""

    async def aforward(self, seconds: float) -> dspy.Prediction:
        """Wait."""
        return dspy.Prediction(slept=seconds)


class Anything(dspy.Module):
    """Takes what comes."""

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Count."""
        return dspy.Prediction(count=len(inputs))


class Nothing(dspy.Module):
    """Cannot be called."""


class Guarded(dspy.Module):
    """Its types are for type checkers only."""

    def forward(self, thing: NotImported) -> dspy.Prediction:  # type: ignore[name-defined]  # noqa: F821
        """Return it."""
        return dspy.Prediction(thing=thing)


class Strange(dspy.Module):
    """Takes an object of a class that pydantic does not know."""

    def forward(self, thing: Opaque) -> dspy.Prediction:
        """Return it."""
        return dspy.Prediction(thing=thing)


def refused(program: Any, inputs: dict[str, Any], signature: Any = None) -> InvalidInputs:
    """The error that inputs get."""
    with pytest.raises(InvalidInputs) as caught:
        Contract(program, signature).check(inputs)
    return caught.value


def test_a_signature_describes_its_program() -> None:
    """A predictor's signature says what it takes and gives, with types, descriptions and schemas."""
    interface = Contract(dspy.Predict(Draw)).interface
    assert (interface.program, interface.description, interface.open) == ("Predict", "Draw it.", False)
    assert [field.name for field in interface.inputs if field.required] == ["point", "tags"]
    assert interface.inputs[0].description == "where"
    assert interface.inputs[0].schema["$ref"] == "#/$defs/Point"
    assert interface.inputs[0].schema["$defs"]["Point"]["properties"]["x"]["type"] == "integer"
    style = ProgramField(
        "style", "Literal['thin', 'thick']", "how", True, {"enum": ["thin", "thick"], "type": "string"}
    )
    assert interface.outputs == (style,)


def test_fields_without_types_take_anything() -> None:
    """A field of a signature in a string without a type is not checked."""
    contract = Contract(dspy.Predict("question -> answer"))
    assert contract.interface.inputs == (ProgramField("question", "Any"),)
    assert contract.check({"question": 5}) == {"question": 5}


def test_a_composite_speaks_through_its_only_predictor() -> None:
    """A module around one predictor has the predictor's inputs and outputs."""
    interface = Contract(dspy.ChainOfThought("question: str -> answer: str")).interface
    assert [field.name for field in interface.inputs] == ["question"]
    assert [field.name for field in interface.outputs] == ["reasoning", "answer"]


def test_the_parameters_of_forward_are_inputs() -> None:
    """A module that spells out its parameters takes these; its outputs are not known."""
    interface = Contract(Plain()).interface
    assert [(field.name, field.type, field.required) for field in interface.inputs] == [
        ("a", "int", True),
        ("b", "int", False),
    ]
    assert (interface.description, interface.outputs) == ("Adds.", ())


def test_the_parameters_of_aforward_are_inputs() -> None:
    """A module with only an async method is described by that."""
    assert [field.name for field in Contract(AsyncOnly()).interface.inputs] == ["seconds"]


@pytest.mark.parametrize("program", [Anything(), Nothing()])
def test_a_program_that_does_not_say_is_open(program: Any) -> None:
    """A module that declares nothing takes any inputs."""
    contract = Contract(program)
    assert contract.interface.open
    assert contract.check({"a": 1}) == {"a": 1}


def test_a_signature_can_be_declared() -> None:
    """What a program does not say itself can be said for it, and then counts."""
    contract = Contract(Anything(), "text: str -> count: int")
    assert [field.name for field in contract.interface.outputs] == ["count"]
    assert refused(Anything(), {"x": 1}, "text: str -> count: int").missing == ("text",)


def test_types_that_only_a_checker_knows_take_anything() -> None:
    """Annotations that cannot be resolved are not checked."""
    assert Contract(Guarded()).check({"thing": 5}) == {"thing": 5}


def test_classes_that_pydantic_does_not_know() -> None:
    """An object of any class is checked by its class, and its schema says that it cannot be given in JSON."""
    contract = Contract(Strange())
    thing = Opaque()
    assert contract.check({"thing": thing})["thing"] is thing
    assert contract.interface.inputs[0].schema == {"not": {}}
    assert "thing" in refused(Strange(), {"thing": 5}).wrong


def test_good_inputs_become_what_the_program_declares() -> None:
    """Optional inputs may be left out, and data becomes the declared model."""
    contract = Contract(dspy.Predict(Draw))
    checked = contract.check({"point": {"x": 1}, "tags": ["a"]})
    assert checked == {"point": Point(x=1), "tags": ["a"]}


def test_all_that_is_wrong_is_named() -> None:
    """Missing, unexpected and wrongly typed inputs are all named at once."""
    error = refused(dspy.Predict(Draw), {"point": {"x": "far"}, "size": "big", "colour": 1})
    assert (error.missing, error.unexpected, set(error.wrong)) == (("tags",), ("colour",), {"point", "size"})
    assert error.wrong["point"].startswith("not Point: x: ")
    assert error.wrong["size"].startswith("not int: ")
    assert str(error).startswith("missing: tags; unexpected: colour; point: not Point")
