"""What is to be evaluated: from a file, ``SPEC.toml``; or, of a served program, from a table of a tree file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar

import msgspec

from dspex.agents.agent import BadProgram, load
from dspex.data.examples import ExampleFile
from dspex.jobs.spending import TokenPrice, checked_budget, checked_calls
from foundation.options import above_zero, from_zero, whole
from supervision.errors import BadOption


class BadSpec(ValueError):
    """A specification cannot be used: in which ``path``, or where in a tree, and ``why``."""

    def __init__(self, path: Path | str, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path}: {why}")


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all specifications have: what is measured, and the options of `dspex.evaluate.evaluate`."""

    #: The fields that are no options.
    own: ClassVar[tuple[str, ...]] = ("metric", "devset")

    metric: str
    devset: ExampleFile
    budget: float | None = None
    max_calls: int | None = None
    price: TokenPrice | None = None
    metric_id: str | None = None
    num_threads: int = 4
    repetitions: int = 1
    cluster: str | None = None
    failure_score: float = 0.0
    min_coverage: float = 0.95
    metric_timeout: float = 60.0

    def options(self) -> dict[str, Any]:
        """Return the options of the evaluation."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in self.own}

    def function(self, where: Path | str = "spec") -> Callable[..., Any]:
        """Return the metric.

        Raises:
            BadSpec: there is none.
        """
        found = _named(where, "metric", self.metric)
        if not callable(found):
            raise BadSpec(where, f"metric = {self.metric!r}: give a function, not {type(found).__name__}")
        return found  # type: ignore[no-any-return]


class EvaluationSpec(_Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be evaluated, and how. Paths are taken from the folder of the specification.

    Attributes:
        program: ``package.module:name`` of a ``dspy.Module``, or of a class or function that makes one.
        metric: ``package.module:name`` of a function of an example and a prediction.
        devset: the file of the examples.
        log_dir: the folder of the journal.
        state: a file that the program's ``save`` has written; None for the program as it is.
        model: a model string of ``dspy.LM``, or ``local``; None for the one that is chosen outside.

    The others are options of `dspex.evaluate.evaluate`.
    """

    own: ClassVar[tuple[str, ...]] = (*_Spec.own, "program", "log_dir", "state", "model")

    program: str
    log_dir: str
    state: str | None = None
    model: str | None = None
    patience: float = 600.0


class EvaluationJobSpec(_Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An evaluation of a served program, which is given. Paths are taken from the folder for data.

    Attributes:
        metric: ``package.module:name`` of a function of an example and a prediction.
        devset: the file of the examples.
        lm: a model string of ``dspy.LM``, or ``gateway/NAME``; None for the one with which the program is served.
        budget: dollars that it may spend; None for any sum.
        max_calls: how many calls of language models it may make; None for any number.
        price: of the language model, if DSPy does not know it.
        version: which version is evaluated; None for the one that serves when it is ordered.
        against: with which version it is compared; None for none.

    The others are options of `dspex.evaluate.evaluate`.
    """

    # The job pays.
    own: ClassVar[tuple[str, ...]] = (*_Spec.own, "lm", "budget", "max_calls", "price", "version", "against")

    lm: str | None = None
    version: int | None = None
    against: int | None = None

    @classmethod
    def of(cls, where: str, given: Any) -> EvaluationJobSpec:
        """Return a specification, checked, with all that it names there.

        Raises:
            BadSpec: there is something wrong in it.
        """
        try:
            spec = given if isinstance(given, cls) else msgspec.convert(given, cls)
            checked_budget(spec.budget)
            checked_calls(spec.max_calls)
            whole("num_threads", spec.num_threads)
            whole("repetitions", spec.repetitions)
            from_zero("min_coverage", spec.min_coverage)
            above_zero("metric_timeout", spec.metric_timeout)
        except (ValueError, TypeError, BadOption) as error:
            raise BadSpec(where, str(error)) from None
        spec.function(where)
        return spec


class LoadedSpec(msgspec.Struct, frozen=True):
    """A specification with what it names.

    Attributes:
        spec: the specification.
        program: the program.
        metric: the metric.
        devset: the examples.
        log_dir: the folder of the journal.
    """

    spec: EvaluationSpec
    program: Any
    metric: Any
    devset: list[Any]
    log_dir: Path


def read_spec(path: Path) -> EvaluationSpec:
    """Return a specification.

    Raises:
        BadSpec: it cannot be read, or there is something wrong in it.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=EvaluationSpec)
    except OSError as error:
        raise BadSpec(path, f"it cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BadSpec(path, str(error)) from None


def load_spec(path: Path) -> LoadedSpec:
    """Return a specification with the program, the metric and the examples that it names.

    Raises:
        BadSpec: something cannot be read or found.
        BadExamples, BadOption: the examples cannot be used.
    """
    spec = read_spec(path)
    program, metric = _program(path, spec), spec.function(path)
    return LoadedSpec(spec, program, metric, spec.devset.read(path.parent), path.parent / spec.log_dir)


def path_within(folder: Path, path: Any) -> str:
    """Return a path below a folder, to which it leads nowhere else.

    Raises:
        ValueError: it is none, or leads out of there, links included.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("give the path of a file, below the folder for data")
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise ValueError("it leads out of the folder for data; give a path below it")
    return path


def _program(path: Path, spec: EvaluationSpec) -> Any:
    try:
        program = load(_named(path, "program", spec.program))
    except BadProgram as error:
        raise BadSpec(path, f"program = {spec.program!r}: {error.remedy}") from None
    if spec.state is not None:
        try:
            program.load(path.parent / spec.state)
        except Exception as error:
            raise BadSpec(path, f"state = {spec.state!r}: {type(error).__name__}: {error}") from error
    return program


def _named(where: Path | str, what: str, name: str) -> Any:
    """Return what an import path names. The user's own module may raise anything when it is imported."""
    try:
        return resolve_name(name)
    except Exception as error:
        why = f"write package.module:name; {type(error).__name__}: {error}"
        raise BadSpec(where, f"{what} = {name!r}: {why}") from error
