"""The pages of the HTTP server: health, readiness, metrics, the tree, and programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from foundation.events import HttpHandled
from foundation.http import application
from foundation.http.limits import Limits
from foundation.http.openapi import document
from foundation.http.operations import Served
from foundation.http.operations import schemas as own_schemas
from foundation.http.pages import duration
from foundation.programs import (
    Answer,
    Busy,
    DescribeProgram,
    Interface,
    InvalidInputs,
    ProgramField,
    RunProgram,
    Unavailable,
    program_name,
)
from foundation.resources import Resource, Resources
from foundation.telemetry.metrics import Metrics
from foundation.tree.optional import LeftOutPart, leave_out
from supervision import Actor, Backoff, ChildSpec, Mailbox, Message, Refuse, Runtime, Supervisor, handle
from supervision.testing import advance, settled

JSON = {"content-type": "application/json"}


class Echo(Actor):
    """A program: says what it was told, or does worse."""

    @handle
    def describe(self, request: DescribeProgram) -> Interface:
        """Say what it takes."""
        text = ProgramField("text", "str", "what to <say>", schema={"type": "string"})
        return Interface("Echo", "Says it again.", (text,), (ProgramField("said", "str"),))

    @handle
    async def run(self, request: RunProgram) -> Answer:
        """Say it."""
        match request.inputs.get("text"):
            case None:
                raise Refuse(InvalidInputs(missing=("text",), unexpected=("txet",), wrong={"n": "not int"}))
            case "busy":
                raise Refuse(Unavailable("the model is loading", 2.6))
            case "full":
                raise Refuse(Busy("two run, and three wait", 7.0))
            case "wrong":
                raise Refuse(LookupError("no such word"))
            case "crash":
                raise ValueError("crash")
            case "slow":
                await advance(100)
            case text:
                return Answer({"said": text, "as": Shown()})
        return Answer({})


class Shown:
    """Something that JSON has no form for."""

    def __str__(self) -> str:
        return "shown"


class Model:
    """Something like a pydantic model."""

    def model_dump(self, *, mode: str) -> dict[str, str]:
        return {"mode": mode}


class Mute(Actor):
    """No program."""


class Die(Message):
    """An order to end."""


class Slow(Actor):
    """Something that takes two seconds to start."""

    async def init(self) -> None:
        await self.runtime.sleep(2)

    @handle
    def die(self, message: Die) -> None:
        self.stop("over")


class Full(Echo):
    """A program with room for one request."""

    mailbox = Mailbox(capacity=1, overflow="refuse")


@asynccontextmanager
async def client_of(runtime: Runtime, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(runtime, **options), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with a program that is restarted after three seconds."""
    async with Runtime(watchdog=None, reports=False) as made:
        echo = ChildSpec("echo", Echo, name=program_name("echo"), backoff=Backoff(initial=3.0, jitter=0.0))
        await made.spawn(Supervisor, [echo], name="top")
        yield made


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(runtime, program_timeout=5.0) as made:
        yield made


async def run(client: httpx.AsyncClient, text: str, program: str = "echo") -> httpx.Response:
    return await client.post(f"/programs/{program}", json={"text": text})


async def test_a_process_that_answers_is_healthy(client: httpx.AsyncClient) -> None:
    response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"


async def test_readiness_is_503_with_what_is_degraded_while_something_restarts(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready", "degraded": []}
    ref = runtime.whereis(program_name("echo"))
    assert ref is not None
    ref.kill()
    await settled(runtime)
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "degraded", "degraded": [{"path": "/top/echo", "state": "restarting"}]}
    await advance(4)
    assert (await client.get("/readyz")).status_code == 200


