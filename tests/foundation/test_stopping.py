"""The process ends: in order, at the second signal at once, and within its limit whatever is stuck. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from foundation.run import stopping
from foundation.run.serve import TreeRun
from foundation.run.stopping import ExitDeadline, StopSignals, deliver_once, end_at_once, stuck
from foundation.tree import load_tree

TREE = """
id = "t"
max_restarts = 1000000
[[children]]
id = "a"
start = "tests.foundation.stuck:{kind}"
"""


class Running:
    """The command with a tree of one actor."""

    def __init__(self, folder: Path, kind: str, *arguments: str, **more: Any) -> None:
        tree = folder / f"{kind}.toml"
        tree.write_text(TREE.format(kind=kind))
        command = [sys.executable, "-m", "foundation.run", str(tree), *arguments]
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        self.process = subprocess.Popen(command, **more)

    def until(self, line: bytes) -> None:
        """Read what it tells until there is a line."""
        assert self.process.stdout is not None
        for told in self.process.stdout:
            if line in told:
                return
        raise AssertionError(f"it ended without {line!r}")

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return the status and what it told of errors."""
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, (errors or b"").decode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start commands; those that still run are killed afterwards."""
    running: list[Running] = []

    def started(kind: str, *arguments: str, **more: Any) -> Running:
        running.append(Running(tmp_path, kind, *arguments, **more))
        return running[-1]

    yield started
    for one in running:
        one.process.kill()
        one.process.communicate()


def test_an_actor_that_never_ends_is_named_and_the_process_ends_all_the_same(start: Any) -> None:
    running = start("Stubborn", "--shutdown-timeout", "5")
    running.until(b"up after")
    running.process.send_signal(signal.SIGTERM)
    status, errors = running.ended()
    assert status == 1
    assert "zombie actor=/t/a kind=Stubborn" in errors
    last = "foundation: the tree has stopped; what would not end, and is ended by force: /t/a"
    assert errors.splitlines()[-1] == last


@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_second_signal_ends_a_process_that_takes_its_time(start: Any, number: signal.Signals, loop: str) -> None:
    running = start("Slow", loop)
    running.until(b"up after")
    running.process.send_signal(signal.SIGTERM)
    running.until(b"SIGTERM: stopping, within 30 s")
    running.process.send_signal(number)
    assert running.ended() == (-number, "")


@pytest.mark.parametrize("kind", ["Waits", "Computes"])
def test_the_second_signal_ends_a_process_whose_loop_stands_still(start: Any, kind: str) -> None:
    """Also one that computes in C, in which no handler of Python's runs."""
    running = start(kind)
    running.until(b"blocks")
    while running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)  # two that the kernel does not take for one
        os.sched_yield()
    assert running.process.returncode == -signal.SIGTERM


def test_the_second_signal_ends_a_process_that_nobody_reads(start: Any) -> None:
    reading, writing = os.pipe()
    running = start("Storm", stdout=writing, stderr=writing)
    while not _is_full(writing):
        os.sched_yield()
    for _ in range(2):
        running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) in (0, -signal.SIGTERM)
    os.close(reading)
    os.close(writing)


def _is_full(file: int) -> bool:
    import select

    return not select.select([], [file], [], 0)[1]


STUCK = {
    "Waits": "the main thread is at ",
    "BlocksThread": "the thread blocked-thread",
    "BlocksExecutor": "the thread asyncio_0",
    "BlocksAtExit": "the main thread is at ",
}


def test_one_signal_ends_a_process_within_its_limit_whatever_is_stuck_and_it_is_named(start: Any) -> None:
    running = {kind: start(kind, "--shutdown-timeout", "0.5", "--no-uvloop") for kind in STUCK}
    for kind, one in running.items():
        one.until(b"blocks" if kind == "Waits" else b"up after")
        one.process.send_signal(signal.SIGTERM)
    for kind, one in running.items():
        status, errors = one.ended()
        assert status == 1, kind
        last = errors.splitlines()[-1]
        assert last.startswith("foundation: not ended within 5.5 s, and ended by force; in the way: "), kind
        assert STUCK[kind] in last
        assert ("/t/a" in last) == (kind == "Waits")


