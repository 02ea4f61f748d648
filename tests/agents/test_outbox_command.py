"""``python -m agents.outbox``: what an operator sees of a service's file, and what becomes of what they change."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agents import Action, AgentHandle, AgentType, Chain, Context, Emit, Result, SpawnAgent, start_agent
from agents.durability import Durability, SqliteStorage
from agents.outbox import BadOutboxFile, FileInUse, NoSuchAgent, NoSuchEffect, OutboxFile
from agents.outbox.__main__ import _age, main
from agents.outbox.file import now
from agents.server.effects import shortened
from agents.signals.messages import Deliver
from agents.signals.sinks import Webhook
from supervision import Actor, Refuse, Runtime, handle
from supervision.testing import advance


class Sent(msgspec.Struct, frozen=True):
    """How many were sent."""

    n: int = 0


class Send(Action[Sent]):
    """Send something, to where it is told."""

    to: str

    def run(self, context: Context[Sent]) -> Result[Sent]:
        """Send it."""
        n = context.state.n + 1
        return Result(Sent(n), (Emit("parcel.sent", {"n": n}, to=self.to),))


class Child(Action[None]):
    """Start a child."""

    def run(self, context: Context[Sent]) -> Result[None]:
        """Start it."""
        return Result(None, (SpawnAgent(Shop, "child"),))


CALLS: list[tuple[str, str]] = []


class Book(Action[None]):
    """Something that can be undone."""

    async def run(self, context: Context[Sent]) -> None:
        """Do it."""
        CALLS.append(("book", context.token))

    async def compensate(self, context: Context[Sent], done: Any, error: Exception) -> None:
        """Undo it."""
        CALLS.append(("cancel", context.done_token))


class Hang(Action[None]):
    """Never end."""

    async def run(self, context: Context[Sent]) -> None:
        """Wait."""
        await advance(1000.0)


class Shop(AgentType[Sent]):
    """Sends parcels."""

    name = "shop"
    routes = {"send": Send, "child": Child, "book": Chain(Book, Hang)}


class Unwilling(Actor):
    """Fails for a long reason."""

    def __init__(self, why: str) -> None:
        self._why = why

    @handle
    def on_deliver(self, request: Deliver) -> None:
        """Fail."""
        raise Refuse(RuntimeError(f"{self._why}: the reason"))


class Sink:
    """Answers with a status, and keeps the ids of what it got."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.ids: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.ids.append(request.headers["webhook-id"])
        return httpx.Response(self.status)


@asynccontextmanager
async def service(path: Path, sink: Sink, id: str = "a") -> AsyncGenerator[AgentHandle[Sent]]:
    """Run a shop that is kept in a file."""
    storage = SqliteStorage(path, "normal")
    try:
        async with Runtime(watchdog=None, reports=False, seed=1) as runtime:
            await runtime.spawn(Webhook, "https://example.org/", transport=httpx.MockTransport(sink), name="sink")
            yield await start_agent(runtime, Shop, id=id, durability=Durability(storage))
    finally:
        storage.close()


async def sent(path: Path, status: int, *to: str, id: str = "a") -> Sink:
    """Have a shop send parcels, and stop it."""
    sink = Sink(status)
    async with service(path, sink, id) as shop:
        for one in to:
            await shop.call(shop.signal("send", {"to": one}))
        await advance(1.0)
    return sink


def command(*arguments: object, answer: str | None = None) -> tuple[int, str]:
    """Run the command, and answer what it asks."""
    out = io.StringIO()

    def ask(question: str) -> str:
        out.write(question)
        if answer is None:
            raise EOFError
        return answer

    return main([str(one) for one in arguments], out, ask), out.getvalue()


def listed(path: Path, *more: str) -> list[dict[str, Any]]:
    status, told = command("list", path, "--json", *more)
    assert status == 0
    return json.loads(told)  # type: ignore[no-any-return]


