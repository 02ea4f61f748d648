"""Scenarios of the agent's server, by the numbers of the reference (S17 to S35), and its directives."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import structlog

from agents import (
    Action,
    Agent,
    AgentExists,
    AgentHandle,
    AgentServer,
    AgentTimeout,
    AgentType,
    AwaitReply,
    BadAgentType,
    BadCronSchedule,
    BadSignal,
    Chain,
    Completion,
    Context,
    Cron,
    DebugOff,
    Directive,
    Emit,
    EmitError,
    ErrorDirective,
    NoRoute,
    Result,
    Route,
    RunInstruction,
    Schedule,
    Signal,
    Spawn,
    SpawnAgent,
    StartSensor,
    StopAfter,
    StopAgent,
    TooManyErrors,
    TurnTaken,
    Unschedule,
    agent_ids,
    all_completed,
    connect,
    find_by_capability,
    first_completed,
    start_agent,
    whereis,
)
from agents.core.cron import CronSchedule
from agents.pool import start_pool
from agents.server import HALT, executes
from agents.server.messages import Ask
from supervision import (
    Abnormal,
    ActorExited,
    AlreadyRegistered,
    ChildSpec,
    NoProcess,
    Runtime,
    Shutdown,
    SpecError,
    StartError,
    events,
)
from supervision.errors import BadOption
from supervision.testing import advance, settled
from tests.agents.kinds import Counter, Counting, Listener


async def ended(handle: AgentHandle[Any]) -> Any:
    """Return why a server has ended."""
    assert handle.view.ref is not None
    return await handle.view.ref.join()


# -- routing -----------------------------------------------------------------------------------------------------------


class Desk(msgspec.Struct, frozen=True):
    """The state of a desk."""

    counter: int = 0
    mode: str = "normal"
    log: tuple[str, ...] = ()


class Process(Action[dict[str, Any]]):
    """Count."""

    amount: int

    def run(self, context: Context[Desk]) -> dict[str, Any]:
        """Count."""
        return {"counter": context.state.counter + self.amount}


class Refer(Action[dict[str, Any]]):
    """Write down that there is no service now."""

    def run(self, context: Context[Desk]) -> dict[str, Any]:
        """Write."""
        assert context.signal is not None
        return {"log": (*context.state.log, context.signal.type)}


class SetMode(Action[dict[str, Any]]):
    """Set the mode."""

    mode: str

    def run(self, context: Context[Desk]) -> dict[str, Any]:
        """Set it."""
        return {"mode": self.mode}


class DeskAgent(AgentType[Desk]):
    """A desk, whose routes depend on what a signal says."""

    name = "desk"
    routes = (
        Route("process", Refer, 10, when=lambda signal: "maintenance" in signal.extensions, exclusive=True),
        Route("process", Process),
        Route("set_mode", SetMode),
        Route("check_status", Refer, when=lambda signal: signal.subject == "admin"),
        Route("fixed", (Process, {"amount": 7})),
        Route("two", (Process, Refer)),
    )


async def test_s17_routes_depend_on_the_signal(runtime: Runtime) -> None:
    """A condition chooses among routes; an exclusive one leaves out what is behind it."""
    desk = await start_agent(runtime, DeskAgent)
    await desk.call(desk.signal("process", {"amount": 5}))
    await desk.call(desk.signal("set_mode", {"mode": "admin"}))
    await desk.call(desk.signal("check_status", subject="admin"))
    with pytest.raises(NoRoute):
        await desk.call(desk.signal("check_status"))
    in_maintenance = msgspec.structs.replace(desk.signal("process", {"amount": 100}), extensions={"maintenance": True})
    await desk.call(in_maintenance)
    await desk.call(desk.signal("process", {"amount": 3}))
    assert desk.state == Desk(counter=8, mode="admin", log=("check_status", "process"))
    await desk.call(desk.signal("fixed", {"amount": 1000}))
    await desk.call(desk.signal("two", {"amount": 1}))
    assert (desk.state.counter, desk.state.log[2:]) == (16, ("two",))


async def test_s19_agents_can_be_told_to_stop(runtime: Runtime) -> None:
    """Without any route; with a reason, which is a clean one; a caller gets an answer."""
    for data, reason in (
        ({"reason": "shutdown"}, Shutdown()),
        ({"reason": "tired"}, Shutdown("tired")),
        (None, None),
    ):
        agent = await start_agent(runtime, Counter)
        agent.cast(agent.signal("agent.stop", data))
        assert (await ended(agent)) == reason or reason is None
    agent = await start_agent(runtime, Counter)
    assert (await agent.call(agent.signal("agent.stop"))).errors == ()
    assert (await ended(agent)).clean


# -- turns -------------------------------------------------------------------------------------------------------------


class Flags(msgspec.Struct, frozen=True):
    """What has happened."""

    call_done: bool = False
    runtime_done: bool = False
    instruction_seen: bool = False
    counter: int = 0
    told: Any = None


class Instruct(Action[None]):
    """Have something done beside."""

    def run(self, context: Context[Flags]) -> Result[None]:
        """Ask for it."""
        return Result(None, (RunInstruction(Look, "instruction.done", {"n": 1}),))


class Look(Action[dict[str, Any]]):
    """Take its time, then look."""

    fails: bool = False

    async def run(self, context: Context[Flags]) -> dict[str, Any]:
        """Look."""
        await advance(0.5)
        if self.fails:
            raise RuntimeError("nothing to see")
        return {"seen": True}


class Told(Action[dict[str, Any]]):
    """Note what came of it."""

    status: str
    meta: Any
    result: Any = None
    error: str = ""

    def run(self, context: Context[Flags]) -> dict[str, Any]:
        """Note it."""
        seen = {"runtime_done": True, "instruction_seen": self.status == "ok"}
        return {**seen, "told": [self.status, self.result, self.error, self.meta]}


class SlowCall(Action[dict[str, Any]]):
    """Take a second."""

    async def run(self, context: Context[Flags]) -> dict[str, Any]:
        """Take it."""
        await advance(1.0)
        return {"call_done": True}


class Increment(Action[dict[str, Any]]):
    """Count."""

    def run(self, context: Context[Flags]) -> dict[str, Any]:
        """Count."""
        return {"counter": context.state.counter + 1}


class InstructBadly(Action[None]):
    """Have something done beside that fails, and is undone."""

    def run(self, context: Context[Flags]) -> Result[None]:
        """Ask for it."""
        return Result(None, (RunInstruction(Chain(Look(fails=True)), "instruction.done"),))


class FlagsAgent(AgentType[Flags]):
    """Has flags."""

    routes = {
        "instruct": Instruct,
        "instruct.badly": InstructBadly,
        "instruction.done": Told,
        "slow": SlowCall,
        "increment": Increment,
    }


async def test_s22_a_calls_result_never_overwrites_other_commits(runtime: Runtime) -> None:
    """A slow call, and an instruction that comes back meanwhile, both leave what they have done."""
    agent = await start_agent(runtime, FlagsAgent)
    agent.cast(agent.signal("instruct"))
    reply = await agent.call(agent.signal("slow"))
    assert reply.agent.state.call_done
    await settled(runtime)
    assert agent.state == Flags(True, True, True, 0, ["ok", {"seen": True}, "", {"n": 1}])


async def test_s24_casts_during_a_call_are_not_lost(runtime: Runtime) -> None:
    """They come behind it."""
    agent = await start_agent(runtime, FlagsAgent)
    call = agent.call(agent.signal("slow"))
    agent.cast(agent.signal("increment"))
    await call
    await settled(runtime)
    assert (agent.state.call_done, agent.state.counter) == (True, 1)


async def test_an_instruction_that_fails_is_a_signal_too(runtime: Runtime) -> None:
    """The agent gets the error as data; one that ends meanwhile ends its directive tasks too."""
    agent = await start_agent(runtime, FlagsAgent)
    agent.cast(agent.signal("instruct.badly"))
    await advance(1.0)
    await settled(runtime)
    assert agent.state.told == ["error", None, "RuntimeError: nothing to see", None]
    agent.cast(agent.signal("instruct"))
    await settled(runtime)
    before = len(list(runtime.actors()))
    await agent.stop(Abnormal("over"))
    assert len(list(runtime.actors())) <= before - 2


# -- starting ----------------------------------------------------------------------------------------------------------


async def test_s27_agents_start_in_many_ways(runtime: Runtime) -> None:
    """From a type, with an id, a state, a partition, or as a ready value; each id once in its partition."""
    plain = await start_agent(runtime, Counter)
    assert plain.agent.id
    named = await start_agent(runtime, Counter, id="c1", state={"count": 3})
    assert (named.agent.id, named.state.count) == ("c1", 3)
    ready = Counter.new("c1", {"count": 5}, partition="blue")
    blue = await start_agent(runtime, Counter, agent=ready)
    assert (blue.agent, blue.agent.partition) == (ready, "blue")
    assert repr(blue) == "<AgentHandle of counter 'c1'>"
    with pytest.raises(StartError) as caught:
        await start_agent(runtime, Counter, id="c1")
    assert isinstance(caught.value.__cause__, AgentExists)
    for wrong in ({"agent": ready, "partition": "red"}, {"agent": DeskAgent.new("d")}, {"agent": 3}, {"partition": 3}):
        with pytest.raises(BadAgentType):
            await start_agent(runtime, Counter, **wrong)  # type: ignore[arg-type]
    assert whereis(runtime, "c1", partition="blue") == blue.view.ref
    assert whereis(runtime, "c1", partition="red") is None
    assert agent_ids(runtime, partition="blue") == ["c1"]
    assert len(agent_ids(runtime)) == 3
    with pytest.raises(BadOption, match="whereis"):
        await connect("c1")  # type: ignore[arg-type]
    await blue.stop()
    assert whereis(runtime, "c1", partition="blue") is None


async def test_an_id_is_free_again_when_its_agent_was_killed(runtime: Runtime) -> None:
    """What is dead is not found, by id or capability, and does not stand in the way; it is swept in time."""

    class Clever(AgentType[Counting]):
        capabilities = ("count", "think")

    for _ in range(1100):
        one = await start_agent(runtime, Clever, id="one")
        assert find_by_capability(runtime, "think") == [one.view.ref]
        assert one.view.ref is not None
        one.view.ref.kill()
    assert (whereis(runtime, "one"), find_by_capability(runtime, "think"), find_by_capability(runtime, "fly")) == (
        None,
        [],
        [],
    )
    for n in range(1100):
        other = await start_agent(runtime, Clever, id=str(n), partition=str(n % 2))
        assert other.view.ref is not None
        other.view.ref.kill()
    gone = await start_agent(runtime, Clever, id="gone", partition="p")
    await gone.stop()
    kept = await start_agent(runtime, Clever, id="kept", partition="p")
    assert find_by_capability(runtime, "count", partition="p") == [kept.view.ref]
    assert find_by_capability(runtime, "count", partition="q") == []


async def test_wrong_options_are_refused(runtime: Runtime) -> None:
    """With an error that names them."""
    for options in ({"durability": 3}, {"on_error": 3}, {"idle_timeout": -1}):
        with pytest.raises(SpecError):
            await start_agent(runtime, Counter, **options)  # type: ignore[arg-type]
    for make in (
        lambda: SpawnAgent(Counter, ""),
        lambda: SpawnAgent(Counter, "a", restart="often"),  # type: ignore[arg-type]
        lambda: SpawnAgent(Counter, "a", on_parent_death="cry"),  # type: ignore[arg-type]
        lambda: Cron("* * * * *", "a", overlap="maybe"),  # type: ignore[arg-type]
        lambda: StartSensor("", None),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadOption):
            make()
    for wrong in (lambda: RunInstruction(Look, ""), lambda: AwaitReply("a", "b", ""), lambda: Cron("* * * * *", "")):
        with pytest.raises(BadSignal):
            wrong()


@pytest.mark.parametrize("wrong", ["count", None, {"type": "counter.add"}, Emit("counter.add")])
async def test_what_is_no_signal_is_refused_to_who_sent_it(runtime: Runtime, wrong: Any) -> None:
    """The error says what to give, and the agent lives; so does the worker of a pool."""
    agent = await start_agent(runtime, Counter)
    pool = await start_pool(runtime, Counter, 1)
    for asked in (agent, pool):
        with pytest.raises(BadOption, match="give a Signal"):
            await asked.call(wrong)
        assert (await asked.call(asked.signal("counter.add", {"amount": 2}))).agent.state.count == 2  # type: ignore[union-attr]
    agent.view.ref.cast(Ask(wrong))  # type: ignore[union-attr]
    assert (await agent.call(agent.signal("counter.add"))).agent.state.count == 3


# -- waiting for agents ------------------------------------------------------------------------------------------------


class Pending(msgspec.Struct, frozen=True):
    """A request that is under way."""

    pending: str | None = None
    status: str = "idle"
    result: Any = None
    error: str | None = None


class Request(Action[Pending]):
    """Ask for something."""

    id: str
    timeout: float

    def run(self, context: Context[Pending]) -> Result[Pending]:
        """Ask, and set a timer."""
        later = Schedule(self.timeout, "timeout", {"id": self.id}, id=f"timeout {self.id}")
        return Result(Pending(self.id, "waiting"), (later,))


class Respond(Action[Pending]):
    """Take the answer."""

    id: str
    result: Any

    def run(self, context: Context[Pending]) -> Result[Pending]:
        """Take it, unless it is too late."""
        if context.state.pending != self.id:
            return Result(context.state)
        return Result(Pending(None, "completed", self.result), (Unschedule(f"timeout {self.id}"),))


class TimedOut(Action[Pending]):
    """The time is over."""

    id: str

    def run(self, context: Context[Pending]) -> Pending:
        """Give up."""
        return Pending(None, "timed_out") if context.state.pending == self.id else context.state


class Finish(Action[dict[str, Any]]):
    """End, somehow."""

    status: str = "completed"
    result: Any = None
    error: str | None = None

    def run(self, context: Context[Pending]) -> dict[str, Any]:
        """End."""
        return {"status": self.status, "result": self.result, "error": self.error}


class Requester(AgentType[Pending]):
    """Asks for something."""

    routes = {"request": Request, "respond": Respond, "timeout": TimedOut, "finish": Finish}


async def test_s29_a_timer_is_set_and_taken_back(runtime: Runtime) -> None:
    """An answer in time takes the timer back; one that is late changes nothing."""
    agent = await start_agent(runtime, Requester)
    await agent.call(agent.signal("request", {"id": "REQ-1", "timeout": 0.5}))
    await advance(0.05)
    await agent.call(agent.signal("respond", {"id": "REQ-1", "result": "data"}))
    assert agent.state == Pending(None, "completed", "data")
    await advance(1.0)
    assert agent.agent.version == 2
    await agent.call(agent.signal("request", {"id": "REQ-2", "timeout": 0.1}))
    await advance(0.2)
    await settled(runtime)
    assert agent.state.status == "timed_out"
    await agent.call(agent.signal("request", {"id": "REQ-3", "timeout": 0.05}))
    await advance(0.1)
    await agent.call(agent.signal("respond", {"id": "REQ-3", "result": "late"}))
    assert (agent.state.status, agent.state.result) == ("timed_out", None)


async def test_scheduling_under_an_id_again_replaces(runtime: Runtime) -> None:
    """The one before is forgotten, and so is an id that nothing is scheduled under."""
    agent = await start_agent(runtime, Requester)
    for timeout in (0.1, 5.0):
        await agent.call(agent.signal("request", {"id": "R", "timeout": timeout}))
    await advance(1.0)
    assert agent.state.status == "waiting"
    await advance(5.0)
    await settled(runtime)
    assert agent.state.status == "timed_out"


async def test_s30_completion_can_be_awaited(runtime: Runtime) -> None:
    """Before and after it has come; a failure is a result as well; what never comes is told with what was seen."""
    agent = await start_agent(runtime, Requester, id="r")
    waiting = asyncio.ensure_future(agent.completed())
    await settled(runtime)
    agent.cast(agent.signal("finish", {"result": "done"}))
    assert (await waiting).result == "done"
    assert (await agent.completed()).status == "completed"
    failed = await start_agent(runtime, Requester)
    failed.cast(failed.signal("finish", {"status": "failed", "error": "something went wrong"}))
    progress = await failed.completed()
    assert (progress.status, progress.result) == ("failed", "something went wrong")
    never = await start_agent(runtime, Requester, id="never")
    for _ in range(3):
        with pytest.raises(AgentTimeout, match="'idle', at version 0; no message waits in its mailbox") as caught:
            await never.completed(timeout=0.05)
    assert (caught.value.waited, caught.value.status, caught.value.waiting) == (0.05, "idle", 0)
    assert never.view.watchers == ()
    other = Completion("status", "error")
    assert (await agent.completed(completion=other)).result is None


async def test_whoever_waits_learns_that_the_agent_has_ended(runtime: Runtime) -> None:
    """An agent that is gone, or goes, completes nothing."""
    agent = await start_agent(runtime, Requester, name="r")
    byname = await connect(runtime.name("r"), Requester)
    waiting = asyncio.ensure_future(byname.completed(None))
    await settled(runtime)
    await agent.stop()
    with pytest.raises(ActorExited):
        await waiting
    with pytest.raises(NoProcess):
        await byname.completed()


async def test_many_agents_can_be_awaited(runtime: Runtime) -> None:
    """All of them, or the first; a failure of waiting is raised; of none there is nothing to wait for."""
    agents = [await start_agent(runtime, Requester, id=str(n)) for n in range(3)]
    waiting = asyncio.ensure_future(all_completed(agents))
    first = asyncio.ensure_future(first_completed(agents))
    await settled(runtime)
    for n in (1, 0, 2):
        agents[n].cast(agents[n].signal("finish", {"result": n}))
        await settled(runtime)
    assert {id: progress.result for id, progress in (await waiting).items()} == {"0": 0, "1": 1, "2": 2}
    winner, progress = await first
    assert (winner, progress.result) == (agents[1], 1)
    assert await all_completed([]) == {}
    with pytest.raises(BadOption):
        await first_completed([])
    idle = await start_agent(runtime, Requester)
    with pytest.raises(AgentTimeout):
        await all_completed([agents[0], idle], timeout=1.0)
    assert idle.view.watchers == ()


# -- errors ------------------------------------------------------------------------------------------------------------


async def test_s32_error_policies(runtime: Runtime) -> None:
    """Go on; stop at once, or at the third; tell somebody; or do what a function says."""

    async def fails(times: int, **options: Any) -> AgentHandle[Counting]:
        agent = await start_agent(runtime, Counter, **options)
        for _ in range(times):
            agent.cast(agent.signal("counter.fail", {"why": "boom"}))
        await settled(runtime)
        return agent

    with structlog.testing.capture_logs() as logs:
        goes_on = await fails(5)
        assert goes_on.view.ref is not None
        assert goes_on.view.ref.reason is None
        reason = await ended(await fails(3, on_error=StopAfter(3)))
        assert isinstance(reason, TooManyErrors)
        assert (reason.count, reason.last.message) == (3, "boom")
        heard: list[Signal] = []
        await runtime.spawn(Listener, heard, name="listener")
        await fails(1, on_error=EmitError("listener"), id="told")
        assert heard[0].type == "agent.error"
        assert heard[0].data["agent_id"] == "told"
        assert "boom" in heard[0].data["error"]
        asked: list[tuple[str, Agent[Any]]] = []

        def decide(error: ErrorDirective, agent: Agent[Any]) -> StopAgent | None:
            asked.append((error.error.message, agent))
            return StopAgent("own reason") if len(asked) == 2 else None

        assert await ended(await fails(2, on_error=decide)) == Abnormal("own reason")
        for nonsense in (lambda error, agent: 3, lambda error, agent: 1 / 0):
            lives = await fails(1, on_error=nonsense)
            assert lives.view.ref is not None
            assert lives.view.ref.reason is None
    assert sum(entry["event"] == "error_policy_failed" for entry in logs) == 2


# -- looking at agents -------------------------------------------------------------------------------------------------


async def test_s34_status_and_watch(runtime: Runtime) -> None:
    """What can be seen is as of the last commit; commits are pushed to whoever watches, until the end."""
    agent = await start_agent(runtime, Counter, id="c1")
    status = agent.status()
    assert (status.id, status.type, status.version, status.state) == ("c1", "counter", 0, Counting())
    assert (status.ref, status.progress.status, status.children) == (agent.view.ref, "idle", ())
    seen: list[int] = []

    async def watch() -> None:
        seen.extend([one.state.count async for one in agent.watch()])

    watching = asyncio.ensure_future(watch())
    await settled(runtime)
    for _ in range(3):
        agent.cast(agent.signal("counter.add"))
        await settled(runtime)
    agent.cast(agent.signal("counter.nothing"))
    agent.cast(agent.signal("counter.fail"))
    await settled(runtime)
    assert agent.status().last_error is not None
    await agent.stop()
    await watching
    assert seen == [0, 1, 2, 3]
    assert agent.view.watchers == ()


async def test_s35_turns_are_recorded_while_debugging(runtime: Runtime) -> None:
    """Not before it is switched on, nor after it is switched off; the newest first, and not more than asked for."""
    agent = await start_agent(runtime, Counter, partition="blue")
    with pytest.raises(DebugOff, match="debug"):
        await agent.recent_turns()
    await agent.debug(3)
    for n in range(4):
        await agent.call(agent.signal("counter.add", {"amount": n}))
    agent.cast(agent.signal("counter.announce"))
    agent.cast(agent.signal("counter.fail"))
    turns = await agent.recent_turns()
    assert [turn.signal.type for turn in turns] == ["counter.fail", "counter.announce", "counter.add"]
    failed, announced, added = turns
    assert (added.changed, added.version, added.partition) == ({"count": 6}, 4, "blue")
    assert (announced.directives, announced.errors) == (("Emit",), ())
    assert (failed.changed, failed.errors[0].message) == ({}, "no reason")
    assert len(await agent.recent_turns(1)) == 1
    await agent.debug(0)
    with pytest.raises(DebugOff):
        await agent.recent_turns()
    recorded = await start_agent(runtime, Counter, debug=5)
    assert await recorded.recent_turns() == []


async def test_every_turn_is_on_the_event_stream_with_its_cause(runtime: Runtime) -> None:
    """From the signal that came from outside to what it has led to."""
    heard: list[TurnTaken] = []
    subscription = runtime.subscribe(heard.append, TurnTaken)  # type: ignore[arg-type]
    one = await start_agent(runtime, Counter, id="one", emit_to="two")
    await start_agent(runtime, DeskAgent, id="two", name="two")
    signal = one.signal("counter.announce")
    await one.call(signal)
    await one.call(one.signal("counter.fail"))
    await settled(runtime)
    subscription.close()
    first, failed = heard
    assert (first.agent_id, first.signal_id, first.cause_id, first.actions) == ("one", signal.id, None, ("Announce",))
    assert (first.directives, first.version, failed.directives) == (("Emit",), 1, ("ErrorDirective",))


async def test_a_look_at_the_tree_shows_agents(runtime: Runtime) -> None:
    """Whose server it is, how the agent is, and what failed last."""
    agent = await start_agent(runtime, Counter, id="c1")
    assert agent.view.ref is not None
    info = runtime.info(agent.view.ref)
    assert info is not None
    assert (info.summary["agent"], info.summary["version"]) == ("c1", "0")
    assert "last_error" not in info.summary
    await agent.call(agent.signal("counter.fail", {"why": "boom"}))
    info = runtime.info(agent.view.ref)
    assert info is not None
    assert "boom" in info.summary["last_error"]


async def test_a_type_can_be_named_by_where_it_is(runtime: Runtime) -> None:
    """As tree files do; what is not there, or is no type of agents, is refused."""
    ref = await runtime.spawn(AgentServer, "tests.agents.kinds:Counter", id="named")
    assert (await connect(ref, Counter)).agent.type == "counter"
    for wrong in ("tests.agents.kinds:Nobody", "tests.agents.kinds:Listener", "no.such.module:X", "a b"):
        with pytest.raises(BadOption, match="AgentServer: kind"):
            await runtime.spawn(AgentServer, wrong)


# -- directives --------------------------------------------------------------------------------------------------------


DIRECTIVES: list[tuple[Any, ...]] = []


class Doer(Action[None]):
    """Return the next directives in line."""

    def run(self, context: Context[Any]) -> Result[None]:
        """Return them."""
        return Result(None, DIRECTIVES.pop(0))


class DoerAgent(AgentType[Counting]):
    """Does what it is told."""

    name = "doer"
    routes = {"do": Doer}


class Ring(Directive, frozen=True, tag="ring"):
    """A directive of one's own."""

    how: str


