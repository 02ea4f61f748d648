"""The triage desk under ``kill -9``: what it has acknowledged is done once, and what it did in vain is undone."""

from __future__ import annotations

import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

TICKETS, KILLS, SENDERS = 60, 4, 4


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def started(url: str, *command: str) -> Generator[subprocess.Popen[bytes]]:
    """Start a process, wait until it answers, and kill it at the end of the block."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with suppress(httpx.TransportError):
                httpx.get(url)
                break
            pause(process)
        assert process.poll() is None, f"{command} has ended"
        yield process
    finally:
        process.kill()
        process.wait()


def pause(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.05)


class Customers:
    """Send tickets, each again and again until it is acknowledged, and count what was."""

    def __init__(self, url: str) -> None:
        self.acknowledged = 0
        self._url = url
        self._one_more = threading.Condition()
        self._senders = ThreadPoolExecutor(SENDERS)
        self.sent = [self._senders.submit(self._send, f"t{n}") for n in range(TICKETS)]

    def _send(self, ticket: str) -> str:
        body = {"customer": ticket, "text": "I cannot login"}
        while True:
            with suppress(httpx.TransportError):
                answer = httpx.post(self._url, json=body, headers={"idempotency-key": ticket})
                if answer.status_code == 202:
                    break
            with self._one_more:
                self._one_more.wait(0.05)
        with self._one_more:
            self.acknowledged += 1
            self._one_more.notify_all()
        return str(answer.json()["ticket"])

    def wait_for(self, more: int) -> None:
        """Wait until so many more are acknowledged; others are under way then."""
        with self._one_more:
            goal = min(self.acknowledged + more, TICKETS)
            self._one_more.wait_for(lambda: self.acknowledged >= goal)


def judge(ledger: Path) -> tuple[Counter[str], Counter[str]]:
    """Return, by ticket, how often it was told that it is closed, and how many engineers are booked for it."""
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as database:
        told = database.execute("SELECT ticket FROM told WHERE type = 'ticket.closed'").fetchall()
        booked = database.execute("SELECT ticket FROM bookings WHERE state = 'booked'").fetchall()
    return Counter(ticket for (ticket,) in told), Counter(ticket for (ticket,) in booked)


@pytest.mark.once
def test_every_acknowledged_ticket_is_closed_once_however_often_the_desk_is_killed(tmp_path: Path) -> None:
    """The ledger of another process says so: each is told once, and has one engineer; all else was cancelled."""
    chance, ledger = random.Random(27), tmp_path / "ledger.db"
    outside, desk = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    services = ["--port", outside.rpartition(":")[2], "--ledger", str(ledger), "--down", "0.1"]
    options = ["--port", desk.rpartition(":")[2], "--state", str(tmp_path), "--outside", outside, "--visitors", "0"]
    command = (f"{desk}/readyz", "examples.triage_desk", *options)
    with started(outside, "examples.triage_desk.outside", *services):
        customers = None
        for _ in range(KILLS):
            with started(*command):  # which ends with a kill -9
                customers = customers or Customers(f"{desk}/desk/tickets")
                customers.wait_for(chance.randrange(1, 2 * TICKETS // KILLS))
        assert customers is not None
        with started(*command) as process:
            acknowledged = {one.result() for one in customers.sent}
            while (
                judge(ledger)[0].keys() < acknowledged or httpx.get(f"{desk}/desk/tickets", timeout=60.0).json()["open"]
            ):
                pause(process)
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0
    told, booked = judge(ledger)
    once = dict.fromkeys(acknowledged, 1)
    assert len(once) == TICKETS
    assert told == once, "a ticket was lost, or done twice"
    assert booked == once, "a booking was not undone"
