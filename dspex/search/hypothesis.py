"""Hypotheses: the programs of a race, and what makes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from random import Random
from typing import Any, TypeAlias

import dspy
import msgspec

from dspex.fingerprints import code_fingerprint, content_digest, models_fingerprint, program_fingerprint
from dspex.search.errors import BadHypotheses
from dspex.variables import BadConfiguration, Choice, ProgramSpace, extract
from foundation.options import whole

#: How often another configuration is drawn for each that is wanted, until none is found that is new.
_DRAWS = 100


class Hypothesis(msgspec.Struct, frozen=True):
    """A program that may be better than the student.

    Attributes:
        name: in reports and events.
        program: a ``dspy.Module``; or a function of a copy of the student, which it changes, or instead of which it
            returns another program.
        why: what speaks for it, for the report.

    Raises:
        BadHypotheses: the name is no text.
    """

    name: str
    program: Any
    why: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BadHypotheses(self.name, "a name is wanted first, and then the program: Hypothesis(name, program)")


#: Makes hypotheses of the student, the training set and the seed.
Maker: TypeAlias = Callable[[Any, Sequence[Any], int], Iterable[Any]]


class Configurations:
    """Makes a hypothesis of each configuration of the student's space, or of some, drawn by the seed.

    Args:
        sample: how many; None for all, if there are not infinitely many.
        what: there is to choose, as for `dspex.variables.extract`.

    Raises:
        BadOption: ``sample`` is no whole number from 1.
    """

    def __init__(self, sample: int | None = None, **what: Any) -> None:
        self.sample = None if sample is None else whole("Configurations: sample", sample)
        self.what = what

    def __call__(self, student: Any, trainset: Sequence[Any], seed: int) -> list[Hypothesis]:
        """Return the hypotheses, but for the student.

        Raises:
            BadVariable: the student has not what there is to choose.
            BadHypotheses: all are wanted, and there are infinitely many.
        """
        space = extract(student, **self.what)
        own = content_digest(space.defaults)
        found = {content_digest(one): one for one in self._configurations(space, seed)}
        found.pop(own, None)
        chosen = itertools.islice(found.values(), self.sample)
        return [Hypothesis(_said(space, one), space.apply(student, space.chosen(one))) for one in chosen]

    def _configurations(self, space: ProgramSpace, seed: int) -> Iterator[dict[str, Any]]:
        if self.sample is not None:
            chance = Random(seed)
            return (space.draw(chance) for _ in range(_DRAWS * self.sample))
        endless = [name for name, one in space.variables.items() if not isinstance(one, Choice)]
        if endless:
            raise BadHypotheses(self.what, f"{', '.join(endless)} may be any number; give a sample, such as 24")
        return self._all(space)

    @staticmethod
    def _all(space: ProgramSpace) -> Iterator[dict[str, Any]]:
        choices: list[list[str]] = [list(one.choices) for one in space.variables.values() if isinstance(one, Choice)]
        for values in itertools.product(*choices):
            try:
                yield space.complete(dict(zip(space.variables, values, strict=True)))
            except BadConfiguration:
                continue


def _said(space: ProgramSpace, configuration: Mapping[str, Any]) -> str:
    chosen, own = space.chosen(configuration), space.defaults
    return ", ".join(f"{name} {value}" for name, value in chosen.items() if value != own[name])


def source_of(given: Any) -> Any:
    """Return what was given for hypotheses, with a name resolved, and a table made `Configurations`.

    Raises:
        BadHypotheses: it is nothing that can be raced.
    """
    found = given
    if isinstance(given, str):
        try:
            found = resolve_name(given)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadHypotheses(given, f"write package.module:name; {error}") from error
    if isinstance(found, Mapping):
        try:
            return Configurations(**found)
        except TypeError as error:
            raise BadHypotheses(given, f"{error}; give what dspex.variables.extract takes, and a sample") from error
    if isinstance(found, dspy.Module):
        return [found]
    if not callable(found) and not isinstance(found, Sequence):
        raise BadHypotheses(given, "give programs, what makes them, its import path, or a table of what to choose")
    return found


def described(source: Any) -> Any:
    """Return what tells the hypotheses of a race from others, for the journal."""
    if callable(source):
        return code_fingerprint(source)
    prints = [_described(one) for one in source]
    return {"hypotheses": len(prints), "digest": content_digest(prints)[:16]}


def _described(one: Any) -> Any:
    if isinstance(one, Hypothesis):
        return _described(one.program)
    return [program_fingerprint(one), models_fingerprint(one, None)] if _is_program(one) else code_fingerprint(one)


def _is_program(value: Any) -> bool:
    return isinstance(value, dspy.Module)


def hypotheses_of(source: Maker | Sequence[Any], student: Any, trainset: Sequence[Any], seed: int) -> list[Hypothesis]:
    """Return the hypotheses: the student first.

    Raises:
        BadHypotheses: one of them is no program, or two have one name.
    """
    given: list[Any] = list(source(student, trainset, seed) if callable(source) else source)
    found = [Hypothesis("student", student)]
    found += [_one(one, number, student) for number, one in enumerate(given, 1)]
    names: set[str] = set()
    for one in found:
        if one.name in names:
            raise BadHypotheses(one.name, "two have this name; give each a name of its own")
        names.add(one.name)
    return found


def _one(given: Any, number: int, student: Any) -> Hypothesis:
    named = given if isinstance(given, Hypothesis) else Hypothesis(f"hypothesis {number}", given)
    program = named.program
    if callable(program) and not _is_program(program):
        copy = student.deepcopy()
        program = program(copy) or copy
    if not _is_program(program):
        why = f"{named.name} is no program: give a dspy.Module, or a function that changes the student"
        raise BadHypotheses(program, why)
    return Hypothesis(named.name, program, named.why)


class ModelsApart:
    """A program, and its language models beside it: DSPy would copy these as well, and each copy would be another.

    Args:
        program: stays as it is.
        original: returns the language model that is meant by one of its.
    """

    def __init__(self, program: Any, original: Callable[[Any], Any]) -> None:
        self.program = program.deepcopy()
        self.models = [original(predictor.lm) for _, predictor in program.named_predictors()]
        for _, predictor in self.program.named_predictors():
            predictor.lm = None

    def copy(self, model: Callable[[Any], Any] = lambda lm: lm) -> Any:
        """Return a copy of the program, with what a function makes of each of its language models."""
        copy = self.program.deepcopy()
        for (_, predictor), lm in zip(copy.named_predictors(), self.models, strict=True):
            predictor.lm = model(lm)
        return copy
