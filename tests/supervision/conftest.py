"""Fixtures of the kernel's tests: virtual time, a runtime that must be left clean, and a recorder of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from supervision import Actor, Call, Propagator, Ref, Runtime
from tests.loop_factories import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
from tests.supervision.probes import Recorder, assert_nothing_left


@pytest.fixture
async def loop_errors() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop's exception handler was told. A test that expects something takes it out of the list."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(None)
    assert told == []


#: The tests of what happens to messages. They hold as well when each message carries a context.
_OF_MESSAGES = {
    "test_become",
    "test_begun",
    "test_call",
    "test_call_when_ready",
    "test_faults",
    "test_ledger",
    "test_mailbox",
    "test_scenarios_actor_messages",
    "test_scenarios_groups",
    "test_scenarios_system",
    "test_scenarios_tasks",
    "test_turns_in_place",
}


class CarryAlways:
    """A propagator that puts something on each message and does nothing with it."""

    def send(self, target: Ref, message: Any, call: Call[Any] | None) -> Any:
        """Put a 1 on it."""
        return 1

    def handle(self, actor: Actor, message: Any, carried: Any, proceed: Callable[[], Any]) -> Any:
        """Go on."""
        assert carried == 1
        return proceed()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of messages with a propagator as well."""
    if metafunc.module.__name__.rpartition(".")[2] in _OF_MESSAGES and "runtime" in metafunc.fixturenames:
        metafunc.parametrize("propagator", [None, CarryAlways()], ids=["", "carrying"], indirect=True)


@pytest.fixture
def propagator(request: pytest.FixtureRequest) -> Propagator | None:
    """The runtime's propagator."""
    propagator: Propagator | None = getattr(request, "param", None)
    return propagator


@pytest.fixture
async def runtime(loop_errors: list[dict[str, Any]], propagator: Propagator | None) -> AsyncIterator[Runtime]:
    """A runtime that must be empty when the test is over."""
    async with Runtime(watchdog=None, reports=False, seed=1, propagator=propagator) as made:
        yield made
    assert_nothing_left(made)


@pytest.fixture
def events(runtime: Runtime) -> Recorder:
    """All events of the runtime."""
    recorder = Recorder()
    runtime.subscribe(recorder)
    return recorder
