"""Plugins: routes with prefixes, slices, hooks, and what becomes of signals at them (S20, S37, S39, S40)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest
import structlog

from agents import (
    Action,
    Agent,
    AgentType,
    BadAgentType,
    BadRoute,
    Context,
    Cron,
    Emit,
    HookFailed,
    Override,
    Plugin,
    Result,
    Route,
    SetSlice,
    Signal,
    start_agent,
)
from supervision import Ref, Runtime
from supervision.testing import advance, settled
from tests.agents.kinds import Listener


class State(msgspec.Struct, frozen=True):
    """A state."""

    log: tuple[str, ...] = ()


class Note(Action[State]):
    """Write to the log what it is told, and what is provided."""

    text: str = ""

    def run(self, context: Context[State]) -> State:
        """Write."""
        words = [self.text, *(f"{key}={value}" for key, value in sorted(context.provided.items()))]
        assert context.signal is not None
        return State((*context.state.log, f"{context.signal.type}: {' '.join(filter(None, words))}"))


class Admin(Note):
    """Writes as well."""


class Tell(Action[None]):
    """Emits."""

    def run(self, context: Context[State]) -> Result[None]:
        """Emit."""
        return Result(None, (Emit("told", {"n": 1}),))


class Slack(Plugin[Any]):
    """Has routes."""

    routes = {"post": Note, "list": (Note, Admin)}


class Loud(Plugin[Any]):
    """Has a route that wants to be first, and one that is meant for some signals."""

    name = "loud"
    routes = [Route("post", Note, 5), Route("maybe", Note, when=lambda signal: signal.data == {"text": "yes"})]


def kind(*plugins: Any, routes: Mapping[str, Any] | None = None) -> type[AgentType[State]]:
    """Return a type with plugins."""
    return type("Kind", (Base,), {"plugins": plugins, "routes": routes or {"note": Note, "tell": Tell}})


class Base(AgentType[State]):
    """A type."""


# -- routes ------------------------------------------------------------------------------------------------------------


def test_s20_routes_have_the_name_and_the_alias_before_them() -> None:
    """They come behind those of the type; a plugin can be there twice under aliases."""
    slack = kind(Slack).mounted[0]
    assert [(route.pattern, route.priority) for route in slack.routes] == [("slack.post", -10), ("slack.list", -10)]
    twice = kind(Slack, Slack(alias="support"))
    assert [route.pattern for route in twice.mounted[1].routes] == ["support.slack.post", "support.slack.list"]
    assert twice.mounted[1].key == "slack_support"
    assert len(twice.router.route("support.slack.list")) == 2
    assert [route.priority for route in kind(Loud).mounted[0].routes] == [5, 0]


def test_s20_conflicts_are_all_reported_at_once() -> None:
    """The same pattern at the same priority is an error; otherwise the higher one is kept, or the one that says so."""

    class First(Plugin[Any]):
        name = "same"
        routes = {"a": Note, "b": Note}

    class Second(First):
        name = "same.b"
        routes: ClassVar[Any] = {}

    class Third(Plugin[Any]):
        name = "x"
        routes: ClassVar[Any] = {"same.a": Admin}

        @property
        def prefix(self) -> str:
            return "same"

    class Clash(Third):
        name = "y"
        routes: ClassVar[Any] = {"a": Admin, "b": Admin}

    with pytest.raises(BadRoute) as caught:
        kind(First, Clash)
    assert "same.a at priority -10 of same and y; same.b at priority -10 of same and y" in str(caught.value)

    class Higher(Clash):
        name = "z"
        routes: ClassVar[Any] = [Route("a", Admin, 5), Route("b", Admin, -20)]

    higher = kind(First, Higher, Second)
    assert [higher.router.route(type)[0] for type in ("same.a", "same.b")] == [Admin, Note]

    class Replacing(Clash):
        name = "w"
        replaces = True

    assert kind(First, Replacing).router.route("same.b") == (Admin,)


@pytest.mark.parametrize(
    ("plugins", "says"),
    [
        ((Slack, Slack), "once only"),
        ((3,), "give plugins"),
    ],
)
def test_plugins_that_do_not_go_together_are_refused(plugins: Any, says: str) -> None:
    """When the type is defined."""
    with pytest.raises(BadAgentType, match=says):
        kind(*plugins)

    class Needy(Plugin[Any]):
        requires = ("slack", "database")

    class Single(Plugin[Any]):
        singleton = True

    with pytest.raises(BadAgentType, match="requires database"):
        kind(Slack, Needy)
    with pytest.raises(BadAgentType, match="once only"):
        kind(Single(alias="a"))
    with pytest.raises(BadRoute):
        type("Bad", (Slack,), {"patterns": ("a..b",)})
    with pytest.raises(BadRoute):
        type("Bad", (Slack,), {"name": "a..b"})
    with pytest.raises(BadRoute):
        Slack(alias="")
    with pytest.raises(BadRoute, match="Route objects"):
        kind(routes=[("a", Note)])  # type: ignore[arg-type]


# -- slices ------------------------------------------------------------------------------------------------------------


class Memory(msgspec.Struct, frozen=True):
    """What a plugin knows."""

    world: dict[str, int] = {}
    max_entries: int = 50


class Remember(Action[None]):
    """Remember something."""

    key: str
    value: int

    def run(self, context: Context[State]) -> Result[None]:
        """Remember it."""
        assert isinstance(context.slices["memory"], Memory)
        return Result(None, (SetSlice("memory", {"world": {self.key: self.value}}),))


class MemoryPlugin(Plugin[Memory]):
    """Has a slice."""

    name = "memory"
    routes = {"remember": Remember}

    def __init__(self, entries: int | None = None) -> None:
        super().__init__()
        self.entries = entries

    def mount(self, agent: Agent[Any]) -> dict[str, Any] | None:
        """Return what is not as by default."""
        return None if self.entries is None else {"max_entries": self.entries}


async def test_s40_a_plugin_knows_things_beside_the_state(runtime: Runtime) -> None:
    """A slice is typed and checked; configured where it is listed; and changed by actions alone."""
    assert kind(MemoryPlugin).new("a").slices == {"memory": Memory()}
    assert kind(MemoryPlugin(500)).new("a").slices["memory"].max_entries == 500
    agent = await start_agent(runtime, kind(MemoryPlugin))
    await agent.call(agent.signal("memory.remember", {"key": "temperature", "value": 22}))
    reply = await agent.call(agent.signal("memory.remember", {"key": "humidity", "value": 65}))
    assert reply.agent.slices["memory"].world == {"temperature": 22, "humidity": 65}
    assert reply.agent.state == State()


def test_a_slice_that_is_not_declared_is_refused() -> None:
    """A plugin that returns one has to say what it is."""

    class Vague(Plugin[Any]):
        def mount(self, agent: Agent[Any]) -> Any:
            return {"a": 1}

    with pytest.raises(BadAgentType, match="say what it is"):
        kind(Vague).new("a")


# -- signals at plugins ------------------------------------------------------------------------------------------------


SEEN: list[str] = []


class Watcher(Plugin[Any]):
    """Sees all signals."""

    def on_signal(self, signal: Signal, agent: Agent[Any]) -> None:
        """Look."""
        SEEN.append(signal.type)


class Audit(Watcher):
    """Sees some."""

    patterns = ("audit.*",)


class Gate(Plugin[Any]):
    """Lets nothing through that is blocked, and crashes at what is odd."""

    patterns = ("blocked.*", "admin.override", "odd", "first", "second")

    def on_signal(self, signal: Signal, agent: Agent[Any]) -> Any:
        """Decide."""
        if signal.type == "odd":
            raise KeyError("odd")
        if signal.type == "admin.override":
            return Override((Admin, {"text": "instead"}))
        if signal.type == "first":
            return msgspec.structs.replace(signal, type="second")
        if signal.type == "second":
            return Override(Note(text="ready"), msgspec.structs.replace(signal, type="third"))
        raise PermissionError("not today")


async def test_s37_hooks_see_change_override_and_refuse_signals(runtime: Runtime) -> None:
    """Before routing, in the order of declaration; a refusal reaches the caller, and the next signal works."""
    SEEN.clear()
    routes = {"**": Note}
    agent = await start_agent(runtime, kind(Watcher, Audit(), Gate, Gate(alias="again"), routes=routes))
    for type in ("audit.login", "admin.normal", "admin.override"):
        await agent.call(agent.signal(type))
    for type, says in (("blocked.x", "gate.on_signal: PermissionError: not today"), ("odd", "KeyError")):
        with pytest.raises(HookFailed, match=says):
            await agent.call(agent.signal(type))
    await agent.call(agent.signal("first"))
    assert agent.state.log == ("audit.login: ", "admin.normal: ", "admin.override: instead", "third: ready")
    assert [*("audit.login",) * 2, "admin.normal", "admin.override", "blocked.x", "odd", "first"] == SEEN


class Verified(Plugin[Any]):
    """Rewrites, and provides."""

    def on_signal(self, signal: Signal, agent: Agent[Any]) -> Signal | None:
        """Rewrite."""
        if signal.type == "incoming.original":
            return msgspec.structs.replace(signal, type="incoming.verified")
        return None

    def provide(self, signal: Signal, agent: Agent[Any]) -> dict[str, Any]:
        """Provide."""
        return {"principal": "agent_runtime"}


class Facts(Plugin[Any]):
    """Provides what the signal says."""

    patterns = ("facts.*",)

    def provide(self, signal: Signal, agent: Agent[Any]) -> Any:
        """Provide."""
        if signal.type == "facts.crash":
            raise RuntimeError("no facts")
        return signal.data


async def test_s39_what_plugins_provide_is_not_the_senders_to_say(runtime: Runtime) -> None:
    """It is in the context and not in the parameters; what is reserved, there twice, or none, fails closed."""
    routes = {"incoming.verified": Note, "facts.*": Note}
    agent = await start_agent(runtime, kind(Verified, Facts, routes=routes))
    await agent.call(agent.signal("incoming.original", {"text": "hi", "principal": "me"}))
    assert agent.state.log == ("incoming.verified: hi principal=agent_runtime",)
    for type, data, says in (
        ("facts.reserved", {"ref": 1}, "'ref' is provided already"),
        ("facts.twice", {"principal": 1}, "'principal' is provided already"),
        ("facts.wrong", 3, "facts.provide: TypeError"),
        ("facts.crash", None, "no facts"),
    ):
        with pytest.raises(HookFailed, match=says):
            await agent.call(agent.signal(type, data))
        agent.cast(agent.signal(type, data))
    await settled(runtime)
    assert agent.status().last_error is not None
    assert len(agent.state.log) == 1


# -- what comes out ----------------------------------------------------------------------------------------------------


class Sealed(Plugin[Any]):
    """Changes what is emitted, and what callers see."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.broken = broken

    def on_emit(self, signal: Signal, agent: Agent[Any]) -> Signal:
        """Seal it."""
        if self.broken:
            raise OSError("no wax")
        return msgspec.structs.replace(signal, subject="sealed")

    def on_reply(self, agent: Any) -> Any:
        """Hide the log."""
        if self.broken:
            raise OSError("no curtain")
        return agent.set({"log": ["hidden"]})