class RingLoudly(Ring, frozen=True, tag="ring_loudly"):
    """One that is derived from it."""


class Unknown(Directive, frozen=True, tag="unknown"):
    """One that nothing carries out."""


RUNG: list[str] = []


@executes(Ring)
async def ring(server: AgentServer, directive: Ring, signal: Signal) -> str | None:
    """Ring, after a while."""
    await advance(0.1)
    RUNG.append(f"{type(directive).__name__} {directive.how} {server.agent.id}")
    if directive.how == "break":
        raise RuntimeError("the bell is broken")
    return HALT if directive.how == "halt" else None


async def done(runtime: Runtime, *directives: Any, **options: Any) -> tuple[AgentHandle[Counting], Any]:
    """Have an agent return directives, and return it and its reply."""
    agent = await start_agent(runtime, DoerAgent, **options)
    DIRECTIVES.append(directives)
    return agent, await agent.call(agent.signal("do"), timeout=None)


async def test_directives_of_ones_own_are_carried_out(runtime: Runtime) -> None:
    """In order, also those that wait; one may end the row; one that fails goes to the error policy, and is alone."""
    RUNG.clear()
    heard: list[Signal] = []
    await runtime.spawn(Listener, heard, name="listener")
    tell = Emit("told", to="listener")
    await done(runtime, Ring("a"), tell, RingLoudly("b"), tell, id="d")
    assert (RUNG, len(heard)) == (["Ring a d", "RingLoudly b d"], 2)
    agent, _ = await done(runtime, Ring("break"), Ring("halt"), tell, id="e")
    assert (RUNG[2:], len(heard)) == (["Ring break e", "Ring halt e"], 2)
    assert agent.view.last_error is not None
    assert agent.view.last_error.message == "the bell is broken"
    agent, _ = await done(runtime, Unknown(), tell)
    assert agent.view.last_error is not None
    assert "no executor is registered for it" in agent.view.last_error.message
    agent, _ = await done(runtime, Unknown(), tell, on_error=StopAfter(1))
    assert isinstance(await ended(agent), TooManyErrors)
    agent, _ = await done(runtime, Ring("break"), tell, on_error=StopAfter(1))
    assert isinstance(await ended(agent), TooManyErrors)
    assert len(heard) == 3


