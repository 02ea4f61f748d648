"""Rollouts over HTTP, with the token; and the command that asks for them."""

from __future__ import annotations

import asyncio
import io
import json
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from dspex.rollout import main
from foundation.access import Access
from foundation.events import Serving
from foundation.http import application
from foundation.http.server import HttpServer
from supervision import Runtime
from tests.dspex.documented import DocumentedTransport
from tests.dspex.rollout.programs import Shop, failing, version

TOKEN = "a-token-of-some-length"
PATH = "/programs/shop/rollout"


@asynccontextmanager
async def client_of(runtime: Runtime, *, versions: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token."""
    access = Access(token=TOKEN, protect="changes")
    transport = DocumentedTransport(application(runtime, versions=versions, access=access))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


def problem(found: httpx.Response) -> tuple[int, str]:
    """The status and the word of a problem."""
    return found.status_code, found.json()["type"].removeprefix("about:blank#")


async def test_a_version_is_added_tried_and_promoted(runtime: Runtime) -> None:
    shop = await Shop(runtime).open()
    async with client_of(runtime) as client:
        assert problem(await client.get(PATH)) == (404, "no-rollout")
        found = await client.post("/programs/shop/versions?serve=false", json=version("new").dump_state())
        assert found.json() == {"number": 1, "current": False}
        found = await client.put(PATH, json={"version": 1, "steps": [0.5]})
        assert (found.status_code, found.headers["location"]) == (201, PATH)
        state = found.json()
        assert (next(iter(state)), state["state"], state["share"]) == ("state", "canary", 0.5)
        assert found.headers["etag"] == state["etag"]
        keys = {"x-session-key": "ada"}
        answers = [await client.post("/programs/shop", json={"text": "x"}, headers=keys) for _ in range(5)]
        assert len({(answer.json()["label"], answer.headers["x-program-version"]) for answer in answers}) == 1
        seen = {"if-match": (await client.get(PATH)).headers["etag"]}
        found = await client.put(f"{PATH}/state", json={"state": "promoted", "why": "it is good"}, headers=seen)
        assert (found.status_code, found.json()["state"], found.json()["why"]) == (200, "promoted", "it is good")
        assert (await client.post("/programs/shop", json={"text": "x"})).json() == {"label": "by new"}
        [history] = (await client.get(f"{PATH}/history")).json()["rollouts"]
        moves = [(move["source"], move["target"], move["who"]) for move in history["moves"]]
        assert moves == [("candidate", "canary", "http"), ("canary", "promoted", "http")]
        found = await client.delete(PATH, headers={"if-match": "*"})
        assert found.json()["state"] == "rolled_back"
        assert problem(await client.delete(PATH, headers={"if-match": "*"})) == (409, "rollout-conflict")
    assert await shop.ask() == "by old"


async def test_E046_a_second_one_is_a_conflict_with_the_url_of_the_first(runtime: Runtime) -> None:
    await Shop(runtime).open("new", "other")
    async with client_of(runtime) as client:
        first = (await client.put(PATH, json={"version": 1})).json()
        found = await client.put(PATH, json={"version": 2})
        assert (*problem(found), found.json()["rollout"], found.json()["state"]) == (
            409,
            "rollout-conflict",
            PATH,
            "canary",
        )
        found = await client.put("/programs/shop/versions/current", json={"number": 2})
        assert problem(found) == (409, "rollout-conflict")
        second = (await client.put(f"{PATH}?replace=true", json={"version": 2})).json()
        assert second["id"] != first["id"]
        found = await client.put("/programs/shop/versions/current?force=true", json={"number": 2})
        assert found.json() == {"number": 2, "current": True}
        assert (await client.get(PATH)).json()["state"] == "aborted"


async def test_E048_stale_or_without_the_token_or_from_a_page_nothing_changes(runtime: Runtime) -> None:
    shop = await Shop(runtime).open("new")
    async with client_of(runtime) as client:
        stale = (await client.put(PATH, json={"version": 1})).headers["etag"]
        etag = (await shop.decide("held")).etag
        found = await client.put(f"{PATH}/state", json={"state": "canary"}, headers={"if-match": stale})
        assert (*problem(found), found.headers["etag"]) == (412, "stale-rollout", etag)
        assert problem(await client.put(PATH, json={"version": 1}, headers={"if-match": stale}))[0] == 412
        assert problem(await client.delete(PATH)) == (428, "if-match-required")
        page = {"if-match": etag, "origin": "http://evil.example"}
        assert problem(await client.delete(PATH, headers=page)) == (403, "foreign-page")
        client.headers["authorization"] = "Bearer wrong"
        for found in (
            await client.get(PATH),
            await client.put(PATH, json={"version": 1}),
            await client.delete(PATH, headers={"if-match": etag}),
            await client.put(f"{PATH}/state", json={"state": "aborted"}, headers={"if-match": etag}),
            await client.get(f"{PATH}/history"),
        ):
            assert problem(found) == (401, "unauthorized")
    assert await shop.phase() == "held"


async def test_what_makes_no_sense_is_told_and_rollouts_are_not_for_everybody(runtime: Runtime) -> None:
    await Shop(runtime).open("new")
    async with client_of(runtime) as client:
        for body, word in (({"version": 9}, "bad-version"), ({"version": 1, "steps": [2]}, "bad-rollout")):
            assert problem(await client.put(PATH, json=body)) == (422, word)
        assert problem(await client.put(f"{PATH}?replace=perhaps", json={"version": 1})) == (422, "bad-parameter")
        assert problem(await client.put(f"{PATH}/state", json={"state": "candidate"}))[0] == 400
    async with client_of(runtime, versions=False) as client:
        assert problem(await client.get(PATH)) == (403, "versions-not-served")


# -- the command ------------------------------------------------------------------------------------------------------


class Command:
    """Runs the command beside a server, as somebody does who has the token."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environ = {"FOUNDATION_TOKEN": TOKEN}

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        command, *options = arguments
        run = partial(main, [command, f"{self.url}/programs/shop", *options], self.environ, output)
        return await asyncio.to_thread(run), output.getvalue()


async def serve(runtime: Runtime) -> Command:
    """Serve over HTTP, and return the command."""
    urls: list[Any] = []
    runtime.subscribe(urls.append, Serving)
    await runtime.spawn(HttpServer, port=0, versions=True, access=Access(token=TOKEN, protect="changes"))
    return Command(urls[0].url)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_the_command_starts_shows_promotes_and_aborts(
    runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = await Shop(runtime, None, {"bad": failing}).open("bad")
    run = await serve(runtime)
    assert await run("status") == (1, "")
    assert "404: program 'shop': program 'shop' has had no rollout" in capsys.readouterr().err
    saved, how = tmp_path / "new.json", tmp_path / "rollout.toml"
    version("new").save(saved)
    how.write_text('steps = [0.25, 0.5]\nshadow = 0.5\nslos = [{ kind = "errors", bound = 0.1 }]\n')
    status, said = await run("start", "--file", str(saved), "--rollout", str(how))
    assert (status, said.splitlines()[0]) == (0, "version 2 beside version 0: shadow at 0")
    while not (await shop.state()).pairs:
        await shop.ask()
    assert "shadow: " in (await run("status"))[1]
    await shop.decide("canary")
    for number in range(8):
        await shop.ask(key=f"u{number}")
    status, said = await run("status")
    assert (status, said.splitlines()[0]) == (0, "version 2 beside version 0: canary at 0.25, step 1 of 2")
    assert "errors: open; bad 0 of" in said
    assert "of the calls named no key" in said
    assert json.loads((await run("status", "--json"))[1])["state"] == "canary"
    assert (await run("start", "--version", "1"))[0] == 1
    assert "end it, or replace it" in capsys.readouterr().err
    assert (await run("start", "--version", "1", "--replace"))[0] == 0
    status, said = await run("abort", "--why", "not now")
    assert (status, said.splitlines()[1]) == (0, "  not now (http)")
    assert (await run("start", "--version", "2"))[0] == 0
    assert (await run("promote"))[1].startswith("version 2 beside version 0: promoted at 1\n")
    assert await shop.ask() == "by new"


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_the_command_finds_the_token_and_says_what_is_wrong(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shop = await Shop(runtime).open("new")
    await shop.start()
    run = await serve(runtime)
    run.environ = {}
    assert (await run("status"))[0] == 1
    assert "401: this needs the HTTP server's token" in capsys.readouterr().err
    (tmp_path / ".foundation").mkdir()
    (tmp_path / ".foundation/token").write_text(f"{TOKEN}\n")
    assert (await run("status"))[0] == 0
    (tmp_path / "other").write_text(TOKEN)
    run.environ = {"FOUNDATION_TOKEN": "wrong"}
    assert (await run("status", "--token-file", "other"))[0] == 0
    run.url = "http://127.0.0.1:9"
    assert (await run("status"))[0] == 1
    assert "http://127.0.0.1:9/programs/shop: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["status", "ftp://x"], "give that of a program"),
        (["start", "http://x"], "start: give --version"),
        (["start", "http://x", "--version", "1", "--file", "x"], "start: give --version"),
        (["start", "http://x", "--file", "/nowhere"], "No such file"),
        (["status", "http://x", "--token-file", "/nowhere"], "No such file"),
        (["start", "http://x", "--version", "1", "--rollout", "pyproject.toml/x"], "pyproject.toml"),
    ],
)
def test_the_command_refuses_nonsense(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments, {})
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}"])
def test_a_refusal_that_is_no_problem_document_is_told_by_its_status(
    body: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from email.message import Message
    from urllib.error import HTTPError

    def refused(*_: Any, **__: Any) -> Any:
        raise HTTPError("http://x", 502, "Bad Gateway", Message(), io.BytesIO(body))

    monkeypatch.setattr("dspex.rollout.urlopen", refused)
    assert main(["status", "http://x"], {"FOUNDATION_TOKEN": TOKEN}) == 1
    assert "502: Bad Gateway" in capsys.readouterr().err


def test_it_is_a_module_that_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["dspex.rollout", "status", "nowhere"])
    monkeypatch.delitem(sys.modules, "dspex.rollout")
    with pytest.raises(SystemExit):
        runpy.run_module("dspex.rollout", run_name="__main__")
    assert "give that of a program" in capsys.readouterr().err
