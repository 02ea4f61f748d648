"""Load on a web server, with ``wrk`` where it is installed, else from a process of its own on asyncio.

``python -m bench.http_client URL CONNECTIONS SECONDS BODY`` is that process; it prints what `Load` holds, as JSON.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import msgspec

_LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [=[%s]=]
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) ok = 0 end
function response(status, headers, body) if status == 200 then ok = ok + 1 end end
function done(summary, latency, requests)
  local good = 0
  for _, thread in ipairs(threads) do good = good + thread:get("ok") end
  local e = summary.errors
  io.write(string.format('JSON{"answers": %%d, "good": %%d, "broken": %%d, "seconds": %%f, "p50": %%f, "p99": %%f}\\n',
    summary.requests, good, e.connect + e.read + e.write + e.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


class Load(msgspec.Struct, frozen=True):
    """What came of some load.

    Attributes:
        answers: how many requests were answered.
        good: how many with a 200.
        broken: connections that failed.
        seconds: how long it took.
        p50: the median of the latencies, in seconds.
        p99: below which 99 % of them were.
    """

    answers: int
    good: int
    broken: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds

    @property
    def share(self) -> float:
        """The share of requests that got a good answer."""
        return self.good / max(1, self.answers + self.broken)


async def load(url: str, connections: int, seconds: float, body: str) -> Load:
    """Send as many requests as go, one after the other on each connection.

    Args:
        url: to which.
        connections: how many at the same time.
        seconds: for how long.
        body: what each brings, in JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(_LUA % body)
        if shutil.which("wrk") is None:
            command = [sys.executable, "-m", "bench.http_client", url, str(connections), str(seconds), body]
        else:
            size = [f"-c{connections}", "-t1", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
            command = ["wrk", *size, "-s", str(script), url]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        told, _ = await process.communicate()
    found = told.decode().rpartition("JSON")[2]
    return msgspec.json.decode(found, type=Load)


async def _connection(url: str, request: bytes, until: float, latencies: list[float], statuses: Counter[int]) -> int:
    """Send requests until it is over; return whether the connection failed."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        while (began := monotonic()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            statuses[int(head[9:12])] += 1
            latencies.append(monotonic() - began)
    except (OSError, asyncio.IncompleteReadError, StopIteration):
        return 1
    finally:
        writer.close()
    return 0


async def _main(url: str, connections: int, seconds: float, body: str) -> Load:
    where = urlsplit(url)
    head = f"POST {where.path or '/'} HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    began = monotonic()
    tasks = (_connection(url, request, began + seconds, latencies, statuses) for _ in range(connections))
    broken = sum(await asyncio.gather(*tasks))
    latencies.sort()
    middle, high = (latencies[int(len(latencies) * share)] if latencies else 0.0 for share in (0.5, 0.99))
    return Load(statuses.total(), statuses[200], broken, monotonic() - began, middle, high)


if __name__ == "__main__":
    outcome = asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
    print("JSON" + msgspec.json.encode(outcome).decode())