async def test_actors_that_are_no_agents_can_be_spawned(runtime: Runtime) -> None:
    """Under the supervisor of the agents, or another one; what does not start is an error."""
    heard: list[Signal] = []
    spec = ChildSpec("listener", Listener, (heard,), name="listener")
    await done(runtime, Spawn(spec), Emit("told", to="listener"), id="a")
    assert len(heard) == 1
    assert runtime.whereis("agents") is not None
    agent, _ = await done(runtime, Spawn(spec, "agents"), id="b")
    assert agent.view.last_error is not None
    assert AlreadyRegistered.__name__ in agent.view.last_error.kind or "AlreadyStarted" in agent.view.last_error.kind


class Note(Action[dict[str, Any]]):
    """Note what a signal says."""

    def run(self, context: Context[Counting]) -> dict[str, Any]:
        """Note it."""
        assert context.signal is not None
        assert context.ref is not None
        now = context.ref.runtime.clock.time()
        return {"log": (*context.state.log, f"{context.signal.type} {now:g} {context.signal.data}")}


class SlowNote(Note):
    """Note it after 150 seconds."""

    async def run(self, context: Context[Counting]) -> dict[str, Any]:  # type: ignore[override]
        """Wait, and note it."""
        await advance(150.0)
        return super().run(context)


