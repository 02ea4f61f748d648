"""The service manager is told when the tree is up, when it stops, and all the time that its loop moves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from foundation.run.systemd import ServiceManager, watchdog_period
from supervision import Runtime
from supervision.testing import advance


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as systemd has one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


@pytest.fixture
async def runtime() -> Any:
    """A runtime on virtual time."""
    async with Runtime(watchdog=None, reports=False) as made:
        yield made


def told(manager: socket.socket) -> list[bytes]:
    """Return what has been told so far."""
    said = []
    manager.setblocking(False)
    try:
        while True:
            said.append(manager.recv(100))
    except BlockingIOError:
        return said


async def test_it_is_told_by_a_datagram(manager: socket.socket, runtime: Runtime, tmp_path: Path) -> None:
    assert ServiceManager(runtime, {"NOTIFY_SOCKET": str(tmp_path / "notify")}).tell("READY=1")
    assert manager.recv(100) == b"READY=1"


async def test_abstract_names_are_known(runtime: Runtime) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0foundation-{os.getpid()}")
        assert ServiceManager(runtime, {"NOTIFY_SOCKET": f"@foundation-{os.getpid()}"}).tell("READY=1")
        assert listening.recv(100) == b"READY=1"


async def test_nobody_is_told_where_nobody_wants_to_know(runtime: Runtime, tmp_path: Path) -> None:
    assert not ServiceManager(runtime, {}).tell("READY=1")
    with capture_logs() as entries:
        assert not ServiceManager(runtime, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell("READY=1")
    assert [entry["event"] for entry in entries] == ["service_manager_not_told"]


async def test_one_that_does_not_read_is_not_waited_for_and_told_later(
    manager: socket.socket, runtime: Runtime, tmp_path: Path
) -> None:
    told_of = ServiceManager(runtime, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
    while told_of.tell("STATUS=busy", again=False):
        pass
    assert not told_of.tell("READY=1")
    await advance(5.3)
    assert set(told(manager)) == {b"STATUS=busy"}
    await advance(0.15)
    assert told(manager) == [b"READY=1"]


BEATING = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("more", "beats"),
    [
        (BEATING, 10),
        ({"WATCHDOG_USEC": "2000000"}, 10),
        ({**BEATING, "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "often"}, 0),
        ({}, 0),
    ],
)
async def test_a_watchdog_gets_a_sign_of_life_twice_in_its_time(
    manager: socket.socket, runtime: Runtime, tmp_path: Path, more: Mapping[str, str], beats: int
) -> None:
    ServiceManager(runtime, {"NOTIFY_SOCKET": str(tmp_path / "notify"), **more})
    await advance(10.5)
    assert told(manager) == [b"WATCHDOG=1"] * beats


async def test_without_a_socket_there_are_no_signs_of_life(runtime: Runtime) -> None:
    ServiceManager(runtime, BEATING)
    assert runtime.statistics().timers == 0
    assert watchdog_period(BEATING) == 2.0


BLOCKED = """
id = "t"
[[children]]
id = "blocks"
start = "tests.foundation.stuck:BlocksWhenTold"
args = ["{file}"]
"""


def test_the_command_tells_it_that_it_is_ready_moves_and_stops_and_nothing_while_it_does_not_move(
    manager: socket.socket, tmp_path: Path
) -> None:
    tree, order = tmp_path / "tree.toml", tmp_path / "order"
    tree.write_text(BLOCKED.format(file=order))
    os.mkfifo(order)
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    command = [sys.executable, "-m", "foundation.run", str(tree)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        said = [manager.recv(100) for _ in range(5)]
        assert said.count(b"READY=1") == 1
        assert set(said) == {b"READY=1", b"WATCHDOG=1"}
        with order.open("w") as blocking:  # it reads this, and its loop stands still until it has
            blocking.write("stand still")
            blocking.flush()
            told(manager)
            manager.settimeout(0.5)
            try:
                late = manager.recv(100)  # one may have been on its way
                assert late == b"WATCHDOG=1"
                manager.recv(100)
                raise AssertionError("it moves")
            except TimeoutError:
                pass
        manager.settimeout(30)
        assert manager.recv(100) == b"WATCHDOG=1"
        running.send_signal(signal.SIGTERM)
        while (said_last := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert said_last == b"STOPPING=1"
        assert running.wait(30) == 0
