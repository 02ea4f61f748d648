"""The description of all programs for other programs: an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from foundation.http.components import Components
from foundation.http.forms import FORM
from foundation.http.guard import HEALTH
from foundation.http.operations import HttpOperation, Served, operations, schema_of, used
from foundation.programs import Interface, ProgramField

#: What else may come back.
_PROBLEMS = {
    "400": "The request cannot be read, or its body is no JSON object, or is nested too deep.",
    "401": "The token is missing, or another one.",
    "403": "The request was made by a page of another site; or this is not served here.",
    "404": "There is no such program at this moment, or it has no such thing.",
    "408": "The body was not there in time.",
    "409": "It cannot be done as it stands; `detail` says how it stands.",
    "410": "There was such a call; there is no record of it any more.",
    "412": "It has changed since it was seen.",
    "413": "The body is too long.",
    "415": "The body does not say that it is `application/json`, or a form if some input may be a file.",
    "421": "The HTTP server does not serve under the name in `Host`.",
    "422": "What was given does not fit; what is wrong is named.",
    "428": "It has to be said which state was seen: `If-Match`.",
    "429": "There is too much to do; `Retry-After` says when to try again.",
    "500": "The program raised; `id` leads to the cause in the log.",
    "501": "What is there under the name is no program.",
    "502": "The program's language model has answered with nothing that is of use: `type` says what is wrong with it.",
    "503": "The program cannot run now; `Retry-After` says when to try again.",
    "504": "No answer in time.",
}
#: Those that come back from a run, a look at a program, from whatever has a body, and from pages.
_OF_RUNS = ("400", "403", "404", "408", "413", "415", "421", "422", "429", "500", "501", "502", "503", "504")
_WITHOUT_BODY = ("400", "403", "404", "421", "500", "501", "503", "504")
_WITH_BODY = {"408", "413", "415", "422"}
_OF_PAGES = ("400", "403", "421", "500")
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


def document(interfaces: Mapping[str, Interface], root: str = "", served: Served | None = None) -> dict[str, Any]:
    """Return the document.

    Args:
        interfaces: what each program takes and gives, by its name.
        root: the path under which the pages are mounted.
        served: what is served beside the runs of programs; None for no more than the pages.
    """
    served = Served() if served is None else served
    components = Components()
    components.add("Problem", _PROBLEM)
    paths: dict[str, dict[str, Any]] = {}
    for name in (None, *interfaces):
        place = root if name is None else f"{root}/programs/{quote(name, safe='')}"
        for path, operation in operations(served, name):
            told = _told(operation, path, name, served)
            paths.setdefault(place + path, {})[operation.method] = told
            for kind, schema in used(told).items():
                components.add(kind, schema)
    for name, found in interfaces.items():
        ways = {"get": _look(name), "post": _operation(name, found, components, served.runs)}
        if served.all:
            ways["get"].update(_secured("always"))
        paths[f"{root}/programs/{quote(name, safe='')}"] = ways
    tokens = served.calls or served.runs
    schemes = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if tokens else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Programs", "version": "1"},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": components.schemas, **schemes},
    }


def _told(operation: HttpOperation, path: str, program: str | None, served: Served) -> dict[str, Any]:
    """Return how an operation stands in the document."""
    secured = operation.secured
    if program is None:
        secured = "always" if served.all and path not in HEALTH else "never"
    elif not served.calls:
        secured = "never"
    elif served.all:
        secured = "always"
    known = {*operation.problems, *(_OF_PAGES if program is None else _WITHOUT_BODY)}
    known |= set() if secured == "never" else {"401"}
    known |= set() if operation.body is None else _WITH_BODY
    problems = _problems({status: _PROBLEMS[status] for status in known - operation.others.keys()})
    parameters = [dict(each) for each in operation.parameters]
    if "{id}" in path:
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    body = {} if operation.body is None else {"requestBody": {"required": True, "content": _content(operation.body)}}
    answers = {operation.status: operation.answer, **operation.others}
    headers = {name: {"description": why, "schema": {"type": "string"}} for name, why in operation.headers.items()}
    return {
        "operationId": operation.id if program is None else f"{operation.id}_{program}",
        "summary": operation.summary,
        **({"parameters": parameters} if parameters else {}),
        **body,
        "responses": {
            **{status: _answer(status, answer, headers) for status, answer in answers.items()},
            **problems,
        },
        **_secured(secured),
    }


def _secured(secured: str) -> dict[str, Any]:
    """Return what an operation says of the token."""
    return {"never": {}, "perhaps": {"security": [{}, {"token": []}]}, "always": {"security": [{"token": []}]}}[secured]


def _answer(status: str, answer: Any, headers: Mapping[str, Any]) -> dict[str, Any]:
    content = {} if answer is None else {"content": _content(answer)}
    return {"description": HTTPStatus(int(status)).phrase, **content, **({"headers": headers} if headers else {})}


def _content(answer: Any) -> dict[str, Any]:
    """Return what is taken or answered, by media type."""
    if isinstance(answer, Mapping) and all("/" in kind for kind in answer):
        return {kind: {"schema": schema} for kind, schema in answer.items()}
    return _json(schema_of(answer))


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


def _operation(name: str, interface: Interface, components: Components, token: bool) -> dict[str, Any]:
    taken = _object(name, interface.inputs, components, out=False, closed=not interface.open)
    outputs = _object(name, interface.outputs, components, out=True)
    return {
        "operationId": f"run_{name}",
        "summary": f"Run {name}.",
        "description": interface.description,
        "requestBody": {"required": True, "content": {**_json(taken), **_form(interface, taken)}},
        "responses": {
            "200": {"description": _ANSWER, "content": {**_json(outputs), **_EVENTS}},
            **_problems({status: _PROBLEMS[status] for status in (*_OF_RUNS, *(("401",) if token else ()))}),
        },
        **_secured("always" if token else "never"),
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


def _form(interface: Interface, taken: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same inputs as a form, if some may be files."""
    if not interface.takes_files:
        return {}
    files = {field.name: _file(field) for field in interface.inputs if field.file}
    return {FORM: {"schema": {**taken, "properties": {**taken["properties"], **files}}}}


def _file(field: ProgramField) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary", "contentMediaType": field.file}
    about = {"description": field.description} if field.description else {}
    many = field.schema.get("type") == "array"
    return {**({"type": "array", "items": binary} if many else binary), **about}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _object(
    name: str, fields: tuple[ProgramField, ...], components: Components, *, out: bool, closed: bool = False
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _property(name, field, components, out=out) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": not closed,
    }


def _property(name: str, field: ProgramField, components: Components, *, out: bool) -> dict[str, Any]:
    placed = components.placed(field.schema, name, out=out)
    return {**placed, **({"description": field.description} if field.description else {})}