class Noter(AgentType[Counting]):
    """Notes what signals say."""

    routes = {"do": Doer, "tick": Note, "answer": Note, "slow": SlowNote, "once": (SlowNote, Doer), "scheduled": Note}
    schedules = (Cron("@hourly", "scheduled"),)


async def note(runtime: Runtime, *directives: Any, **options: Any) -> AgentHandle[Counting]:
    """Have an agent that takes notes return directives."""
    agent = await start_agent(runtime, Noter, **options)
    DIRECTIVES.append(directives)
    await agent.call(agent.signal("do"))
    return agent


async def test_another_agent_can_be_asked(runtime: Runtime) -> None:
    """The answer comes as a signal, while the agent goes on; so does the error, if there is none."""
    counter = await start_agent(runtime, Counter, name="counter")
    agent = await note(runtime, AwaitReply("counter", "counter.add", "answer", {"amount": 2}, meta="m"))
    await settled(runtime)
    assert counter.state.count == 2
    assert "'status': 'ok'" in agent.state.log[0]
    assert "'count': 2" in agent.state.log[0]
    agent = await note(runtime, AwaitReply(runtime.name("nobody"), "counter.add", "answer", timeout=1.0))
    await settled(runtime)
    assert "'error': \"NoProcess" in agent.state.log[0] or "'error': 'NoProcess" in agent.state.log[0]


