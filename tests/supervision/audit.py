"""What the interpreter itself says that is done, for tests in which nothing may be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: Called with the names of the interpreter's audit events.
HOOKS: list[Callable[[str], Any]] = []
sys.addaudithook(lambda event, _: HOOKS[-1](event) if HOOKS else None)

WATCHED = {
    "import",
    "open",
    "os.system",
    "os.exec",
    "os.fork",
    "os.remove",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
}


@contextmanager
def nothing_happens() -> Iterator[None]:
    """Nothing is imported, opened, unpickled or started in the meantime."""
    seen: list[str] = []
    HOOKS.append(lambda event: seen.append(event) if event in WATCHED else None)
    try:
        yield
    finally:
        HOOKS.pop()
    assert seen == []
