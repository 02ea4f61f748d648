"""The HTTP server as an actor: it is started, restarted and stopped like everything else in a tree."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

import uvicorn

from foundation.access import Access, access_of
from foundation.events import Serving
from foundation.http.app import PROGRAM_TIMEOUT, application
from foundation.http.connections import LOOK, connection_class, end_all, look_at
from foundation.http.limits import Limits
from foundation.http.listener import ListeningSocket, PortTaken, listening_socket
from foundation.http.mounts import MakeApplication, checked_mounts
from supervision import Abnormal, Actor, CallError, Message, Refuse, handle
from supervision.supervisors.administration import CountChildren

if TYPE_CHECKING:
    import socket

    from prometheus_client import CollectorRegistry
    from starlette.applications import Starlette

    from supervision import ExitReason, Ref


class ServerEnded(Message, frozen=True):
    """The web server has ended by itself."""

    why: str


class UvicornServer(uvicorn.Server):
    """Uvicorn's server inside somebody's loop: it leaves signals alone, and signals when it is listening."""

    def __init__(self, app: Starlette, grace: float, limits: Limits) -> None:
        config = uvicorn.Config(
            app,
            http=connection_class(limits),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=limits.max_header,
            timeout_graceful_shutdown=max(1, round(grace)),
        )
        config.timeout_keep_alive = limits.idle_timeout  # type: ignore[assignment]
        super().__init__(config)
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._looked = loop.time()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and signal it."""
        await super().startup(sockets)
        self.ready.set_result(None)

    async def on_tick(self, counter: int) -> bool:
        """Check the connections for time-outs periodically."""
        now = self._loop.time()
        if now - self._looked >= LOOK:
            self._looked = now
            look_at(self.server_state.connections, now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was asked, and then leave no connection open."""
        await super().shutdown(sockets)
        end_all(self.server_state.connections)


class HttpServer(Actor):
    """Serves health, metrics, the live tree and the programs of its runtime over HTTP.

    A server that is restarted takes over the listening socket of its previous incarnation: no connection is refused
    meanwhile. When it is stopped it takes no new connections, and answers the requests that it has.

    Args:
        host: the address to listen at.
        port: the port; 0 for any that is free.
        program_timeout: seconds that a program may take to answer.
        versions: whether the versions of programs can be seen, and swapped, by whoever has the token. Without a
            configured one, one is made at the start, and kept in the state folder.
        grace: seconds that requests have to end when the server is stopped.
        registry: which metrics are shown; those of the process if None.
        limits: how much is taken on, as `Limits` or a table of them.
        access: who may ask, as `Access` or a table of what differs from what the command was told.
        mounts: applications of your own, by the paths below which they are served: each a function that makes one for a
            runtime, or where to import it from.

    Raises:
        PortTaken: at its start, if it cannot listen there.
        BadAccess: at its start, if the token cannot be read, or made.
        BadOption: at its start, if a limit, or a mount, is wrong.
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
        limits: Limits | Mapping[str, Any] | None = None,
        access: Access | Mapping[str, Any] | None = None,
        mounts: Mapping[str, MakeApplication] | None = None,
    ) -> None:
        self._listening_socket = listening_socket(self.runtime, host, port)
        self._limits = Limits.of(limits)
        self._app = application(
            self.runtime,
            program_timeout=program_timeout,
            versions=versions,
            registry=registry,
            limits=self._limits,
            access=access if isinstance(access, Access) else access_of(self.runtime).with_changes(access or {}),
            address=host,
            mounts=mounts,
        )
        self._grace = grace

    @classmethod
    def check_arguments(cls, *_: Any, mounts: Mapping[str, MakeApplication] | None = None, **__: Any) -> None:
        """Check what stands in a tree file."""
        checked_mounts(mounts)

    async def init(self) -> None:
        """Begin to serve."""
        self._server = UvicornServer(self._app, self._grace, self._limits)
        try:
            listening = self._listening_socket.listen(self.ref)
        except PortTaken as error:
            raise Refuse(error) from error
        # In contexts of their own, so that what handles a request is not taken for this actor.
        loop = asyncio.get_running_loop()
        self._serving = loop.create_task(_serve(self._server, listening, self.ref), context=Context())
        self._guard = loop.create_task(_leave_after(self.ref, self._server, self._listening_socket), context=Context())
        await self._server.ready
        url = self._listening_socket.url
        self.runtime.events.emit(Serving, ref=self.ref, path=self.ref.path, kind=type(self).__name__, url=url)

    @handle
    def server_ended(self, message: ServerEnded) -> None:
        """End for the same reason as the server."""
        self.stop(Abnormal(f"the web server ended by itself: {message.why}"))

    async def terminate(self, reason: ExitReason) -> None:
        """Answer what was asked, and take no more."""
        self._listening_socket.close(self.ref)
        self._server.should_exit = True
        await asyncio.wait([self._serving])


async def _serve(server: UvicornServer, listening: socket.socket, owner: Ref) -> None:
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


async def _leave_after(owner: Ref, server: UvicornServer, listener: ListeningSocket) -> None:
    """When the actor has ended, in whatever way, stop its server and release its socket."""
    info = owner.runtime.info(owner)
    await owner.join()
    server.should_exit = True
    if info is not None and info.parent is not None:
        # Its supervisor has heard of it before it answers this; a new server listens already then, or will not soon.
        with suppress(CallError):
            await info.parent.call(CountChildren(), timeout=None)
    listener.close(owner)
