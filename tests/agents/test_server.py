"""The agent's server: turns, commits, directives, policies, views, restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import structlog

from agents import (
    ActionFailed,
    Agent,
    AgentHandle,
    AgentServer,
    AgentView,
    Ask,
    BadAgentType,
    BadState,
    EmitError,
    LogOnly,
    NoRoute,
    NotAdopted,
    Reply,
    Signal,
    StopAfter,
    TooManyErrors,
    connect,
    start_agent,
)
from agents.durability import Durability, MemoryStorage
from agents.server import AttachOwner
from agents.server.messages import Attach, RedriveEffects
from agents.signals.messages import Deliver
from supervision import (
    NORMAL,
    Abnormal,
    Actor,
    ActorExited,
    AlreadyRegistered,
    CallTimeout,
    ChildSpec,
    NoProcess,
    NotRunning,
    Ref,
    Runtime,
    StartError,
    Supervisor,
    UnhandledMessage,
    events,
    handle,
)
from supervision.errors import BadOption, BadTime
from supervision.testing import advance, barrier, settled
from tests.agents.kinds import Counter, Counting, Listener


class Unlike:
    """Is like nothing, and cannot be asked."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


class Idle(Actor):
    """Does nothing."""


async def listener(runtime: Runtime, name: str | None = "listener") -> list[Signal]:
    """Start a listener, and return the list of what it hears."""
    heard: list[Signal] = []
    await runtime.spawn(Listener, heard, name=name)
    return heard


def server(counter: AgentHandle[Counting]) -> Ref:
    """Return the server that a handle was made for."""
    assert isinstance(counter.address, Ref)
    return counter.address


# -- turns -------------------------------------------------------------------------------------------------------------


async def test_s25_casts_are_handled_in_order(runtime: Runtime) -> None:
    """Signals that are cast take their turns in the order of sending."""
    counter = await start_agent(runtime, Counter)
    for n in range(10):
        counter.cast(counter.signal("counter.record", {"line": str(n)}))
    await settled(runtime)
    assert counter.state.log == tuple("0123456789")
    assert counter.agent.version == 10


async def test_a_call_tells_what_came_of_it(runtime: Runtime) -> None:
    """The answer of a call is the agent after that turn, also if later turns have changed it since."""
    counter = await start_agent(runtime, Counter, id="c1", state={"count": 1})
    first = counter.call(counter.signal("counter.add", {"amount": 2}))
    counter.cast(counter.signal("counter.add", {"amount": 100}))
    assert await first == Reply(Agent(id="c1", type="counter", state=Counting(3), version=1))
    await settled(runtime)
    assert counter.state.count == 103


async def test_calls_and_casts_share_one_order(runtime: Runtime) -> None:
    """Calls do not overtake casts, nor casts calls, also when a turn waits: one at a time, in order of arrival."""
    counter = await start_agent(runtime, Counter)
    slow = counter.call(counter.signal("counter.slow"))
    counter.cast(counter.signal("counter.record", {"line": "cast"}))
    fast = counter.call(counter.signal("counter.record", {"line": "call"}))
    assert (await slow).agent.state.log == ("slow",)
    assert (await fast).agent.state.log == ("slow", "cast", "call")
    counter.cast(counter.signal("counter.slow"))
    assert (await counter.call(counter.signal("counter.add"))).agent.state.count == 3


async def test_s24_reads_do_not_wait_for_a_turn(runtime: Runtime) -> None:
    """While a turn waits, the state can be read as it was at the last commit, and nothing half done is ever seen."""
    counter = await start_agent(runtime, Counter)
    both = counter.call(counter.signal("counter.both", {"amount": 5}))
    await advance(0.5)
    assert counter.state == Counting()
    await both
    assert counter.state == Counting(6, ("slow",))
    assert counter.agent.version == 1


