"""Telling systemd how it goes (``sd_notify(3)``): a datagram to the socket that ``NOTIFY_SOCKET`` names."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import structlog


def notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell the service manager, if there is one that wants to know.

    Args:
        state: such as ``READY=1`` or ``STOPPING=1``.
        environment: where the socket is named.

    Returns:
        Whether it was told. One that cannot be reached is logged, and no error: the tree matters more.
    """
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # in Linux's abstract name space
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address)
    except OSError as error:
        structlog.get_logger().warning("service_manager_not_told", state=state, error=str(error))
        return False
    return True
