"""Where the language model serves at this moment, for readers in any thread.

The server is an actor that may be restarted, and then serves elsewhere. It publishes its address; readers
never wait for it, and never see the address of a server that has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from dspex._compat import lm15

if TYPE_CHECKING:
    from supervision import Ref, Runtime

#: Under which name a runtime's embedded language model is found unless somebody says otherwise.
LANGUAGE_MODEL = "language-model"

#: By runtime: which server serves where. A table is replaced, never changed, so that a reader sees all of it.
_published: WeakKeyDictionary[Runtime, dict[Ref, str]] = WeakKeyDictionary()


class NotServing(lm15.TransportError):  # type: ignore[misc]
    """Nobody serves a language model under this name now. Worth another try: it may restart."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"no language model serves under the name {name!r} now: it is restarting, or was never started"
        )


def publish(ref: Ref, url: str) -> None:
    """Say where the server ``ref`` serves. Servers that have ended are forgotten."""
    known = _published.get(ref.runtime, {})
    _published[ref.runtime] = {**{other: at for other, at in known.items() if other.alive}, ref: url}


class Locator:
    """Finds the address of the server that holds a name: at each call anew, from any thread, without waiting.

    Args:
        runtime: where the server runs.
        name: the server's name.
    """

    def __init__(self, runtime: Runtime, name: str = LANGUAGE_MODEL) -> None:
        self._runtime = runtime
        self._name = name

    def __call__(self) -> str:
        """Return the base URL.

        Raises:
            NotServing: there is no such server at this moment.
        """
        ref = self._runtime.whereis(self._name)
        url = _published.get(self._runtime, {}).get(ref) if ref is not None and ref.alive else None
        if url is None:
            raise NotServing(self._name)
        return url