async def test_plugins_see_what_is_emitted_and_what_callers_get(runtime: Runtime) -> None:
    """What they change is what goes out; the agent itself stays as it is; a failure emits nothing."""
    heard: list[Signal] = []
    await runtime.spawn(Listener, heard, name="listener")
    good = await start_agent(runtime, kind(Sealed), emit_to="listener")
    reply = await good.call(good.signal("tell"))
    await settled(runtime)
    assert (heard[0].subject, reply.agent.state.log, good.state.log) == ("sealed", ("hidden",), ())
    bad = await start_agent(runtime, kind(Sealed(broken=True)), emit_to="listener")
    with structlog.testing.capture_logs() as logs:
        reply = await bad.call(bad.signal("tell"))
    assert (len(heard), reply.agent.state.log, [one.stage for one in reply.errors]) == (1, (), ["effect"])
    assert {entry["event"] for entry in logs} == {"action_failed", "plugin_failed"}
    assert bad.view.last_error is not None
    assert "sealed.on_emit: OSError: no wax" in bad.view.last_error.message


class Lively(Plugin[Any]):
    """Notes its server's life, has a schedule and a sensor."""

    lives: ClassVar[list[str]] = []
    routes = {"tick": Note}
    schedules = (Cron("* * * * *", "tick", {"text": "cron"}),)

    def on_start(self, agent: Agent[Any], ref: Ref) -> None:
        """Note it."""
        self.lives.append(f"started {agent.id}")

    def on_stop(self, agent: Agent[Any], reason: Any) -> None:
        """Note it."""
        self.lives.append(f"stopped {agent.id}: {reason}")


async def test_a_plugin_lives_with_the_server(runtime: Runtime) -> None:
    """It is told of the beginning and the end; its schedules run, with its prefix."""
    Lively.lives.clear()
    agent = await start_agent(runtime, kind(Lively(alias="x")), id="a")
    await advance(60.0)
    await settled(runtime)
    assert agent.state.log == ("x.lively.tick: cron",)
    await agent.stop()
    assert Lively.lives == ["started a", "stopped a: normal"]


def test_the_hooks_do_nothing_unless_they_are_overridden() -> None:
    """A plugin without any is no burden."""
    plugin: Plugin[Any] = Slack()
    signal = Signal(type="a", source="/", id="1")
    agent = kind(Slack).new("a")
    assert plugin.mount(agent) is None
    assert plugin.on_signal(signal, agent) is None
    assert plugin.provide(signal, agent) == {}
    assert plugin.on_emit(signal, agent) is signal
    assert plugin.on_reply(agent) is agent
    assert (plugin.checkpoint(3), plugin.restore(3)) == (3, 3)
