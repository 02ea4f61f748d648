"""What can be asked of a server beside running a program, for its OpenAPI document: one table of operations.

The schemas of answers are those of the structs that are answered, as msgspec makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from foundation.call_records import CallRecord
from foundation.feedback import Source
from foundation.jobs import Job, JobEvent
from foundation.programs import Version
from foundation.rollouts import Decision, Rollout, RolloutHistory, RolloutState, Slo
from foundation.tree.view import DEPTH, LIMIT, Degraded, TreeView

JSON = "application/json"
_WHERE = "#/components/schemas/"

#: What has to be served for an operation to be there.
Part: TypeAlias = Literal["pages", "feedback", "calls", "versions", "jobs"]


class HttpOperation(NamedTuple):
    """Something that can be asked.

    Attributes:
        id: its name; that of the program is put behind it.
        method: such as ``get``.
        path: below that of the program, or of the server.
        summary: what it does.
        answer: the schema of its JSON, or a struct; or what its content is, by media type. None for nothing.
        part: what has to be served.
        status: of the answer.
        body: the schema of the body, or a struct; None for none.
        parameters: in the query and the headers.
        problems: which statuses come back besides those that all have.
        headers: of the answer, each with what it says.
        others: further statuses that are no problems: what comes with them, as for ``answer``.
        secured: whether it has to bring the token; ``perhaps`` if it says more than anybody may.
    """

    id: str
    method: str
    path: str
    summary: str
    answer: Any
    part: Part
    status: str = "200"
    body: Any = None
    parameters: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    others: Mapping[str, Any] = {}
    secured: Literal["always", "perhaps", "never"] = "always"


class Served(NamedTuple):
    """What is served beside the runs of programs.

    Attributes:
        runs: whether a run has to bring the token.
        all: whether everything has to, but for health.
        calls: whether calls can be looked at.
        versions: whether versions and rollouts can be seen and changed.
        jobs: says which kinds of jobs a program has.
    """

    runs: bool = False
    all: bool = False
    calls: bool = False
    versions: bool = False
    jobs: Callable[[str], Iterable[str]] = lambda _: ()


class GivenFeedback(msgspec.Struct, forbid_unknown_fields=True):
    """The body of feedback: what somebody thinks of the answer to a call.

    Attributes:
        call: its id, as ``X-Call-Id`` has named it.
        value: good or not, a number, or a text.
        name: what is judged.
        comment: for people.
        correction: the outputs that would have been right, or some of them.
        source: who says it; with the token.
        who: which of them; with the token.
    """

    call: str
    value: bool | float | str
    name: str = "helpful"
    comment: str = ""
    correction: dict[str, Any] | None = None
    source: Source = "user"
    who: str = ""


class GivenDecision(msgspec.Struct, forbid_unknown_fields=True):
    """The body that moves a rollout: to which ``state``, and ``why``."""

    state: Decision
    why: str = ""


class GivenVersion(msgspec.Struct, forbid_unknown_fields=True):
    """The body that chooses a version that is there, by its ``number``."""

    number: int


class GivenMove(msgspec.Struct, forbid_unknown_fields=True):
    """The body that moves a job to a ``state``, perhaps with another ``budget`` in dollars, or other ``max_calls``."""

    state: str
    budget: float | None = None
    max_calls: int | None = None


class ShownJob(Job, frozen=True, kw_only=True):
    """A job, and where more of it is to be had.

    Attributes:
        url: its own address.
        events: that of its events.
        result: that of what it has made, once it has.
    """

    url: str
    events: str
    result: str | msgspec.UnsetType = msgspec.UNSET


# -- parts of schemas ------------------------------------------------------------------------------------------------


def _ref(kind: type) -> dict[str, Any]:
    return {"$ref": _WHERE + kind.__name__}


def _record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _many(kind: type) -> dict[str, Any]:
    return {"type": "array", "items": _ref(kind)}


def _query(name: str, description: str, schema: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    needed = {"required": True} if required else {}
    return {"name": name, "in": "query", "description": description, "schema": schema, **needed}


def _header(name: str, description: str, *, required: bool = False, example: str = "*") -> dict[str, Any]:
    needed = {"required": True} if required else {}
    schema = {"type": "string", "examples": [example]}
    return {"name": name, "in": "header", "description": description, "schema": schema, **needed}


def _number(name: str, description: str, usual: int, most: int) -> dict[str, Any]:
    return _query(name, description, {"type": "integer", "minimum": 1, "maximum": most, "default": usual})


def _flag(name: str, description: str, *, usual: bool) -> dict[str, Any]:
    return _query(name, description, {"type": "boolean", "default": usual})


_TEXT = {"type": "string"}
_ANY = {"type": "object"}
_SEEN = _header("If-Match", "The `ETag` that was seen, or `*` for any.", required=True)
_MAYBE_SEEN = _header("If-Match", "The `ETag` that was seen.")
_FORCE = _flag("force", "Whether a rollout that is open ends for it.", usual=False)
_TAG = {"ETag": "Changes with whatever happens to it."}
_PLACE = {"Location": "Where to look at it."}

_READY = _record(status={"enum": ["ready", "degraded"]}, degraded=_many(Degraded))

#: What can be asked of a server.
PAGES = (
    HttpOperation("start", "get", "/", "To the tree.", None, "pages", "307", headers=_PLACE),
    HttpOperation("health", "get", "/healthz", "Whether the process runs.", _record(status={"const": "ok"}), "pages"),
    HttpOperation(
        "readiness",
        "get",
        "/readyz",
        "Whether the tree can take work.",
        _READY,
        "pages",
        others={"503": _READY},
    ),
    HttpOperation(
        "metrics", "get", "/metrics", "The metrics, as Prometheus reads them.", {"text/plain": _TEXT}, "pages"
    ),
    HttpOperation(
        "tree",
        "get",
        "/tree",
        "The actors; to a browser, a page.",
        {JSON: _ref(TreeView), "text/html": _TEXT},
        "pages",
        parameters=(
            _query("path", "Below which actor.", _TEXT),
            _number("depth", "How many levels.", DEPTH, 200),
            _number("limit", "How many actors.", LIMIT, 100_000),
        ),
        problems=("404", "422"),
    ),
    HttpOperation("openapi", "get", "/openapi.json", "This document.", _ANY, "pages"),
    HttpOperation(
        "programs",
        "get",
        "/programs",
        "The programs.",
        _record(programs={"type": "array", "items": _record(name=_TEXT, url=_TEXT, state=_TEXT)}),
        "pages",
    ),
)

#: What can be asked about a program.
OF_PROGRAMS = (
    HttpOperation(
        "give_feedback",
        "post",
        "/feedback",
        "Say what somebody thinks of an answer: once for each call, or with the token.",
        _record(id=_TEXT),
        "feedback",
        "201",
        GivenFeedback,
        problems=("401", "404", "410", "413", "422"),
        secured="perhaps",
    ),
    HttpOperation(
        "list_feedback",
        "get",
        "/feedback",
        "All that was said, a line of JSON each, the oldest first.",
        {"application/jsonl": _TEXT},
        "feedback",
    ),
    HttpOperation(
        "list_calls",
        "get",
        "/calls",
        "The last calls, the last to end first.",
        _record(calls=_many(CallRecord)),
        "calls",
        parameters=(_number("number", "How many.", 50, 1000),),
        problems=("400",),
    ),
    HttpOperation(
        "forget_calls",
        "delete",
        "/calls",
        "Forget all calls of somebody, and what was said of them.",
        _record(forgotten={"type": "integer"}),
        "calls",
        parameters=(_query("key", "As told in `X-Session-Key`.", {**_TEXT, "minLength": 1}, required=True),),
        problems=("400",),
    ),
    HttpOperation("get_call", "get", "/calls/{id}", "A call.", CallRecord, "calls", problems=("404", "410")),
    HttpOperation(
        "forget_call",
        "delete",
        "/calls/{id}",
        "Forget a call, and what was said of it.",
        _record(forgotten={"type": "integer"}),
        "calls",
    ),
    HttpOperation("list_versions", "get", "/versions", "The versions.", _record(versions=_many(Version)), "versions"),
    HttpOperation(
        "add_version",
        "post",
        "/versions",
        "Serve a program as it is saved, or keep it as a candidate.",
        Version,
        "versions",
        "201",
        _ANY,
        (_flag("serve", "Whether it serves from now on.", usual=True), _FORCE),
        ("409", "422"),
    ),
    HttpOperation(
        "use_version",
        "put",
        "/versions/current",
        "Serve a version that is there already.",
        Version,
        "versions",
        "200",
        GivenVersion,
        (_FORCE,),
        ("409", "422"),
    ),
    HttpOperation(
        "get_rollout",
        "get",
        "/rollout",
        "How the rollout stands that is open, or was the last.",
        RolloutState,
        "versions",
        problems=("404",),
        headers=_TAG,
    ),
    HttpOperation(
        "start_rollout",
        "put",
        "/rollout",
        "Try a version.",
        RolloutState,
        "versions",
        "201",
        Rollout,
        (_flag("replace", "Whether one that is open ends for it.", usual=False), _MAYBE_SEEN),
        ("409", "412", "422"),
        {**_TAG, **_PLACE},
    ),
    HttpOperation(
        "abort_rollout",
        "delete",
        "/rollout",
        "End the rollout: the old version serves.",
        RolloutState,
        "versions",
        parameters=(_SEEN,),
        problems=("404", "409", "412", "428"),
        headers=_TAG,
    ),
    HttpOperation(
        "decide_rollout",
        "put",
        "/rollout/state",
        "Move the rollout.",
        RolloutState,
        "versions",
        "200",
        GivenDecision,
        (_SEEN,),
        ("404", "409", "412", "422", "428"),
        _TAG,
    ),
    HttpOperation(
        "rollout_history",
        "get",
        "/rollout/history",
        "The rollouts that there were, with all of their moves.",
        _record(rollouts=_many(RolloutHistory)),
        "versions",
    ),
)

#: What can be asked about the jobs of a kind.
OF_JOBS = (
    HttpOperation(
        "list",
        "get",
        "",
        "The jobs, the latest first.",
        {
            **_record(jobs=_many(ShownJob)),
            "properties": {"jobs": _many(ShownJob), "next": {**_TEXT, "description": "The next page."}},
        },
        "jobs",
        parameters=(_query("before", "Those before this job.", _TEXT), _number("limit", "How many.", 100, 1000)),
        problems=("422",),
    ),
    HttpOperation(
        "start",
        "post",
        "",
        "Start a job.",
        ShownJob,
        "jobs",
        "202",
        _ANY,
        (_header("Idempotency-Key", "The same key with the same body starts one job.", example="monday"),),
        ("422",),
        {**_TAG, **_PLACE, "Retry-After": "Seconds after which it is worth a look."},
    ),
    HttpOperation(
        "get",
        "get",
        "/{id}",
        "A job.",
        ShownJob,
        "jobs",
        parameters=(
            _header("If-None-Match", "The `ETag` that was seen: 304 if it has not changed.", example='"1"'),
            _header("Prefer", "`wait=30`: wait for a change.", example="wait=30"),
        ),
        headers=_TAG,
        others={"304": None},
    ),
    HttpOperation(
        "delete",
        "delete",
        "/{id}",
        "Forget a job that is over.",
        None,
        "jobs",
        "204",
        parameters=(_MAYBE_SEEN,),
        problems=("409", "412"),
    ),
    HttpOperation(
        "move",
        "put",
        "/{id}/state",
        "Pause, resume or cancel a job.",
        ShownJob,
        "jobs",
        "200",
        GivenMove,
        (_SEEN,),
        ("409", "412", "422", "428"),
        _TAG,
    ),
    HttpOperation("result", "get", "/{id}/result", "What a job has made.", _ANY, "jobs", problems=("409",)),
    HttpOperation(
        "events",
        "get",
        "/{id}/events",
        "What happens to a job, until it is over: events of which `id` is the number, and `data` as of a `JobEvent`.",
        {"text/event-stream": _TEXT},
        "jobs",
        parameters=(_header("Last-Event-ID", "The number of the last one that was seen.", example="0"),),
        problems=("422",),
    ),
)


def operations(served: Served, program: str | None) -> Iterable[tuple[str, HttpOperation]]:
    """Return what can be asked of a server (None), or about a program, each with the path below it."""
    if program is None:
        yield from ((each.path, each) for each in PAGES)
        return
    parts = {"feedback", *(("calls",) if served.calls else ()), *(("versions",) if served.versions else ())}
    yield from ((each.path, each) for each in OF_PROGRAMS if each.part in parts)
    for kind in served.jobs(program) if served.versions else ():
        for each in OF_JOBS:
            yield f"/{kind}{each.path}", each._replace(id=f"{each.id}_{kind}")


# -- schemas -----------------------------------------------------------------------------------------------------------

#: Those of which a body may have only some fields: elsewhere, each field is there.
_TAKEN: tuple[type, ...] = (GivenFeedback, GivenDecision, GivenVersion, GivenMove, Rollout, Slo)
_GIVEN: tuple[type, ...] = (CallRecord, Degraded, RolloutHistory, RolloutState, ShownJob, JobEvent, TreeView, Version)


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas of all that is taken and answered, by name."""
    _, found = msgspec.json.schema_components((*_GIVEN, *_TAKEN), ref_template=_WHERE + "{name}")
    partial = {kind.__name__ for kind in _TAKEN}
    return {name: _told(schema, whole=name not in partial) for name, schema in found.items()}


def _told(schema: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """Return a schema with the first paragraph of its description, and whatever is always there as required."""
    told = {name: value for name, value in schema.items() if name != "title"}
    told["description"] = " ".join(schema["description"].partition("\n\n")[0].split())
    if whole and "properties" in told:
        told["required"] = [name for name in told["properties"] if name != "result"]
    return told


def schema_of(answer: Any) -> dict[str, Any]:
    """Return the schema of what an operation takes or answers."""
    return _ref(answer) if isinstance(answer, type) else answer


def used(schema: Any) -> dict[str, Any]:
    """Return the schemas that a schema refers to, directly or through others, by name."""
    found: dict[str, Any] = {}
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            name = str(part.get("$ref", "")).removeprefix(_WHERE)
            if name in schemas() and name not in found:
                found[name] = schemas()[name]
                left.append(found[name])
            left.extend(part.values())
        elif isinstance(part, (list, tuple)):
            left.extend(part)
    return found
