"""Programs, those whose calls go to a dispatcher, and the fields of their signatures."""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Coroutine, Mapping
from typing import Any

import dspy
from dspy.adapters.types.base_type import CUSTOM_TYPE_START_IDENTIFIER
from dspy.adapters.utils import annotation_allows_none as annotation_allows_none
from dspy.adapters.utils import apply_output_field_defaults as apply_output_field_defaults
from dspy.adapters.utils import format_field_value as format_field_value
from dspy.adapters.utils import get_annotation_name as get_annotation_name
from dspy.adapters.utils import parse_value as parse_value
from dspy.utils.constants import IS_TYPE_UNDEFINED

from dspex._compat.classes import hints_of

#: Arguments of DSPy's own modules that are no inputs: they choose the model, its settings, the prompt, or the cost.
OWN_ARGUMENTS = frozenset(
    {
        *("signature", "new_signature", "demos", "config", "lm", "adapter", "callbacks", "rollout_id", "_trace"),
        *("max_iters", "interpreter", "interpreter_factory"),
    }
)
#: Before what is no text in a prompt, such as an image: DSPy makes a part of a message of what follows.
PART_MARK: str = CUSTOM_TYPE_START_IDENTIFIER


def entry_point(program: Any) -> tuple[type, str] | None:
    """Return which method runs when a program is called, as the class that defines it and its name; None without one.

    It is ``aforward``, unless a class that is closer to the program's has a ``forward`` of its own.
    """
    methods = ((kind, name) for kind in type(program).__mro__ for name in ("aforward", "forward") if name in vars(kind))
    return next(methods, None)


def is_own(kind: Any) -> bool:
    """Return whether a class is DSPy's own."""
    return str(kind.__module__).partition(".")[0] == "dspy"


def written_as_text(kind: Any) -> bool:
    """Return whether a value of one of DSPy's types is a text for whoever gets it, such as code; others have fields."""
    return issubclass(kind, (dspy.Code, dspy.Reasoning, dspy.Tool)) or hints_of(kind.format).get("return") is str


def inner_program(program: Any) -> Any:
    """Return the program that one of DSPy's own runs several times on the same inputs; None if it is no such one."""
    return program.module if isinstance(program, (dspy.BestOfN, dspy.Refine)) else None


def is_predicted_outputs(name: str, value: Any) -> bool:
    """Return whether DSPy would take an input for a setting of the model: OpenAI's "predicted outputs"."""
    return name == "prediction" and isinstance(value, dict) and value.get("type") == "content" and "content" in value


def is_async(program: Any) -> bool:
    """Return whether a program can run as a coroutine by itself (``acall``)."""
    found = entry_point(program)
    return found is not None and found[1] == "aforward"


def untyped(field: Any) -> bool:
    """Return whether a field of a signature was declared without a type, as in ``"question -> answer"``."""
    return bool(field.json_schema_extra.get(IS_TYPE_UNDEFINED, False))


def description(name: str, field: Any) -> str:
    """Return what the author of a signature wrote about a field, or an empty string."""
    text = field.json_schema_extra.get("desc") or ""
    return "" if text == f"${{{name}}}" else str(text)


def label(field: Any) -> str:
    """Return how a field is called in prompts, such as ``Sentiment``."""
    return str(field.json_schema_extra["prefix"]).rstrip().removesuffix(":")


def bare_call(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a module as DSPy does, whether its calls go to an agent or not."""
    if isinstance(module, Routed):
        return module.dspex_bare.__call__(module, *args, **kwargs)
    return module(*args, **kwargs)


def bare_acall(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
    """Return the asynchronous call of a module as DSPy makes it, whether its calls go to an agent or not."""
    found: Coroutine[Any, Any, Any] = (
        module.dspex_bare.acall(module, *args, **kwargs)
        if isinstance(module, Routed)
        else module.acall(*args, **kwargs)
    )
    return found


class Routed:
    """What the class of a routed program adds to the program's own: its calls go to a dispatcher.

    It is the first base of a class that is made for one agent, is named as the program's own class, and keeps nothing
    in its instances: these share the attributes of the program.
    """

    dspex_dispatcher: Any
    dspex_bare: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program in its agent, and wait."""
        return self.dspex_dispatcher.call(self, args, kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program in its agent."""
        return await self.dspex_dispatcher.acall(self, args, kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved with pickle, it is the program alone, and can be loaded without this package."""
        found = unrouted(self).__reduce_ex__(protocol)
        if found[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return found
        # Pickle wants the class that it makes to be that of the object, unless it is made in this way.
        return copyreg._reconstructor, (self.dspex_bare, object, None), found[2]  # type: ignore[attr-defined]

    def __copy__(self) -> Any:
        """A copy runs in the same agent."""
        return type(self).of(copy.copy(unrouted(self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy runs in the same agent."""
        return type(self).of(copy.deepcopy(unrouted(self), memo))

    @classmethod
    def of(cls, program: Any) -> Any:
        """Return the program, routed. It shares all its attributes with what is given."""
        made: Any = object.__new__(cls)
        made.__dict__ = program.__dict__
        return made


def routed_class(kind: Any, dispatcher: Any, *more: type) -> Any:
    """Return a class of programs whose calls go to a dispatcher; to all appearances it is the class itself.

    Args:
        kind: the class.
        dispatcher: takes the calls.
        more: classes whose methods come before its own.
    """
    bare = kind.dspex_bare if issubclass(kind, Routed) else kind
    same = ("__module__", "__qualname__", "__doc__", "__firstlineno__")
    looks = {name: getattr(bare, name) for name in same if hasattr(bare, name)}
    return type(bare)(
        bare.__name__, (Routed, *more, bare), {**looks, "dspex_dispatcher": dispatcher, "dspex_bare": bare}
    )


def unrouted(program: Any) -> Any:
    """Return the program without its agent. It shares all its attributes with what is given."""
    if not isinstance(program, Routed):
        return program
    bare: Any = object.__new__(program.dspex_bare)
    bare.__dict__ = program.__dict__
    return bare
