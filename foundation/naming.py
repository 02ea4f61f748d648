"""The names of services: each has one by which it is found."""

from __future__ import annotations

from supervision import Actor


def own_name(service: Actor, default: str) -> str:
    """Return the name of an actor, in its ``init``. Started without one, it takes ``default``.

    Raises:
        AlreadyRegistered: it was started without a name, and another actor has the default one.
    """
    info = service.runtime.info(service.ref)
    assert info is not None
    if info.name is None:
        service.runtime.register(default, service.ref)
    return info.name or default
