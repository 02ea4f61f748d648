"""The examples of embedding: a tree inside a program, and inside a FastAPI service."""

from __future__ import annotations

import httpx
import pytest
from asgi_lifespan import LifespanManager

from examples import embed_plain
from examples.embed_fastapi import app
from supervision import Runtime
from supervision.testing import settled

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


async def test_a_tree_inside_a_plain_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert await embed_plain.main() == 5
    assert capsys.readouterr().out == "counted 5\n"


async def test_a_tree_inside_a_fastapi_service_serves_and_survives_a_crash() -> None:
    async with LifespanManager(app) as manager:
        transport = httpx.ASGITransport(manager.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.post("/count/2")).json() == {"total": 2}
            assert (await client.post("/count/3")).json() == {"total": 5}
            runtime: Runtime = app.state.counter.runtime
            counter = runtime.whereis("counter")
            assert counter is not None
            counter.kill()
            gone = await client.post("/count/1")
            assert gone.status_code == 503
            await settled(runtime)
            assert (await client.post("/count/1")).status_code == 200
            tree = (await client.get("/foundation/tree")).json()["tree"]
            assert [node["id"] for node in tree[0]["children"]] == ["counter", "count"]
            program = await client.post("/foundation/programs/count", json={"n": 1})
            assert program.json()["total"] >= 2
    assert list(runtime.actors()) == []
