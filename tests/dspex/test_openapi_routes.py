"""Whatever the HTTP server serves stands in its OpenAPI document, and its answers are as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import httpx
import openapi_spec_validator
import pytest
from starlette.routing import Route

from dspex import Evaluations, Optimisations, ProgramActor
from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.access import Access
from foundation.http import application
from supervision import ChildSpec, Runtime, Supervisor
from tests.dspex.documented import DocumentedTransport
from tests.dspex.optimise.conftest import held_lm
from tests.dspex.optimise.shop import LABELS, SPEC, Held, program, write

pytestmark = pytest.mark.usefixtures("quiet")

TOKEN = "a-token-of-some-length"
SHOP = "/programs/shop"
EVALUATION = {"metric": SPEC["metric"], "devset": SPEC["trainset"]}
#: The language models of the jobs: they wait, so that these can be paused.
HELD: dict[str, Held] = {}


async def serve(runtime: Runtime, folder: Path) -> Any:
    """Serve a program with versions, rollouts and jobs."""
    write(folder)
    lm = scripted_lm(ScriptedEngine(LABELS))
    options = {"lm": lm, "versions": folder / "versions", "calls": {"keep": "content"}}
    engines = HELD["optimisations"], HELD["evaluations"] = Held(3), Held(3)
    jobs, more = ({"data": folder, "lm": held_lm(engine)} for engine in engines)
    children = [
        ChildSpec("shop", ProgramActor, (program,), options, name="program:shop"),
        ChildSpec("o", Optimisations, ("shop", folder / "o", {"small": SPEC}), jobs, name="optimisations:shop"),
        ChildSpec("e", Evaluations, ("shop", folder / "e", {"small": EVALUATION}), more, name="evaluations:shop"),
    ]
    await runtime.spawn(Supervisor, children)
    return application(runtime, versions=True, access=Access(token=TOKEN, protect="changes"))


@pytest.mark.parametrize("protect", ["changes", "runs", "all"])
async def test_every_route_of_the_server_is_in_the_document_and_nothing_else(
    runtime: Runtime, tmp_path: Path, protect: Any
) -> None:
    """A route that is added and not told is found here; also what needs the token."""
    await serve(runtime, tmp_path)
    app = application(runtime, versions=True, access=Access(token=TOKEN, protect=protect))
    document = await DocumentedTransport(app, {"authorization": f"Bearer {TOKEN}"}).document()
    openapi_spec_validator.validate(document)
    routes = [route for route in app.routes if isinstance(route, Route)]
    served = {(route.path.replace("{name}", "shop"), way.lower()) for route in routes for way in route.methods or ()}
    told = {(path, way) for path, ways in document["paths"].items() for way in ways}
    assert told == {(path, way) for path, way in served if way != "head"}
    ids = [way["operationId"] for ways in document["paths"].values() for way in ways.values()]
    assert len(set(ids)) == len(ids)
    free = {path for path, ways in document["paths"].items() if any("security" not in way for way in ways.values())}
    pages = {"/", "/healthz", "/readyz", "/metrics", "/tree", "/openapi.json", "/programs", SHOP}
    assert free == {"changes": pages, "runs": pages, "all": {"/healthz", "/readyz"}}[protect]
    assert document["paths"][f"{SHOP}/feedback"]["post"]["security"] == [
        *([] if protect == "all" else [{}]),
        {"token": []},
    ]


async def test_without_a_token_the_document_has_only_what_is_served(runtime: Runtime, tmp_path: Path) -> None:
    """Feedback may be given; no schemas of what nobody can ask for."""
    await serve(runtime, tmp_path)
    document = await DocumentedTransport(application(runtime)).document()
    openapi_spec_validator.validate(document)
    assert {path for path in document["paths"] if path.startswith("/programs/")} == {SHOP, f"{SHOP}/feedback"}
    assert not any("security" in way for way in document["paths"][f"{SHOP}/feedback"].values())
    assert set(document["components"]["schemas"]) & {"CallRecord", "RolloutState", "ShownJob"} == set()
    assert "securitySchemes" not in document["components"]


async def test_every_operation_answers_as_the_document_says(runtime: Runtime, tmp_path: Path) -> None:
    """Each is asked, most with what is right and what is wrong."""
    transport = DocumentedTransport(await serve(runtime, tmp_path))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        for page in ("/", "/healthz", "/readyz", "/metrics", "/tree", "/openapi.json", "/programs", SHOP):
            assert (await client.get(page)).is_error is False
        await client.get("/tree", params={"depth": 0})
        await client.get("/tree", params={"path": "nowhere"})
        await _calls(client)
        await _versions(client)
        for kind, engine in HELD.items():
            await _jobs(client, kind, engine)
    document = await transport.document()
    told = {(way, path) for path, ways in document["paths"].items() for way in ways}
    assert {(way, path) for way, path, status in transport.seen if status < 400} == told


async def _calls(client: httpx.AsyncClient) -> None:
    text = next(iter(LABELS))
    ids = [(await client.post(SHOP, json={"text": text})).headers["x-call-id"] for _ in range(2)]
    await client.post(SHOP, json={"text": 1})
    said = {"call": ids[0], "value": True}
    bodies = (said, {"call": "nobody", "value": 1}, {**said, "value": "x" * 20_000}, {"call": 1}, {**said, "x": 1})
    statuses = [(await client.post(f"{SHOP}/feedback", json=body)).status_code for body in bodies]
    assert statuses == [201, 404, 422, 400, 400]
    stranger = {"authorization": "Bearer somebody-elses-token"}
    assert (await client.post(f"{SHOP}/feedback", json=said, headers=stranger)).status_code == 401
    assert (await client.post(f"{SHOP}/feedback", content="x")).status_code == 415
    await client.get(f"{SHOP}/feedback")
    await client.get(f"{SHOP}/calls", params={"number": 1})
    assert (await client.get(f"{SHOP}/calls", params={"number": 0})).status_code == 400
    assert (await client.get(f"{SHOP}/calls", headers=stranger)).status_code == 401
    assert (await client.get(f"{SHOP}/calls/{ids[0]}")).json()["content"]["inputs"] == {"text": text}
    assert (await client.get(f"{SHOP}/calls/nobody")).status_code == 404
    assert (await client.delete(f"{SHOP}/calls/{ids[1]}")).json()["forgotten"] > 0
    assert (await client.get(f"{SHOP}/calls/{ids[1]}")).status_code == 410
    assert (await client.delete(f"{SHOP}/calls")).status_code == 400
    await client.delete(f"{SHOP}/calls", params={"key": "ada"})


async def _versions(client: httpx.AsyncClient) -> None:
    better = program()
    better.demos = [dspy.Example(text="x", label="red")]
    state = better.dump_state()
    assert (await client.get(f"{SHOP}/rollout")).status_code == 404
    added = await client.post(f"{SHOP}/versions", json=state, params={"serve": "false"})
    assert added.json() == {"number": 1, "current": False}
    assert (await client.post(f"{SHOP}/versions", json={"x": 1})).status_code == 422
    await client.get(f"{SHOP}/versions")
    assert (await client.put(f"{SHOP}/versions/current", json={"number": 9})).status_code == 422
    assert (await client.put(f"{SHOP}/versions/current", json={"number": 0})).status_code == 200
    assert (await client.put(f"{SHOP}/rollout", json={"version": 1, "steps": [2]})).status_code == 422
    slos = [{"kind": "latency", "bound": 0.5, "over": 1.0}, {"kind": "errors", "bound": 0.1}]
    assert (await client.put(f"{SHOP}/rollout", json={"version": 1, "slos": slos})).status_code == 201
    assert (await client.put(f"{SHOP}/rollout", json={"version": 1})).status_code == 409
    assert (await client.put(f"{SHOP}/versions/current", json={"number": 0})).status_code == 409
    await client.get(f"{SHOP}/rollout")
    where, promoted = f"{SHOP}/rollout/state", {"state": "promoted"}
    assert (await client.put(where, json=promoted)).status_code == 428
    assert (await client.put(where, json=promoted, headers={"if-match": '"x"'})).status_code == 412
    assert (await client.put(where, json=promoted, headers={"if-match": "*"})).status_code == 200
    assert (await client.delete(f"{SHOP}/rollout", headers={"if-match": "*"})).status_code == 200
    assert (await client.delete(f"{SHOP}/rollout", headers={"if-match": "*"})).status_code == 409
    await client.get(f"{SHOP}/rollout/history")


async def _jobs(client: httpx.AsyncClient, kind: str, engine: Held) -> None:
    jobs = f"{SHOP}/{kind}"
    assert (await client.post(jobs, json={"spec": "other"})).status_code == 422
    started = await client.post(jobs, json={}, headers={"idempotency-key": "mine"})
    url = started.json()["url"]
    assert (await client.get(f"{jobs}/nobody")).status_code == 404
    move = {"state": "paused"}
    assert (await client.put(f"{url}/state", json=move)).status_code == 428
    assert (await client.put(f"{url}/state", json=move, headers={"if-match": '"0"'})).status_code == 412
    paused = await client.put(f"{url}/state", json=move, headers={"if-match": "*"})
    assert paused.status_code == 200
    assert (await client.put(f"{url}/state", json=move, headers={"if-match": "*"})).status_code == 409
    assert (await client.get(url, headers={"if-none-match": paused.headers["etag"]})).status_code == 304
    assert (await client.get(f"{url}/result")).status_code == 409
    assert (await client.delete(url)).status_code == 409
    engine.open.set()
    await client.put(f"{url}/state", json={"state": "running"}, headers={"if-match": "*"})
    while (await client.get(url, headers={"prefer": "wait=30"})).json()["state"] != "succeeded":
        pass
    assert "event: end" in (await client.get(f"{url}/events")).text
    await client.get(f"{url}/result")
    assert (await client.get(jobs, params={"limit": 0})).status_code == 422
    assert "next" in (await client.get(jobs, params={"limit": 1})).json()
    assert (await client.delete(url)).status_code == 204