async def test_s49_cron_jobs_tick_replace_and_end(runtime: Runtime) -> None:
    """Under one id there is one job, the last valid one; ticks are turns; what is taken back does not come again."""
    agent = await note(runtime, Cron("* * * * *", "tick", {"n": 1}, id="job"))
    await advance(120.5)
    assert agent.state.log == ("tick 60 {'n': 1}", "tick 120 {'n': 1}")
    with pytest.raises(BadCronSchedule):
        Cron("every minute", "tick")
    DIRECTIVES.append(
        (Cron("* * * * *", "tick", {"n": 1}, id="job"), Cron("*/30 * * * * *", "tick", {"n": 2}, id="job"))
    )
    await agent.call(agent.signal("do"))
    await advance(60.0)
    assert agent.state.log[2:] == ("tick 150 {'n': 2}", "tick 180 {'n': 2}")
    DIRECTIVES.append((Unschedule("job"), Unschedule("nothing")))
    await agent.call(agent.signal("do"))
    await advance(600.0)
    assert len(agent.state.log) == 4
    await advance(3600.0 * 2)
    assert agent.state.log[4:] == ("scheduled 3600 None", "scheduled 7200 None")


@pytest.mark.parametrize(
    ("overlap", "ends"),
    [("skip", [210, 390, 570]), ("queue", [210, 360, 510]), ("allow", [210, 360, 510])],
)
async def test_ticks_that_come_while_the_one_before_is_handled(runtime: Runtime, overlap: Any, ends: list[int]) -> None:
    """They are left out, or one of them, or all of them are handled behind it."""
    agent = await note(runtime, Cron("* * * * *", "slow", overlap=overlap))
    await advance(600.0)
    assert [float(line.split()[1]) for line in agent.state.log][:3] == ends
    DIRECTIVES.append((Unschedule("slow"),))
    await agent.call(agent.signal("do"), timeout=None)
    before = agent.state.log
    await advance(2000.0)
    assert agent.state.log == before


