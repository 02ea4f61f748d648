"""Versions of a program: swapped while it serves, and back; kept as DSPy's own files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest

from dspex import BadVersion, ListVersions, ProgramActor, Swap, UseVersion, Version, VersionChanged
from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.access import Access
from foundation.http import application
from foundation.programs import RunProgram
from supervision import ChildSpec, Ref, Runtime, Supervisor
from tests.dspex.documented import DocumentedTransport

TOKEN = "a-token-of-some-length"
LABELS = {"text": "yes"}


def student() -> Any:
    """The program as it was written."""
    return dspy.Predict("text -> label", temperature=0.3)


def better() -> Any:
    """What an optimiser might make of it."""
    program = student()
    program.demos = [dspy.Example(text="old", label="no")]
    program.signature = program.signature.with_instructions("Look closely.")
    program.config = {"temperature": 0.9}
    return program


class Seen(ScriptedEngine):
    """Notes how many demonstrations it was shown, and at what temperature."""

    def __init__(self) -> None:
        super().__init__(LABELS)
        self.shown: list[tuple[int, float]] = []

    def complete(self, request: Any) -> Any:
        """Note, and answer."""
        demos = sum(message.role == "assistant" for message in request.messages)
        self.shown.append((demos, request.config.temperature))
        return super().complete(request)


async def served(runtime: Runtime, engine: ScriptedEngine, **options: Any) -> Ref:
    """The program, served."""
    spec = ChildSpec(
        "p", ProgramActor, (student,), {"lm": scripted_lm(engine), **options}, name="program:p", restart="permanent"
    )
    await runtime.spawn(Supervisor, [spec])
    ref = runtime.whereis("program:p")
    assert ref is not None
    return ref


async def test_a_better_version_is_swapped_in_and_back(runtime: Runtime) -> None:
    """Each request is answered by the version that counts when it runs; a program or its state will do."""
    told: list[Any] = []
    runtime.subscribe(told.append, VersionChanged)
    engine = Seen()
    actor = await served(runtime, engine)
    await actor.call(RunProgram({"text": "text"}))
    assert await actor.call(Swap(better())) == Version(1, True)
    await actor.call(RunProgram({"text": "text"}))
    assert await actor.call(UseVersion(0)) == Version(0, True)
    await actor.call(RunProgram({"text": "text"}))
    assert await actor.call(Swap(better().dump_state())) == Version(2, True)
    await actor.call(RunProgram({"text": "text"}))
    assert engine.shown == [(0, 0.3), (1, 0.9), (0, 0.3), (1, 0.3)]
    assert await actor.call(ListVersions()) == [Version(0, False), Version(1, False), Version(2, True)]
    assert [event.version for event in told] == [1, 0, 2]
    info = runtime.info(actor)
    assert info is not None
    assert info.summary["version"] == "2"


async def test_no_request_fails_under_a_swap(runtime: Runtime) -> None:
    """With requests on their way all the time, versions go back and forth, and each request has its answer."""
    engine = Seen()
    actor = await served(runtime, engine, concurrency=8)
    requests = [asyncio.ensure_future(actor.call(RunProgram({"text": "text"}), None)) for _ in range(100)]
    await actor.call(Swap(better()))
    for number in (0, 1, 0, 1):
        await actor.call(UseVersion(number))
        await runtime.sleep(0.005)
    answers = await asyncio.gather(*requests)
    assert all(answer.outputs["label"] in ("yes", "no") or answer.outputs["label"] for answer in answers)
    assert {demos for demos, _ in engine.shown} <= {0, 1}
    assert len(engine.shown) == 100


async def test_versions_are_dspys_files_and_outlive_the_actor(runtime: Runtime, tmp_path: Path) -> None:
    """The one that counts serves after a crash; DSPy loads the file; settings that DSPy does not save are kept too."""
    engine = Seen()
    folder = tmp_path / "versions"
    actor = await served(runtime, engine, versions=folder)
    await actor.call(Swap(better()))
    await actor.call(Swap(student()))
    await actor.call(UseVersion(1))
    actor.kill()
    while (again := runtime.whereis("program:p")) in (None, actor):
        await runtime.sleep(0.001)
    assert again is not None
    assert await again.call(ListVersions()) == [Version(0, False), Version(1, True), Version(2, False)]
    await again.call(RunProgram({"text": "text"}))
    assert engine.shown == [(1, 0.9)]
    bare = student()
    bare.load(folder / "0001.json")
    assert bare.dump_state() == better().dump_state()
    assert sorted(path.name for path in folder.iterdir()) == [
        "0001.config.json",
        "0001.json",
        "0002.config.json",
        "0002.json",
        "current",
    ]


async def test_what_does_not_fit_changes_nothing(runtime: Runtime, tmp_path: Path) -> None:
    """A version of another program, or one that is not there, is refused; the old one serves on."""
    actor = await served(runtime, Seen(), versions=tmp_path)

    with pytest.raises(BadVersion, match="does not fit the program"):
        await actor.call(Swap({"nothing": 1}))
    with pytest.raises(BadVersion, match="version 7: there are 0"):
        await actor.call(UseVersion(7))
    assert await actor.call(ListVersions()) == [Version(0, True)]
    assert list(tmp_path.iterdir()) == []


async def test_versions_are_swapped_over_http(runtime: Runtime, tmp_path: Path) -> None:
    """A program that DSPy has saved is posted as it is, and serves from then on; and back. What does not fit is
    refused, and changes nothing."""
    engine = Seen()
    await served(runtime, engine)
    better().save(tmp_path / "better.json")
    transport = DocumentedTransport(application(runtime, versions=True, access=Access(token=TOKEN, protect="changes")))
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        found = await client.post("/programs/p/versions", content=(tmp_path / "better.json").read_bytes())
        assert (found.status_code, found.json()) == (201, {"number": 1, "current": True})
        await client.post("/programs/p", json={"text": "text"})
        found = await client.put("/programs/p/versions/current", json={"number": 0})
        assert (found.status_code, found.json()) == (200, {"number": 0, "current": True})
        await client.post("/programs/p", json={"text": "text"})
        assert [demos for demos, _ in engine.shown] == [1, 0]
        for refused in (
            await client.put("/programs/p/versions/current", json={"number": 7}),
            await client.post("/programs/p/versions", json={"nothing": "of the kind"}),
        ):
            assert (refused.status_code, refused.json()["type"]) == (422, "about:blank#bad-version")
        bad = await client.put("/programs/p/versions/current", json={"version": 1})
        assert (bad.status_code, bad.json()["type"]) == (400, "about:blank#bad-json")
        found = await client.get("/programs/p/versions")
    assert found.json() == {"versions": [{"number": 0, "current": True}, {"number": 1, "current": False}]}


async def test_versions_are_not_for_everybody(runtime: Runtime) -> None:
    """Unless the front was told to, it neither shows nor changes them."""
    await served(runtime, Seen())
    transport = DocumentedTransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for found in (
            await client.get("/programs/p/versions"),
            await client.post("/programs/p/versions", json={}),
            await client.put("/programs/p/versions/current", json={"number": 0}),
        ):
            assert found.status_code == 403
            assert found.json()["detail"] == "versions are not served here; start the HTTP server with versions = true"