async def test_the_tree_is_json_for_programs_and_a_page_for_browsers(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    leave_out(runtime, LeftOutPart("/top/<moon>", "there is none"))
    response = await client.get("/tree")
    (top,) = response.json()["tree"]
    assert (top["path"], top["budget"]["left"]) == ("/top", 3)
    assert set(top) >= {"incarnation", "state", "uptime", "restarts", "budget", "mailbox"}
    assert response.json()["left_out"] == [{"path": "/top/<moon>", "why": "there is none", "remedy": ""}]
    page = await client.get("/tree", headers={"accept": "text/html"})
    assert "3 of 3" in page.text
    assert "echo" in page.text
    assert "/top/&lt;moon&gt; is left out" in page.text
    assert "ready" in page.text
    start = await client.get("/")
    assert (start.status_code, start.headers["location"]) == (307, "/tree")


async def test_the_page_tells_what_is_degraded_and_how_many_messages_were_lost(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    ref = runtime.whereis(program_name("echo"))
    assert ref is not None
    ref.kill()
    ref.cast("too late")
    await settled(runtime)
    page = (await client.get("/tree", headers={"accept": "text/html"})).text
    assert "/top/echo restarting" in page
    assert "dead letters: noproc: 1" in page


def test_a_length_of_time_has_at_most_two_parts() -> None:
    assert duration(59.9) == "59s"
    assert duration(3600) == "1h 0m"


async def test_metrics_are_those_of_the_given_registry(runtime: Runtime) -> None:
    registry = CollectorRegistry()
    metrics = await runtime.spawn(Metrics, registry, name="metrics")
    async with client_of(runtime, registry=registry) as client:
        await client.get("/healthz")
        await client.get("/nothing/here")
        text = (await client.get("/metrics")).text
    assert 'foundation_http_requests_total{method="GET",route="/healthz",status="200"} 1.0' in text
    assert 'foundation_http_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert "foundation_actors 3.0" in text
    await metrics.stop()


async def test_a_strange_method_and_path_are_problems_too(runtime: Runtime, client: httpx.AsyncClient) -> None:
    seen: list[HttpHandled] = []
    runtime.subscribe(seen.append, HttpHandled)  # type: ignore[arg-type]
    response = await client.request("BREW", "/tree")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert response.json()["detail"] == "BREW /tree: Method Not Allowed"
    response = await client.request("BREW", "/programs/echo")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert [event.method for event in seen] == ["other", "other"]


# -- programs --------------------------------------------------------------------------------------------


async def test_a_program_answers_with_its_outputs(client: httpx.AsyncClient) -> None:
    response = await run(client, "hello")
    assert (response.status_code, response.json()) == (200, {"said": "hello", "as": "shown"})


async def test_programs_are_listed_with_what_they_take_and_give(runtime: Runtime, client: httpx.AsyncClient) -> None:
    await runtime.spawn(Mute, name=program_name("mute"))
    echo, mute = (await client.get("/programs")).json()["programs"]
    assert (echo["name"], echo["url"], echo["state"]) == ("echo", "/programs/echo", "running")
    assert echo["inputs"][0]["name"] == "text"
    assert mute["state"] == "unavailable"
    assert (await client.get("/programs/echo")).json()["program"] == "Echo"


async def test_an_unknown_program_is_404_with_those_there_are(client: httpx.AsyncClient) -> None:
    response = await run(client, "x", "ehco")
    assert response.status_code == 404
    assert response.json()["programs"] == ["echo"]
    assert response.json()["detail"] == "no program 'ehco'; there are: echo"
    async with Runtime(watchdog=None, reports=False) as empty, client_of(empty) as other:
        await empty.spawn(Mute)
        assert (await run(other, "x")).json()["detail"] == "no program 'echo'; there are none"


async def test_a_program_that_waits_for_what_it_needs_to_be_restarted_is_503(runtime: Runtime) -> None:
    slow = ChildSpec("slow", Slow, name="slow")
    echo = ChildSpec("echo", Echo, name=program_name("other"))
    starting = asyncio.ensure_future(runtime.spawn(Supervisor, [slow, echo], strategy="rest_for_one", name="group"))
    async with client_of(runtime) as client:
        await advance(1)
        assert (await run(client, "x", "other")).json()["detail"] == "program 'other' is being started; try again"
        await starting
        assert (await run(client, "x", "other")).status_code == 200
        runtime.name("slow").cast(Die())
        await advance(1)
        response = await run(client, "x", "other")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["detail"] == "program 'other' is being started; try again"
        await advance(2)
        assert (await run(client, "x", "other")).status_code == 200


async def test_what_is_not_known_while_parts_start_is_503_as_it_may_come(runtime: Runtime) -> None:
    starting = asyncio.ensure_future(runtime.spawn(Slow))
    async with client_of(runtime) as client:
        await advance(1)
        response = await run(client, "x", "unheard")
        assert response.status_code == 503
        assert "no program 'unheard' at this moment, while parts of the tree start" in response.json()["detail"]
        await starting
        assert (await run(client, "x", "unheard")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"nonsense", 400, "the body must be a JSON object of inputs"),
        (b"[1]", 400, "the body must be a JSON object of inputs"),
        (b"\xff", 400, "the body must be a JSON object of inputs"),
        (b"{}", 422, "missing: text; unexpected: txet; n: not int"),
        (b" " * (Limits().max_body + 1), 413, "the body is longer than 1048576 bytes"),
    ],
)
async def test_a_body_that_is_wrong_is_named(client: httpx.AsyncClient, body: bytes, status: int, detail: str) -> None:
    response = await client.post("/programs/echo", content=body, headers=JSON)
    assert response.status_code == status
    assert detail in response.json()["detail"]
    if status == 422:
        assert response.json()["errors"] == [
            {"field": "text", "detail": "is missing"},
            {"field": "txet", "detail": "is not an input of this program"},
            {"field": "n", "detail": "not int"},
        ]


