"""The pytest plugin, run as users run it: on a project of their own."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pytest_foundation import pytest_configure
from supervision import Actor, ChildSpec, Request, Runtime, Supervisor, handle
from supervision.events import Started
from supervision.testing import Chaos, ChaosPlan, ChaosStep, Crash, Kill, NotSurvived, Victims, survives

SERVICE = """
from supervision import Actor, ChildSpec, Message, Request, Runtime, Supervisor, handle

class Boom(Message):
    pass

class Ping(Request[str]):
    pass

class Server(Actor):
    @handle
    def ping(self, request: Ping) -> str:
        return "pong"

    @handle
    def boom(self, message: Boom) -> None:
        raise LookupError("no such thing")

async def start(runtime: Runtime) -> None:
    await runtime.spawn(Supervisor, [ChildSpec("server", Server, name="server")], name="app")
"""
INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
virtual_clock = {virtual}
"""


def outcome(pytester: pytest.Pytester, test: str, *arguments: str, virtual: str = "true") -> tuple[dict[str, int], str]:
    """Run a test file of a user's project; return how it went, and what was printed."""
    pytester.makeini(INI.format(virtual=virtual))
    pytester.makepyfile(
        service=SERVICE, test_it=f"from service import *\nimport pytest\nfrom supervision.testing import *\n{test}"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
    return {name: n for name, n in result.parseoutcomes().items() if name != "warnings"}, result.stdout.str()


def test_a_test_gets_a_runtime_of_its_own_and_chaos_on_virtual_time(pytester: pytest.Pytester) -> None:
    found, _ = outcome(
        pytester,
        """
        @pytest.mark.chaos(seed=3)
        async def test_it(runtime, chaos, event_log, virtual_clock):
            await start(runtime)
            report = await chaos.run(steps=10, seconds=600)
            assert (chaos.seed, report.plan.seed, report.kills) == (3, 3, 10)
            assert len(event_log) > 30
            await virtual_clock(3000)
            assert runtime.clock.time() > 3000

        async def test_another(runtime):
            assert runtime.clock.time() < 1
            assert runtime.whereis("server") is None

        @pytest.mark.real_clock
        async def test_real_time(virtual_clock):
            with pytest.raises(RuntimeError, match="virtual"):
                await virtual_clock(1)
        """.replace("\n        ", "\n"),
    )
    assert found == {"passed": 3}


def test_without_the_setting_loops_are_as_they_were(pytester: pytest.Pytester) -> None:
    test = "async def test_it(runtime):\n    assert not isinstance(runtime.scheduler.loop, VirtualClockLoop)\n"
    assert outcome(pytester, test, virtual="false")[0] == {"passed": 1}


def test_a_crash_that_nobody_expected_fails_the_test(pytester: pytest.Pytester) -> None:
    found, text = outcome(
        pytester,
        """
async def crash(runtime):
    await start(runtime)
    runtime.name("server").cast(Boom())
    await settled(runtime)

async def test_unexpected(runtime):
    await crash(runtime)

async def test_expected(runtime, expect_crash):
    expect_crash("/app/*", "no such thing")
    await crash(runtime)

async def test_another_was_expected(runtime, expect_crash):
    expect_crash("/app/*", "something else")
    expect_crash("/elsewhere")
    await crash(runtime)
""",
    )
    assert found == {"passed": 3, "errors": 2}
    assert "/app/server crashed: LookupError: no such thing" in text
    assert "say expect_crash('/app/server')" in text


def test_a_failure_shows_the_seed_the_plan_and_the_last_events(pytester: pytest.Pytester) -> None:
    found, text = outcome(
        pytester,
        """
@pytest.mark.chaos(seed=5, mode="unlimited")
async def test_it(runtime, chaos):
    await start(runtime)
    plan = chaos.plan(steps=2, seconds=1)
    await chaos.run(plan)
    assert runtime.whereis("nobody")
""",
        "--chaos-seed=8",
    )
    assert found == {"failed": 1}
    assert "@pytest.mark.chaos(seed=8, mode='unlimited')" in text
    assert """ChaosPlan.of('{"steps":[{"at":""" in text
    assert "RestartScheduled /app#1 id='server'" in text


def test_what_is_left_over_fails_the_test(pytester: pytest.Pytester) -> None:
    found, text = outcome(
        pytester,
        """
import asyncio

async def test_it(runtime):
    global task
    task = asyncio.ensure_future(asyncio.Event().wait())
""",
    )
    assert found["errors"] == 1
    assert "left over: {'tasks': 1}" in text


def test_a_mode_that_there_is_not_is_refused(pytester: pytest.Pytester) -> None:
    test = "@pytest.mark.chaos(mode='wild')\nasync def test_it(runtime):\n    pass\n"
    found, text = outcome(pytester, test)
    assert found == {"errors": 1}
    assert "mode = 'wild': choose one of within_budget, edge, unlimited" in text


def test_a_violation_fails_the_test(pytester: pytest.Pytester) -> None:
    found, text = outcome(
        pytester,
        """
async def test_it(runtime, chaos):
    await start(runtime)
    runtime.events.seq = 1
    chaos._world.log = None
    made = await chaos.begin()
    chaos.begin = lambda: begun(made)
    must_not = exact_order(Expected(type(made.log.tail) and __import__("supervision.events").events.GaveUp))
    made.judge._checks.append(must_not())
    await chaos.run(steps=1)

async def begun(made):
    return made
""",
    )
    assert found == {"failed": 1}
    assert "exact_order: GaveUp * did not come" in text


# -- survives ----------------------------------------------------------------------------------------------------------


class Add(Request[int], frozen=True):
    """A number to be added, under an id."""

    id: int


class Total(Actor):
    """Adds up, and remembers what it has added, unless it is careless."""

    careless = False

    def __init__(self, ledger: dict[int, int]) -> None:
        self.ledger = ledger

    @handle
    async def add(self, request: Add) -> int:
        """Add; write it down before answering."""
        if not self.careless:
            self.ledger[request.id] = 1
        await self.runtime.sleep(0.05)
        self.ledger[request.id] = self.ledger.get(request.id, 0) + (1 if self.careless else 0)
        return request.id


class Careless(Total):
    """Adds twice what is sent again."""

    careless = True

    @handle
    async def add(self, request: Add) -> int:
        """Add before it is sure that the answer will get there."""
        self.ledger[request.id] = self.ledger.get(request.id, 0) + 1
        await self.runtime.sleep(0.05)
        return request.id


def service(kind: type[Total]) -> tuple[object, object]:
    """Return how a service is started and used."""
    ledger: dict[int, int] = {}

    async def start(runtime: Runtime) -> None:
        ledger.clear()
        await runtime.spawn(Supervisor, [ChildSpec("total", kind, (ledger,), name="total")], name="app")

    async def use(runtime: Runtime, chaos: Chaos) -> None:
        client = chaos.client()
        for id in range(100):
            await client.call(runtime.name("total"), Add(id))
        assert set(ledger.values()) == {1}, "something was added twice"

    return start, use


def test_a_right_service_survives_and_a_wrong_one_is_caught_with_the_smallest_plan() -> None:
    start, use = service(Total)
    reports = survives(start, use, seeds=range(3), steps=10, seconds=5)  # type: ignore[arg-type]
    assert all(report.kills > 0 for report in reports)
    start, use = service(Careless)
    with pytest.raises(NotSurvived, match="something was added twice") as caught:
        survives(start, use, seeds=range(9), steps=10, seconds=5)  # type: ignore[arg-type]
    error = caught.value
    assert len(error.plan.steps) == 1
    assert f"plan=ChaosPlan.of({str(error.plan)!r}), seeds=[{error.seed}]" in str(error)
    assert "Exited /app/total" in str(error)
    with pytest.raises(NotSurvived):
        survives(start, use, plan=error.plan, seeds=[error.seed])  # type: ignore[arg-type]


def test_what_fails_by_itself_fails_with_no_faults_at_all() -> None:
    async def start(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("total", Total, ({},))], name="app")

    async def use(runtime: Runtime, chaos: Chaos) -> None:
        raise LookupError("always")

    with pytest.raises(NotSurvived, match="LookupError: always") as caught:
        survives(start, use, seeds=[1], victims=Victims("/app/*"), faults=[Kill(), Crash()])
    assert caught.value.plan == ChaosPlan(seed=1)


