"""The campaign of the suite ``crash`` over agents: a service that takes orders is killed at random points under load.

Four processes: the service; the receiver of its effects, which has a ledger of its own; the load, which notes what it
was told; and the judge, who kills the service, and now and then the receiver, and in the end lets the service finish
and compares the ledger with what the load was told. Kills meet the service in its start, in its work, and while it is
being stopped in order.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, sleep

import msgspec

from bench.crash_desk import PARCEL_EVERY, Message, Report, Service
from bench.crash_world import Acknowledged, Done, Load, lines, receive

#: So many kills are between two looks at the ledger; then all begins anew, in other files.
KILLS_PER_WORLD = 50
#: Seconds that a service lives after its first words, on the average; and those in which it has to end all in the end.
LIFE, DRAIN = 0.08, 60.0
#: In so many rounds a receiver is killed, a service is killed in its start, or while it is stopped in order.
RECEIVER, START, STOP = 0.05, 0.25, 0.1
#: How often the receiver is out of order.
TROUBLE = 0.005
#: What an order has to bring about at the receiver.
EFFECTS = ("booked", "announced", "ship", "shipped")


class Tally(Counter[str]):
    """What was found so far."""

    #: What there must be none of.
    FAULTS = (
        "lost",
        "done_twice",
        "timers_lost",
        "timers_early",
        "unbalanced",
        "refused_done",
        "out_of_order",
        "dead",
        "stuck",
    )

    @property
    def failed(self) -> bool:
        """Whether anything was found that should not be."""
        return any(self[name] for name in self.FAULTS)


class World:
    """One file of a service, with all who are there beside it.

    Args:
        folder: for all files.
        draw: what happens.
        sync: of the file.
        told: where the log of the processes goes.
    """

    def __init__(self, folder: Path, draw: random.Random, sync: str) -> None:
        folder.mkdir()
        self.folder = folder
        self._draw = draw
        self._sync = sync
        self._journal = draw.random() < 0.5
        self._uvloop = draw.random() < 0.5
        self._log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._http = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._orders = socket.socket(socket.AF_UNIX)
        self._orders.bind(str(folder / "orders"))
        self._orders.listen(128)
        self.receiver = self._start_receiver()
        load = Load(folder / "orders", folder / "notes", draw.getrandbits(32))
        self.load: int | None = self._fork(lambda: _until_told(load.run))

    def _fork(self, work: Callable[[], Awaitable[None]], tell: int | None = None) -> int:
        child = os.fork()
        if child:
            return child
        try:
            os.setpgid(0, 0)
            _end_with_parent()
            os.dup2(self._log, 1)
            os.dup2(self._log, 2)
            if self._uvloop:
                import uvloop

                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(work())  # type: ignore[arg-type]
            else:
                asyncio.run(work())  # type: ignore[arg-type]
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _start_receiver(self) -> int:
        seed = self._draw.getrandbits(32)
        return self._fork(lambda: receive(self.folder / "ledger", self._http, seed, TROUBLE))

    def kill_receiver(self) -> None:
        """Kill the receiver of effects, and start another one."""
        _killed(self.receiver)
        self.receiver = self._start_receiver()

    def start(self) -> int:
        """Start the service; return its process."""
        url = f"http://127.0.0.1:{self._http.getsockname()[1]}/"
        service = Service(self.folder / "desks.db", url, self._sync, journal=self._journal)
        return self._fork(lambda: _until_told(lambda stopping: service.run(self._orders, stopping)))

    def ask(self, timeout: float) -> Report | None:
        """Ask the service how it is; None if it does not say."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(timeout)
            try:
                asking.connect(str(self.folder / "orders"))
                asking.sendall(msgspec.json.encode(Message()) + b"\n")
                data = b""
                while not data.endswith(b"\n"):
                    more = asking.recv(65536)
                    if not more:
                        return None
                    data += more
            except OSError:
                return None
        return msgspec.json.decode(data, type=Report)

    def notes(self) -> int:
        """Return how much the load was told."""
        path = self.folder / "notes"
        return path.stat().st_size if path.exists() else 0

    def close(self) -> None:
        """End all that is there."""
        for process in (self.load, self.receiver):
            if process is not None:
                _killed(process)
        self._http.close()
        self._orders.close()
        os.close(self._log)


