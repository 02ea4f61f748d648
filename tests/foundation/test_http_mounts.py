"""Applications of a user's own beside the pages of the HTTP server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from foundation.access import Access
from foundation.events import HttpHandled
from foundation.http import HttpServer, application
from foundation.http.mounts import checked_mounts
from foundation.tree import TreeError, load_tree
from supervision import Runtime
from supervision.errors import BadOption


def shop(runtime: Runtime) -> Starlette:
    """An application."""

    async def counted(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.path_params['what']} of {runtime.statistics().actors}")

    async def broken(request: Request) -> PlainTextResponse:
        raise LookupError("no such word")

    return Starlette(routes=[Route("/items/{what}", counted), Route("/broken", broken)])


HERE = "tests.foundation.test_http_mounts:shop"


@pytest.mark.parametrize("make", [shop, HERE])
async def test_an_application_of_ones_own_is_served_behind_the_guard(make: Any) -> None:
    """It has the runtime; its requests are told and refused as all others are; its failures are its own."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        told: list[HttpHandled] = []
        runtime.events.subscribe(lambda event: told.append(event) if isinstance(event, HttpHandled) else None)
        access = Access(token="x" * 32, protect="all")
        app = application(runtime, mounts={"/own/shop": make}, access=access)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/own/shop/items/tea")).status_code == 401
            client.headers["authorization"] = f"Bearer {'x' * 32}"
            answer = await client.get("/own/shop/items/tea")
            assert (answer.status_code, answer.text) == (200, "tea of 0")
            assert (await client.get("/own/shop/broken")).status_code == 500
            assert (await client.get("/own/shop/nothing")).status_code == 404
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/own/shop/items/tea", headers={"host": "evil.example"})).status_code == 421
        assert [(one.route, one.status) for one in told][1:4] == [
            ("/items/{what}", 200),
            ("/broken", 500),
            ("none", 404),
        ]


@pytest.mark.parametrize(
    ("mounts", "word"),
    [
        ([], "give a table"),
        ({"shop": shop}, "give a path such as /shop"),
        ({"/": shop}, "give a path such as /shop"),
        ({7: shop}, "give a path such as /shop"),
        ({"/programs/x": shop}, "the server's own pages"),
        ({"/shop": "tests.foundation.test_http_mounts:nothing"}, "nothing"),
        ({"/shop": 7}, "a function of a runtime"),
        ({"/shop": "tests.foundation.test_http_mounts:HERE"}, "a function of a runtime"),
    ],
)
def test_a_wrong_mount_is_refused_before_anything_starts(mounts: Any, word: str) -> None:
    """The error names it, also that of a tree file."""
    with pytest.raises(BadOption, match=word):
        checked_mounts(mounts)
    child = {"id": "http", "start": "foundation.http:HttpServer", "kwargs": {"mounts": mounts}}
    with pytest.raises(TreeError, match=word):
        load_tree({"children": [child]})


def test_a_tree_file_can_say_a_mount_and_values_of_its_own() -> None:
    """What a name stands for is said from outside."""
    child = {"id": "http", "start": "foundation.http:HttpServer", "kwargs": {"mounts": {"/shop": "${make}"}}}
    (_, found) = load_tree({"children": [child]}, values={"make": HERE}).outline()
    assert found[1].kind is HttpServer
    with pytest.raises(TreeError, match="choose from"):
        load_tree({"children": [child]})
