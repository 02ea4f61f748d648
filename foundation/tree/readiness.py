"""Whether a tree can take work, kept up to date by its events: asking costs the same however many actors there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from foundation.programs import PREFIX
from foundation.tree.view import Degraded
from supervision import ActorInfo, ChildSpec, Ref, Runtime, events, pending_children
from supervision.events import ActorEvent

#: Events after which an actor may not be ready.
_UNSETTLED = (events.StartAttempt, events.Terminating, events.Suspended)
#: What makes it as it should be, or gone.
_SETTLED = (events.Started, events.StartFailed, events.StartIgnored, events.Resumed, events.Exited)
#: Events after which a child of a supervisor may not be ready.
_RESTARTING = (events.RestartScheduled, events.ChildStartFailed)
_NAMES = (events.Registered, events.Unregistered)


class Readiness:
    """What is not as it should be in a runtime, and which programs there are. Use `readiness_of` to get it.

    Args:
        runtime: which. It is looked through once, now; from then on its events tell what changes.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._unsettled = {ref: None for ref in runtime.actors() if _trouble(runtime, ref) is not None}
        self._supervisors = {ref: None for ref in runtime.actors() if pending_children(ref)}
        self._programs = {name: ref for name, ref in runtime.names().items() if name.startswith(PREFIX)}
        self._notes: dict[type[ActorEvent], Callable[[Any], None]] = {
            **dict.fromkeys(_UNSETTLED, self._unsettle),
            **dict.fromkeys(_SETTLED, self._settle),
            **dict.fromkeys(_RESTARTING, self._restarts),
            events.Registered: self._registered,
            events.Unregistered: self._unregistered,
        }
        runtime.subscribe(self._note, *_UNSETTLED, *_SETTLED, *_RESTARTING, *_NAMES)

    def _note(self, event: ActorEvent) -> None:
        self._notes[type(event)](event)

    def _unsettle(self, event: ActorEvent) -> None:
        self._unsettled[event.ref] = None

    def _settle(self, event: ActorEvent) -> None:
        self._unsettled.pop(event.ref, None)
        self._supervisors.pop(event.ref, None) if event.ref.reason is not None else None

    def _restarts(self, event: ActorEvent) -> None:
        self._supervisors[event.ref] = None

    def _registered(self, event: events.Registered) -> None:
        if event.name.startswith(PREFIX):
            self._programs[event.name] = event.ref

    def _unregistered(self, event: events.Unregistered) -> None:
        self._programs.pop(event.name, None)

    @property
    def ready(self) -> bool:
        """Whether all is as it should be."""
        return next(self._troubles(), None) is None

    def degraded(self, limit: int | None = None) -> list[Degraded]:
        """Return what is not as it should be: whatever starts, restarts, stops or is held; or that there is no tree.

        A child that a supervisor has stopped for good, or that ended as it should, and a part that is left out do not
        count.

        Args:
            limit: at most so many; None for all.
        """
        found: dict[str, Degraded] = {}
        for trouble in self._troubles():
            if limit is not None and len(found) >= limit:
                break
            found.setdefault(trouble.path, trouble)
        return list(found.values())

    def _troubles(self) -> Iterator[Degraded]:
        if not self._runtime.statistics().actors:
            yield Degraded("/", "not started")
        for ref in list(self._unsettled):
            info = _trouble(self._runtime, ref)
            if info is not None:
                yield Degraded(info.path, info.state)
                yield from (Degraded(_path(ref, spec), "starting") for spec in _starting(ref, info))
        for ref in list(self._supervisors):
            specs = pending_children(ref)
            yield from (Degraded(_path(ref, spec), "restarting") for spec in specs)
            if not specs:
                self._supervisors.pop(ref, None)

    def programs(self) -> list[str]:
        """Return the names of all programs: those that run, and those whose supervisor is about to start them."""
        specs = [spec for ref in (*self._unsettled, *self._supervisors) for spec in pending_children(ref)]
        listed = [spec.name for spec in specs if spec.name is not None and spec.name.startswith(PREFIX)]
        return sorted({name.removeprefix(PREFIX) for name in (*self._programs, *listed)})


def _trouble(runtime: Runtime, ref: Ref) -> ActorInfo | None:
    """Return what is known of an actor that is not as it should be; None for any other."""
    info = runtime.info(ref)
    return None if info is None or info.state == "running" else info


def _starting(ref: Ref, info: ActorInfo) -> list[ChildSpec]:
    return pending_children(ref) if info.state == "starting" else []


def _path(ref: Ref, spec: ChildSpec) -> str:
    return f"{ref.path}/{spec.id}"


def readiness_of(runtime: Runtime) -> Readiness:
    """Return the readiness of a runtime: always the same one."""
    found: Readiness | None = runtime.shared.get(Readiness)
    if found is None:
        found = runtime.shared[Readiness] = Readiness(runtime)
    return found
