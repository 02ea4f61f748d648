"""Applications: scenarios S309 to S317 of the reference, and more of the same kind."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from supervision import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    Application,
    Applications,
    BadOption,
    ChildSpec,
    Crashed,
    Ref,
    Runtime,
    Shutdown,
    applications,
    spawn_link,
)
from supervision.applications import ensure_all_started, start, stop, which_applications
from supervision.errors import (
    ApplicationAlreadyStarted,
    ApplicationFailed,
    ApplicationNotStarted,
    BadApplication,
    UnknownApplication,
)
from supervision.events import ApplicationHookFailed, ApplicationStarted, ApplicationStopped
from supervision.reasons import ApplicationEnded, BadReturnValue, FailedCallback, FailedToStartChild
from supervision.testing import advance, settled
from tests.supervision.probes import Do, Probe, Recorder, rec, time_of


class Logged(Application):
    """An application whose callbacks write into a log, and do what they are told."""

    def __init__(self, name: str, log: list[Any], *requires: str, **how: Any) -> None:
        self.name = name  # type: ignore[misc]
        self.requires = requires  # type: ignore[misc]
        self.start_phases = how.pop("phases", ())  # type: ignore[misc]
        self.log = log
        self.how = how

    def start(self, start_type: str) -> Any:
        """Start one worker, or whatever was said."""
        self.log.append(f"start {self.name}")
        return self.do("start", [rec(self.log, f"{self.name}.w")])

    async def start_phase(self, phase: str) -> None:
        """Go through a phase."""
        self.log.append(f"phase {self.name} {phase}")
        self.do(phase, None)

    async def prep_stop(self) -> None:
        """Prepare."""
        self.log.append(f"prep_stop {self.name}")
        self.do("prep_stop", None)

    def stop(self) -> None:
        """Clean up."""
        self.log.append(f"stop {self.name}")
        self.do("stop", None)

    def do(self, what: str, usual: Any) -> Any:
        """Do what was said."""
        how = self.how.get(what, usual)
        if isinstance(how, Exception):
            raise how
        return how() if callable(how) and not isinstance(how, type) else how


async def control(runtime: Runtime, *apps: Any, **options: Any) -> Ref:
    """Start a controller."""
    return await runtime.spawn(Applications, apps, name="applications", **options)


async def names(controller: Ref) -> list[str]:
    """Return the names of the applications that run."""
    return [info.name for info in await which_applications(controller)]


def at(runtime: Runtime, path: str) -> Ref:
    """Return the actor at a path."""
    ref = runtime.find(path)
    assert ref is not None
    return ref


async def test_S309_ensure_all_started_starts_what_is_required_first_and_rolls_back(runtime: Runtime) -> None:
    log: list[Any] = []
    broken = Logged("a3", log, "a2", start=LookupError("no"))
    controller = await control(runtime, broken, Logged("a2", log, "a1"), Logged("a1", log))
    assert await ensure_all_started(controller, "a2") == ["a1", "a2"]
    assert await ensure_all_started(controller, "a2") == []
    assert await names(controller) == ["a2", "a1"]
    await stop(controller, "a2")
    await stop(controller, "a1")
    log.clear()
    with pytest.raises(ApplicationFailed, match="'a3': did not start") as caught:
        await ensure_all_started(controller, "a3")
    assert caught.value.name == "a3"
    assert [line for line in log if line.startswith(("start", "stop"))] == [
        *("start a1", "start a2", "start a3"),
        *("stop a2", "stop a1"),
    ]
    assert await names(controller) == []
    assert set(runtime.actors()) == {controller}


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        (LookupError("no"), Crashed("LookupError", "no")),
        (17, BadReturnValue(17)),
        (lambda: None, BadReturnValue(None)),
        (ChildSpec("f", lambda: None), "bad return"),
        (
            [rec([], "c", "no")],
            Shutdown(FailedToStartChild("c", BadReturnValue("no"))),
        ),
    ],
)
async def test_S310_a_start_that_fails_says_why_and_which_callback(runtime: Runtime, how: Any, cause: Any) -> None:
    controller = await control(runtime, Logged("app", [], start=how))
    with pytest.raises(ApplicationFailed) as caught:
        await start(controller, "app")
    reason = caught.value.reason
    assert isinstance(reason, FailedCallback)
    assert reason.callback == "Logged.start"
    if isinstance(cause, Crashed):
        assert isinstance(reason.cause, Crashed)
        assert (reason.cause.kind, reason.cause.message) == (cause.kind, cause.message)
    elif isinstance(cause, str):
        assert cause in str(reason)
    else:
        assert reason.cause == cause
    assert set(runtime.actors()) == {controller}


async def test_S312_what_an_application_has_started_outside_of_its_tree_is_killed_and_named(
    runtime: Runtime, events: Recorder
) -> None:
    log: list[Any] = []
    controller = await control(runtime, Logged("app", log), Logged("other", log))
    await start(controller, "app")
    await start(controller, "other")
    worker = at(runtime, "/applications/app/top/app.w")
    strays: list[Ref] = []

    async def stray(actor: Any) -> None:
        strays.append(await actor.runtime.spawn(Probe, log, True, name="stray"))
        strays[0].cast(Do(again))

    async def again(actor: Any) -> None:
        strays.append(await actor.spawn(Probe, log, True, name="of the stray"))

    worker.cast(Do(stray))
    await settled(runtime)
    assert await stop(controller, "app") == ("/stray", "/of the stray")
    assert [ref.reason for ref in strays] == [KILLED, KILLED]
    assert await names(controller) == ["other"]
    assert [(event.application, event.leftovers) for event in events.of(ApplicationStopped)] == [
        ("app", ("/stray", "/of the stray"))
    ]


@pytest.mark.parametrize(
    ("type", "reason", "all_end"),
    [
        ("temporary", "broken", False),
        ("temporary", NORMAL, False),
        ("transient", NORMAL, False),
        ("transient", SHUTDOWN, True),
        ("transient", "broken", True),
        ("permanent", NORMAL, True),
        ("permanent", "broken", True),
    ],
)
async def test_S314_a_top_that_ends_by_itself(runtime: Runtime, type: Any, reason: Any, all_end: bool) -> None:
    log: list[Any] = []
    first, second = Logged("first", log), Logged("second", log, start=Probe)
    controller = await control(runtime, first, second, Logged("third", log))
    for name in ("first", "second", "third"):
        await start(controller, name, type if name == "second" else "temporary")
    log.clear()
    at(runtime, "/applications/second/Probe").cast(Do(lambda actor: actor.stop(reason)))
    await settled(runtime)
    assert log[:2] == ["prep_stop second", "stop second"]
    if all_end:
        cause = Abnormal(reason) if isinstance(reason, str) else reason
        assert await controller.join() == ApplicationEnded("second", cause)
        assert "application 'second' ended" in str(controller.reason)
        assert [line for line in log if line.startswith("stop")] == ["stop second", "stop third", "stop first"]
        assert list(runtime.actors()) == []
    else:
        assert await names(controller) == ["third", "first"]


async def test_S315_what_others_require_can_be_stopped_and_they_go_on(runtime: Runtime) -> None:
    controller = await control(runtime, Logged("a2", [], "a1"), Logged("a1", []))
    await ensure_all_started(controller, "a2")
    await stop(controller, "a1")
    assert await names(controller) == ["a2"]


async def test_S317_all_are_stopped_in_reverse_and_one_that_hangs_is_killed(runtime: Runtime) -> None:
    log: list[Any] = []
    slow = Logged("slow", log, start=[rec(log, "s", stops=100, shutdown="infinity")])

    async def hook() -> None:
        log.append("before_stop")

    controller = await control(
        runtime, Logged("a", log), slow, Logged("z", log), shutdown_timeout=3.0, before_stop=hook
    )
    for name in ("a", "slow", "z"):
        await start(controller, name)
    log.clear()
    assert await time_of(controller.stop()) == pytest.approx(3.0)
    assert [line for line in log if not line.startswith("-")] == [
        *("before_stop", "prep_stop z", "stop z"),
        *("prep_stop slow", "prep_stop a", "stop a"),
    ]
    assert list(runtime.actors()) == []


# -- orders ------------------------------------------------------------------------------------------------------------


async def test_what_is_required_is_not_started_for_you(runtime: Runtime) -> None:
    controller = await control(runtime, Logged("a2", [], "a1"), Logged("a1", []))
    with pytest.raises(ApplicationNotStarted, match="requires 'a1'; start that first"):
        await start(controller, "a2")
    await start(controller, "a1")
    await start(controller, "a2")
    with pytest.raises(ApplicationAlreadyStarted, match="runs already"):
        await start(controller, "a1")


async def test_wrong_orders_are_refused_with_what_there_is(runtime: Runtime) -> None:
    controller = await control(runtime, Logged("a1", []), Logged("a2", []))
    with pytest.raises(UnknownApplication, match="'a3': there is no such application; there are 'a1', 'a2'"):
        await start(controller, "a3")
    with pytest.raises(UnknownApplication):
        await ensure_all_started(controller, "a3")
    with pytest.raises(UnknownApplication):
        await stop(controller, "a3")
    with pytest.raises(ApplicationNotStarted, match="does not run"):
        await stop(controller, "a1")
    with pytest.raises(BadOption, match="permanent, transient, temporary"):
        await start(controller, "a1", "forever")  # type: ignore[arg-type]


async def test_the_controller_takes_orders_while_an_application_starts_or_stops(runtime: Runtime) -> None:
    log: list[Any] = []

    class Asking(Logged):
        async def start(self, start_type: str) -> Any:
            log.append([info.name for info in await which_applications(self.runtime.name("applications"))])
            await self.runtime.sleep(2)
            return Probe

        runtime: ClassVar[Runtime]

    Asking.runtime = runtime
    slow = Logged("slow", log, start=[rec(log, "s", stops=5, shutdown=10)])
    controller = await control(runtime, Logged("a", log), Asking("asking", log), slow)
    await start(controller, "a")
    starting = asyncio.ensure_future(start(controller, "asking"))
    await advance(1)
    with pytest.raises(ApplicationAlreadyStarted, match="is starting"):
        await start(controller, "asking")
    assert await time_of(start(controller, "slow")) == 0
    await starting
    assert ["a"] in log
    stopping = [asyncio.ensure_future(stop(controller, "slow")) for _ in range(2)]
    await advance(1)
    assert await names(controller) == ["asking", "slow", "a"]
    assert await asyncio.gather(*stopping) == [(), ()]
    assert await names(controller) == ["asking", "a"]


async def test_two_who_want_the_same_started_both_get_it(runtime: Runtime) -> None:
    class Slow(Logged):
        async def start(self, start_type: str) -> Any:
            await runtime.sleep(1)
            return Probe

    controller = await control(runtime, Slow("a1", []), Logged("a2", [], "a1"))
    first, second = (asyncio.ensure_future(ensure_all_started(controller, "a1")) for _ in range(2))
    assert [await first, await second] == [["a1"], []]


async def test_the_types_of_what_a_start_returns(runtime: Runtime) -> None:
    async def by_hand() -> Any:
        return await spawn_link(Probe, name="by hand")

    class ByHand(Logged):
        async def start(self, start_type: str) -> Any:
            return await by_hand()

    spec = ChildSpec("one", Probe, name="one")
    apps = [Logged("list", []), Logged("spec", [], start=spec), Logged("kind", [], start=Probe), ByHand("ref", [])]
    controller = await control(runtime, *apps)
    for app in apps:
        await start(controller, app.name)
    assert {ref.path for ref in runtime.actors()} >= {
        "/applications/list/top/list.w",
        "/applications/spec/one",
        "/applications/kind/Probe",
        "/applications/ref/by hand",
    }
    info = runtime.info(at(runtime, "/applications/list"))
    assert info is not None
    assert info.parent is controller


async def test_a_class_of_an_application_is_as_good_as_an_object(runtime: Runtime, events: Recorder) -> None:
    class Plain(Application):
        name = "plain"

        def start(self, start_type: str) -> Any:
            return Probe

    controller = await control(runtime, Plain)
    await start(controller, "plain", "permanent")
    assert [(info.name, info.type) for info in await which_applications(controller)] == [("plain", "permanent")]
    assert [event.application for event in events.of(ApplicationStarted)] == ["plain"]
    assert await stop(controller, "plain") == ()
    assert controller.alive


async def test_an_application_that_does_not_say_what_it_consists_of_does_not_start(runtime: Runtime) -> None:
    class Empty(Application):
        name = "empty"

    with pytest.raises(ApplicationFailed, match=r"define start\(\)"):
        await start(await control(runtime, Empty), "empty")


# -- start phases and callbacks ----------------------------------------------------------------------------------------


async def test_phases_come_in_order_when_the_tree_is_up(runtime: Runtime) -> None:
    log: list[Any] = []
    controller = await control(runtime, Logged("app", log, phases=("warm", "open")))
    await start(controller, "app")
    assert log == ["start app", "+app.w", "phase app warm", "phase app open"]


async def test_a_phase_that_fails_kills_the_tree(runtime: Runtime) -> None:
    log: list[Any] = []
    app = Logged("app", log, phases=("warm", "open"), warm=LookupError("cold"))
    controller = await control(runtime, app)
    with pytest.raises(ApplicationFailed, match=r"Logged\.start_phase\('warm'\): LookupError: cold"):
        await start(controller, "app")
    assert log == ["start app", "+app.w", "phase app warm"]  # nobody was told to end
    assert set(runtime.actors()) == {controller}


async def test_callbacks_that_fail_at_the_stop_are_reported_and_the_stop_goes_on(
    runtime: Runtime, events: Recorder
) -> None:
    log: list[Any] = []
    app = Logged("app", log, prep_stop=LookupError("unprepared"), stop=OSError("dirty"))

    def hook() -> None:
        raise ValueError("not now")

    controller = await control(runtime, app, before_stop=hook)
    await start(controller, "app")
    await controller.stop()
    assert log[-3:] == ["prep_stop app", "-app.w(shutdown)", "stop app"]
    assert [(event.application, event.callback) for event in events.of(ApplicationHookFailed)] == [
        *(("", "before_stop"), ("app", "prep_stop"), ("app", "stop"))
    ]


async def test_a_master_that_is_killed_takes_its_tree_along(runtime: Runtime) -> None:
    log: list[Any] = []
    controller = await control(runtime, Logged("app", log), Logged("other", log))
    await start(controller, "other")
    await start(controller, "app", "permanent")
    at(runtime, "/applications/app").kill()
    assert await controller.join() == ApplicationEnded("app", KILLED)
    assert list(runtime.actors()) == []


async def test_an_application_that_starts_when_the_controller_stops_is_stopped(runtime: Runtime) -> None:
    class Slow(Logged):
        async def start(self, start_type: str) -> Any:
            await runtime.sleep(10)
            return Probe

    controller = await control(runtime, Slow("app", []), shutdown_timeout=1.0)
    starting = asyncio.ensure_future(start(controller, "app"))
    await advance(1)
    await controller.stop()
    with pytest.raises(Exception, match="ended before it answered"):
        await starting
    assert list(runtime.actors()) == []


async def test_a_killed_controller_takes_all_along(runtime: Runtime) -> None:
    controller = await control(runtime, Logged("a", []))
    await start(controller, "a")
    master = at(runtime, "/applications/a")
    controller.kill()
    await master.join()
    assert list(runtime.actors()) == []


async def test_exits_of_strangers_are_ignored(runtime: Runtime) -> None:
    controller = await control(runtime, Logged("a", []))
    await start(controller, "a")
    controller.exit("stranger")
    at(runtime, "/applications/a").exit("stranger")
    await settled(runtime)
    assert await names(controller) == ["a"]


# -- what fits together ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("apps", "text"),
    [
        ([("a", "b"), ("b", "c"), ("c", "a")], "'a → b → c → a': applications must not require each other"),
        ([("a", "a")], "'a → a'"),
        ([("a", "x")], "a: requires = 'x': there is no such application; there are 'a'"),
        ([("a",), ("a",)], "name = 'a': stands twice"),
        ([("",)], "give the application a name"),
    ],
)
def test_applications_that_do_not_fit_together_are_refused(apps: list[tuple[str, ...]], text: str) -> None:
    with pytest.raises(BadApplication) as caught:
        Applications([Logged(name, [], *requires) for name, *requires in apps])
    assert text in str(caught.value)


async def test_an_end_that_matters_is_logged() -> None:
    with capture_logs() as entries:
        async with Runtime(watchdog=None) as runtime:
            app = Logged("app", [], start=Probe, stop=OSError("dirty"))
            controller = await applications_of(runtime, app)
            await start(controller, "app")
            at(runtime, "/applications/app/Probe").exit("broken")
            await settled(runtime)
            await start(controller, "app")
            await stop(controller, "app")
    told = [entry for entry in entries if entry["event"].startswith("application")]
    assert [(entry["event"], entry["application"]) for entry in told] == [
        *(("application_hook_failed", "app"), ("application_stopped", "app"), ("application_hook_failed", "app"))
    ]
    assert told[1]["reason"] == "'broken'"


async def applications_of(runtime: Runtime, *apps: Application) -> Ref:
    """Start a controller by its module's name."""
    assert applications.Applications is Applications
    assert issubclass(Applications, Actor)
    return await control(runtime, *apps)
