"""Where a durable agent can send: to pools and instances by their names, as to any agent, and to ask them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents import (
    Action,
    AgentHandle,
    AgentType,
    AwaitReply,
    Chain,
    Context,
    Emit,
    Failure,
    Result,
    Signal,
    start_agent,
)
from agents.durability import Durability, MemoryStorage, StorageError
from agents.errors import NoRoute
from agents.instances import instances_at, start_instances
from agents.pool import Pool, start_pool
from agents.server.messages import Ask
from supervision import NotRunning, Runtime
from supervision.testing import advance, settled


class Lines(msgspec.Struct, frozen=True):
    """What was said."""

    lines: tuple[str, ...] = ()


class Note(Action[Lines]):
    """Keep a line; some cannot be kept."""

    line: str

    def run(self, context: Context[Lines]) -> Lines:
        """Keep it."""
        if self.line == "bad":
            raise Failure("bad")
        return Lines((*context.state.lines, self.line))


class Notebook(AgentType[Lines]):
    """Keeps lines."""

    routes = {"note": Note}


class Tell(Action[None]):
    """Send a line to somebody."""

    line: str
    to: str
    subject: str | None = None

    def run(self, context: Context[Lines]) -> Result[None]:
        """Send it."""
        return Result(None, (Emit("note", {"line": self.line}, self.subject, self.to),))


class Question(Action[None]):
    """Ask somebody."""

    to: str

    def run(self, context: Context[Lines]) -> Result[None]:
        """Ask them."""
        return Result(None, (AwaitReply(self.to, "note", "answered", {"line": "asked"}),))


class Answered(Action[Lines]):
    """Keep an answer."""

    status: str
    state: dict[str, Any] = {}

    def run(self, context: Context[Lines]) -> Lines:
        """Keep it."""
        return Lines((*context.state.lines, f"{self.status} {self.state.get('lines')}"))


class Teller(AgentType[Lines]):
    """Tells others."""

    routes = {"tell": Tell, "ask": Question, "answered": Answered}


async def teller(runtime: Runtime, storage: MemoryStorage | None) -> AgentHandle[Lines]:
    durability = None if storage is None else Durability(storage)
    return await start_agent(runtime, Teller, id="teller", durability=durability)


async def tell(agent: AgentHandle[Lines], to: str, line: str, subject: str | None = None) -> None:
    reply = await agent.call(agent.signal("tell", {"line": line, "to": to, "subject": subject}))
    assert not reply.errors


@pytest.mark.parametrize("durable", [True, False])
async def test_a_signal_to_instances_goes_to_the_one_of_its_subject(runtime: Runtime, durable: bool) -> None:
    """It is started for it; one that sleeps is woken."""
    storage = MemoryStorage()
    books = await start_instances(runtime, Notebook, name="books", durability=Durability(storage))
    agent = await teller(runtime, storage if durable else None)
    await tell(agent, "books", "1", "ann")
    await tell(agent, "books", "2", "joe")
    await settled(runtime)
    await books.hibernate("ann")
    await tell(agent, "books", "3", "ann")
    await settled(runtime)
    assert (await books.get("ann")).state.lines == ("1", "3")
    assert (await books.get("joe")).state.lines == ("2",)


async def test_an_instance_takes_what_is_sent_again_once(runtime: Runtime) -> None:
    """The receipt is that of the instance, after its commit; before, the sender sends again."""
    storage = MemoryStorage()
    agent = await teller(runtime, storage)
    await tell(agent, "books", "1", "ann")
    await settled(runtime)
    books = await start_instances(runtime, Notebook, name="books", durability=Durability(storage))
    await settled(runtime)
    ann = await books.get("ann")
    assert ann.state.lines == ("1",)
    await tell(agent, "books", "bad", "ann")
    await advance(5.0)
    await tell(agent, "books", "2", "joe")
    await settled(runtime)
    assert ann.state.lines == ("1",)
    assert (await agent.call(agent.signal("tell", {"line": "x", "to": "books"}))).pending == 3


async def test_what_has_no_subject_can_be_for_no_instance(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """A durable sender gives it up at once, another one is told in the log."""
    await start_instances(runtime, Notebook, name="books")
    agent = await teller(runtime, MemoryStorage())
    await tell(agent, "books", "1")
    await settled(runtime)
    (dead,) = await agent.dead_effects()
    assert "no subject" in str(dead.why)
    await tell(await start_agent(runtime, Teller, id="plain"), "books", "1")
    await settled(runtime)
    assert "no subject" in caplog.text


class Unwilling(AgentType[Lines]):
    """Cannot be started."""

    routes = {"note": Note}

    @classmethod
    def new(cls, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("not today")


async def test_an_instance_that_cannot_start_is_tried_again(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """What was sent to it waits in the outbox; what was cast is in the log."""
    await start_instances(runtime, Unwilling, name="books")
    agent = await teller(runtime, MemoryStorage())
    await tell(agent, "books", "1", "ann")
    await advance(2.0)
    assert await agent.dead_effects() == ()
    assert (await agent.call(agent.signal("tell", {"line": "x", "to": "books", "subject": "a"}))).pending == 2
    await tell(await start_agent(runtime, Teller, id="plain"), "books", "1", "ann")
    await advance(2.0)
    assert "not today" in caplog.text


async def test_a_pool_takes_what_is_sent_to_it_and_says_when(runtime: Runtime) -> None:
    """The receipt is that of a worker, when its turn is over."""
    agent = await teller(runtime, MemoryStorage())
    await tell(agent, "pool", "1")
    await settled(runtime)
    pool: Pool[Lines] = await start_pool(runtime, Notebook, 1, name="pool")
    await settled(runtime)
    async with pool.worker() as worker:
        assert worker.state.lines == ("1",)
        await tell(agent, "pool", "2")
        await settled(runtime)
        assert (await agent.call(agent.signal("tell", {"line": "3", "to": "pool"}))).pending == 2
    await settled(runtime)
    async with pool.worker() as worker:
        assert worker.state.lines == ("1", "2", "3")


async def test_a_pool_does_not_do_what_its_sender_has_given_up_and_sends_again(runtime: Runtime) -> None:
    """However long no worker is free: what waits for one is asked again, and done once."""
    agent = await teller(runtime, MemoryStorage())
    pool: Pool[Lines] = await start_pool(runtime, Notebook, 1, name="pool")
    async with pool.worker() as worker:
        await tell(agent, "pool", "1")
        await advance(200.0)
        assert worker.state.lines == ()
    await advance(100.0)
    async with pool.worker() as worker:
        assert worker.state.lines == ("1",)


async def test_what_a_pool_was_sent_by_one_that_has_died_is_left_to_its_next_incarnation(runtime: Runtime) -> None:
    """No worker begins with it before; and then one does, once."""
    storage = MemoryStorage()
    agent = await teller(runtime, storage)
    pool: Pool[Lines] = await start_pool(runtime, Notebook, 1, name="pool")
    async with pool.worker() as worker:
        await tell(agent, "pool", "1")
        await settled(runtime)
        assert agent.view.ref is not None
        agent.view.ref.kill()
        await settled(runtime)
    await settled(runtime)
    assert worker.state.lines == ()
    await teller(runtime, storage)
    await settled(runtime)
    assert worker.state.lines == ("1",)


class Slow(Action[Lines]):
    """Take longer than an outbox waits."""

    line: str

    async def run(self, context: Context[Lines]) -> Lines:
        """Keep the line, in the end."""
        assert context.ref is not None
        await context.ref.runtime.sleep(100.0)
        return Lines((*context.state.lines, self.line))


class SlowNotebook(AgentType[Lines]):
    """Is slow."""

    routes = {"note": Slow}


async def test_what_comes_again_while_a_worker_is_at_it_gets_the_same_receipt(runtime: Runtime) -> None:
    """It is given to no second worker."""
    agent = await teller(runtime, MemoryStorage())
    pool: Pool[Lines] = await start_pool(runtime, SlowNotebook, 2, name="pool")
    await tell(agent, "pool", "1")
    await advance(400.0)
    async with pool.worker() as one, pool.worker() as other:
        assert sorted((one.state.lines, other.state.lines)) == [(), ("1",)]
    assert (await agent.call(agent.signal("tell", {"line": "2", "to": "pool"}))).pending == 1


async def test_a_pool_can_be_asked(runtime: Runtime) -> None:
    """`AwaitReply` asks it as it asks an agent; an error of its worker is the answer."""
    agent = await teller(runtime, MemoryStorage())
    await start_pool(runtime, Notebook, 1, name="pool")
    await agent.call(agent.signal("ask", {"to": "pool"}))
    await settled(runtime)
    assert agent.state.lines == ("ok ('asked',)",)
    with pytest.raises(NoRoute):
        await runtime.name("pool").call(Ask(Signal(type="nobody.knows", source="/", id="1")))


class Look(Action[None]):
    """Ask somebody by name."""

    async def run(self, context: Context[Lines]) -> None:
        """Ask them."""
        await context.address("pool").call(Ask(Signal(type="note", source="/", id="1", data={"line": "asked"})))


class Looker(AgentType[Lines]):
    """Asks somebody."""

    routes = {"look": Look}


async def test_an_action_finds_others_by_name(runtime: Runtime) -> None:
    """That is what it has a server for; without one there is nobody."""
    pool: Pool[Lines] = await start_pool(runtime, Notebook, 1, name="pool")
    agent = await start_agent(runtime, Looker)
    assert not (await agent.call(agent.signal("look"))).errors
    async with pool.worker() as worker:
        assert worker.state.lines == ("asked",)
    with pytest.raises(NotRunning, match="as a parameter"):
        Context(Lines()).address("pool")


CALLED: list[tuple[str, str, str]] = []


class Book(Action[None]):
    """Book something with somebody who knows tokens."""

    def run(self, context: Context[Lines]) -> None:
        """Book it."""
        CALLED.append(("book", context.token, context.done_token))

    def compensate(self, context: Context[Lines], done: Any, error: Exception) -> None:
        """Cancel it."""
        CALLED.append(("cancel", context.token, context.done_token))


class Fail(Action[None]):
    """Fail."""

    def run(self, context: Context[Lines]) -> None:
        """Fail."""
        raise Failure("no")


class Booker(AgentType[Lines]):
    """Books, in vain."""

    routes = {"book": Chain(Book, Fail)}


@pytest.mark.parametrize("durable", [True, False])
async def test_what_is_undone_knows_the_token_that_it_had(runtime: Runtime, durable: bool) -> None:
    """So that a service can be told what to cancel, though nobody knows what it had answered."""
    CALLED.clear()
    durability = Durability(MemoryStorage()) if durable else None
    agent = await start_agent(runtime, Booker, id="b", durability=durability)
    await agent.call(agent.signal("book"))
    (book, token, own), (cancel, other, done) = CALLED
    assert (book, cancel) == ("book", "cancel")
    assert token == own == done != other


async def test_instances_are_found_by_the_name_of_their_starter_and_by_their_keys(runtime: Runtime) -> None:
    """Who asks for one that there never was starts none; one that was saved, or runs, is there."""
    storage = MemoryStorage()
    first = await start_instances(
        runtime, Notebook, name="books", durability=Durability(storage), state=Lines(("first",))
    )
    books = instances_at(runtime, "books", Notebook)
    assert await books.find("ann") is None
    assert books.lookup("ann") is None
    ann = await books.get("ann")
    assert ann.state.lines == ("first",)
    assert (await books.get("joe", Lines(("own",)))).state.lines == ("own",)
    await ann.call(ann.signal("note", {"line": "1"}))
    await first.hibernate("ann")
    found = await books.find("ann")
    assert found is not None
    assert found.state.lines == ("first", "1")
    assert await (await start_instances(runtime, Notebook)).find("zoe") is None


async def test_a_storage_that_cannot_be_read_is_an_answer(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the starter goes on."""
    books = await start_instances(runtime, Notebook, durability=Durability(MemoryStorage()))

    async def fails(*args: Any) -> Any:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(MemoryStorage, "load", fails)
    with pytest.raises(StorageError, match="gone"):
        await books.find("ann")
    assert (await books.counts()).running == 0
