"""The services outside: one is told of tickets, one books engineers. Both know tokens, and keep a ledger of their own.

``python -m examples.triage_desk.outside --port 8001 --ledger ledger.db`` runs them as a process of their own; without
one the desk serves them itself, below ``/outside``. The actor `Bookings` is the desk's way to the second.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agents.signals.cloudevents import from_json
from foundation.access import access_of
from supervision import Actor, Refuse, Request, Runtime, handle

ENGINEERS = {"billing": "Berta", "account": "Anton", "bug": "Carla"}

_TABLES = """
CREATE TABLE IF NOT EXISTS told (id TEXT PRIMARY KEY, type TEXT, ticket TEXT, times INTEGER);
CREATE TABLE IF NOT EXISTS bookings (id TEXT PRIMARY KEY, ticket TEXT, engineer TEXT, state TEXT, times INTEGER);
"""


class Ledger:
    """What the services have done. What comes again under its token is counted, and not done again.

    Args:
        path: of the SQLite file.
    """

    def __init__(self, path: str | Path) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(f"PRAGMA journal_mode = WAL; {_TABLES}")

    def tell(self, id: str, type: str, ticket: str) -> None:
        """Take note of what somebody tells."""
        again = "ON CONFLICT (id) DO UPDATE SET times = times + 1"
        self._database.execute(f"INSERT INTO told VALUES (?, ?, ?, 1) {again}", (id, type, ticket))  # noqa: S608

    def book(self, id: str, ticket: str, engineer: str) -> str | None:
        """Book an engineer; return who is booked under the token; None if that was cancelled before it came."""
        again = "ON CONFLICT (id) DO UPDATE SET times = times + 1 RETURNING engineer, state"
        query = f"INSERT INTO bookings VALUES (?, ?, ?, 'booked', 1) {again}"  # noqa: S608
        ((booked, state),) = self._database.execute(query, (id, ticket, engineer)).fetchall()
        return None if state == "cancelled" else booked

    def cancel(self, id: str, ticket: str) -> None:
        """Cancel what was booked under a token, and whatever may still come under it."""
        again = "ON CONFLICT (id) DO UPDATE SET state = 'cancelled'"
        query = f"INSERT INTO bookings VALUES (?, ?, '', 'cancelled', 1) {again}"  # noqa: S608
        self._database.execute(query, (id, ticket))

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Return all that stands in a table."""
        return self._database.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608


def services(ledger: Ledger, is_down: Callable[[], bool] = lambda: False) -> Starlette:
    """Return the services as an application.

    Args:
        ledger: what they have done.
        is_down: whether a request is refused for now, as services do now and then.
    """
    busy = JSONResponse({"error": "busy"}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def told(request: HttpRequest) -> Response:
        if is_down():
            return busy
        signal = from_json(await request.body())
        ledger.tell(request.headers["idempotency-key"], signal.type, signal.subject or "")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def booking(request: HttpRequest) -> Response:
        if is_down():
            return busy
        id, ticket = request.path_params["id"], request.query_params["ticket"]
        if request.method == "DELETE":
            ledger.cancel(id, ticket)
            return Response(status_code=HTTPStatus.NO_CONTENT)
        engineer = ledger.book(id, ticket, ENGINEERS.get(request.query_params["topic"], "Dora"))
        if engineer is None:
            return JSONResponse({"error": "it was cancelled"}, HTTPStatus.CONFLICT)
        return JSONResponse({"engineer": engineer})

    routes = [
        Route("/tickets", told, methods=["POST"]),
        Route("/bookings/{id}", booking, methods=["PUT", "DELETE"]),
    ]
    return Starlette(routes=routes)


def application(runtime: Runtime) -> Starlette:
    """Return the services as the desk serves them, if there are no others."""
    return services(Ledger(Path(access_of(runtime).state) / "outside.db"))


class Booking(Request[str], frozen=True):
    """Book an engineer for a ticket; the answer is who. The same token is the same booking."""

    token: str
    ticket: str
    topic: str


class CancelBooking(Request[None], frozen=True):
    """Cancel what was booked under a token, if anything was."""

    token: str
    ticket: str


class Bookings(Actor):
    """The way to the service that books engineers.

    Args:
        url: of the services.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def init(self) -> None:
        """Make the client."""
        self._client = httpx.AsyncClient(timeout=5.0)

    async def terminate(self, reason: Any) -> None:
        """Close the connections."""
        await self._client.aclose()

    @handle
    async def book(self, request: Booking) -> str:
        """Book one."""
        answer = await self._send("PUT", request.token, {"ticket": request.ticket, "topic": request.topic})
        return str(answer.json()["engineer"])

    @handle
    async def cancel(self, request: CancelBooking) -> None:
        """Cancel one."""
        await self._send("DELETE", request.token, {"ticket": request.ticket})

    async def _send(self, method: str, id: str, about: dict[str, str]) -> httpx.Response:
        try:
            answer = await self._client.request(method, f"{self._url}/bookings/{id}", params=about)
            return answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Refuse(error) from error


def main() -> None:
    """Serve them."""
    parser = argparse.ArgumentParser(prog="python -m examples.triage_desk.outside", description=__doc__)
    parser.add_argument("--port", type=int, default=8001, help="where they listen, at 127.0.0.1 (8001)")
    parser.add_argument("--ledger", default="outside.db", help="the SQLite file of the ledger (outside.db)")
    parser.add_argument("--down", type=float, default=0.0, help="the share of requests that they refuse for now (0)")
    told = parser.parse_args()
    chance = random.Random(7)
    app = services(Ledger(told.ledger), lambda: chance.random() < told.down)
    uvicorn.run(app, host="127.0.0.1", port=told.port, log_level="warning")


if __name__ == "__main__":
    main()
