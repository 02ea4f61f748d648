"""The interface of a program: its fields, their types, and whether an input fits them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pydantic

from dspex._compat import OWN_ARGUMENTS, PART_MARK, get_annotation_name, is_predicted_outputs
from dspex.agents.concurrency import ProgramExited, only_this_run
from dspex.serving.declaration import DeclaredField, declaration_of
from dspex.serving.forms import file_input, form_value, is_form
from dspex.serving.schemas import Mode, json_schema, type_adapter
from foundation.programs import Interface as Interface
from foundation.programs import InvalidInputs as InvalidInputs
from foundation.programs import ProgramField as ProgramField
from supervision.logs import get_logger

_log: Any = get_logger("dspex")
_NOT_AN_INPUT = "is an argument of DSPy's own, and no input"


class _Checked(NamedTuple):
    field: ProgramField
    annotation: Any
    type: pydantic.TypeAdapter[Any] | None


class Contract:
    """Checks inputs against what a program declares.

    Args:
        program: the program.
        signature: its inputs and outputs, if it does not declare them itself; see
            `dspex.serving.declaration.declaration_of`.

    Raises:
        BadProgram: it cannot do without an input that has the name of an argument of DSPy's own.
    """

    def __init__(self, program: Any, signature: Any = None) -> None:
        declared = declaration_of(program, signature)
        inputs = [_input(field) for field in declared.inputs]
        self._inputs = {entry.field.name: entry for entry in inputs}
        outputs = [_output(field) for field in declared.outputs]
        self._outputs = {entry.field.name: entry for entry in outputs}
        self.interface = Interface(
            program=type(program).__name__,
            description=declared.description,
            inputs=tuple(entry.field for entry in inputs),
            outputs=tuple(entry.field for entry in outputs),
            open=declared.open,
        )

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """The names of the inputs that are declared; None if the program takes others, too."""
        return None if self._open else tuple(self._inputs)

    def check(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs as the program's types have them: a mapping becomes the model that is declared.

        Raises:
            InvalidInputs: they do not fit, or set what is no input.
            ProgramExited: a validator of the program tried to end more than this request.
        """
        inputs, wrong = self._unpacked(inputs)
        missing = tuple(name for name, i in self._inputs.items() if i.field.required and name not in inputs)
        others = [name for name in inputs if name not in self._inputs]
        wrong.update({name: _NOT_AN_INPUT for name in others if _is_own_argument(name, inputs[name])})
        unexpected = tuple(_told(name) for name in others if name not in wrong and not (self._open and _is_name(name)))
        checked = {name: inputs[name] for name in others}
        for name in self._inputs.keys() & inputs.keys() - wrong.keys():
            try:
                checked[name] = _fit(self._inputs[name], inputs[name])
            except InvalidInputs as error:
                wrong.update(error.wrong)
        wrong.update(dict.fromkeys(_marked(inputs), "has DSPy's mark of an image, or another part, in a text"))
        if missing or unexpected or wrong:
            raise InvalidInputs(missing, unexpected, dict(sorted(wrong.items())))
        return checked

    def check_outputs(self, outputs: Mapping[str, Any]) -> None:
        """Check that outputs, or some of them, are of the types that the program declares.

        Raises:
            InvalidInputs: one of them is not.
            ProgramExited: a validator of the program tried to end more than this.
        """
        for name in sorted(self._outputs.keys() & outputs.keys()):
            _fit(self._outputs[name], outputs[name])

    def _unpacked(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the inputs with what the parts of a form stand for, and which of these stand for nothing."""
        found: dict[str, Any] = dict(inputs)
        wrong: dict[str, str] = {}
        for name, value in inputs.items():
            if is_form(value):
                annotation = self._inputs[name].annotation if name in self._inputs else Any
                try:
                    found[name] = form_value(annotation, value)
                except ValueError as error:
                    wrong[name] = str(error)
        return found, wrong

    @property
    def _open(self) -> bool:
        return self.interface.open


def _fit(entry: _Checked, value: Any) -> Any:
    """Return a value as its type has it. Whatever a validator raises is about this value, and nobody else's matter."""
    name, type = entry.field.name, entry.field.type
    if is_predicted_outputs(name, value):
        raise InvalidInputs(wrong={name: "is a setting of the model in this form, and no input"})
    try:
        with only_this_run(f"the validator of {name!r}"):
            return value if entry.type is None else entry.type.validate_python(value)
    except ProgramExited:
        raise
    except pydantic.ValidationError as error:
        why = _explain(error)
    except Exception as error:
        _log.warning("validator_raised", input=name, exc_info=error)
        why = f"its validator raised {error.__class__.__name__}"
    raise InvalidInputs(wrong={name: f"not {type}: {why}"})


def _explain(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg']}"


def _is_own_argument(name: object, value: Any) -> bool:
    return _is_name(name) and (name in OWN_ARGUMENTS or is_predicted_outputs(str(name), value))


def _is_name(name: object) -> bool:
    return type(name) is str


def _told(name: object) -> str:
    return name if isinstance(name, str) else f"a {type(name).__name__} for a name"


def _marked(inputs: Mapping[str, Any]) -> Iterator[str]:
    """Return the inputs in whose texts is what DSPy would make an image, or a file of the provider's, of."""
    for name, value in inputs.items():
        level = [value]
        while level:
            found = level.pop()
            if isinstance(found, str):
                if PART_MARK in found:
                    yield _told(name)
                    break
            elif type(found) is dict:
                level.extend(found)
                level.extend(found.values())
            elif type(found) is list:
                level.extend(found)


def _input(field: DeclaredField) -> _Checked:
    adapter = _adapter(field)
    file = file_input(field.type)
    described = _field(field, adapter, "validation", "" if file is None else file.media_types)
    return _Checked(described, field.type, adapter)


def _output(field: DeclaredField) -> _Checked:
    adapter = _adapter(field)
    return _Checked(_field(field, adapter, "serialization"), field.type, adapter)


def _adapter(field: DeclaredField) -> pydantic.TypeAdapter[Any] | None:
    return None if field.type is Any else type_adapter(field.type)


def _field(field: DeclaredField, adapter: pydantic.TypeAdapter[Any] | None, mode: Mode, file: str = "") -> ProgramField:
    spelled = "Any" if adapter is None else str(get_annotation_name(field.type))
    schema = {} if adapter is None else json_schema(adapter, mode)
    return ProgramField(field.name, spelled, field.description, field.required, schema, file)