async def _until_told(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run something until the process gets SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await work(stopping)


def _end_with_parent() -> None:
    """Have this process killed when its parent ends, however that happens; where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _killed(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


class AgentCampaign:
    """Kills services, and judges what they leave.

    Args:
        seed: of what happens.
        kills: how many.
        sync: of the files.
    """

    def __init__(self, seed: int, kills: int, sync: str) -> None:
        self._draw = random.Random(seed)
        self._kills = kills
        self._sync = sync
        self.found = Tally()

    def run(self) -> None:
        """Run it."""
        began = perf_counter()
        while self.found["kills"] < self._kills:
            folder = Path(tempfile.mkdtemp(prefix="crash-agents-"))
            world = World(folder / "world", self._draw, self._sync)
            try:
                faulty = self._world(world, began)
            finally:
                world.close()
            if faulty:
                print(f"\na fault: see {folder}", file=sys.stderr)
            else:
                shutil.rmtree(folder)

    def _world(self, world: World, began: float) -> bool:
        """Kill a service again and again, let it finish, and judge; return whether a fault was found."""
        for _ in range(min(KILLS_PER_WORLD, self._kills - self.found["kills"])):
            self._round(world)
            done = self.found["kills"]
            if not sys.stderr.isatty() and done % 50:
                continue
            left = (perf_counter() - began) / done * (self._kills - done)
            faults = {name: self.found[name] for name in self.found.FAULTS if self.found[name]} or "no fault"
            line = f"{done}/{self._kills} kills, {self.found['acknowledged']} acknowledged, {faults}, {left:.0f} s left"
            print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
        report = self._drained(world)
        faults = judge(world, report)
        self.found.update(faults)
        return any(faults[name] for name in self.found.FAULTS)

    def _round(self, world: World) -> None:
        """Start the service, and kill it."""
        draw = self._draw
        told, process = world.notes(), world.start()
        chance = draw.random()
        if chance < START:
            sleep(draw.uniform(0.0, 0.3))
        else:
            until = perf_counter() + 10.0
            while world.notes() == told and perf_counter() < until:
                sleep(0.002)
            sleep(draw.expovariate(1 / LIFE))
            if chance < START + STOP:
                os.kill(process, signal.SIGTERM)
                sleep(draw.uniform(0.0, 0.05))
        if draw.random() < RECEIVER:
            world.kill_receiver()
            self.found["receiver_kills"] += 1
            sleep(draw.uniform(0.0, 0.05))
        _killed(process)
        self.found["kills"] += 1

    def _drained(self, world: World) -> Report | None:
        """Let the service finish; return how it is then."""
        process, until = world.start(), perf_counter() + DRAIN
        assert world.load is not None
        os.kill(world.load, signal.SIGTERM)
        quiet = 0
        report = None
        while perf_counter() < until and quiet < 2:
            sleep(0.05)
            if world.load is not None and os.waitpid(world.load, os.WNOHANG)[0]:
                world.load = None
            report = world.ask(5.0) or report
            ended = world.load is None and report is not None and not any(report.open.values())
            quiet = quiet + 1 if ended else 0
        _killed(process)
        return report


def judge(world: World, report: Report | None) -> Tally:
    """Compare what the load was told with what the receiver has done."""
    told: list[Acknowledged] = lines(world.folder / "notes", Acknowledged)
    ledger: list[Done] = lines(world.folder / "ledger", Done)
    taken = [one for one in ledger if not one.again]
    known = [one for one in told if one.outcome in ("known", "twice")]
    found = Tally(acknowledged=len(told) - len(known), asked_again=len(known))
    found.update(effects=len(taken), redelivered=len(ledger) - len(taken))
    found["done_twice"] += sum(one.outcome == "twice" for one in told)
    committed = {(one.desk, one.n) for one in told if one.outcome in ("ok", "again")}
    refused = {(one.desk, one.n) for one in told if one.outcome == "refused"}
    tokens: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for one in taken:
        of = (one.data["desk"], one.data["n"], *((one.data["run"],) if one.kind in STEPS else ()))
        tokens.setdefault(one.kind, {}).setdefault(of, []).append(one.token)
    done = {kind: set(orders) for kind, orders in tokens.items()}
    parcels = {(desk, n) for desk, n in committed if n % PARCEL_EVERY == 0}
    for kind, wanted in (*((kind, committed) for kind in EFFECTS), ("parcel", parcels)):
        found["lost"] += len(wanted - done.get(kind, set()))
        found["refused_done"] += len(refused & done.get(kind, set()))
    found["timers_lost"] += len(committed - done.get("remind", set()))
    found["timers_early"] += sum(one.kind == "remind" and one.data["early"] for one in taken)
    found["done_twice"] += sum(len(one) - 1 for orders in tokens.values() for one in orders.values())
    _judge_steps(taken, done, found)
    _judge_report(report, committed, found)
    return found


#: What can be undone, and what undoes it.
STEPS = {"reserve": "unreserve", "charge": "uncharge", "unreserve": "reserve", "uncharge": "charge"}


def _judge_steps(taken: list[Done], done: dict[str, set[tuple[int, ...]]], found: Tally) -> None:
    """Look whether each step was either committed or undone; and whether orders were told in their order."""
    last: dict[int, int] = {}
    runs = set()
    for one in taken:
        if one.kind == "booked":
            desk, count = one.data["desk"], one.data["count"]
            found["out_of_order"] += count <= last.get(desk, 0)
            last[desk] = max(count, last.get(desk, 0))
            runs.add((desk, one.data["n"], one.data["run"]))
    for step in ("reserve", "charge"):
        begun, undone = done.get(step, set()), done.get(STEPS[step], set())
        found["unbalanced"] += len(begun - runs - undone) + len(runs & undone) + len(runs - begun)
        found["undone"] += len(begun & undone)


def _judge_report(report: Report | None, committed: set[tuple[int, int]], found: Tally) -> None:
    """Look at what the service says of itself."""
    if report is None or any(report.open.values()):
        found["stuck"] += 1
        print(f"\nstuck: {report}", file=sys.stderr)
    if report is None:
        return
    found["dead"] += report.dead
    found["out_of_order"] += report.mistakes
    orders = Counter(str(desk) for desk, _ in committed)
    for desk, wanted in orders.items():
        for there in (report.orders, report.tally, report.audit):
            found["lost"] += max(0, wanted - there.get(desk, 0))
            found["done_twice"] += max(0, there.get(desk, 0) - wanted)


def main(seed: int, kills: int, *, as_json: bool, sync: str) -> int:
    """Run the campaign, and print its figures."""
    campaign = AgentCampaign(seed, kills, sync)
    began = perf_counter()
    campaign.run()
    took = perf_counter() - began
    print(f"\r{'':<79}\r", end="", file=sys.stderr)
    found = campaign.found
    figures = {name: {"value": found[name], "unit": unit} for name, unit in UNITS.items()}
    figures["kills_per_s"] = {"value": kills / took, "unit": "kills/s"}
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        for name, figure in figures.items():
            print(f"{name:<16}{figure['value']:>12,.6g} {figure['unit']}")
    return 1 if found.failed else 0


#: What is counted. All but the first ones there must be none of.
UNITS = {
    "kills": "kills of the service",
    "receiver_kills": "kills of the receiver of effects",
    "acknowledged": "orders that were answered",
    "asked_again": "orders that were asked for again after the answer",
    "effects": "effects at the receiver",
    "redelivered": "effects that came again, and were known by their token",
    "undone": "steps that were undone",
    "lost": "effects of orders that were acknowledged, and never came",
    "done_twice": "effects that came under two tokens, or were counted twice",
    "timers_lost": "timers that never came",
    "timers_early": "timers that came early",
    "unbalanced": "steps that were neither committed nor undone, or both",
    "refused_done": "effects of orders that were refused",
    "out_of_order": "signals that came out of their order",
    "dead": "signals and effects that were given up",
    "stuck": "services that did not come to an end",
}
