"""The interface of a program: its fields, their types, and whether an input fits them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import dspy
import msgspec
import pydantic

from dspex._compat import annotation_allows_none, description, get_annotation_name, hints_of, untyped
from foundation.programs import Interface as Interface
from foundation.programs import InvalidInputs as InvalidInputs
from foundation.programs import ProgramField as ProgramField


class _Input(NamedTuple):
    field: ProgramField
    type: pydantic.TypeAdapter[Any] | None


class Contract:
    """Checks inputs against what a program declares.

    Args:
        program: the program. Its inputs are the parameters of its ``forward``, if these are spelled out;
            otherwise the inputs of its signature, or of its only predictor.
        signature: its inputs and outputs, if it does not declare them itself: a ``dspy.Signature`` or a string
            such as ``"text -> label"``.
    """

    def __init__(self, program: Any, signature: Any = None) -> None:
        declared: Any = _signature_of(program) if signature is None else dspy.ensure_signature(signature)
        parameters = None if signature is not None else _parameters(program)
        if parameters is not None:
            inputs = [_of_parameter(name, *rest) for name, *rest in parameters]
        else:
            inputs = [] if declared is None else [_of_field(*item) for item in declared.input_fields.items()]
        self._inputs = {entry.field.name: entry for entry in inputs}
        outputs = () if declared is None else tuple(_of_field(*item).field for item in declared.output_fields.items())
        self.interface = Interface(
            program=type(program).__name__,
            description=_description(program, declared),
            inputs=tuple(entry.field for entry in inputs),
            outputs=tuple(msgspec.structs.replace(field, required=True) for field in outputs),
            open=declared is None and parameters is None,
        )

    def check(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs as the program's types have them: a mapping becomes the model that is declared.

        Raises:
            InvalidInputs: they do not fit.
        """
        if self.interface.open:
            return dict(inputs)
        missing = tuple(name for name, i in self._inputs.items() if i.field.required and name not in inputs)
        unexpected = tuple(str(name) for name in inputs if name not in self._inputs)
        checked: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name in self._inputs.keys() & inputs.keys():
            try:
                checked[name] = _fit(self._inputs[name].type, inputs[name])
            except pydantic.ValidationError as error:
                wrong[name] = _explain(error, self._inputs[name].field.type)
        if missing or unexpected or wrong:
            raise InvalidInputs(missing, unexpected, dict(sorted(wrong.items())))
        return checked


def _fit(type: pydantic.TypeAdapter[Any] | None, value: Any) -> Any:
    return value if type is None else type.validate_python(value)


def _explain(error: pydantic.ValidationError, type: str) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"not {type}: {where + ': ' if where else ''}{first['msg']}"


def _signature_of(program: Any) -> Any:
    """Return the signature that speaks for a program: its own, or that of its only predictor."""
    own = getattr(program, "signature", None)
    if inspect.isclass(own) and issubclass(own, dspy.Signature):
        return own
    predictors = program.predictors()
    return predictors[0].signature if len(predictors) == 1 else None


def _parameters(program: Any) -> list[tuple[str, Any, bool]] | None:
    """Return name, type and necessity of what ``forward`` takes; None if that is just anything."""
    kind = type(program)
    function = getattr(kind, "forward", None) or getattr(kind, "aforward", None)
    if function is None:
        return None
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if any(parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) for parameter in parameters):
        return None
    # Where only a type checker can read an annotation, parameters take anything.
    hints = hints_of(function)
    return [(p.name, hints.get(p.name, Any), p.default is p.empty) for p in parameters]


def _description(program: Any, signature: Any) -> str:
    return str(signature.instructions) if signature is not None else inspect.getdoc(type(program)) or ""


def _of_field(name: str, field: Any) -> _Input:
    annotation = Any if untyped(field) else field.annotation
    required = field.is_required() and not annotation_allows_none(field.annotation)
    return _input(name, annotation, description(name, field), required)


def _of_parameter(name: str, annotation: Any, required: bool) -> _Input:
    return _input(name, annotation, "", required)


def _input(name: str, annotation: Any, text: str, required: bool) -> _Input:
    type = None if annotation is Any else _type_adapter(annotation)
    spelled = "Any" if annotation is Any else str(get_annotation_name(annotation))
    return _Input(ProgramField(name, spelled, text, required, _schema(type)), type)


def _type_adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(annotation)
    except pydantic.PydanticSchemaGenerationError:
        return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))


def _schema(type: pydantic.TypeAdapter[Any] | None) -> dict[str, Any]:
    if type is None:
        return {}
    try:
        return type.json_schema()
    except (pydantic.PydanticInvalidForJsonSchema, pydantic.PydanticUserError):
        return {}