async def test_a_job_that_was_taken_back_does_not_tick_any_more(runtime: Runtime) -> None:
    """Neither when its tick waits in the mailbox, nor when it is taken back in the turn of its own tick."""
    agent = await note(runtime, Cron("* * * * *", "tick"))
    agent.cast(agent.signal("slow"))
    DIRECTIVES.append((Unschedule("tick"),))
    agent.cast(agent.signal("do"))
    await advance(400.0)
    assert [line.split()[0] for line in agent.state.log] == ["slow"]
    DIRECTIVES.extend([(Cron("* * * * *", "once"),), (Unschedule("once"),)])
    await agent.call(agent.signal("do"))
    await advance(600.0)
    assert [line.split()[0] for line in agent.state.log] == ["slow", "once"]


def test_s49_cron_schedules_know_of_clocks_that_are_changed() -> None:
    """A time that is left out is left out; one that comes twice comes once, unless it is due in any hour."""
    from datetime import UTC, datetime

    def after(expression: str, *when: int) -> str:
        now = datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]
        due = CronSchedule(expression, "America/Chicago").next_after(now)
        return datetime.fromtimestamp(due, UTC).strftime("%d %H:%M:%S")

    assert after("30 2 * * *", 2026, 3, 8, 7, 0) == "09 07:30:00"
    assert after("31 1 * * *", 2026, 11, 1, 7, 30, 30) == "01 07:31:00"
    assert after("31 1 * * *", 2026, 11, 1, 6, 30, 30) == "01 07:31:00"
    assert after("31 1 * * *", 2026, 11, 1, 6, 59, 0) == "01 07:31:00"
    assert after("31 1 * * *", 2026, 11, 1, 7, 32, 0) == "02 07:31:00"
    assert after("* * * * *", 2026, 11, 1, 6, 30, 30) == "01 06:31:00"
    assert after("*/15 * * * *", 2026, 11, 1, 6, 59, 0) == "01 07:00:00"
    assert after("@daily", 2026, 11, 1, 6, 0) == "02 06:00:00"


