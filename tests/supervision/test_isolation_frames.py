"""Isolation, outside of any loop: what travels, what does not, and that no process is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
import threading
import typing
from typing import Any

import pytest

from supervision import Actor, BadChildSpec, BadOption, ChildSpec, Message, Request
from supervision.isolation import NotTransferable, child
from supervision.isolation.frames import answer_type, pack
from tests.supervision.isolated import Point, Points


def test_isolation_has_three_levels() -> None:
    with pytest.raises(BadOption, match="none, thread, process"):
        type("Bad", (Actor,), {"isolation": "planet"})
    with pytest.raises(BadChildSpec, match="none, thread, process"):
        ChildSpec("a", Actor, isolation="planet")  # type: ignore[call-overload]
    with pytest.raises(BadChildSpec, match="for an Actor class"):
        ChildSpec("a", lambda: None, isolation="process")


ORPHANS = """
import asyncio, sys
from supervision import Runtime
from tests.supervision.isolated import Cast, Isolated, Pid

async def main():
    async with Runtime() as runtime:
        quick, stuck = [await runtime.spawn(Isolated) for _ in range(2)]
        print(await quick.call(Pid()), await stuck.call(Pid()), flush=True)
        stuck.cast(Cast("hang"))
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_no_process_is_left_behind_when_the_parent_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ORPHANS)], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    # Its children have the same standard output: it ends when the last of them has.
    assert parent.stdout.read() == ""
    parent.stdout.close()


T = typing.TypeVar("T")


class Kept(Request[threading.Lock], frozen=True):  # type: ignore[type-var]
    """A request for what msgspec knows nothing of."""


class Generic(Request[T], typing.Generic[T], frozen=True):
    """A request of any type."""


class Inherited(Points, frozen=True):
    """A request that inherits the type of its answer."""


def test_the_type_of_an_answer_is_what_the_request_says() -> None:
    assert answer_type(Points(1)) == list[Point]
    assert answer_type(Inherited(1)) == list[Point]
    assert answer_type(Kept()) in (Any, threading.Lock)  # which is a class from Python 3.13 on
    assert answer_type(Generic()) is Any
    assert answer_type(Point(1)) is Any


def test_what_cannot_be_packed_says_why() -> None:
    with pytest.raises(NotTransferable, match="serialize ints"):
        pack(2**100)

    class Inner(Message, frozen=True):
        pass

    with pytest.raises(NotTransferable, match="Inner was made in a function; put it at the top level"):
        pack(Inner())


async def test_the_child_notices_that_its_parent_is_gone() -> None:
    ours, theirs = socket.socketpair()
    gone = threading.Event()
    with theirs:
        child.Connection(theirs, gone.set)
        ours.sendall(b"\x00\x00")
        ours.close()
        assert await asyncio.get_running_loop().run_in_executor(None, gone.wait, 10)


def test_a_child_without_a_parent_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    child.orphaned()
    assert ended == [child.ORPHANED]
