"""The pytest plugin: a runtime for each test, chaos, virtual time. It is found by pytest as soon as this is installed.

Fixtures: ``runtime``, ``chaos``, ``virtual_clock``, ``expect_crash``, ``event_log``. Markers: ``chaos(seed=…, mode=…)``
and ``real_clock``. With ``virtual_clock = true`` in the settings of pytest, the loops of all asynchronous tests have
virtual time, but for those marked ``real_clock``. Works with pytest-asyncio, in both of its modes, and with the plugin
of anyio. ``pip install 'foundation-otp[testing]'`` brings what it needs.

It stands outside of the packages and imports nothing of them before a test uses one of its fixtures, because pytest
loads it in every environment that has this distribution, also for tests that have nothing to do with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

import pytest

if TYPE_CHECKING:
    from supervision import Runtime
    from supervision.testing import EventLog
    from supervision.testing.world import ChaosFixture, World

_INSTALL = "pip install 'foundation-otp[testing]'"

_WORLD = pytest.StashKey["World"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings."""
    parser.addini("virtual_clock", "virtual time for asynchronous tests", type="bool", default=False)
    group = parser.getgroup("supervision")
    group.addoption("--chaos-seed", type=int, default=None, help="the seed for all tests that use chaos or a runtime")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and give loops virtual time if the settings say so."""
    config.addinivalue_line("markers", "chaos(seed=0, mode='within_budget'): the seed and the mode of a chaos test")
    config.addinivalue_line("markers", "real_clock: real time, where virtual time is the rule")
    if config.getini("virtual_clock"):
        if config.pluginmanager.hasplugin("asyncio") and not hasattr(config.hook, "pytest_asyncio_loop_factories"):
            raise pytest.UsageError(f"virtual_clock = true: needs pytest-asyncio 1.4 or newer; run: {_INSTALL}")
        config.pluginmanager.register(VirtualClocks(), "foundation-virtual-clocks")


class VirtualClocks:
    """Chooses the loops of asynchronous tests."""

    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_asyncio_loop_factories(self, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
        """Return loops with virtual time, unless the test is marked."""
        if item.get_closest_marker("real_clock") is not None:
            return {"real": asyncio.new_event_loop}
        from supervision.testing import VirtualClockLoop

        return {"virtual": VirtualClockLoop}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show seed, plans and the last events when a test has failed."""
    report = yield
    world = item.stash.get(_WORLD, None)
    if report.failed and world is not None:
        report.sections.extend(world.sections())
    return report


@pytest.fixture
def chaos_world(request: pytest.FixtureRequest) -> World:
    """The seed and the mode of this test, and what belongs to it."""
    from foundation.installation import require_own

    require_own("supervision")
    from supervision.testing.fault_injection.plan import Mode
    from supervision.testing.world import World

    marker = request.node.get_closest_marker("chaos")
    given = {} if marker is None else marker.kwargs
    seed = request.config.getoption("--chaos-seed")
    world = World(given.get("seed", 0) if seed is None else seed, given.get("mode", "within_budget"))
    if world.mode not in get_args(Mode):
        raise pytest.UsageError(f"chaos: mode = {world.mode!r}: choose one of {', '.join(get_args(Mode))}")
    request.node.stash[_WORLD] = world
    return world


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """A runtime of this test's own, in a seeded schedule.

    When the test is over, it is closed; the test fails if anything of it is left, or if an actor crashed and nobody
    expected that (see ``expect_crash``).
    """
    made: Runtime = request.getfixturevalue(_runtime_fixture(request))
    return made


def _runtime_fixture(request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that runs in the same loop as the test."""
    if "anyio_backend" in request.fixturenames:
        return "_runtime_of_anyio"
    if request.config.pluginmanager.hasplugin("asyncio"):
        return "_runtime_of_asyncio"
    raise pytest.UsageError(
        f"the fixture 'runtime' needs a plugin that runs asynchronous tests; run: {_INSTALL}, "
        "or mark the test with @pytest.mark.anyio"
    )


@pytest.fixture
async def _runtime_of_anyio(anyio_backend_name: str, chaos_world: World) -> AsyncIterator[Runtime]:
    if anyio_backend_name != "asyncio":
        raise pytest.UsageError(
            f"anyio_backend = {anyio_backend_name!r}: actors run on asyncio; "
            "have a fixture 'anyio_backend' that returns 'asyncio'"
        )
    async with chaos_world.runtime() as made:
        yield made


try:
    import pytest_asyncio
except ImportError:  # then 'runtime' says what to install
    pass
else:

    @pytest_asyncio.fixture
    async def _runtime_of_asyncio(chaos_world: World) -> AsyncIterator[Runtime]:
        async with chaos_world.runtime() as made:
            yield made


@pytest.fixture
def event_log(runtime: Runtime, chaos_world: World) -> EventLog:
    """All events of the runtime."""
    log = chaos_world.log
    assert log is not None
    assert log.runtime is runtime
    return log


@pytest.fixture
def expect_crash(chaos_world: World) -> Callable[..., None]:
    """A function that says which crashes are fine: ``expect_crash(path="*", reason="")``.

    The path is a pattern, the reason a part of what the crash says.
    """
    return chaos_world.expect


@pytest.fixture
def chaos(runtime: Runtime, chaos_world: World) -> Iterator[ChaosFixture]:
    """Chaos on the runtime of this test: ``await chaos.run(steps=50, seconds=60)``."""
    from supervision.testing.world import ChaosFixture

    made = ChaosFixture(runtime, chaos_world)
    yield made
    made.heal()


@pytest.fixture
def virtual_clock() -> Callable[[float], Awaitable[None]]:
    """`advance`: lets virtual time pass. The loop must have virtual time: ``virtual_clock = true`` in the settings."""
    from supervision.testing import advance

    return advance
