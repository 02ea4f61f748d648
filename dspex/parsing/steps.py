"""The policy: what is tried, step after step, when an answer cannot be read or a prompt is too long.

In code the steps are values; in a tree file each is a table, such as ``{ step = "reask", times = 2 }``:

>>> OnUnparsed.of([{"step": "repair"}, {"step": "reask", "times": 2}]).steps
(Repair(function=None), Reask(times=2))
>>> OnUnparsed.of([{"step": "again"}])
Traceback (most recent call last):
supervision.errors.BadOption: unparsed[0] = {'step': 'again'}: give a step: one of repair, reask, adapter, chain, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import dspy
import msgspec

from foundation.options import named, whole
from supervision.errors import BadOption

#: How many calls one question may cost, unless it is said otherwise: the first, and two more.
MAX_CALLS = 3


class Repair(msgspec.Struct, frozen=True):
    """Mend the answer, without another call.

    Attributes:
        function: given the text of the answer and the ``dspy.AdapterParseError``, returns a text that the adapter can
            read, or a mapping of the output fields; None if it cannot. None for the lenient reading that comes with
            the package (`dspex.parsing.lenient`).
    """

    name: ClassVar[str] = "repair"
    function: Callable[[str, Any], Any] | None = None


class Reask(msgspec.Struct, frozen=True):
    """Show the model its answer and what is wrong with it, and ask again, up to ``times`` times."""

    name: ClassVar[str] = "reask"
    times: int = 1


class OtherAdapter(msgspec.Struct, frozen=True):
    """Ask the question in another form: that of an ``adapter``, such as ``dspy.JSONAdapter()``."""

    name: ClassVar[str] = "adapter"
    adapter: Any


class NextModel(msgspec.Struct, frozen=True):
    """Ask the next language models in the gateway's chain, one after the other; without a gateway there is none."""

    name: ClassVar[str] = "chain"


class MoreTokens(msgspec.Struct, frozen=True):
    """Ask once more, with room for a longer answer, if the answer was cut off; ``max_tokens`` is how long it may be."""

    name: ClassVar[str] = "more_tokens"
    max_tokens: int


class Shorten(msgspec.Struct, frozen=True):
    """Ask again with less, if the prompt is longer than the model can read.

    Attributes:
        function: given the inputs and the error, returns shorter inputs; asked again as long as it finds some. None
            to leave out the demonstrations.
    """

    name: ClassVar[str] = "shorten"
    function: Callable[[Mapping[str, Any], Any], Mapping[str, Any]] | None = None


Step: TypeAlias = Repair | Reask | OtherAdapter | NextModel | MoreTokens | Shorten
_KINDS: Mapping[str, type[Step]] = {
    kind.name: kind for kind in (Repair, Reask, OtherAdapter, NextModel, MoreTokens, Shorten)
}

#: What may be done about an answer, by name; ``none`` if nothing is left.
STEPS = frozenset({*_KINDS, "none"})


class OnUnparsed(msgspec.Struct, frozen=True):
    """What is done about answers that cannot be read.

    Attributes:
        steps: tried in this order. By default the lenient reading, and one question more.
        max_calls: how many calls of a model one question of a predictor may cost, all steps together.
    """

    steps: tuple[Step, ...] = (Repair(), Reask())
    max_calls: int = MAX_CALLS

    @classmethod
    def of(cls, given: Any) -> OnUnparsed:
        """Return a policy, checked.

        Args:
            given: the policy, its steps, or either as a tree file has it; None for the default.

        Raises:
            BadOption: it makes no sense.
        """
        if given is None:
            return cls()
        if isinstance(given, OnUnparsed):
            given = {"steps": given.steps, "max_calls": given.max_calls}
        if not isinstance(given, Mapping):
            given = {"steps": given}
        _check_names("unparsed", given, {"steps", "max_calls"})
        steps = given.get("steps", cls().steps)
        if isinstance(steps, str) or not isinstance(steps, Sequence):
            raise BadOption("unparsed", steps, "give a list of steps")
        checked = tuple(_step(f"unparsed[{number}]", step) for number, step in enumerate(steps))
        return cls(checked, whole("unparsed: max_calls", given.get("max_calls", MAX_CALLS), 1))


def _step(where: str, given: Any) -> Step:
    if isinstance(given, Mapping):
        named = dict(given)
        kind = _KINDS.get(str(named.pop("step", None)))
        if kind is None:
            raise BadOption(where, given, f"give a step: one of {', '.join(_KINDS)}")
        _check_names(where, named, set(kind.__struct_fields__))
        missing = [name for name in kind.__struct_fields__ if name == "adapter" or name == "max_tokens"]
        if missing and missing[0] not in named:
            raise BadOption(where, given, f"give its {missing[0]}")
        given = kind(**named)
    if not isinstance(given, Step):
        raise BadOption(where, given, f"give a step: one of {', '.join(_KINDS)}")
    return _checked(where, given)


def _checked(where: str, step: Step) -> Step:
    """Return a step whose parts are what they have to be: names of code are replaced by what they name."""
    match step:
        case Repair() | Shorten():
            found = named(f"{where}: function", step.function)
            if found is not None and not callable(found):
                raise BadOption(f"{where}: function", step.function, "give a function, or package.module:name")
            made: Step = msgspec.structs.replace(step, function=found)
            return made
        case OtherAdapter():
            found = named(f"{where}: adapter", step.adapter)
            found = found() if isinstance(found, type) else found
            if not isinstance(found, dspy.Adapter):
                raise BadOption(f"{where}: adapter", step.adapter, "give a dspy.Adapter, or package.module:Class")
            return OtherAdapter(found)
        case Reask():
            whole(f"{where}: times", step.times, 1)
        case MoreTokens():
            whole(f"{where}: max_tokens", step.max_tokens, 1)
        case _:
            pass
    return step


def _check_names(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise BadOption(where, name, f"there is no such name; choose among {', '.join(sorted(known)) or 'none'}")
