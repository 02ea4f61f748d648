"""What is to be optimised, how and with what: a table of a tree file, or a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import dspy
import msgspec

from dspex.agents.agent import BadProgram, load
from dspex.data.examples import BadExamples, read_examples
from dspex.jobs.spending import TokenPrice, checked_budget, checked_calls
from dspex.optimise.feedback import FeedbackExamples
from dspex.teleprompt import Durable, DurableTeleprompter
from foundation.store import Database
from supervision import Runtime
from supervision.errors import BadOption


class BadOptimisationSpec(ValueError):
    """A specification cannot be used: ``where`` it says it, and ``why``."""

    def __init__(self, where: str, why: str) -> None:
        self.where, self.why = where, why
        super().__init__(f"{where}: {why}")


class Trainset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The examples to learn from: of a file, or of a table of the tree's store; of feedback, or of both.

    Attributes:
        inputs: the fields that the program is given; all others are labels.
        path: a file, as `dspex.data.examples.read_examples` reads it.
        types: of fields of a file.
        table: a table of the store, whose values are mappings.
        store: the name of the store.
        limit: how many of these are read at most; None for all.
        feedback: what people have said of a program's answers; it is added to a file, or a table, where that does not
            have the same inputs.
    """

    inputs: tuple[str, ...]
    path: str | None = None
    types: dict[str, str] = {}
    table: str | None = None
    store: str = "store"
    limit: int | None = None
    feedback: FeedbackExamples | None = None

    def read(self, folder: Path, runtime: Runtime) -> list[Any]:
        """Return the examples of the file or table, if there is one; a path is taken from a folder.

        Raises:
            BadExamples, BadOption: they cannot be used.
        """
        if self.path is not None:
            return read_examples(folder / self.path, self.inputs, types=self.types, limit=self.limit)
        if self.table is None:
            return []
        table = Database.of(runtime, self.store).table(self.table)
        rows = [value for _, value in table.items()][: self.limit]
        for row in rows:
            if not isinstance(row, Mapping) or not set(self.inputs) <= row.keys():
                raise BadExamples(f"table {self.table!r}", None, f"a row has not the fields {', '.join(self.inputs)}")
        if not rows:
            raise BadExamples(f"table {self.table!r}", None, "no examples; it needs at least one")
        return [dspy.Example(**row).with_inputs(*self.inputs) for row in rows]


class OptimisationSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An optimisation. Paths are taken from the folder of the specification, or the working directory.

    Attributes:
        program: ``package.module:name`` of a ``dspy.Module``, or of a class or function that makes one.
        metric: ``package.module:name`` of a function of an example and a prediction.
        trainset: the examples.
        optimiser: ``package.module:Class`` of an optimiser of this package, or of DSPy's (which is made `Durable`).
        options: of the optimiser.
        compile: what its ``compile`` takes besides.
        seed: of its chance.
        lm: a model string of ``dspy.LM``, or ``gateway/NAME``; None for the one with which the program is served, or,
            if it is not, for what the environment says.
        budget: dollars that it may spend; None for any sum.
        max_calls: how many calls of language models it may make; None for any number.
        price: of the language model, if DSPy does not know it.
    """

    program: str
    metric: str
    trainset: Trainset
    optimiser: str = "dspex.teleprompt:SIMBA"
    options: dict[str, Any] = {}
    compile: dict[str, Any] = {}
    seed: int = 0
    lm: str | None = None
    budget: float | None = None
    max_calls: int | None = None
    price: TokenPrice | None = None

    @classmethod
    def of(cls, where: str, given: Any) -> OptimisationSpec:
        """Return a specification, checked, with all that it names there.

        Raises:
            BadOptimisationSpec: there is something wrong in it.
        """
        try:
            spec = given if isinstance(given, cls) else msgspec.convert(given, cls)
            checked_budget(spec.budget)
            checked_calls(spec.max_calls)
        except (ValueError, TypeError, BadOption) as error:
            raise BadOptimisationSpec(where, str(error)) from None
        given_examples = (spec.trainset.path is not None) + (spec.trainset.table is not None)
        if given_examples > 1 or (not given_examples and spec.trainset.feedback is None):
            remedy = "give the path of a file, or the table of a store; or feedback, alone or beside it"
            raise BadOptimisationSpec(f"{where}.trainset", remedy)
        spec.student(where)
        if not callable(_named(f"{where}.metric", spec.metric)):
            raise BadOptimisationSpec(f"{where}.metric", f"{spec.metric!r} is no function")
        made = spec.teleprompter(where)
        try:
            made.check_taken(spec.compile)
        except BadOption as error:
            raise BadOptimisationSpec(f"{where}.compile", str(error)) from None
        return spec

    def student(self, where: str = "spec") -> Any:
        """Return the program.

        Raises:
            BadOptimisationSpec: there is none.
        """
        try:
            return load(self.program)
        except BadProgram as error:
            raise BadOptimisationSpec(f"{where}.program", str(error)) from None
        except Exception as error:  # of the user's own code
            why = f"{self.program!r} has raised {type(error).__name__}: {error}"
            raise BadOptimisationSpec(f"{where}.program", why) from error

    def teleprompter(self, where: str = "spec", **durable: Any) -> DurableTeleprompter:
        """Return the optimiser.

        Args:
            where: the specification is, for the error.
            durable: options of `DurableTeleprompter`.

        Raises:
            BadOptimisationSpec: there is none, or not with these options.
        """
        kind, metric = _named(f"{where}.optimiser", self.optimiser), _named(f"{where}.metric", self.metric)
        try:
            if isinstance(kind, type) and issubclass(kind, DurableTeleprompter):
                made: DurableTeleprompter = kind(metric=metric, **self.options, **durable)
                return made
            if isinstance(kind, type) and issubclass(kind, dspy.teleprompt.Teleprompter):
                return Durable(kind(metric=metric, **self.options), **durable)
        except (TypeError, ValueError, BadOption) as error:
            raise BadOptimisationSpec(f"{where}.options", str(error)) from None
        raise BadOptimisationSpec(f"{where}.optimiser", f"{self.optimiser!r} is no optimiser")


def read_spec(path: Path) -> OptimisationSpec:
    """Return the specification in a file.

    Raises:
        BadOptimisationSpec: it cannot be read, or there is something wrong in it.
    """
    try:
        given = msgspec.toml.decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadOptimisationSpec(str(path), str(error)) from None
    return OptimisationSpec.of(str(path), given)


def _named(where: str, name: str) -> Any:
    try:
        return resolve_name(name)
    except Exception as error:  # of the user's own module
        why = f"{name!r}: write package.module:name; {type(error).__name__}: {error}"
        raise BadOptimisationSpec(where, why) from None