async def test_what_was_given_up_is_seen_redriven_and_done_with_its_token(tmp_path: Path) -> None:
    """By the service that starts again; and then nothing is left of it."""
    path = tmp_path / "shop.db"
    refused = await sent(path, 400, "sink")
    (dead,) = listed(path)
    assert (dead["state"], dead["agent"], dead["to"], dead["attempts"]) == ("dead", "/shop/a", "sink", 1)
    assert "400" in dead["error"]
    assert refused.ids == [dead["token"]]
    status, table = command("list", path)
    assert (status, table.split()[:3], table.count("\n")) == (0, ["STATE", "AGENT", "WHAT"], 2)
    status, shown = command("show", path, dead["token"])
    assert status == 0
    assert "parcel.sent" in shown
    assert '"n": 1' in shown
    assert command("redrive", path, dead["token"]) == (0, "1 to be tried again when the service starts\n")
    (waiting,) = listed(path)
    assert (waiting["state"], waiting["attempts"], waiting["error"]) == ("waiting", 0, None)
    ready = await sent(path, 200)
    assert ready.ids == refused.ids
    assert command("list", path) == (0, "nothing waits, and nothing was given up\n")


async def test_a_file_that_a_service_has_open_is_shown_and_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its agents would not see the change: the operator is told what to do instead."""
    path = tmp_path / "shop.db"
    async with service(path, Sink(400)) as shop:
        await shop.call(shop.signal("send", {"to": "sink"}))
        await advance(1.0)
        (dead,) = listed(path)
        for order in (("redrive", path, "--all"), ("forget", path, dead["token"], "--yes"), ("fork", path, "--yes")):
            assert command(*order)[0] == 1
            assert "stop that service first" in capsys.readouterr().err
        with pytest.raises(FileInUse):
            OutboxFile(path).redrive()
        assert listed(path) == [dead]
        assert await shop.redrive() == 1


async def test_what_fails_and_what_waits_behind_it_are_told_apart(tmp_path: Path) -> None:
    """With how often it was tried, and what was wrong the last time; of one agent, or of all."""
    path = tmp_path / "shop.db"
    await sent(path, 503, "sink", "sink", "nobody", id="a")
    await sent(path, 503, "sink", id="b")
    effects = listed(path)
    assert [(one["agent"], one["state"], one["to"]) for one in effects] == [
        ("/shop/a", "failing", "sink"),
        ("/shop/a", "waiting", "sink"),
        ("/shop/a", "failing", "nobody"),
        ("/shop/b", "failing", "sink"),
    ]
    assert effects[0]["attempts"] >= 2
    assert "503" in effects[0]["error"]
    assert "nobody holds this name" in effects[2]["error"]
    for name in ("b", "shop/b", "/shop/b"):
        assert [one["agent"] for one in listed(path, "--agent", name)] == ["/shop/b"]
    assert command("redrive", path, "--agent", "b") == (0, "0 to be tried again when the service starts\n")
    assert command("redrive", path, "--all", "--json") == (0, '{\n  "redriven": 0\n}\n')
    with pytest.raises(NoSuchEffect, match="not given up: it is waiting"):
        OutboxFile(path).redrive(effects[1]["token"])


async def test_what_is_forgotten_is_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a question, or without one; and what is behind it is."""
    path = tmp_path / "shop.db"
    await sent(path, 503, "sink", "sink")
    first, second = (one["token"] for one in listed(path))
    for answer in ("n", "", None):
        status, told = command("forget", path, first, answer=answer)
        assert status == 1
        assert "parcel.sent" in told
        assert told.endswith("nothing was changed\n")
    assert len(listed(path)) == 2
    assert command("forget", path, first, answer="y")[0] == 0
    assert command("forget", path, first, "--yes", "--json")[0] == 1
    assert "no effect" in capsys.readouterr().err
    assert (await sent(path, 200)).ids == [second]
    assert command("list", path) == (0, "nothing waits, and nothing was given up\n")


async def test_one_token_that_is_wrong_changes_nothing(tmp_path: Path) -> None:
    """Neither that one, nor the others."""
    path = tmp_path / "shop.db"
    await sent(path, 400, "sink", "sink")
    before = listed(path)
    with pytest.raises(NoSuchEffect):
        OutboxFile(path).redrive(before[0]["token"], "ft1-nothing")
    with pytest.raises(NoSuchAgent):
        OutboxFile(path).redrive(before[0]["token"], agent="b")
    with pytest.raises(NoSuchEffect):
        OutboxFile(path).effect("ft1-nothing")
    assert listed(path) == before
    assert OutboxFile(path).redrive(*[before[0]["token"]] * 2) == 1


