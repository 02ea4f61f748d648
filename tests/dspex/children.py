"""Small child processes with the contract of ``dspex.models.local.serve``, and others that break it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

READY = (
    "import json, os, sys\n"
    "print(json.dumps({'url': 'http://127.0.0.1:%d' % os.getpid(), 'pid': os.getpid()}), flush=True)\n"
)
#: Ends with its input.
GOOD = READY + "sys.stdin.read()"
#: Does not care for its input, nor for SIGTERM.
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "signal.pause()"
#: Says something on its standard error and ends with status 3.
FAILING = "import sys; print('no such model', file=sys.stderr); sys.exit(3)"
#: Never says that it is ready.
SILENT = "import sys; sys.stdin.read()"
#: Says something else.
GARBLED = "import sys; print('hello', flush=True); sys.stdin.read()"


def python(code: str) -> list[str]:
    """Return the command that runs a piece of code."""
    return [sys.executable, "-S", "-c", code]


def alive(pid: int) -> bool:
    """Return whether a process runs (one that has ended and waits to be noticed does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pid_of(url: str) -> int:
    """Return the process behind an address of these children: they use their own number as the port."""
    return int(url.rpartition(":")[2])


def kill(url: str) -> None:
    """Kill the process behind an address."""
    os.kill(pid_of(url), 9)
