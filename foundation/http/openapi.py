"""The description of all programs for other programs: an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.programs import Field, Interface

#: What else may come back, for each program.
_PROBLEMS = {
    "422": "The inputs do not fit; each that is wrong is named.",
    "429": "There is too much to do; `Retry-After` says when to try again.",
    "500": "The program raised.",
    "503": "The program cannot run now; `Retry-After` says when to try again.",
    "504": "No answer in time.",
}

_ANSWER = "The outputs; or, if the client accepts `text/event-stream`, events until there are the outputs."
_EVENTS = {
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": 'event: chunk\ndata: {"field":"answer","text":"Bl","predictor":"self","last":false}\n\n'
        'event: answer\ndata: {"answer":"Blue"}\n\n',
    }
}


def document(interfaces: Mapping[str, Interface], root: str = "") -> dict[str, Any]:
    """Return the document.

    Args:
        interfaces: what each program takes and gives, by its name.
        root: the path under which the pages are mounted.
    """
    paths = {f"{root}/programs/{name}": {"post": _operation(name, found)} for name, found in interfaces.items()}
    return {"openapi": "3.1.0", "info": {"title": "Programs", "version": "1"}, "paths": paths}


def _operation(name: str, interface: Interface) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"type": "object"}}}
    return {
        "operationId": name,
        "summary": f"Run {name}.",
        "description": interface.description,
        "requestBody": {"required": True, "content": _json(interface.inputs, closed=not interface.open)},
        "responses": {
            "200": {"description": _ANSWER, "content": {**_json(interface.outputs), **_EVENTS}},
            **{status: {"description": why, "content": problem} for status, why in _PROBLEMS.items()},
        },
    }


def _json(fields: tuple[Field, ...], *, closed: bool = False) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {field.name: _property(field) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": not closed,
    }
    return {"application/json": {"schema": schema}}


def _property(field: Field) -> dict[str, Any]:
    described = {"description": field.description} if field.description else {}
    return {**field.schema, **described}
