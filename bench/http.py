"""Suite ``http``: a trivial program behind the front beside a bare Starlette endpoint, under load, and under kills.

Both are served by uvicorn in processes of their own, on the same event loop and with the same parser, in turn. The
client is ``wrk`` where it is installed.
"""

from __future__ import annotations

import asyncio
import re
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from time import perf_counter

import psutil  # type: ignore[import-untyped]

from bench.figure import Figure
from bench.http_client import Load, load

#: The tree whose program is asked, and what it is asked.
COUNTERS = Path("examples/counters.toml")
COUNT, BODY = "/programs/count", '{"n": 1}'
#: How often the two are measured in turn, and for how many seconds each.
ROUNDS, SECONDS = 5, 2.0
#: Seconds between two kills.
PERIOD = 0.1
#: How many actors a crowd is, and how often its health is asked for.
CROWD, LOOKS = 100_000, 200
#: What the small machine is asked, and how many requests at a time.
SENTIMENT, TEXT, CLIENTS = "/programs/sentiment", '{"text": "The staff were kind and the food was good."}', 64

_URL = re.compile(rb"http://[^\s]+:(\d+)")


def _loop() -> str:
    """Return which event loop is measured."""
    return "uvloop" if "uvloop" in type(asyncio.get_running_loop()).__module__ else "asyncio"


class Server:
    """A server in a process of its own, and all that belongs to it.

    Args:
        process: the process.
        url: where it serves.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self._seen = psutil.Process(process.pid)

    def memory(self) -> float:
        """Return the resident memory of the process and its children, in MB."""
        everybody = [self._seen, *self._seen.children(recursive=True)]
        return float(sum(one.memory_info().rss for one in everybody)) / 2**20

    def processor(self) -> float:
        """Return the seconds of the processor that the process has used."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return int(self._seen.num_fds())


@asynccontextmanager
async def _running(*command: str) -> AsyncGenerator[Server]:
    """Run a command that prints where it serves."""
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        draining: asyncio.Future[None] | None = None
        try:
            line = b""
            while (found := _URL.search(line)) is None:
                line = await process.stdout.readline()
                if not line:
                    errors.seek(0)
                    raise RuntimeError(f"{' '.join(command)} has ended: {errors.read().decode()[-2000:]}")
            draining = asyncio.ensure_future(_read_all(process.stdout))
            yield Server(process, f"http://127.0.0.1:{found[1].decode()}")
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()
            if draining is not None:
                draining.cancel()