async def test_an_agent_in_a_copy_is_an_agent_of_its_own(tmp_path: Path) -> None:
    """What was open is given up there, for somebody to decide; what it does from then on has other tokens."""
    path = tmp_path / "shop.db"
    CALLS.clear()
    async with service(path, Sink(503)) as shop:
        await shop.call(shop.signal("send", {"to": "sink"}))
        await shop.call(shop.signal("child"))
        shop.cast(shop.signal("book"))
        await advance(1.0)
        copy = tmp_path / "copy.db"
        with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
    booked = CALLS[0][1]
    begun, open_ = sorted(listed(copy), key=lambda one: one["state"])
    assert (begun["state"], begun["what"]) == ("begun", "tests.agents.test_outbox_command:Book")
    assert json.loads(command("show", copy, begun["token"], "--json")[1]) == begun
    assert "\nat " not in command("show", copy, begun["token"])[1]
    with pytest.raises(NoSuchEffect, match="undoes it"):
        OutboxFile(copy).forget(begun["token"])
    assert command("fork", copy)[0] == 1
    status, told = command("fork", copy, answer="yes")
    assert (status, told.partition("? ")[0]) == (0, f"Is {copy} a copy")
    assert told.endswith("[y/N] agents of their own now: 1\n")
    assert {(one["state"], one["token"]) for one in listed(copy)} == {
        ("dead", begun["token"]),
        ("dead", open_["token"]),
    }
    assert command("fork", copy, "--yes", "--json") == (0, '{\n  "agents": 1\n}\n')
    sink = await sent(copy, 200, "sink")
    assert sink.ids != [open_["token"]]
    assert len(sink.ids) == 1
    CALLS.clear()
    assert command("redrive", copy, "--all")[0] == 0
    assert (await sent(copy, 200)).ids == [open_["token"]]
    (called,) = CALLS
    assert called == ("cancel", booked)


async def test_what_is_no_file_of_agents_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made, and nothing changed."""
    nothing, text, other = (tmp_path / name for name in ("nothing.db", "text.db", "other.db"))
    text.write_text("this is no database at all, but it is long enough to be taken for one: " * 100)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE things (id)")
    database.close()
    for path, why in ((nothing, "no such file"), (text, "cannot be read"), (other, "no file of a SqliteStorage")):
        assert command("list", path)[0] == 1
        assert why in capsys.readouterr().err
    assert not nothing.exists()


async def test_a_record_that_is_damaged_is_said(tmp_path: Path) -> None:
    """And nothing beside it is changed."""
    path = tmp_path / "shop.db"
    await sent(path, 400, "sink", "sink")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE rows SET body = x'00' WHERE id = (SELECT max(id) FROM rows WHERE kind = 'dead')")
    database.close()
    before = path.read_bytes()
    with pytest.raises(BadOutboxFile, match="cannot be read"):
        OutboxFile(path).effects()
    with pytest.raises(BadOutboxFile, match="cannot be changed"):
        OutboxFile(path).redrive()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "required"),
        (["dance", "x.db"], "invalid choice"),
        (["show", "x.db"], "TOKEN"),
        (["redrive", "x.db"], "say which"),
        (["redrive", "x.db", "ft1-a", "--all"], "say it alone"),
        (["redrive", "x.db", "--agent", "a", "--all"], "say it alone"),
        (["list"], "PATH"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is missing."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert word in capsys.readouterr().err


async def test_an_agent_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the names of some that are; one that has nothing to do is no error."""
    path = tmp_path / "shop.db"
    storage = SqliteStorage(path, "normal")
    for wrong in ("nope", "/shop/nope", "hop/a", ""):
        assert command("list", path, "--agent", wrong)[0] == 1
        assert f"has no agent {wrong}; it has none" in capsys.readouterr().err
    await storage.claim("/shop/a", "g")
    assert command("list", path, "--agent", "a") == (0, "nothing waits, and nothing was given up\n")
    for id in range(6):
        await storage.claim(f"/shop/c{id}", "g")
    storage.close()
    assert command("redrive", path, "--agent", "nope\n\x1b[31m")[0] == 1
    said = capsys.readouterr().err
    assert r"no agent nope\n\u001b[31m; it has /shop/a, /shop/c0, /shop/c1, /shop/c2, /shop/c3, and 2 more" in said
    assert said.count("\n") == 1


