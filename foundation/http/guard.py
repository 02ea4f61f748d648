"""The guard of the HTTP server: it checks the head of each request, once, before anything else reads it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from http import HTTPStatus

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from foundation.access import Access, BearerToken, token_of
from foundation.call_ids import SESSION_KEY
from foundation.http.problems import Problem

#: Pages that are answered whoever asks, under whatever name: probes send the address of a pod, and no token.
HEALTH = ("/healthz", "/readyz")
METRICS = "/metrics"
#: Names under which every server may be reached.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: So many forms in which the host was written are remembered.
MOST_REMEMBERED = 1000

#: Headers that the guard decides by. A duplicate is a request-smuggling attempt: two readers would see two values.
_DECIDING = frozenset(
    (b"host", b"origin", b"sec-fetch-site", b"authorization", b"content-type", b"content-length", b"transfer-encoding")
)
#: Headers that say something of a request, and decide nothing; of two, the last counts.
_NOTED = frozenset((b"x-request-id", SESSION_KEY))


class RequestGuard:
    """Refuses requests under unknown host names, and of pages in browsers that are not the server's own.

    Args:
        access: who may ask.
        address: where the server listens; empty if that is not known, or any.
        token: made, or read, if anything needs one; None if nothing does.
    """

    def __init__(self, access: Access, address: str = "", token: BearerToken | None = None) -> None:
        self._any = "*" in access.allow_hosts
        self._own = frozenset(name.lower() for name in access.allow_hosts)
        self._names = frozenset((*LOOPBACK, *map(_name, self._own), *_told(address)))
        self._open = frozenset((*HEALTH, METRICS) if access.metrics_any_host else HEALTH)
        self._token = token if access.protected == "all" else None
        self._remembered: set[bytes] = set()

    def check(self, scope: Scope) -> dict[bytes, bytes]:
        """Let a request in, and return those of its headers that decide what is done.

        Raises:
            Problem: it is refused.
        """
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _DECIDING:
                if name in found:
                    raise _bad(f"the header {name.decode()} comes twice")
                found[name] = value
            elif name in _NOTED:
                found[name] = value
        if b"transfer-encoding" in found and b"content-length" in found:
            raise _bad("a body has either a length or a transfer encoding")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in self._open:
            return found
        host = found.get(b"host", b"")
        if host not in self._remembered:
            self._check_host(host)
        self._check_page(found, host)
        if self._token is not None and path not in HEALTH:
            authorise(self._token, found.get(b"authorization"))
        return found

    def _check_host(self, host: bytes) -> None:
        text = host.decode("latin-1").lower()
        if not self._any and _name(text) not in self._names:
            name = f"the name {text[:100]!r}; whoever runs it can allow that: --allow-host"
            detail = f"the HTTP server does not serve under {name}"
            raise Problem(HTTPStatus.MISDIRECTED_REQUEST, "unknown-host", detail, headers={"connection": "close"})
        if len(self._remembered) < MOST_REMEMBERED:
            self._remembered.add(host)

    def _check_page(self, found: dict[bytes, bytes], host: bytes) -> None:
        """Refuse what a page of somebody else has made a browser ask."""
        if found.get(b"sec-fetch-site") == b"cross-site":
            raise _foreign("a page of another site")
        origin = found.get(b"origin")
        if origin is not None:
            authority = origin.lower().partition(b"://")[2].decode("latin-1")
            if not authority or (authority.encode("latin-1") != host.lower() and authority not in self._own):
                raise _foreign("a page of another origin")


class GuardMiddleware:
    """An application behind a guard.

    Args:
        app: the application.
        guard: the guard.
    """

    def __init__(self, app: ASGIApp, guard: RequestGuard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or let it in."""
        if scope["type"] == "http":
            try:
                self._guard.check(scope)
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def authorise(token: BearerToken, header: bytes | None) -> None:
    """Let a request in that brings a token.

    Args:
        token: the token.
        header: the request's ``Authorization``.

    Raises:
        Problem: it brings none, or another one.
    """
    if not token.matches(header):
        detail = "this needs the HTTP server's token: Authorization: Bearer TOKEN"
        raise Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers={"www-authenticate": "Bearer"})


def authorise_served(token: BearerToken | None, request: Request, detail: str, word: str) -> None:
    """Let a request in to what is served only if the server was told so, and only with its token.

    Args:
        token: the token; None if it is not served.
        request: that has to bring it.
        detail: what to say if it is not served, with the remedy.
        word: the same for programs.

    Raises:
        Problem: it is not served, or the request brings no token, or another one.
    """
    if token is None:
        raise Problem(HTTPStatus.FORBIDDEN, word, detail)
    authorise(token, request.headers.get("authorization", "").encode("latin-1"))


def needed_token(access: Access, versions: bool) -> BearerToken | None:
    """Return the token that is asked for; None if nothing needs one.

    Args:
        access: who may ask.
        versions: whether programs can be changed.

    Raises:
        BadAccess: it cannot be read, or made.
    """
    return token_of(access) if versions or access.given or access.protected != "changes" else None


def _told(address: str) -> Iterable[str]:
    """Return the address that is listened at as a name, unless it stands for all."""
    try:
        if not address or ipaddress.ip_address(address).is_unspecified:
            return ()
    except ValueError:
        pass
    return (address.lower(),)


def _name(authority: str) -> str:
    """Return a host without its port.

    >>> [_name(a) for a in ("localhost:80", "[::1]:80", "::1", "a.example")]
    ['localhost', '::1', '::1', 'a.example']
    """
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority if authority.count(":") > 1 else authority.partition(":")[0]


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad-request", detail, headers={"connection": "close"})


def _foreign(who: str) -> Problem:
    return Problem(HTTPStatus.FORBIDDEN, "foreign-page", f"{who} may not ask here")
