"""What a program takes and gives, as its code says it: by the method that runs, or by a signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import dspy

from dspex._compat import (
    OWN_ARGUMENTS,
    annotation_allows_none,
    description,
    entry_point,
    hints_of,
    inner_program,
    is_own,
    is_signature,
    untyped,
)
from dspex.agents.agent import BadProgram

#: The name of the output of a program that returns something else than fields.
RESULT = "result"
_FIELDS = (dspy.Example, Mapping)
_Parameter = inspect.Parameter


class DeclaredField(NamedTuple):
    """One field: its ``type`` is Any where nothing is said of it."""

    name: str
    type: Any
    description: str = ""
    required: bool = True


class Declaration(NamedTuple):
    """What a program takes and gives. It is ``open`` if it takes other inputs too; no outputs: they are not known."""

    inputs: tuple[DeclaredField, ...]
    outputs: tuple[DeclaredField, ...]
    open: bool
    description: str


def declaration_of(program: Any, signature: Any = None) -> Declaration:
    """Return what a program takes and gives.

    A program of DSPy's own speaks through its signature. Any other speaks through the method that runs when it is
    called: its parameters are the inputs, and what it is annotated to return are the outputs. What its predictors give
    is not what it gives. A ``signature`` among its attributes says what else is not said.

    Arguments of DSPy's own (`dspex._compat.OWN_ARGUMENTS`), such as ``config``, are no inputs, whatever they are for.

    Args:
        program: the program.
        signature: its inputs and outputs, if it does not declare them itself: a ``dspy.Signature`` or a string such as
            ``"text -> label"``.

    Raises:
        BadProgram: it cannot do without an input that has the name of an argument of DSPy's own.
    """
    found = _declared(program) if signature is None else _of_signature(dspy.ensure_signature(signature))
    taken = [field.name for field in found.inputs if field.name in OWN_ARGUMENTS]
    needed = [field.name for field in found.inputs if field.name in taken and field.required]
    if needed:
        raise BadProgram(
            type(program).__name__, f"{needed[0]!r} is an argument of DSPy's own; name the input otherwise"
        )
    return found._replace(inputs=tuple(field for field in found.inputs if field.name not in taken))


def _declared(program: Any) -> Declaration:
    entry = entry_point(program)
    if entry is None:
        return Declaration((), (), True, _about(program))
    kind, name = entry
    own = is_own(kind)
    inner = inner_program(program) if own else None
    if inner is not None:
        return _declared(inner)
    method = vars(kind)[name]
    inputs, more = _parameters(method)
    spoken = _signature_of(program, own=own)
    if own and spoken is None:
        return Declaration(inputs, (), True, _about(program))
    if spoken is None:
        return Declaration(inputs, _returned(method), more, _about(program, method))
    said = _of_signature(spoken)
    # A signature closes what the parameters leave open, unless they name some of the inputs themselves.
    closed = said.inputs if more and not inputs else inputs
    about = said.description if own else _about(program, method) or said.description
    return Declaration(closed, said.outputs, more and bool(inputs), about)


def _of_signature(signature: Any) -> Declaration:
    inputs = (_of_field(*item) for item in signature.input_fields.items())
    outputs = (_of_field(*item)._replace(required=True) for item in signature.output_fields.items())
    return Declaration(tuple(inputs), tuple(outputs), False, str(signature.instructions))


def _of_field(name: str, field: Any) -> DeclaredField:
    annotation = Any if untyped(field) else field.annotation
    required = field.is_required() and not annotation_allows_none(field.annotation)
    return DeclaredField(name, annotation, description(name, field), required)


def _signature_of(program: Any, *, own: bool) -> Any:
    """Return the signature that speaks for a program: its own, or that of its only predictor if it is DSPy's own."""
    found = getattr(program, "signature", None)
    if is_signature(found):
        return found
    predictors: list[Any] = program.predictors() if own else []
    return predictors[0].signature if len(predictors) == 1 else None


def _parameters(method: Any) -> tuple[tuple[DeclaredField, ...], bool]:
    """Return the inputs that a method names, and whether it takes others too."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    # Where only a type checker can read an annotation, parameters take anything.
    hints = hints_of(method)
    named = (p for p in parameters if p.kind in (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY))
    fields = tuple(DeclaredField(p.name, hints.get(p.name, Any), "", p.default is p.empty) for p in named)
    return fields, any(p.kind is _Parameter.VAR_KEYWORD for p in parameters)


def _returned(method: Any) -> tuple[DeclaredField, ...]:
    kind = hints_of(method).get("return", Any)
    if is_signature(kind):
        return _of_signature(kind).outputs
    if typing.is_typeddict(kind):
        keys: frozenset[str] = kind.__required_keys__
        return tuple(DeclaredField(name, hint, required=name in keys) for name, hint in hints_of(kind).items())
    return () if _may_have_fields(kind) else (DeclaredField(RESULT, kind),)


def _may_have_fields(annotation: Any) -> bool:
    """Return whether something of this type may have fields of which nothing is known."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(map(_may_have_fields, typing.get_args(annotation)))
    kind = typing.get_origin(annotation) or annotation
    return not isinstance(kind, type) or kind in (Any, object) or issubclass(kind, _FIELDS)


def _about(program: Any, method: Any = None) -> str:
    """Return what the author has written about a program, and not what DSPy says of every module."""
    texts: Iterable[Any] = (vars(kind).get("__doc__") for kind in type(program).__mro__ if not _is_base(kind))
    # None has a text of its own from Python 3.13 on.
    said = method and getattr(method, "__doc__", None)
    return inspect.cleandoc(next((text for text in (*texts, said) if text), ""))


def _is_base(kind: type) -> bool:
    return is_own(kind) or kind is object
