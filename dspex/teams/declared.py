"""What is known of the fields of members, by what their programs declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from dspex._compat import entry_point, is_own
from dspex.agents.agent import BadProgram
from dspex.serving.declaration import RESULT, Declaration, declaration_of
from dspex.teams.errors import BadTeam

#: Of each member the names of its outputs; None where they are not known.
Outputs = Mapping[str, tuple[str, ...] | None]


def outputs_of(program: Any) -> tuple[str, ...] | None:
    """Return the names of the outputs of a program; None if it does not declare them."""
    declared = _declared(program)
    names = () if declared is None else tuple(field.name for field in declared.outputs)
    return None if names in ((), (RESULT,)) else names


def signature_of(program: Any, field: str) -> Any:
    """Return the inputs and outputs of a program as a signature; None if its inputs are not known.

    Args:
        program: of a member.
        field: the output that it has in any case.
    """
    return forward_signature(program, field) or predictor_signature(program)


def predictor_signature(program: Any) -> Any:
    """Return the signature of the one predictor of a program; None if it has none, or several."""
    predictors = program.predictors()
    return predictors[0].signature if len(predictors) == 1 else None


def forward_signature(program: Any, field: str) -> Any:
    """Return what the ``forward`` of a program of one's own takes and gives; None if it names no inputs.

    Args:
        program: of a member.
        field: the output that it has in any case.
    """
    entry = entry_point(program)
    declared = None if entry is not None and is_own(entry[0]) else _declared(program)
    if declared is None or not declared.inputs:
        return None
    fields = {
        one.name: (one.type, dspy.InputField(desc=one.description, **({} if one.required else {"default": None})))
        for one in declared.inputs
    }
    outputs = {one.name: one.type for one in declared.outputs if one.name != RESULT} or {field: Any}
    return make_signature({**fields, **{name: (kind, dspy.OutputField()) for name, kind in outputs.items()}})


def make_signature(fields: Mapping[str, Any]) -> Any:
    """Return a signature of these fields."""
    kind: Any = dspy.Signature
    return kind(dict(fields))


def check_field(what: str, field: str, outputs: Outputs, *, of_all: bool) -> None:
    """Check that members have a field, as far as is known.

    Args:
        what: which option it is, for the error.
        field: its name.
        outputs: of the members.
        of_all: whether each should have it; else one of them is enough.

    Raises:
        BadTeam: one that should have it has not.
    """
    without = {name: names for name, names in outputs.items() if names is not None and field not in names}
    if without and (of_all or len(without) == len(outputs)):
        told = "; ".join(f"{name} has {', '.join(names)}" for name, names in without.items())
        raise BadTeam(what, field, f"name an output that {'each' if of_all else 'a'} member has: {told}")


def _declared(program: Any) -> Declaration | None:
    try:
        return declaration_of(program)
    except BadProgram:
        return None