async def _read_all(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


@asynccontextmanager
async def front(tree: str | None = None, before: Iterable[str] = ()) -> AsyncGenerator[Server]:
    """Run a tree with a front.

    Args:
        tree: its text; that of the counters if None.
        before: put before the command.
    """
    with tempfile.TemporaryDirectory() as state:
        path = Path(state) / "tree.toml"
        path.write_text(_counters() if tree is None else tree)
        loop = "--uvloop" if _loop() == "uvloop" else "--no-uvloop"
        options = ["--port", "0", "--state", f"{state}/state", loop]
        async with _running(*before, sys.executable, "-m", "foundation.run", str(path), *options) as server:
            yield server


@asynccontextmanager
async def bare() -> AsyncGenerator[Server]:
    """Run the bare endpoint."""
    async with _running(sys.executable, "-m", "bench.http_server", _loop()) as server:
        yield server


# -- figures -----------------------------------------------------------------------------------------------------------


async def _beside(connections: int) -> Figure:
    """Measure both in turn. ``cpu_ratio`` compares the time of the processor, which others on it change less."""
    async with front() as ours, bare() as raw:
        pairs: list[tuple[Load, Load]] = []
        costs: list[float] = []
        for _ in range(ROUNDS + 1):
            limit, cheap = await _costed(raw, "/", connections)
            own, dear = await _costed(ours, COUNT, connections)
            pairs.append((limit, own))
            costs.append(cheap / dear)
    del pairs[0], costs[0]
    shares = [each.share for pair in pairs for each in pair]
    return Figure(
        value=statistics.median(own.rate for _, own in pairs),
        unit="requests/s",
        limit=statistics.median(limit.rate for limit, _ in pairs),
        ratio=statistics.median(own.rate / limit.rate for limit, own in pairs),
        reach=0.55,
        better="higher",
        more={
            "ok": min(shares),
            "cpu_ratio": statistics.median(costs),
            "p50_s": statistics.median(own.p50 for _, own in pairs),
            "p99_s": statistics.median(own.p99 for _, own in pairs),
        },
    )


async def _costed(server: Server, path: str, connections: int) -> tuple[Load, float]:
    """Return what came of load, and the seconds of the processor that each request took the server."""
    before = server.processor()
    found = await load(f"{server.url}{path}", connections, SECONDS, BODY)
    return found, (server.processor() - before) / max(1, found.answers)


async def at_64() -> Figure:
    """Requests a second with 64 connections."""
    return await _beside(64)


async def at_512() -> Figure:
    """Requests a second with 512 connections."""
    return await _beside(512)


def _counters() -> str:
    return COUNTERS.read_text()


def _killed_tree() -> str:
    """Return the tree of the counters with somebody who kills the program, and supervisors that bear it."""
    text = _counters()
    bearing = "max_restarts = 1000000\nmax_seconds = 1.0\n"
    text = text.replace("max_restarts = 10\nmax_seconds = 5.0\n", bearing)
    text = text.replace('strategy = "rest_for_one"\n', f'strategy = "rest_for_one"\n{bearing}')
    killer = f'start = "bench.http_server:Killer"\nargs = ["program:count", {PERIOD}]\n'
    return f'{text}\n[[children]]\nid = "killer"\n{killer}'


async def _killed(connections: int) -> Figure:
    async with front(_killed_tree()) as server:
        found = await load(f"{server.url}{COUNT}", connections, 3 * SECONDS, BODY)
    more = {"requests_per_s": found.rate, "p99_s": found.p99}
    return Figure(
        value=found.share, unit="share of 200s", limit=1.0, ratio=found.share, reach=0.97, better="higher", more=more
    )


async def killed_at_64() -> Figure:
    """The share of 200s with 64 connections while the program's actor is killed ten times a second."""
    return await _killed(64)


async def killed_at_512() -> Figure:
    """The same with 512 connections."""
    return await _killed(512)


async def _grown(measure: Callable[[Server], float], unit: str, reach: float) -> Figure:
    """Measure something before and after load, and when all connections have gone; what a first load needs is not
    counted."""
    async with front() as server:
        for _ in range(2):
            await load(f"{server.url}{COUNT}", 512, SECONDS, BODY)
            await asyncio.sleep(1.0)
        before = measure(server)
        for _ in range(3):
            await load(f"{server.url}{COUNT}", 512, SECONDS, BODY)
            await asyncio.sleep(1.0)
        after = measure(server)
    grown = after - before
    return Figure(value=grown, unit=unit, limit=before, ratio=grown, reach=reach, better="lower", more={"after": after})


async def rss_growth_mb() -> Figure:
    """By how much the resident memory grows under load."""
    return await _grown(lambda server: server.memory(), "MB", 8.0)


async def fds_growth() -> Figure:
    """How many descriptors are left behind by load."""
    return await _grown(lambda server: float(server.descriptors()), "descriptors", 0.0)


async def _readyz(tree: str | None) -> float:
    """Return the median of the milliseconds that a look at the health takes."""
    async with front(tree) as server:
        host, port = "127.0.0.1", int(server.url.rpartition(":")[2])
        times = []
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(LOOKS):
            began = perf_counter()
            writer.write(f"GET /readyz HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            times.append((perf_counter() - began) * 1e3)
        writer.close()
    return statistics.median(times)


async def readyz_100k_ms() -> Figure:
    """How much longer ``/readyz`` takes with 100,000 actors than with a few."""
    empty = await _readyz(None)
    crowd = f'[[children]]\nid = "crowd"\nstart = "bench.http_server:Crowd"\nargs = [{CROWD}]\n'
    full = await _readyz(f"{_counters()}\n{crowd}")
    more = {"full_ms": full, "empty_ms": empty}
    return Figure(value=full - empty, unit="ms", limit=empty, ratio=full - empty, reach=10.0, better="lower", more=more)


FIGURES: dict[str, Callable[[], Awaitable[Figure]]] = {
    work.__name__: work
    for work in (at_64, at_512, killed_at_64, killed_at_512, rss_growth_mb, fds_growth, readyz_100k_ms)
}


# -- the default tree on a small machine -------------------------------------------------------------------------------


def small(seconds: float) -> dict[str, Callable[[], Awaitable[Figure]]]:
    """Return the figures of the default tree, with its model, under load on one core.

    Args:
        seconds: for how long; both are of the same run.
    """

    @cache
    def run() -> asyncio.Task[tuple[float, Load]]:
        return asyncio.ensure_future(_small(seconds))

    async def small_rss_mb() -> Figure:
        memory, _ = await run()
        ratio = memory / 512.0
        return Figure(value=memory, unit="MB", limit=512.0, ratio=ratio, reach=1.0, better="lower")

    async def small_ok() -> Figure:
        _, found = await run()
        more = {"requests": float(found.answers), "p50_s": found.p50, "p99_s": found.p99, "seconds": found.seconds}
        share = found.share
        return Figure(value=share, unit="share of 200s", limit=1.0, ratio=share, reach=0.99, better="higher", more=more)

    return {work.__name__: work for work in (small_rss_mb, small_ok)}


async def _small(seconds: float) -> tuple[float, Load]:
    from foundation.tree import DEFAULT

    async with front(DEFAULT.read_text(), ("taskset", "-c", "0")) as server:
        await load(f"{server.url}{SENTIMENT}", 1, 1.0, TEXT)
        peak = [server.memory()]
        watching = asyncio.ensure_future(_watch(server, peak))
        found = await load(f"{server.url}{SENTIMENT}", CLIENTS, seconds, TEXT)
        watching.cancel()
    return max(peak), found


async def _watch(server: Server, peak: list[float]) -> None:
    while True:
        await asyncio.sleep(1.0)
        peak.append(server.memory())