async def test_a_signal_without_a_route(runtime: Runtime) -> None:
    """A call without a route is refused with the types' names, a cast is noted, and the agent stays as it was."""
    counter = await start_agent(runtime, Counter)
    noted: list[events.Unhandled] = []
    runtime.subscribe(noted.append, events.Unhandled)
    with pytest.raises(NoRoute, match=r"counter has no route for signals of type 'counter\.unknown'"):
        await counter.call(counter.signal("counter.unknown"))
    counter.cast(counter.signal("counter.unknown"))
    await settled(runtime)
    assert len(noted) == 1
    assert counter.agent.version == 0


async def test_a_turn_that_nobody_waits_for_is_not_committed(runtime: Runtime) -> None:
    """When the caller's time is over before the commit, the turn is thrown away; turns after it are not."""
    counter = await start_agent(runtime, Counter)
    slow = counter.call(counter.signal("counter.slow"), timeout=0.5)
    after = counter.call(counter.signal("counter.add"), timeout=None)
    with pytest.raises(CallTimeout):
        await slow
    assert (await after).agent.state == Counting(1)
    cancelled = counter.call(counter.signal("counter.slow"))
    await advance(0.5)
    cancelled.cancel()
    assert (await counter.call(counter.signal("counter.nothing"))).agent.state == Counting(1)


async def test_a_killed_server_commits_nothing_more(runtime: Runtime) -> None:
    """A server that is killed while an action waits never shows what the action would have done."""
    counter = await start_agent(runtime, Counter)
    slow = counter.call(counter.signal("counter.slow"))
    await advance(0.5)
    server(counter).kill()
    with pytest.raises(ActorExited):
        await slow
    await advance(2)
    assert counter.state == Counting()


# -- directives --------------------------------------------------------------------------------------------------------


async def test_an_emitted_signal_arrives(runtime: Runtime) -> None:
    """An emitted signal has an id, the time, the agent as its source and the causing signal's id as its cause."""
    heard = await listener(runtime)
    counter = await start_agent(runtime, Counter, id="c1", emit_to="listener")
    cause = counter.signal("counter.announce")
    await counter.call(cause)
    await settled(runtime)
    (signal,) = heard
    assert (signal.type, signal.source, signal.subject, signal.data) == (
        "counter.announced",
        "/counter/c1",
        "the counter",
        {"count": 1},
    )
    assert signal.extensions == {"causationid": cause.id}
    assert signal.id != cause.id
    assert signal.time is not None


async def test_where_emitted_signals_go(runtime: Runtime) -> None:
    """A directive's own destination counts before the server's; without either, the agent gets the signal itself."""
    mine = await listener(runtime, "mine")
    others = await listener(runtime, None)
    ref = list(runtime.actors())[-1]
    counter = await start_agent(runtime, Counter, emit_to=ref)
    await counter.call(counter.signal("counter.announce", {"to": "mine"}))
    await counter.call(counter.signal("counter.announce"))
    await settled(runtime)
    assert ([s.data["count"] for s in mine], [s.data["count"] for s in others]) == ([1], [2])
    noted: list[events.Unhandled] = []
    runtime.subscribe(noted.append, events.Unhandled)
    alone = await start_agent(runtime, Counter)
    await alone.call(alone.signal("counter.announce"))
    await settled(runtime)
    assert [event.ref for event in noted] == [alone.address]


async def test_to_emit_to_nobody_is_no_error(runtime: Runtime) -> None:
    """A signal to a name that nobody holds is a dead letter, and the turn goes on."""
    counter = await start_agent(runtime, Counter)
    assert (await counter.call(counter.signal("counter.announce", {"to": "nobody"}))).agent.state.count == 1
    assert runtime.statistics().dead_letters == {"noname": 1}


async def test_the_state_is_committed_before_its_directives(runtime: Runtime) -> None:
    """Who is told by a directive can already read the state that belongs to it; the answer comes after the
    directives."""
    counter = await start_agent(runtime, Counter, emit_to="reader")
    seen: list[int] = []

    class Reader(Actor):
        @handle
        def read(self, signal: Signal) -> None:
            seen.append(counter.state.count)

    await runtime.spawn(Reader, name="reader")
    answered = counter.call(counter.signal("counter.announce"))
    answered.add_done_callback(lambda _: seen.append(-1))
    await settled(runtime)
    assert seen == [1, -1]


