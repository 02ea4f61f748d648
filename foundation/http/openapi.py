"""The description of all programs for other programs: an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from foundation.programs import Interface, ProgramField

#: What else may come back from a run.
_PROBLEMS = {
    "400": "The request cannot be read, or its body is no JSON object, or is nested too deep.",
    "403": "The request was made by a page of another site.",
    "404": "There is no such program at this moment.",
    "408": "The body was not there in time.",
    "413": "The body is too long.",
    "415": "The body does not say that it is `application/json`.",
    "421": "The HTTP server does not serve under the name in `Host`.",
    "422": "The inputs do not fit; each that is wrong is named.",
    "429": "There is too much to do; `Retry-After` says when to try again.",
    "500": "The program raised; `id` leads to the cause in the log.",
    "501": "What is there under the name is no program.",
    "503": "The program cannot run now; `Retry-After` says when to try again.",
    "504": "No answer in time.",
}
_UNAUTHORIZED = {"401": "The token is missing, or another one."}
#: Those that come back from a look at a program, too.
_WITHOUT_BODY = ("400", "403", "404", "421", "500", "501", "503", "504")
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}

_PROBLEM = {
    "description": "RFC 9457. The fragment of `type` is a word that does not change; `detail` is for people.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "examples": ["about:blank#busy"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "retry_after": {"type": "integer", "description": "Seconds after which another try is worth it."},
        "id": {"type": "string", "description": "Leads to the cause in the log."},
    },
}
_ANSWER = "The outputs; or, if the client accepts `text/event-stream`, events until there are the outputs."
_EVENTS = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": "Events `chunk`, `status`, and at last `answer`, or `error` with a problem document.",
        },
        "examples": {
            "answer": {
                "value": 'event: chunk\ndata: {"field":"answer","text":"Bl","predictor":"self","last":false}\n\n'
                'event: answer\ndata: {"answer":"Blue"}\n\n'
            },
            "error": {
                "value": 'event: error\ndata: {"type":"about:blank#busy","title":"Too Many Requests","status":429,'
                '"detail":"program \'x\' has too much to do; try again","retry_after":1}\n\n'
            },
        },
    }
}


def document(interfaces: Mapping[str, Interface], root: str = "", *, token: bool = False) -> dict[str, Any]:
    """Return the document.

    Args:
        interfaces: what each program takes and gives, by its name.
        root: the path under which the pages are mounted.
        token: whether a run has to bring a token.
    """
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths = {
        f"{root}/programs/{quote(name, safe='')}": {
            "get": _look(name),
            "post": _operation(name, found, schemas, token),
        }
        for name, found in interfaces.items()
    }
    schemes = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if token else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Programs", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas, **schemes},
    }


def _look(name: str) -> dict[str, Any]:
    described = {"type": "object", "required": ["name", "program", "inputs", "outputs"]}
    page = {"schema": {"type": "string"}}
    content = {"application/json": {"schema": described}, "text/html": page}
    return {
        "operationId": f"describe_{name}",
        "summary": f"What {name} takes and gives; to a browser, a page on which it can be tried.",
        "responses": {
            "200": {"description": "What it takes and gives.", "content": content},
            **_problems({status: _PROBLEMS[status] for status in _WITHOUT_BODY}),
        },
    }


def _operation(name: str, interface: Interface, schemas: dict[str, Any], token: bool) -> dict[str, Any]:
    inputs = _object(name, interface.inputs, schemas, closed=not interface.open)
    outputs = _object(name, interface.outputs, schemas)
    return {
        "operationId": f"run_{name}",
        "summary": f"Run {name}.",
        "description": interface.description,
        "requestBody": {"required": True, "content": _json(inputs)},
        "responses": {
            "200": {"description": _ANSWER, "content": {**_json(outputs), **_EVENTS}},
            **_problems({**_PROBLEMS, **(_UNAUTHORIZED if token else {})}),
        },
        **({"security": [{"token": []}]} if token else {}),
    }


def _problems(known: Mapping[str, str]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {
            "description": why,
            "content": content,
            **({"headers": _RETRY} if status in ("429", "503") else {}),
        }
        for status, why in sorted(known.items())
    }


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _object(
    name: str, fields: tuple[ProgramField, ...], schemas: dict[str, Any], *, closed: bool = False
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _property(name, field, schemas) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": not closed,
    }


def _property(name: str, field: ProgramField, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field; what it defines for itself moves to where a whole document has its schemas."""
    definitions = field.schema.get("$defs", {})
    keys = {found: f"{_key(name)}.{_key(field.name)}.{_key(found)}" for found in definitions}
    where = {f"#/$defs/{found}": f"#/components/schemas/{key}" for found, key in keys.items()}
    for found, schema in definitions.items():
        schemas[keys[found]] = _moved(schema, where)
    own = _moved({key: value for key, value in field.schema.items() if key != "$defs"}, where)
    return {**own, **({"description": field.description} if field.description else {})}


def _moved(schema: Any, where: Mapping[str, str]) -> Any:
    """Return a schema whose references lead to where the definitions are now."""
    if isinstance(schema, Mapping):
        return dict(_entries(schema, where))
    return [_moved(part, where) for part in schema] if isinstance(schema, (list, tuple)) else schema


def _entries(schema: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key == "$ref" and value in where:
            yield key, where[value]
        elif key == "discriminator" and isinstance(value, Mapping) and "mapping" in value:
            mapping = {word: where.get(to, to) for word, to in value["mapping"].items()}
            yield key, {**value, "mapping": mapping}
        else:
            yield key, _moved(value, where)


def _key(name: str) -> str:
    """Return a name as it may stand among the schemas of a document.

    >>> _key("Box[int]")
    'Box_int_'
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