def test_what_a_stop_waits_for_is_told_all_the_time(start: Any) -> None:
    running = start("Slow", "--shutdown-timeout", "6")
    running.until(b"up after")
    running.process.send_signal(signal.SIGTERM)
    running.until(b"still stopping; waits for /t/a\n")
    status, errors = running.ended()
    assert (status, errors.splitlines()[-1]) == (1, "foundation: not stopped within 6 s; ended by force: /t, /t/a")


def test_a_process_that_is_not_to_be_hung_up_is_not(start: Any) -> None:
    """``nohup`` has SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = start("Slow", "--shutdown-timeout", "0")
    finally:
        signal.signal(signal.SIGHUP, before)
    running.until(b"up after")
    running.process.send_signal(signal.SIGHUP)
    running.process.send_signal(signal.SIGTERM)
    running.until(b"SIGTERM: stopping")
    running.process.send_signal(signal.SIGHUP)
    assert running.ended()[0] == 1


# -- the parts ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signal handlers, which are as before afterwards."""
    before = {number: signal.getsignal(number) for number in stopping.HANDLED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_a_signal_before_the_loop_listens_or_after_it_is_closed_is_not_lost(handlers: None) -> None:
    heard = StopSignals()
    heard.receive(signal.SIGTERM)
    assert not heard.stop.is_set()
    heard.listen()
    assert heard.stop.is_set()
    late = StopSignals()
    late._loop = SimpleNamespace(call_soon_threadsafe=_closed)  # type: ignore[assignment]
    late.receive(signal.SIGINT)
    assert late.name == "SIGINT"


def _closed(*_: object) -> None:
    raise RuntimeError("Event loop is closed")


def test_the_first_process_of_a_container_ends_itself(handlers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would ignore a signal without a handler there."""
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    for number in stopping.HANDLED:  # also if this run ignores one, in the background of a shell
        signal.signal(number, signal.SIG_DFL)
    end_at_once(1)
    for number in stopping.HANDLED:
        os.kill(os.getpid(), number)
    assert left == [128 + number for number in stopping.HANDLED]


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(signal=lambda: None)])
def test_a_c_library_that_cannot_forget_a_handler_is_left_alone(library: Any) -> None:
    assert not deliver_once(signal.SIGTERM, library)


def test_an_ending_that_is_begun_twice_is_counted_once_and_one_that_is_cancelled_is_none() -> None:
    left: SimpleQueue[int] = SimpleQueue()
    told: list[str] = []
    ending = ExitDeadline(left.put)
    ending.limit = 0.01
    ending.tell = lambda: told.append("stuck")
    ending.begin()
    ending.begin()
    assert left.get(timeout=30) == 1
    assert told == ["stuck"]
    other = ExitDeadline(left.put)
    other.begin()
    other.cancel()
    unused = ExitDeadline(left.put)
    unused.cancel()
    assert left.empty()


def test_telling_what_is_stuck_may_get_stuck_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("foundation.run.stopping.TELLING", 0.01)
    left: SimpleQueue[int] = SimpleQueue()
    ending, never = ExitDeadline(left.put), threading.Event()
    ending.limit = 0.0
    ending.tell = lambda: never.wait(60)
    ending.begin()
    assert left.get(timeout=30) == 1
    never.set()


def test_what_is_stuck_is_told_with_its_place() -> None:
    assert __file__ in stuck() or "stopping.py" in stuck()


async def test_what_has_not_ended_can_be_asked_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a runtime that has not begun, and by a thread that looks while the loop changes everything."""
    service = TreeRun(load_tree([]), None, StopSignals(), 1.0)  # type: ignore[arg-type]
    assert service.unended() == ()
