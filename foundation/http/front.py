"""The front as an actor: a web server that is started, restarted and stopped like everything else in a tree."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import TYPE_CHECKING

import uvicorn

from foundation.events import Serving
from foundation.http.app import PROGRAM_TIMEOUT, application
from foundation.http.door import Door, PortTaken, door_at
from supervision import Abnormal, Actor, CallError, Message, Refuse, handle
from supervision.administration import CountChildren

if TYPE_CHECKING:
    import socket

    from prometheus_client import CollectorRegistry
    from starlette.applications import Starlette

    from supervision import ExitReason, Ref


class ServerEnded(Message, frozen=True):
    """The web server has ended by itself."""

    why: str


class Server(uvicorn.Server):
    """Uvicorn's server inside somebody's loop: it leaves signals alone, and tells when it listens."""

    def __init__(self, app: Starlette, grace: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(grace)),
            )
        )
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell."""
        await super().startup(sockets)
        self.ready.set_result(None)


class Front(Actor):
    """Serves health, metrics, the live tree and the programs of its runtime over HTTP.

    A front that is restarted takes over the listening socket of the one before: nobody is refused meanwhile. When it is
    stopped it takes no new connections, and answers the requests that it has.

    Args:
        host: the address to listen at.
        port: the port; 0 for any that is free.
        program_timeout: seconds that a program may take to answer.
        versions: whether the versions of programs can be seen, and swapped, by whoever can reach the front.
        grace: seconds that requests have to end when the front is stopped.
        registry: which metrics are shown; those of the process if None.

    Raises:
        PortTaken: at its start, if it cannot listen there.
    """

    trap_exit = True
    infrastructure = True
    shutdown = 10.0

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        program_timeout: float = PROGRAM_TIMEOUT,
        versions: bool = False,
        grace: float = 5.0,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._door = door_at(self.runtime, host, port)
        self._app = application(self.runtime, program_timeout=program_timeout, versions=versions, registry=registry)
        self._grace = grace

    async def init(self) -> None:
        """Begin to serve."""
        self._server = Server(self._app, self._grace)
        try:
            listening = self._door.enter(self.ref)
        except PortTaken as error:
            raise Refuse(error) from error
        # In contexts of their own, so that what handles a request is not taken for this actor.
        loop = asyncio.get_running_loop()
        self._serving = loop.create_task(_serve(self._server, listening, self.ref), context=Context())
        self._guard = loop.create_task(_leave_after(self.ref, self._server, self._door), context=Context())
        await self._server.ready
        url = self._door.url
        self.runtime.events.emit(Serving, ref=self.ref, path=self.ref.path, kind=type(self).__name__, url=url)

    @handle
    def server_ended(self, message: ServerEnded) -> None:
        """End for the same reason as the server."""
        self.stop(Abnormal(f"the web server ended by itself: {message.why}"))

    async def terminate(self, reason: ExitReason) -> None:
        """Answer what was asked, and take no more."""
        self._door.leave(self.ref)
        self._server.should_exit = True
        await asyncio.wait([self._serving])


async def _serve(server: Server, listening: socket.socket, owner: Ref) -> None:
    """Run a server, and tell its owner if it ends unasked."""
    try:
        await server.serve([listening])
        why = "it returned"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if not server.ready.done():
            server.ready.set_exception(error)
    finally:
        listening.close()
    if not server.should_exit:
        owner.cast(ServerEnded(why))


async def _leave_after(owner: Ref, server: Server, door: Door) -> None:
    """When a front has ended in whatever way, see to it that nothing of it goes on."""
    info = owner.runtime.info(owner)
    await owner.join()
    server.should_exit = True
    if info is not None and info.parent is not None:
        # Its supervisor has heard of it before it answers this; a new front has then entered already, or will not soon.
        with suppress(CallError):
            await info.parent.call(CountChildren(), timeout=None)
    door.leave(owner)
