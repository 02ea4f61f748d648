"""One segment for a small answer: its head waits for its body, and both go to the socket in one write."""

from __future__ import annotations

import asyncio
from typing import Any

#: How the head of an answer begins. A part of a body that begins so waits as well, which does no harm.
_HEAD = b"HTTP/1."
#: A longer body is written by itself: putting it behind its head would copy it, which costs more than a write.
SMALL = 1 << 16


class Joining:
    """A transport for uvicorn, which writes head and body one after the other: it sends them together.

    The head is kept until the next write, or the end of the connection; at the latest, it goes with the next pass of
    the loop. So an answer that comes piece by piece is not held up. Everything else is the transport's own.

    Args:
        transport: sends what is written.
        loop: its loop.
    """

    __slots__ = ("_head", "_loop", "_soon", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        #: Whether the loop has been told to send what is kept.
        self._soon = False
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data, or keep it if it is a head; nothing goes to a client that has gone."""
        if self.is_closing():
            self._head = b""
            return
        head, self._head = self._head, b""
        if head and len(data) <= SMALL:
            data = head + data
        elif head:
            self._transport.write(head)
        elif data[:7] == _HEAD:
            self._head = data
            if not self._soon:
                self._soon = True
                self._loop.call_soon(self._at_last)
            return
        self._transport.write(data)

    def writelines(self, parts: list[bytes]) -> None:
        """Send data, all of it in one write."""
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        """Send what is kept, and say that nothing follows."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is kept, and close the connection."""
        self._send()
        self._transport.close()

    def _at_last(self) -> None:
        self._soon = False
        self._send()

    def _send(self) -> None:
        head, self._head = self._head, b""
        if head and not self.is_closing():
            self._transport.write(head)