async def test_a_scheduled_signal_comes_when_it_is_due(runtime: Runtime) -> None:
    """A scheduled signal is a turn of its own after its delay, in the order of their times, stamped when it is due."""
    counter = await start_agent(runtime, Counter)
    counter.cast(counter.signal("counter.remind", {"after": 60.0, "line": "later"}))
    counter.cast(counter.signal("counter.remind", {"after": 30.0, "line": "sooner"}))
    counter.cast(counter.signal("counter.remind", {"after": 0.0, "line": "now"}))
    await advance(29)
    assert counter.state.log == ("now",)
    await advance(2)
    assert counter.state.log == ("now", "sooner")
    await advance(30)
    assert counter.state.log == ("now", "sooner", "later")


async def test_what_was_scheduled_ends_with_the_server(runtime: Runtime) -> None:
    """A scheduled signal does not outlive the server."""
    counter = await start_agent(runtime, Counter)
    await counter.call(counter.signal("counter.remind", {"after": 60.0, "line": "never"}))
    before = runtime.statistics().timers
    server(counter).kill()
    assert runtime.statistics().timers == before - 1
    await advance(61)
    assert runtime.statistics().dead_letters == {}


@pytest.mark.parametrize(("reason", "expected"), [(None, NORMAL), ("enough", Abnormal("enough"))])
async def test_a_stop_ends_the_server(runtime: Runtime, reason: Any, expected: Any) -> None:
    """A stop commits its turn, answers it, carries out what stands before it and nothing behind it, and gives its
    reason."""
    heard = await listener(runtime)
    counter = await start_agent(runtime, Counter)
    reply = await counter.call(counter.signal("counter.finish", {"reason": reason}))
    assert reply.agent.state.count == 99
    assert counter.state.count == 99
    assert await server(counter).join() == expected
    await settled(runtime)
    assert [signal.type for signal in heard] == ["before"]
    with pytest.raises(NoProcess):
        await counter.call(counter.signal("counter.add"))


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_a_failing_action_is_told_and_logged(runtime: Runtime) -> None:
    """A failure is in the reply, on the event stream and in the log; state and server stay."""
    counter = await start_agent(runtime, Counter, id="c1")
    told: list[ActionFailed] = []
    runtime.subscribe(told.append, ActionFailed)
    signal = counter.signal("counter.fail", {"why": "out of paint"})
    with structlog.testing.capture_logs() as logs:
        reply = await counter.call(signal)
    (error,) = reply.errors
    assert error.error.message == "out of paint"
    assert reply.agent.version == 0
    (event,) = told
    assert (event.ref, event.path, event.agent_id, event.agent_type, event.action, event.error, event.signal_id) == (
        counter.address,
        server(counter).path,
        "c1",
        "counter",
        "Fail",
        error.error,
        signal.id,
    )
    (line,) = logs
    assert (line["event"], line["log_level"], line["action"]) == ("action_failed", "error", "Fail")
    assert "out of paint" in line["error"]


async def test_bad_data_of_a_signal_is_a_failure(runtime: Runtime) -> None:
    """Data that does not fit the action's parameters fails the turn and not the server."""
    counter = await start_agent(runtime, Counter)
    with structlog.testing.capture_logs():
        reply = await counter.call(counter.signal("counter.add", {"amount": "x"}))
    assert [error.error.kind for error in reply.errors] == ["agents.errors.BadParams"]
    assert (await counter.call(counter.signal("counter.add"))).agent.state.count == 1


async def fail(counter: AgentHandle[Counting]) -> None:
    """Make an agent's action fail."""
    with structlog.testing.capture_logs():
        await counter.call(counter.signal("counter.fail"))


async def test_s32_log_only_goes_on(runtime: Runtime) -> None:
    """Unless it says otherwise, a server goes on whatever fails."""
    counter = await start_agent(runtime, Counter, on_error=LogOnly())
    for _ in range(50):
        await fail(counter)
    assert server(counter).alive


