"""The space of a program, extracted from the program itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import dspy

from dspex.variables.space import Constraint, Space
from dspex.variables.structure import (
    ModuleSlot,
    PredictWithAdapter,
    is_plain,
    module_at,
    module_slots,
    replaced,
    set_adapter,
)
from dspex.variables.variable import BadConfiguration, BadVariable, Choice, Configuration, Float, ModuleChoice, Variable

#: Makes a module of a signature.
Kind: TypeAlias = Callable[[Any], Any]

#: What a predictor has already, by this name.
OWN = "own"
KINDS: Mapping[str, Kind] = {"Predict": dspy.Predict, "ChainOfThought": dspy.ChainOfThought}
ADAPTERS: Mapping[str, Any] = {"chat": dspy.ChatAdapter(), "json": dspy.JSONAdapter(), "xml": dspy.XMLAdapter()}

_REASONING = "reasoning"


class ProgramSpace(Space):
    """What can be chosen in one program. `extract` makes it.

    A configuration of it is made of texts and numbers only, and means the same whenever it is applied.
    """

    def __init__(
        self,
        program: Any,
        variables: Iterable[Variable],
        kinds: Mapping[str, Kind],
        constraints: Mapping[str, Constraint] | None,
    ) -> None:
        super().__init__(variables, constraints=constraints)
        self._kinds = kinds
        self._types = {type(kind("question -> answer")): name for name, kind in kinds.items()}
        self._slots = module_slots(program) if kinds else []
        self._predictors = [name for name, _ in program.named_predictors()]

    def apply(self, program: Any, configuration: Configuration) -> Any:
        """Return a program as a configuration says: another one, what was given is left as it is.

        With the defaults it is a copy that DSPy would write to a file with the same bytes.

        Args:
            program: that the space was taken from, or one with the same predictors.
            configuration: values by name, those that were chosen; the others have their defaults.

        Raises:
            BadConfiguration: it does not fit the space, or the program is another one.
        """
        found = self.complete(configuration)
        made = program.deepcopy()
        predictors = dict(made.named_predictors())
        missing = [f"predictor {name!r}: the program has none" for name in self._predictors if name not in predictors]
        if missing:
            raise BadConfiguration(missing)
        for name, predictor in predictors.items():
            self._set(name, predictor, found)
        for slot in self._slots:
            made = self._exchange(made, slot, predictors[slot.predictor], found[f"{slot.path}.module"])
        if found.get("adapter", OWN) != OWN:
            for _, predictor in made.named_predictors():
                set_adapter(predictor, self._value("adapter", found))
        return made

    def read(self, program: Any) -> dict[str, Any]:
        """Return the configuration that a program has, such as one that `apply` has returned.

        Of two names for the same value it is the first.

        Raises:
            BadConfiguration: it has something that cannot be chosen here.
        """
        found: dict[str, Any] = {}
        problems: list[str] = []
        predictors = dict(program.named_predictors())
        for slot in self._slots:
            module = module_at(program, slot.path)
            kind = self._types.get(dspy.Predict if is_plain(module) else type(module))
            if kind is None:
                there = "not there" if module is None else f"a {type(module).__name__}, which cannot be chosen"
                problems.append(f"module {slot.path!r}: it is {there}")
            else:
                found[f"{slot.path}.module"] = kind
                predictors[slot.predictor] = next(iter(dict(module.named_predictors()).values()))
        for name in self._predictors:
            if name in predictors:
                found.update(self._get(name, predictors[name]))
            else:
                problems.append(f"predictor {name!r}: the program has none")
        problems += [f"variable {name!r}: the program has something else" for name in found if found[name] is None]
        if problems:
            raise BadConfiguration(problems)
        return self.complete(found)

    def _value(self, name: str, configuration: Configuration) -> Any:
        variable = self.variables[name]
        assert isinstance(variable, Choice)
        return variable.value(configuration[name])

    def _changed(self, name: str, configuration: Configuration) -> bool:
        """Return whether a value other than the default was chosen."""
        return name in self.variables and configuration[name] != self.variables[name].default

    def _set(self, name: str, predictor: Any, found: Configuration) -> None:
        if self._changed(f"{name}.instruction", found):
            text = self._value(f"{name}.instruction", found)
            predictor.signature = predictor.signature.with_instructions(text)
        if self._changed(f"{name}.demos", found):
            predictor.demos = list(self._value(f"{name}.demos", found))
        if self._changed("temperature", found):
            predictor.config = {**predictor.config, "temperature": found["temperature"]}
        if self._changed("lm", found):
            predictor.lm = self._value("lm", found)

    def _get(self, name: str, predictor: Any) -> dict[str, Any]:
        """Return what a predictor has, for each variable about it; None for what cannot be chosen."""
        has: dict[str, Any] = {
            f"{name}.instruction": predictor.signature.instructions,
            f"{name}.demos": list(predictor.demos),
            "lm": predictor.lm,
        }
        found = {key: self._named(key, value) for key, value in has.items() if key in self.variables}
        if "temperature" in self.variables:
            found["temperature"] = predictor.config.get("temperature", self.variables["temperature"].default)
        if "adapter" in self.variables:
            own = type(predictor) is not PredictWithAdapter
            found["adapter"] = OWN if own else self._named("adapter", predictor.adapter, type)
        return found

    def _named(self, name: str, value: Any, by: Callable[[Any], Any] = lambda value: value) -> str | None:
        variable = self.variables[name]
        assert isinstance(variable, Choice)
        return next((key for key, choice in variable.choices.items() if by(choice) == by(value)), None)

    def _exchange(self, program: Any, slot: ModuleSlot, predictor: Any, kind: str) -> Any:
        """Put a module of another kind into a slot, with all that its predictor has."""
        if kind == slot.kind:
            return program
        signature = predictor.signature
        if slot.kind == "ChainOfThought":
            signature = signature.delete(_REASONING)
        made = self._kinds[kind](signature)
        for _, inner in made.named_predictors():
            inner.lm, inner.config = predictor.lm, dict(predictor.config)
            if set(signature.fields) <= set(inner.signature.fields):
                inner.demos = list(predictor.demos)
        return replaced(program, module_at(program, slot.path), made)


def extract(
    program: Any,
    *,
    instructions: Mapping[str, Sequence[str]] | None = None,
    demos: Mapping[str, Sequence[Sequence[Any]]] | None = None,
    temperature: bool | Float = False,
    adapters: bool | Mapping[str, Any] = False,
    modules: bool | Mapping[str, Kind] = False,
    lms: Mapping[str, Any] | None = None,
    variables: Iterable[Variable] = (),
    constraints: Mapping[str, Constraint] | None = None,
) -> ProgramSpace:
    """Return what can be chosen in a program. What it has already is the default, and called ``own``.

    Sub-programs that are compiled are left as they are.

    >>> import dspy
    >>> program = dspy.Predict("question -> answer")
    >>> space = extract(program, instructions={"self": ["Be brief."]}, modules=True)
    >>> space.defaults
    {'self.instruction': 'own', 'self.module': 'Predict'}
    >>> type(space.apply(program, {"self.module": "ChainOfThought"})).__name__
    'ChainOfThought'

    Args:
        program: any ``dspy.Module``.
        instructions: ``PREDICTOR.instruction``: by the name of a predictor, those to choose from besides its own.
        demos: ``PREDICTOR.demos``: the same for sets of demonstrations.
        temperature: ``temperature`` of all predictors, from 0 to 1, or as a variable says.
        adapters: ``adapter`` of all predictors: by names of your own, or ``chat``, ``json`` and ``xml``. It is not in
            DSPy's files.
        modules: ``MODULE.module``: by the path of a ``Predict`` or ``ChainOfThought``, which kind it is: of these two,
            and of those that are given, each by what makes it of a signature.
        lms: ``lm`` of all predictors, by names of your own.
        variables: more variables, of which `ProgramSpace.apply` makes nothing.
        constraints: what has to hold of a whole configuration, each by a name that says it.

    Raises:
        BadVariable: there is no such predictor, or it cannot have an adapter of its own.
    """
    predictors = dict(program.named_predictors())
    for what, given in (("instruction", instructions or {}), ("demos", demos or {})):
        for name in given:
            if name not in predictors:
                raise BadVariable(f"{name}.{what}", f"there is no such predictor; choose among {', '.join(predictors)}")
    found: list[Variable] = []
    for name, predictor in predictors.items():
        if instructions is not None:
            found.append(_choice(f"{name}.instruction", predictor.signature.instructions, instructions.get(name, ())))
        if demos is not None:
            found.append(_choice(f"{name}.demos", predictor.demos, demos.get(name, ())))
    if temperature:
        found.append(_temperature(predictors.values()) if temperature is True else temperature)
    if lms:
        found.append(Choice(name="lm", choices={OWN: None, **lms}, default=OWN))
    kinds: Mapping[str, Kind] = {}
    if modules:
        kinds = KINDS if modules is True else {**KINDS, **modules}
        found += [
            ModuleChoice(name=f"{slot.path}.module", choices=kinds, default=slot.kind) for slot in module_slots(program)
        ]
    if adapters:
        for name, predictor in predictors.items():
            if not is_plain(predictor):
                raise BadVariable("adapter", f"predictor {name!r} is a {type(predictor).__name__}: it has its own ways")
        ways = ADAPTERS if adapters is True else adapters
        found.append(Choice(name="adapter", choices={OWN: None, **ways}, default=OWN))
    return ProgramSpace(program, [*found, *variables], kinds, constraints)


def _choice(name: str, own: Any, others: Sequence[Any]) -> Choice:
    return Choice(name=name, choices={OWN: own, **{str(n): other for n, other in enumerate(others, 1)}}, default=OWN)


def _temperature(predictors: Iterable[Any]) -> Float:
    """Return the variable; the default is what the program has now, as far as that can be known."""
    found = [
        settings["temperature"]
        for predictor in predictors
        for settings in (predictor.config, getattr(predictor.lm or dspy.settings.lm, "kwargs", {}))
        if settings.get("temperature") is not None
    ]
    default = float(found[0]) if found else 1.0
    return Float(name="temperature", low=0.0, high=max(1.0, default), default=default)
