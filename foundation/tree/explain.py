"""Exit reasons in one line, for people."""

from __future__ import annotations

from supervision import Crashed, ExitReason, FailedToStartChild, Shutdown

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