async def test_s32_stop_after_errors(runtime: Runtime) -> None:
    """With ``StopAfter(3)`` two errors are borne, and the third ends the server, which says how many and which."""
    counter = await start_agent(runtime, Counter, on_error=StopAfter(3))
    await fail(counter)
    await fail(counter)
    assert server(counter).alive
    await fail(counter)
    reason = await server(counter).join()
    assert isinstance(reason, TooManyErrors)
    assert (reason.count, reason.last.message, reason.clean) == (3, "no reason", False)
    assert str(reason).startswith("too many errors (3), the last one: RuntimeError: no reason")


async def test_old_errors_do_not_count(runtime: Runtime) -> None:
    """With a window, only errors of the last so many seconds count."""
    counter = await start_agent(runtime, Counter, on_error=StopAfter(2, within=10.0))
    for _ in range(5):
        await fail(counter)
        await advance(10.0)
    assert server(counter).alive
    await fail(counter)
    await advance(9.0)
    await fail(counter)
    assert not server(counter).alive


@pytest.mark.parametrize("errors", [0, -1, 1.5, True, "3"])
def test_a_wrong_policy_cannot_be_made(errors: Any) -> None:
    """A number of errors that is none, or a window that is no length of time, is refused."""
    with pytest.raises(BadOption, match=r"StopAfter.errors"):
        StopAfter(errors)
    with pytest.raises(BadTime, match=r"StopAfter.within"):
        StopAfter(1, within=0)


# -- starting, restarting, views ---------------------------------------------------------------------------------------


async def test_s27_how_an_agent_gets_its_id(runtime: Runtime) -> None:
    """An agent has the id that is given, else its server's name, else a new UUID."""
    assert (await start_agent(runtime, Counter, id="c1", name="other")).agent.id == "c1"
    assert (await start_agent(runtime, Counter, name="c2")).agent.id == "c2"
    generated = (await start_agent(runtime, Counter)).agent.id
    assert len(generated) == 36
    assert generated[14] == "7"
    assert (await start_agent(runtime, Counter)).agent.id != generated


async def test_wrong_arguments_start_nothing(runtime: Runtime) -> None:
    """What is wrong with a type, a state, a policy, an id or a name is named, and no server runs."""
    with pytest.raises(BadOption, match="AgentServer: kind"):
        await start_agent(runtime, cast("Any", Counting))
    with pytest.raises(BadOption, match="AgentServer: on_error"):
        await start_agent(runtime, Counter, on_error="stop")  # type: ignore[arg-type]
    with pytest.raises(BadAgentType):
        await start_agent(runtime, Counter, id="")
    with pytest.raises(StartError) as error:
        await start_agent(runtime, Counter, state={"count": "x"})
    assert isinstance(error.value.__cause__, BadState)
    first = await start_agent(runtime, Counter, name="taken")
    with pytest.raises(AlreadyRegistered):
        await start_agent(runtime, Counter, name="taken")
    assert list(runtime.actors()) == [first.address]


async def test_a_restarted_agent_is_fresh(runtime: Runtime) -> None:
    """After a crash of its server an agent is back in its first state, under its old id, and the given view shows
    it."""
    view: AgentView[Counting] = AgentView()
    child = ChildSpec("c1", AgentServer, (Counter,), {"state": {"count": 5}, "view": view}, name="c1")
    await runtime.spawn(Supervisor, [child])
    counter = await connect(runtime.name("c1"), Counter)
    assert counter.view is view
    await counter.call(counter.signal("counter.add"))
    assert counter.state.count == 6
    old = view.ref
    assert old is not None
    old.kill()
    await settled(runtime)
    assert view.ref is not old
    assert (counter.agent.id, counter.agent.version, counter.state.count) == ("c1", 0, 5)
    await counter.call(counter.signal("counter.add"))
    assert counter.state.count == 6


async def test_a_view_without_a_server(runtime: Runtime) -> None:
    """A view in which no agent has been shown says so; a server's own view shows the last commit after its end."""
    view: AgentView[Counting] = AgentView()
    with pytest.raises(NotRunning, match="no server has published"):
        _ = view.state
    counter = await start_agent(runtime, Counter, state={"count": 3})
    await server(counter).stop()
    assert counter.state.count == 3
    assert counter.view.ref is counter.address