async def test_why_something_has_failed_is_seen_however_long_that_is(tmp_path: Path) -> None:
    """Of an error, the beginning and the end are kept, and shown."""
    path, wrong = tmp_path / "shop.db", "x" * 3000
    async with service(path, Sink(200)) as shop:
        assert shop.view.ref is not None
        await shop.view.ref.runtime.spawn(Unwilling, wrong, name="unwilling")
        await shop.call(shop.signal("send", {"to": "unwilling"}))
        await advance(1.0)
    (failing,) = listed(path)
    assert len(failing["error"]) == 1000
    _, table = command("list", path)
    error = table.splitlines()[1].partition(failing["token"])[2].strip()
    assert len(error) == 200
    for told in (error, failing["error"]):
        assert told.startswith("RuntimeError: xxx")
        assert " ... " in told
        assert "the reason" in told[-60:]
    assert [shortened(text, 10) for text in ("", "0123456789", "0123456789a")] == ["", "0123456789", "012 ... 9a"]


async def test_what_is_shown_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    """One effect is one line, whatever its agent, its receiver, its data and its error have in them."""
    path, odd = tmp_path / "shop.db", "two\nlines \x1b[31mred\x9b\u202e ünï"
    await sent(path, 200, odd, id=odd)
    seen = r"two\nlines \u001b[31mred\u009b\u202e ünï"
    status, table = command("list", path)
    assert (status, table.count("\n"), table.count(seen) >= 2) == (0, 2, True)
    (token,) = (one["token"] for one in listed(path))
    shown = command("show", path, token)[1]
    assert "agent     /shop/two\n          lines \\u001b[31mred" in shown
    for text in (table, shown, command("list", path, "--json")[1]):
        assert all(one.isprintable() or one == "\n" for one in text)
    assert listed(path)[0]["agent"] == f"/shop/{odd}"


@contextmanager
def ordinary_user() -> Generator[None]:
    """Have the rights of somebody who is nobody in particular."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


async def test_a_backup_that_may_not_be_changed_can_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, or not at all: what is in the log beside it counts, too."""
    path = tmp_path / "shop.db"
    folders = [Path(tempfile.mkdtemp()) for _ in range(4)]
    whole, emptied, logged, closed = folders
    try:
        async with service(path, Sink(400)) as shop:
            await shop.call(shop.signal("send", {"to": "sink"}))
            await advance(1.0)
            for name in ("shop.db", "shop.db-wal"):
                shutil.copy(tmp_path / name, logged / name)
        for folder in (whole, emptied, closed):
            shutil.copy(path, folder / "shop.db")
        (emptied / "shop.db-wal").touch()
        expected = listed(path)
        for folder in folders:
            for file in folder.iterdir():
                file.chmod(0o444)
            folder.chmod(0o000 if folder is closed else 0o555)
        with ordinary_user():
            assert listed(whole / "shop.db") == listed(emptied / "shop.db") == expected
            for folder, why in ((logged, "copy both files"), (closed, "Permission denied|no such file")):
                with pytest.raises(BadOutboxFile, match=why):
                    OutboxFile(folder / "shop.db").effects()
            assert command("redrive", whole / "shop.db", "--all")[0] == 1
        assert "cannot be changed" in capsys.readouterr().err
    finally:
        for folder in folders:
            folder.chmod(0o700)
            shutil.rmtree(folder)


def test_an_age_is_short() -> None:
    """Of what nobody knows, there is none."""
    time = now()
    ages = [_age(at) for at in (0.0, time + 5, time - 90, time - 600, time - 3 * 3600, time - 3 * 86400)]
    assert ages == ["-", "0 s", "90 s", "10 min", "3 h", "3 d"]


def as_process(*arguments: object) -> str:
    """Run the command as a process."""
    run = [sys.executable, "-m", "agents.outbox", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


async def test_the_command_is_a_process_of_its_own(tmp_path: Path) -> None:
    """As its user runs it."""
    path = tmp_path / "shop.db"
    await sent(path, 400, "sink")
    assert as_process("redrive", path, "--all") == "1 to be tried again when the service starts\n"
    assert [one["state"] for one in listed(path)] == ["waiting"]


def unread(*arguments: object) -> tuple[int, str]:
    """Run the command as a process whose output nobody reads; return its status, and what it says of that."""
    reading, writing = os.pipe()
    os.close(reading)
    run = [sys.executable, "-m", "agents.outbox", *map(str, arguments)]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    ended = subprocess.run(run, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    os.close(writing)
    return ended.returncode, ended.stderr


async def test_that_nobody_reads_on_is_no_error_to_be_told(tmp_path: Path) -> None:
    """As behind ``| head``: no traceback, also of the usage."""
    path = tmp_path / "shop.db"
    await sent(path, 400, "sink")
    assert unread("list", path) == (1, "")
    assert unread("--help") == (1, "")
