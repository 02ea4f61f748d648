"""The service manager is told when the tree is up, and when it stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from foundation.run.notify import notify


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    """A socket as systemd has one."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(30)
    return listening


def test_it_is_told_by_a_datagram(manager: socket.socket, tmp_path: Path) -> None:
    with manager:
        assert notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(100) == b"READY=1"


def test_abstract_names_are_known() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0foundation-{os.getpid()}")
        assert notify("READY=1", {"NOTIFY_SOCKET": f"@foundation-{os.getpid()}"})
        assert listening.recv(100) == b"READY=1"


def test_nobody_is_told_where_nobody_wants_to_know(tmp_path: Path) -> None:
    assert not notify("READY=1", {})
    with capture_logs() as entries:
        assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert [entry["event"] for entry in entries] == ["service_manager_not_told"]


def test_the_command_tells_it_when_the_tree_is_up_and_when_it_stops(manager: socket.socket, tmp_path: Path) -> None:
    tree = tmp_path / "tree.toml"
    tree.write_text('id = "t"\n[[children]]\nid = "r"\nstart = "foundation.registry:Registry"\n')
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    command = [sys.executable, "-m", "foundation.run", str(tree)]
    with manager, subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as running:
        assert manager.recv(100) == b"READY=1"
        running.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert running.wait(30) == 0
