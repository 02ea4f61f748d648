"""Processes: whether one of this machine has ended, as far as its kernel can prove it (on Linux, by ``/proc``).

So a node whose process was killed can be started again at once on the same machine, and need not wait for its lease.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def identify(pid: int | None = None, proc: Path = _PROC) -> str:
    """Return what tells a process from every other one, on any machine and at any time; empty if that is not known.

    Args:
        pid: its number; None for this process.
        proc: where the kernel tells of processes.
    """
    number = os.getpid() if pid is None else pid
    try:
        return f"{_machine(proc)} {number} {_state(number, proc)[1]}"
    except (OSError, IndexError):
        return ""


def has_ended(process: str, proc: Path = _PROC) -> bool:
    """Whether a process has certainly ended; False also if it ran on another machine, or nobody knows.

    Args:
        process: what `identify` has returned.
        proc: where the kernel tells of processes.
    """
    machine, _, rest = process.partition(" ")
    number, _, begun = rest.partition(" ")
    try:
        if not number.isdigit() or machine != _machine(proc):
            return False
    except OSError:
        return False
    try:
        state, started = _state(int(number), proc)
    except (OSError, IndexError):
        return True
    return started != begun or state in "ZX"


def _machine(proc: Path) -> str:
    """Return what tells this boot of this machine, and the numbers of processes in it, from all others."""
    boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{(proc / 'self/ns/pid').stat().st_ino}"


def _state(pid: int, proc: Path) -> tuple[str, str]:
    """Return the state of a process, and when it was started."""
    fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]