async def test_to_connect_to_something_else(runtime: Runtime) -> None:
    """Connecting fails with the kernel's errors when nobody is there, or somebody who is no agent."""
    with pytest.raises(NoProcess):
        await connect(runtime.name("nobody"), Counter)
    with pytest.raises(UnhandledMessage):
        await connect(await runtime.spawn(Idle), Counter)


async def test_any_actor_can_ask_an_agent(runtime: Runtime) -> None:
    """A handle is a convenience: a server is an actor with typed messages like any other."""
    counter = await start_agent(runtime, Counter, name="counter")
    signal = Signal(type="counter.add", source="/test", id="1", data={"amount": 4})
    runtime.name("counter").cast(signal)
    runtime.name("counter").cast(Ask(signal))
    runtime.name("counter").cast(Ask(counter.signal("counter.slow")))
    reply = await runtime.name("counter").call(Ask(signal))
    assert reply.agent.state.count == 13
    await barrier(server(counter))


def test_what_a_tree_says_of_an_agent_is_checked_without_starting_it() -> None:
    """By ``python -m foundation.run --check``."""
    AgentServer.check_arguments("tests.agents.kinds:Counter", id="c", state={"count": 1}, on_error=LogOnly())
    AgentServer.check_arguments(Counter, agent=Counter.new("c"))
    for wrong in ({"on_error": 5}, {"view": 5}, {"debug": -1}, {"emit_to": 5}, {"idle_timeout": -1}):
        with pytest.raises((BadOption, BadTime)):
            AgentServer.check_arguments(Counter, **wrong)
    with pytest.raises(BadState):
        AgentServer.check_arguments(Counter, state={"count": "no"})
    with pytest.raises(BadOption):
        AgentServer.check_arguments("no.such:Type")


@pytest.mark.parametrize("wrong", [None, 5, "", b"x", [], Counter])
def test_errors_are_sent_to_an_address_or_a_name(wrong: Any) -> None:
    """Else the first error ended the agent's server."""
    with pytest.raises(BadOption, match=r"EmitError.to"):
        EmitError(wrong)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [None, 5, -1, True, float("nan"), float("inf"), 10**400, "", "\ud800", b"x", [], {}, object(), Counter, Unlike()],
    ids=lambda wrong: type(wrong).__name__,
)
async def test_whatever_a_caller_asks_an_agent_it_is_told_what_is_wrong_and_the_agent_lives(
    runtime: Runtime, wrong: Any, durable: bool
) -> None:
    """Some of it ended the agent's server."""
    durability = Durability(MemoryStorage()) if durable else None
    agent = await start_agent(runtime, Counter, durability=durability)
    child = server(await start_agent(runtime, Counter, id="child"))
    signal = agent.signal("x")
    asked: list[Callable[[], Any]] = [
        lambda: agent.address.call(AttachOwner(wrong, attached=True)),
        lambda: agent.address.call(Attach(wrong)),
        lambda: agent.address.call(Deliver(wrong, "stream", 1, 1)),
    ]
    if type(wrong) is not int or wrong < 0 or wrong > 10**9:
        asked += [lambda: agent.debug(wrong), lambda: agent.recent_turns(wrong)]
        asked += [lambda: agent.address.call(Deliver(signal, "stream", wrong, 1))]
        asked += [lambda: agent.address.call(Deliver(signal, "stream", 1, wrong))]
    asked += [lambda: agent.adopt(child, wrong), lambda: agent.address.call(Deliver(signal, wrong, 1, 1))]
    if not isinstance(wrong, str):
        asked += [lambda: agent.redrive(wrong)]
        asked += [lambda: agent.address.call(RedriveEffects(wrong))] if wrong is not None else []
    with pytest.raises(NotAdopted):
        await agent.adopt(wrong, "tag")
    for ask in asked:
        with pytest.raises(BadOption):
            await ask()
    assert agent.address.alive  # type: ignore[union-attr]
    assert await agent.redrive("no such token") == 0
