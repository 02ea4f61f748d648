"""The URLs of the servers of a cluster: what is wrong with them, and how they are shown, without passwords."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from supervision.errors import BadOption

#: How URLs of servers may begin; those of one list are all on TCP, or all on WebSockets.
ON_TCP, ON_WEB = ("nats", "tls"), ("ws", "wss")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"(//)\S*@")


def shown(url: str) -> str:
    """Return a URL without its user, password and token."""
    scheme = _SCHEME.match(url)
    return ("" if scheme is None else scheme[0]) + url.rpartition("@")[2] if "@" in url else url


def without_users(text: str) -> str:
    """Return a text, such as that of an error, without the users and passwords of the URLs in it."""
    return _USER.sub(r"\1", text)


def read_servers(servers: Any) -> list[str]:
    """Return the URLs of servers.

    Args:
        servers: they, or one of them.

    Raises:
        BadOption: there is none, or one that cannot be.
    """
    urls: list[Any] = [servers] if isinstance(servers, str | bytes) or not isinstance(servers, Sequence) else [*servers]
    why = problem(urls)
    if why:
        raise BadOption("servers", _shown(servers), why)
    return urls


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    return value if value is None or isinstance(value, int | float) else without_users(repr(value))


def problem(urls: Sequence[Any]) -> str:
    """Return what is wrong with the URLs of servers, and what to give; empty if nothing is."""
    if not urls:
        return "give the URL of at least one server, such as nats://127.0.0.1:4222"
    for url in urls:
        why = _problem(url)
        if why:
            return why
    schemes = {urlsplit(url).scheme for url in map(_whole, urls)}
    if not (schemes <= {*ON_TCP} or schemes <= {*ON_WEB}):
        return f"give URLs that begin all with {' or '.join(ON_TCP)}, or all with {' or '.join(ON_WEB)}"
    return ""


def _whole(url: str) -> str:
    return url if _SCHEME.match(url) else f"nats://{url}"


def _problem(url: Any) -> str:
    if not isinstance(url, str) or not url:
        return "give URLs of servers, such as nats://127.0.0.1:4222, or a port, such as MemoryNetwork().port()"
    told = shown(url)
    if re.search(r"[\s,]", url):
        return f"{told} is no URL: it has a comma or a blank; give several servers as a list"
    try:
        parts = urlsplit(_whole(url))
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"{told} is no URL of a server: its port is a whole number from 1 to 65535, and an address is in []"
    if parts.scheme not in (*ON_TCP, *ON_WEB):
        return f"{told}: begin with one of {', '.join(f'{scheme}://' for scheme in (*ON_TCP, *ON_WEB))}"
    if not host or port == 0:
        return f"{told} is no URL of a server: give nats://HOST:PORT, with a port from 1 to 65535"
    return ""
