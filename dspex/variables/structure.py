"""The modules of a program: where they are, how one is replaced, and how one is given an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import dspy

#: How a program itself is called among its modules.
ROOT = "self"


class ModuleSlot(NamedTuple):
    """A place in a program where there is a module that another kind could replace.

    Attributes:
        path: from the program to the module; ``self`` for the program itself.
        predictor: the name of its predictor.
        kind: ``Predict`` or ``ChainOfThought``.
    """

    path: str
    predictor: str
    kind: str


def is_plain(module: Any) -> bool:
    """Return whether a module is DSPy's own ``Predict``, and no subclass that may do something else."""
    return type(module) in (dspy.Predict, PredictWithAdapter)


def module_slots(program: Any) -> list[ModuleSlot]:
    """Return the places of a program; none in modules of DSPy's own, such as ``ReAct``, which count on their parts."""
    parents = {id(child): module for _, module in program.named_sub_modules(dspy.Module) for child in _children(module)}
    found = []
    for name, predictor in program.named_predictors():
        path, module, kind = name, predictor, "Predict"
        owner = parents.get(id(predictor))
        if type(owner) is dspy.ChainOfThought:
            path, module, kind = name.removesuffix("predict").removesuffix(".") or ROOT, owner, "ChainOfThought"
        parent = parents.get(id(module))
        if is_plain(predictor) and (parent is None or not type(parent).__module__.startswith("dspy.")):
            found.append(ModuleSlot(path, name, kind))
    return found


def module_at(program: Any, path: str) -> Any:
    """Return the module at a path; None if there is none."""
    wanted = ROOT if path == ROOT else f"{ROOT}.{path}"
    for name, module in program.named_sub_modules(dspy.Module):
        # DSPy writes keys with quotes where it names predictors, and without where it names modules.
        if name == wanted.replace("['", "[").replace("']", "]"):
            return module
    return None


def replaced(program: Any, old: Any, new: Any) -> Any:
    """Return a program in which one module stands wherever another one was: the same object, unless that was all."""
    if program is old:
        return new
    for _, module in list(program.named_sub_modules(dspy.Module)):
        for name, value in list(vars(module).items()):
            vars(module)[name] = _exchanged(value, old, new)
    return program


def _exchanged(value: Any, old: Any, new: Any) -> Any:
    if value is old:
        return new
    if isinstance(value, list):
        value[:] = [_exchanged(item, old, new) for item in value]
    elif isinstance(value, dict):
        value.update({key: _exchanged(item, old, new) for key, item in value.items()})
    elif type(value) is tuple:
        return tuple(_exchanged(item, old, new) for item in value)
    return value


def _children(module: Any) -> Iterator[Any]:
    """Return the modules that belong to a module directly, or in its lists, tuples and mappings."""
    left = list(vars(module).values())
    while left:
        value = left.pop()
        if isinstance(value, dspy.Module):
            yield value
        elif isinstance(value, (list, tuple)):
            left.extend(value)
        elif isinstance(value, dict):
            left.extend(value.values())


class PredictWithAdapter(dspy.Predict):  # type: ignore[misc]
    """A ``dspy.Predict`` that uses its own ``adapter``, whatever the settings say. DSPy's files do not have it."""

    adapter: Any

    def forward(self, **kwargs: Any) -> Any:
        """Ask the language model."""
        with dspy.context(adapter=self.adapter):
            return super().forward(**kwargs)

    async def aforward(self, **kwargs: Any) -> Any:
        """Ask the language model."""
        with dspy.context(adapter=self.adapter):
            return await super().aforward(**kwargs)


def set_adapter(predictor: Any, adapter: Any) -> None:
    """Give a ``dspy.Predict`` an adapter of its own."""
    predictor.__class__ = PredictWithAdapter
    predictor.adapter = adapter
