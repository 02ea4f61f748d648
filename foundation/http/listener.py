"""Listening sockets that outlive an incarnation of the HTTP server, so that a restart refuses no connection."""

from __future__ import annotations

import errno
import socket

from supervision import Ref, Runtime


class PortTaken(OSError):
    """The HTTP server cannot listen at its address."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        if error.errno == errno.EADDRINUSE:
            why = f"port {port} on {host} is taken; choose another: --port {port + 1}, or --port 0 for any"
        else:
            why = f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --host or --port"
        super().__init__(error.errno, why)

    def __str__(self) -> str:
        return str(self.args[1])


class ListeningSocket:
    """An address that successive incarnations of the server share. Connections wait in it while one takes over.

    Args:
        host: the address, or a name for it.
        port: the port; 0 for any that is free, but always the same.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._owner: Ref | None = None

    @property
    def url(self) -> str:
        """Where it is, such as ``http://127.0.0.1:8000``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def listen(self, owner: Ref) -> socket.socket:
        """Return a socket to listen on, for ``owner``.

        Raises:
            PortTaken: somebody else listens there, or nobody can.
        """
        if self._socket is None:
            self._socket = _listen(self._host, self._port)
            self._port = self._socket.getsockname()[1]
        self._owner = owner
        return self._socket.dup()

    def close(self, owner: Ref) -> None:
        """Close the socket, unless another server has taken it over from ``owner``."""
        if self._owner is owner and self._socket is not None:
            self._socket.close()
            self._socket = None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise PortTaken(host, port, error) from error
    # Connections inherit it. Without it, a second write waits until the client has acknowledged the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


#: Where a runtime has its sockets, by address.
_SOCKETS = "listening sockets"


def listening_socket(runtime: Runtime, host: str, port: int) -> ListeningSocket:
    """Return the listening socket of a runtime at an address: always the same one."""
    sockets: dict[tuple[str, int], ListeningSocket] = runtime.shared.setdefault(_SOCKETS, {})
    return sockets.setdefault((host, port), ListeningSocket(host, port))
