"""What is wrong with a tree, in one line for people: errors of a tree file with their remedy, and exit reasons."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from supervision import Crashed, ExitReason, Shutdown
from supervision.messages import describe
from supervision.reasons import FailedToStartChild


class TreeError(ValueError):
    """A tree cannot be used.

    Attributes:
        source: the file, or the import path.
        key: where in it; empty if all of it is meant.
        value: what stands there; None if nothing does.
        remedy: what to do.
    """

    def __init__(self, source: str, key: str, value: object, remedy: str) -> None:
        self.source = source
        self.key = key
        self.value = value
        self.remedy = remedy
        where = f"{source}: {key}" if key else source
        given = "" if value is None else f" = {describe(value)}"
        super().__init__(f"{where}{given}: {remedy}")


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return a hint at the known word nearest to what was given, to be put behind a remedy; empty if none is near."""
    near = get_close_matches(str(given), [str(word) for word in known], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


#: Errors of these packages say by themselves what is wrong and what to do; where they were raised helps nobody.
_SELF_EXPLAINING = ("foundation.", "dspex.", "supervision.")


def explain(reason: ExitReason) -> str:
    """Return why something ended, with the path of ids down to the child that failed.

    >>> explain(Shutdown(FailedToStartChild("web", FailedToStartChild("front", Crashed("foundation.X", "port taken")))))
    'web/front: port taken'
    """
    ids, cause = [], reason
    while True:
        if isinstance(cause, Shutdown) and isinstance(cause.note, ExitReason):
            cause = cause.note
        elif isinstance(cause, FailedToStartChild):
            ids.append(str(cause.id))
            cause = cause.cause
        else:
            break
    plain = isinstance(cause, Crashed) and cause.kind.startswith(_SELF_EXPLAINING)
    text = cause.message if isinstance(cause, Crashed) and plain else str(cause)
    return f"{'/'.join(ids)}: {text}" if ids else text