@pytest.mark.parametrize(
    ("expression", "zone"),
    [("* * *", "UTC"), (3, "UTC"), ("* * * * *", "Moon/Base"), ("* * * * *", 3), ("* * * * *", "/")],
)
def test_wrong_cron_schedules_are_refused(expression: Any, zone: Any) -> None:
    """With an error that says how to write one."""
    with pytest.raises(BadCronSchedule):
        CronSchedule(expression, zone)


async def test_a_far_tick_is_waited_for_in_parts(runtime: Runtime) -> None:
    """Clocks may be put right meanwhile; and a job that was forgotten meanwhile does not tick."""
    agent = await note(runtime, Cron("0 12 * * *", "tick"))
    await advance(12 * 3600.0 - 1)
    assert not any(line.startswith("tick") for line in agent.state.log)
    await advance(2.0)
    assert agent.state.log[-1] == "tick 43200 None"


async def test_types_that_are_met_are_not_remembered_without_end(runtime: Runtime) -> None:
    """An agent with a route for anything takes ever new types."""

    class Anything(AgentType[Counting]):
        routes = {"**": Note}

    agent = await start_agent(runtime, Anything)
    for n in range(1100):
        agent.cast(agent.signal(f"type.{n}"))
    await settled(runtime)
    assert len(agent.state.log) == 1100
    assert len(Anything.plain_routes) == 1000


