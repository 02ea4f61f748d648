"""What the suite ``http`` serves: a bare Starlette endpoint, and children for trees that are killed, or are a crowd.

``python -m bench.http_server uvloop`` serves the bare endpoint with uvicorn, at a free port that it prints.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from foundation.run.command import loop_factory
from supervision import Actor, ChildSpec, DynamicSupervisor, Message, handle, start_child


class Kill(Message, frozen=True):
    """It is time."""


class Killer(Actor):
    """Kills whoever holds a name, again and again.

    Args:
        name: the name.
        period: seconds between two kills.
    """

    def __init__(self, name: str, period: float) -> None:
        self._name = name
        self._period = period

    def init(self) -> None:
        """Begin."""
        self.send_interval(self._period, Kill())

    @handle
    def kill(self, message: Kill) -> None:
        """Kill."""
        ref = self.runtime.whereis(self._name)
        if ref is not None:
            ref.kill()


class Idle(Actor):
    """Does nothing."""

    __slots__ = ()


class Crowd(Actor):
    """Has many actors under a supervisor.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    async def init(self) -> None:
        """Start them."""
        supervisor = await self.spawn_link(DynamicSupervisor)
        for number in range(self._size):
            await start_child(supervisor, ChildSpec(number, Idle))


async def endpoint(request: Request) -> Response:
    """Add a number to another, as the program does."""
    body = await request.json()
    return JSONResponse({"total": 100 + body["n"]})


class Bare(uvicorn.Server):
    """Tells where it listens."""

    async def startup(self, sockets: object = None) -> None:
        """Begin, and tell."""
        await super().startup()
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}", flush=True)


def main(loop: str) -> None:
    """Serve the endpoint as the front does."""
    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    config = uvicorn.Config(
        app, port=0, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False
    )
    with asyncio.Runner(loop_factory=loop_factory(loop == "uvloop")) as runner:
        runner.run(Bare(config).serve())


if __name__ == "__main__":
    main(sys.argv[1])
