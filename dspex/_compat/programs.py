"""Programs, those whose calls go to a dispatcher, and the fields of their signatures."""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Mapping
from typing import Any

from dspy.adapters.utils import annotation_allows_none as annotation_allows_none
from dspy.adapters.utils import apply_output_field_defaults as apply_output_field_defaults
from dspy.adapters.utils import format_field_value as format_field_value
from dspy.adapters.utils import get_annotation_name as get_annotation_name
from dspy.adapters.utils import parse_value as parse_value
from dspy.utils.constants import IS_TYPE_UNDEFINED


def is_async(program: Any) -> bool:
    """Return whether a program can run as a coroutine by itself (``acall``)."""
    return hasattr(program, "aforward")


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


async def bare_acall(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a module asynchronously as DSPy does, whether its calls go to an agent or not."""
    if isinstance(module, Routed):
        return await module.dspex_bare.acall(module, *args, **kwargs)
    return await module.acall(*args, **kwargs)


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


def routed_class(kind: Any, dispatcher: Any) -> Any:
    """Return a class of programs whose calls go to a dispatcher; to all appearances it is the class itself."""
    bare = kind.dspex_bare if issubclass(kind, Routed) else kind
    same = ("__module__", "__qualname__", "__doc__", "__firstlineno__")
    looks = {name: getattr(bare, name) for name in same if hasattr(bare, name)}
    return type(bare)(bare.__name__, (Routed, bare), {**looks, "dspex_dispatcher": dispatcher, "dspex_bare": bare})


def unrouted(program: Any) -> Any:
    """Return the program without its agent. It shares all its attributes with what is given."""
    if not isinstance(program, Routed):
        return program
    bare: Any = object.__new__(program.dspex_bare)
    bare.__dict__ = program.__dict__
    return bare