async def test_agents_can_be_told_to_give_up(runtime: Runtime) -> None:
    """It is a signal like any other: an agent without a route for it passes it over in silence."""
    heard: list[Any] = []
    subscription = runtime.subscribe(heard.append, events.Unhandled)
    agent = await start_agent(runtime, Counter)
    agent.cancel("enough")
    await settled(runtime)
    subscription.close()
    assert heard == []


# -- clocks that are set -------------------------------------------------------------------------------------


def set_clock(by: float) -> None:
    """Set the wall clock of the test's loop; nothing else changes."""
    loop: Any = asyncio.get_running_loop()
    loop.set_wall_time(loop.wall_time() + by)


def ticks(agent: Any) -> list[float]:
    """Return at which seconds of the loop's time there were ticks."""
    return [float(line.split()[1]) for line in agent.state.log if line.startswith("tick")]


async def test_cron_goes_on_from_the_new_time_when_the_clock_is_set_forwards(runtime: Runtime) -> None:
    """What would have been due in between does not come late; the next tick is that of the new time."""
    agent = await note(runtime, Cron("0 * * * *", "tick"))
    await advance(1800.0)
    set_clock(2.5 * 3600)  # from 0:30 to 3:00; a moment later it is looked at
    await advance(3500.0)
    assert ticks(agent) == []
    await advance(200.0)
    assert ticks(agent) == [1800 + 3600]


async def test_cron_goes_on_from_the_new_time_when_the_clock_is_set_backwards(runtime: Runtime) -> None:
    """It does not wait until the old time is reached again."""
    agent = await note(runtime, Cron("0 * * * *", "tick"))
    await advance(3 * 3600.0 + 1800)
    before = ticks(agent)
    set_clock(-2 * 3600.0)  # from 3:30 to 1:30
    await advance(3600.0)
    assert ticks(agent)[len(before) :] == [3 * 3600 + 3600]


@pytest.mark.parametrize(("by", "at"), [(120.0, [3600, 7080]), (-120.0, [3720])])
async def test_a_small_correction_is_no_new_time(runtime: Runtime, by: float, at: list[float]) -> None:
    """A tick comes at the right time, as soon as that is seen, neither twice nor never."""
    agent = await note(runtime, Cron("0 * * * *", "tick"))
    await advance(3590.0)
    set_clock(by)
    await advance(3600.0)
    assert ticks(agent) == at


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
@pytest.mark.parametrize("by", [365 * 86400.0, -365 * 86400.0])
async def test_a_clock_that_is_set_during_a_tick_brings_no_flood(runtime: Runtime, overlap: Any, by: float) -> None:
    """Nobody makes up for a year of ticks, or waits for one."""
    agent = await note(runtime, Cron("* * * * *", "slow", overlap=overlap))
    await advance(70.0)  # the first tick is being handled
    set_clock(by)
    await advance(600.0)
    assert 2 <= len([line for line in agent.state.log if line.startswith("slow")]) <= 5


async def test_the_clock_is_not_checked_when_there_are_no_jobs(runtime: Runtime) -> None:
    """Neither after the last job was taken back, nor after its server has ended."""
    agent = await note(runtime, Cron("0 * * * *", "tick", id="a"))
    DIRECTIVES.append((Unschedule("a"),))
    await agent.call(agent.signal("do"))
    await advance(60.0)
    idle = runtime.statistics().timers
    DIRECTIVES.append((Cron("0 * * * *", "tick", id="b"),))
    await agent.call(agent.signal("do"))
    assert runtime.statistics().timers == idle + 1
    DIRECTIVES.append((Cron("0 0 * * *", "tick", id="c"),))
    await agent.call(agent.signal("do"))
    assert runtime.statistics().timers == idle + 2
    await agent.stop()
    await advance(60.0)
    assert runtime.statistics().timers == 0
