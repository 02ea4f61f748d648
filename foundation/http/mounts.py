"""Applications of your own beside the pages of the HTTP server: behind the same guard, at the same port."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from starlette.routing import Mount
from starlette.types import ASGIApp

from foundation.tree.imports import BadImport, resolve
from supervision import Runtime
from supervision.errors import BadOption

#: What makes an application for a runtime; or where to import it from, for tree files.
MakeApplication: TypeAlias = "Callable[[Runtime], ASGIApp] | str"

_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
#: The first parts of the paths of the server's own pages.
_OWN = ("healthz", "readyz", "metrics", "tree", "openapi.json", "programs", "problems")


def checked_mounts(mounts: Mapping[str, MakeApplication] | None) -> dict[str, Callable[[Runtime], ASGIApp]]:
    """Return what makes the application at each path.

    Args:
        mounts: by path, such as ``/shop``, what makes the application; None for none.

    Raises:
        BadOption: a path is none, or the server's own, or what stands there cannot be imported, or called.
    """
    if mounts is not None and not isinstance(mounts, Mapping):
        raise BadOption("mounts", mounts, 'give a table: { "/shop" = "package.module:function" }')
    return {_path(path): _made_by(path, make) for path, make in (mounts or {}).items()}


def _path(path: Any) -> str:
    if not isinstance(path, str) or _PATH.fullmatch(path) is None:
        raise BadOption("mounts", path, "give a path such as /shop")
    if path.split("/")[1] in _OWN:
        raise BadOption("mounts", path, f"the server's own pages begin so: {', '.join(_OWN)}; choose another path")
    return path


def _made_by(path: str, make: Any) -> Callable[[Runtime], ASGIApp]:
    where = f"mounts.{path}"
    try:
        found = resolve(make) if isinstance(make, str) else make
    except BadImport as error:
        raise BadOption(where, make, str(error)) from error
    if not callable(found):
        raise BadOption(where, make, "give a function of a runtime that returns an ASGI application")
    return found  # type: ignore[no-any-return]


def mount_routes(runtime: Runtime, mounts: Mapping[str, MakeApplication] | None) -> list[Mount]:
    """Return the routes to the applications of a runtime.

    Raises:
        BadOption: see `checked_mounts`.
    """
    return [Mount(path, app=make(runtime)) for path, make in checked_mounts(mounts).items()]
