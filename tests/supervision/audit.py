"""What the interpreter itself says that is done, for tests in which nothing may be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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

#: The names of audit events that have not come yet.
_EXPECTED: dict[str, None] = {}
# The hook is for ever, and of C: in one of Python, which another thread may interrupt, CPython 3.11 refuses to trace a
# thread that begins then ("while another trace function is being installed"), and with coverage that thread is lost.
sys.addaudithook(_EXPECTED.pop)


@contextmanager
def nothing_happens() -> Iterator[None]:
    """Nothing is imported, opened, unpickled or started in the meantime."""
    _EXPECTED.update(dict.fromkeys(WATCHED))
    yield
    assert WATCHED - _EXPECTED.keys() == set()
