"""The state of an actor as others may see it."""

from __future__ import annotations

from reprlib import Repr
from typing import TYPE_CHECKING, Any

from supervision.messages import cut

if TYPE_CHECKING:
    from supervision.actor import Actor


def attributes(actor: Actor) -> dict[str, Any]:
    """Return the attributes of an actor that are its state."""
    names = [name for kind in type(actor).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(actor, name)]
    slots = {name: getattr(actor, name) for name in names if name not in ("__dict__", "__weakref__")}
    return {name: value for name, value in {**slots, **getattr(actor, "__dict__", {})}.items() if name != "_cell"}


def formatted_status(actor: Actor) -> Any:
    """Return what an actor shows of its state; if it fails to, a text that says so."""
    try:
        return actor.format_status()
    except BaseException as error:  # a hook of the user's ends nothing but itself
        return f"<format_status raised {type(error).__name__}: {_text(error)}>"


def summary_of(actor: Actor | None) -> dict[str, str]:
    """Return what an actor says of itself in a few words; nothing if it has nothing to say yet, or fails to."""
    try:
        words = {} if actor is None else actor.summary()
        return {str(name): cut(str(value), 200) for name, value in words.items()}
    except BaseException as error:
        return {"summary": f"raised {type(error).__name__}: {_text(error)}"}


def _text(error: BaseException) -> str:
    try:
        return cut(str(error), 100)
    except BaseException:
        return "its text cannot be shown"


_SHORT = Repr()
_SHORT.maxlevel = 4
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdeque = 20
_SHORT.maxstring = _SHORT.maxother = 200


def shown_state(actor: Actor) -> str:
    """Return a short text for what an actor shows of its state."""
    try:
        return cut(_SHORT.repr(formatted_status(actor)), 2000)
    except BaseException as error:
        return f"<its state cannot be shown: {type(error).__name__}>"