async def test_what_a_program_raises_is_500_and_the_program_lives(runtime: Runtime, client: httpx.AsyncClient) -> None:
    before = runtime.whereis(program_name("echo"))
    response = await run(client, "wrong")
    assert response.status_code == 500
    assert response.json()["detail"] == f"program 'echo' failed; the log has more under {response.json()['id']}"
    assert runtime.whereis(program_name("echo")) is before


async def test_a_program_that_needs_what_is_not_there_is_503_and_says_when_to_try_again(
    client: httpx.AsyncClient,
) -> None:
    response = await run(client, "busy")
    assert (response.status_code, response.headers["retry-after"]) == (503, "3")
    assert "program 'echo' cannot run now; try again" in response.json()["detail"]
    assert response.json()["retry_after"] == 3


async def test_a_program_that_has_too_much_to_do_is_429_and_says_when_to_try_again(client: httpx.AsyncClient) -> None:
    response = await run(client, "full")
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.json()["type"] == "about:blank#busy"
    assert response.json()["detail"] == "program 'echo' has too much to do; try again"


async def test_programs_are_described_in_an_openapi_document(runtime: Runtime, client: httpx.AsyncClient) -> None:
    """With the schema of each input and output; what is no program, or does not run, is not in it."""
    await runtime.spawn(Mute, name=program_name("mute"))
    found = (await client.get("/openapi.json")).json()
    assert found["openapi"] == "3.1.0"
    runs = [path for path, ways in found["paths"].items() if "post" in ways]
    assert runs == ["/programs/echo", "/programs/echo/feedback"]
    operation = found["paths"]["/programs/echo"]["post"]
    assert operation["description"] == "Says it again."
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "what to <say>"}},
        "required": ["text"],
        "additionalProperties": False,
    }
    assert set(operation["responses"]) >= {"200", "404", "413", "415", "422", "429", "500", "503", "504"}
    assert "Retry-After" in operation["responses"]["429"]["headers"]