def test_a_violation_of_a_check_is_not_survived() -> None:
    async def start(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("total", Total, ({},))], name="app")

    async def use(runtime: Runtime, chaos: Chaos) -> None:
        await runtime.sleep(1)
        ref = next(ref for ref in runtime.actors() if ref.path == "/app/total")
        runtime.events.emit(Started, ref=ref, path=ref.path, kind="Total", name=None)

    with pytest.raises(NotSurvived, match=r"pairing: .* started twice"):
        survives(start, use, plan=ChaosPlan((ChaosStep(0.5, Kill(), "/app/total"),)), seeds=[1])


def test_the_plugin_is_found_by_its_entry_point(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.get_plugin("foundation") is sys.modules["pytest_foundation"]


def test_whoever_needs_a_plugin_that_is_not_there_is_told(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n")
    pytester.makepyfile("def test_it(runtime):\n    pass\n")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio")
    assert "run: pip install 'foundation-otp[testing]'" in result.stdout.str()


def test_virtual_time_with_a_pytest_asyncio_that_is_too_old_for_it_is_refused() -> None:
    old = SimpleNamespace(
        addinivalue_line=lambda *line: None,
        getini=lambda name: True,
        hook=SimpleNamespace(),
        pluginmanager=SimpleNamespace(hasplugin=lambda name: True),
    )
    with pytest.raises(pytest.UsageError, match=r"virtual_clock = true: needs pytest-asyncio 1.4"):
        pytest_configure(old)  # type: ignore[arg-type]


def test_actors_do_not_run_on_other_backends_of_anyio(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def anyio_backend_name():
            return "trio"

        @pytest.mark.anyio
        async def test_it(runtime, anyio_backend):
            pass
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    assert "anyio_backend = 'trio': actors run on asyncio" in result.stdout.str()


def test_actors_run_in_tests_of_anyio(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        service=SERVICE,
        test_it="""
        import pytest
        from service import Ping, start

        @pytest.mark.anyio
        async def test_it(runtime):
            await start(runtime)
            assert await runtime.name("server").call(Ping()) == "pong"
        """,
    )
    assert pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio").ret == 0
