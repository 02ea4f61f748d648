"""The format of tree files: which keys there are, of what type, and what is right for each.

::

    strategy = "one_for_one"              # the root supervisor's own
    max_restarts = 3
    max_seconds = 5.0

    [[children]]                          # started in this order
    id = "counter"
    start = "examples.counters:Counter"   # import path of an actor class, or of a function that starts one
    kwargs = { start = 10 }
    name = "counter"                      # under which it is found
    restart = "permanent"                 # or transient, temporary
    shutdown = 5.0                        # or brutal_kill, infinity
    backoff = { initial = 0.1, maximum = 5.0 }

    [[children]]                          # with children of its own it is a supervisor
    id = "workers"
    strategy = "rest_for_one"

      [[children.children]]
      id = "first"
      start = "examples.counters:Counter"

    [[children]]
    id = "sessions"
    dynamic = true                        # children come and go; those listed here are its first
    max_children = 1000

``${port}``, ``${host}`` and ``${state}`` in ``args`` and ``kwargs`` stand for what the command line or the environment
says. A part with ``optional = true`` is left out where something that it needs is not installed; `docs/how-to` tells
more.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from supervision import AutoShutdown, Restart, Strategy

RESTARTS = ("permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")
SHUTDOWNS = ("brutal_kill", "infinity")


class BackoffTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A growing pause before restarts; see `supervision.Backoff`."""

    initial: float = 0.1
    maximum: float = 5.0
    factor: float = 2.0
    jitter: float = 0.5


class Supervising(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every supervisor in a file can say."""

    strategy: Strategy | None = None
    max_restarts: int | None = None
    max_seconds: float | None = None
    auto_shutdown: AutoShutdown | None = None
    children: list[Entry] | str | None = None


class Group(Supervising, forbid_unknown_fields=True, kw_only=True):
    """The root of a tree: what stands at the top of a file."""

    id: str | None = None


class Entry(Supervising, forbid_unknown_fields=True, kw_only=True):
    """A child in a file: a worker, which has ``start``, or a supervisor, which has ``children`` or is ``dynamic``.

    Attributes:
        children: the children of a supervisor; or the import path of a function that returns their specifications.
        optional: whether it is left out where it cannot run.
        tags: words to find it by, such as those that let chaos in.
        requires: what must be there for it to run: modules, or functions (``package.module:function``) that raise if
            something is missing.
        install: the command that installs what is missing.
    """

    id: str
    start: str | None = None
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    name: str | None = None
    restart: Restart = "permanent"
    shutdown: float | Literal["brutal_kill", "infinity"] | None = None
    significant: bool = False
    backoff: BackoffTable | None = None
    dynamic: bool = False
    max_children: int | None = None
    optional: bool = False
    tags: list[str] = []
    requires: list[str] = []
    install: str = ""


#: The keys that only a supervisor, a supervisor that is not dynamic, a dynamic one, and a worker has.
OF_SUPERVISORS = ("strategy", "max_restarts", "max_seconds", "auto_shutdown", "children", "dynamic", "max_children")
OF_STATIC = ("strategy", "auto_shutdown")
OF_DYNAMIC = ("max_children",)
OF_WORKERS = ("args", "kwargs")

#: What can be chosen for a key.
CHOICES = {
    "restart": RESTARTS,
    "strategy": STRATEGIES,
    "auto_shutdown": AUTO_SHUTDOWNS,
    "shutdown": SHUTDOWNS,
}

#: What is right for a key.
REMEDIES = {
    "id": "give a string",
    "start": "give an import path: package.module:attribute",
    "args": "give a list",
    "kwargs": "give a table: { key = value }",
    "name": "give a string",
    "restart": f"choose one of {', '.join(RESTARTS)}",
    "shutdown": "give seconds, or one of brutal_kill, infinity",
    "significant": "give true or false",
    "backoff": "give a table: { initial = 0.1, maximum = 5.0 }",
    "initial": "give seconds",
    "maximum": "give seconds",
    "factor": "give a number from 1",
    "jitter": "give a number from 0 to 1",
    "strategy": f"choose one of {', '.join(STRATEGIES)}",
    "max_restarts": "give a whole number, 0 or more",
    "max_seconds": "give seconds, more than 0",
    "auto_shutdown": f"choose one of {', '.join(AUTO_SHUTDOWNS)}",
    "children": "write [[children]] tables, or the import path of a function that returns child specifications",
    "dynamic": "give true or false",
    "max_children": "give a whole number, 0 or more",
    "optional": "give true or false",
    "requires": 'give a list of modules or functions: ["module", "package.module:function"]',
    "tags": 'give a list of words: ["chaos"]',
    "install": "give the command that installs what is missing",
}