async def test_schemas_that_models_define_are_where_a_document_has_them(runtime: Runtime) -> None:
    """Also of recursive models, of models in lists, and of choices between them; two programs share what is alike."""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "kinds": {"enum": ["a"]}}}
    mapping = {"a": "#/$defs/Node", "b": "https://elsewhere/schema"}
    schema = {
        "$defs": {"Node": node, "Box[int]": {"type": "array", "items": {"$ref": "#/$defs/Node"}}, "Box(int)": node},
        "oneOf": [{"$ref": "#/$defs/Node"}, {"$ref": "#/$defs/Box[int]"}, {"$ref": "https://elsewhere/schema"}],
        "discriminator": {"propertyName": "kind", "mapping": mapping},
    }
    fields = (
        ProgramField("graph", "Graph", schema=schema),
        ProgramField("discriminator", "str", schema={"discriminator": "plain", "$ref": {"type": "string"}}),
    )
    found = document(
        {"p": Interface("P", "", fields, ()), "q/r": Interface("Q", "", fields, ())}, "/root", served=Served(runs=True)
    )
    assert "$defs" not in json.dumps(found)
    schemas = found["components"]["schemas"]
    assert set(schemas) - set(own_schemas()) == {"Problem", "Node", "Box_int_", "Box_int__"}
    graph = found["paths"]["/root/programs/p"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert graph["properties"]["graph"] == {
        "oneOf": [
            {"$ref": "#/components/schemas/Node"},
            {"$ref": "#/components/schemas/Box_int_"},
            {"$ref": "https://elsewhere/schema"},
        ],
        "discriminator": {
            "propertyName": "kind",
            "mapping": {"a": "#/components/schemas/Node", "b": "https://elsewhere/schema"},
        },
    }
    assert schemas["Node"]["properties"]["next"] == {"$ref": "#/components/schemas/Node"}
    assert graph["properties"]["discriminator"] == {"discriminator": "plain", "$ref": {"type": "string"}}
    operation = found["paths"]["/root/programs/q%2Fr"]["post"]
    assert operation["security"] == [{"token": []}]
    assert "401" in operation["responses"]
    assert found["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}


def test_what_has_one_name_and_differs_has_the_name_of_its_program() -> None:
    """A model that comes out in another form than it goes in says so."""

    def field(kind: str) -> tuple[ProgramField]:
        return (ProgramField("x", "X", schema={"$ref": "#/$defs/X", "$defs": {"X": {"type": kind}}}),)

    programs = {
        "a": Interface("A", "", field("string"), field("number")),
        "b": Interface("B", "", field("integer"), field("boolean")),
        "a b": Interface("C", "", field("null"), field("null")),
        "a_b": Interface("C", "", field("array"), field("object")),
        "a(b": Interface("C", "", field("object"), field("string")),
    }
    found = document(programs)
    schemas = found["components"]["schemas"]
    assert {name: schema["type"] for name, schema in schemas.items() if "X" in name} == {
        "X": "string",
        "X-Output": "number",
        "b.X": "integer",
        "b.X-Output": "boolean",
        "a_b.X": "null",
        "a_b.X-2": "array",
        "a_b.X-3": "object",
        "a_b.X-Output": "object",
    }
    last = found["paths"]["/programs/a%28b"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert last["properties"]["x"] == {"$ref": "#/components/schemas/a_b.X-3"}


async def test_a_browser_gets_a_page_on_which_a_program_can_be_tried(client: httpx.AsyncClient) -> None:
    """A field for each input; nothing that an author has written is taken for markup."""
    response = await client.get("/programs/echo", headers={"accept": "text/html,*/*"})
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["vary"] == "accept"
    assert '<textarea name="text" rows="2" required>' in response.text
    assert "what to &lt;say&gt;" in response.text
    assert 'texts = ["text"]' in response.text
    assert "<table hidden>" in response.text  # for the ballot of a team, which only its answers have


async def test_a_program_that_dies_in_the_middle_is_503_while_it_restarts_and_then_serves_again(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    response = await run(client, "crash")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "program 'echo' ended before it answered; try again" in response.json()["detail"]
    await settled(runtime)
    restarting = await run(client, "hello")
    assert restarting.status_code == 503
    assert restarting.json()["detail"] == "program 'echo' is being started; try again"
    await advance(4)
    assert (await run(client, "hello")).status_code == 200


async def test_whoever_asks_before_the_supervisor_has_heard_of_a_death_waits_for_the_next_incarnation(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    ref = runtime.whereis(program_name("echo"))
    assert ref is not None
    ref.kill()
    assert (await run(client, "x")).status_code == 200
    assert runtime.clock.time() == 3.0
    ref = runtime.whereis(program_name("echo"))
    assert ref is not None
    ref.kill()
    described = await client.get("/programs/echo")
    assert described.status_code == 503
    assert described.json()["detail"] == "program 'echo' is being started; try again"


async def test_a_kill_costs_the_request_in_hand_503_and_not_those_that_wait(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    waiting = [asyncio.ensure_future(run(client, text)) for text in ("slow", "x", "y")]
    await advance(1)
    ref = runtime.whereis(program_name("echo"))
    assert ref is not None
    ref.kill()
    assert (await waiting[0]).status_code == 503
    assert asyncio.get_running_loop().time() == pytest.approx(1)
    assert [(await response).status_code for response in waiting] == [503, 200, 200]
    assert asyncio.get_running_loop().time() == pytest.approx(4)  # the pause before the restart


async def test_no_answer_in_time_is_504(client: httpx.AsyncClient) -> None:
    response = await run(client, "slow")
    assert response.status_code == 504
    assert response.json()["detail"] == "program 'echo' gave no answer within 5 s"
    assert asyncio.get_running_loop().time() == pytest.approx(5)


async def test_a_program_whose_mailbox_is_full_is_429(runtime: Runtime, client: httpx.AsyncClient) -> None:
    ref = await runtime.spawn(Full, name=program_name("full"))
    waiting = [asyncio.ensure_future(run(client, "slow", "full")) for _ in range(3)]
    await advance(1)
    assert [response.result().json()["detail"] for response in waiting if response.done()] == [
        "program 'full' has too much to do; try again"
    ] * 2
    ref.kill()
    await asyncio.gather(*waiting)


async def test_beyond_the_limit_of_work_a_run_is_503_and_below_it_is_served(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    resources = await runtime.spawn(Resources, {"work": 1})
    answer = await run(client, "hello")
    assert answer.status_code == 200
    token = await Resource(runtime, "work", priority="high").acquire()
    answer = await run(client, "hello")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "there is too much to do (work: 1 asked for, 1 of 1 are taken); try again"
    assert await Resource(runtime, "work").release(token)
    await resources.stop()
    answer = await run(client, "hello")
    assert answer.status_code == 200


async def test_an_actor_that_is_no_program_is_501(runtime: Runtime, client: httpx.AsyncClient) -> None:
    await runtime.spawn(Mute, name=program_name("mute"))
    response = await run(client, "x", "mute")
    assert response.status_code == 501
    assert "does not handle RunProgram" in response.json()["detail"]


async def test_a_program_that_has_gone_when_it_is_called_is_503(
    runtime: Runtime, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the call it can end."""
    looks = iter(["somebody", "somebody"])
    monkeypatch.setattr(Runtime, "whereis", lambda self, name: next(looks, None))
    response = await run(client, "x")
    assert response.status_code == 503
    assert "is not there" in response.json()["detail"]


async def test_a_connection_that_ends_in_the_middle_of_a_body_is_no_error_of_the_front(runtime: Runtime) -> None:
    sent: list[dict[str, Any]] = []
    parts: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": b'{"text"', "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, Any]:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/programs/echo", "headers": headers, "query_string": b""}
    await application(runtime)(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 400


async def test_an_error_of_the_front_itself_is_500(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundation.tree.readiness.Readiness.degraded", lambda self, limit: 1 / 0)
    response = await client.get("/readyz")
    assert response.status_code == 500
    assert response.json()["detail"] == f"the HTTP server failed; the log has more under {response.json()['id']}"


async def test_what_json_has_no_form_for_is_shown_as_well_as_can_be(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundation.tree.readiness.Readiness.degraded", lambda self, limit: [Model()])
    assert (await client.get("/readyz")).json()["degraded"] == [{"mode": "json"}]


async def test_other_protocols_than_http_are_not_counted(runtime: Runtime) -> None:
    seen: list[Any] = []
    runtime.subscribe(seen.append, HttpHandled)
    app = application(runtime)
    parts = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert seen == []
