"""Measures: how much of something is used at this moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from foundation.registry.directory import Directory
from supervision import Runtime

Measure: TypeAlias = Callable[[Runtime], float]

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def memory(_: Runtime) -> float:
    """Return the resident memory of the process, in bytes; 0 where the system does not tell."""
    return int(_STATM.read_text().split()[1]) * _PAGE if _STATM.exists() else 0.0


def actors(runtime: Runtime) -> float:
    """Return how many actors live."""
    return runtime.statistics().actors


def waiting_messages(runtime: Runtime) -> float:
    """Return how many messages wait in the mailboxes of all actors. It walks through them all: for small runtimes."""
    return sum(ref.mailbox_statistics().length for ref in runtime.actors())


def registry_entries(runtime: Runtime) -> float:
    """Return how many entries all registries have."""
    return sum(len(kept.root) for kept in list(runtime.shared.values()) if isinstance(kept, Directory))


#: What can be limited by its name; anything else is taken and given back as tokens.
MEASURES: Mapping[str, Measure] = {
    "memory": memory,
    "actors": actors,
    "waiting_messages": waiting_messages,
    "registry_entries": registry_entries,
}
