"""Which language model a served program uses: the order of choice, and the event that says what was chosen.

The strongest first:

===================== ==================================================================================
its predictors' own   ``program.set_lm(...)``, or a saved state that may choose one: for these predictors
an argument           ``lm=`` of the program's actor, or ``settings={"lm": …}``
the environment       ``DSPEX_LM``, see `dspex.models.selection`
configured            ``dspy.configure(lm=...)`` in the module of the program, or before the actor starts
embedded              the model that runs on this machine, if nothing else was chosen
===================== ==================================================================================

The adapter is that of ``adapter=`` or ``settings``, or the one that is configured, or the one that suits the model.
A caller in the same process overrides both for its request, with ``dspy.context``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from dspex.models.selection import BadSetting, SelectedLM
from supervision import Ref, Runtime
from supervision.events import Event
from supervision.logs import get_logger

_log: Any = get_logger("dspex")

Source: TypeAlias = Literal["argument", "environment", "configured", "predictors", "embedded"]
#: What the environment may say of a model that it chooses.
_OF_THE_MODEL = ("DSPEX_API_BASE", "DSPEX_API_KEY", "DSPEX_MODEL_TYPE", "DSPEX_TEMPERATURE", "DSPEX_MAX_TOKENS")


class LanguageModelChosen(Event, frozen=True, kw_only=True):
    """A program that starts has chosen its language model.

    Attributes:
        ref: the program's actor.
        path: its place in the tree.
        program: the name of the program's class.
        model: the model's name; empty if only its predictors have models.
        source: who has chosen it; see `dspex.serving.model`.
        instead_of: the model that ``dspy.configure`` has chosen, if another one is used; empty if not.
        predictors: those that have a model of their own, with its name.
    """

    ref: Ref
    path: str
    program: str
    model: str
    source: Source
    instead_of: str
    predictors: Mapping[str, str]


class ChosenLM(NamedTuple):
    """The settings that are chosen, who has chosen them, and what with that is not used although it is configured."""

    settings: dict[str, Any]
    source: Source
    instead_of: str
    predictors: dict[str, str]

    def tell(self, runtime: Runtime, ref: Ref, program: str) -> None:
        """Say it: as an event, and in the log, aloud if what is configured is not used."""
        model = model_name(self.settings.get("lm"))
        about = {"program": program, "model": model, "source": self.source, "instead_of": self.instead_of}
        runtime.events.emit(LanguageModelChosen, ref=ref, path=ref.path, predictors=self.predictors, **about)
        level = logging.WARNING if self.instead_of else logging.INFO
        _log.log(level, "language_model_chosen", path=ref.path, predictors=self.predictors, **about)


def choose_lm(
    program: Any,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    configured: Mapping[str, Any],
    select: Callable[[Mapping[str, str]], SelectedLM],
) -> ChosenLM:
    """Return the language model, and the adapter that suits it, that a program is to use.

    Args:
        program: the program.
        given: the settings that the program's actor was given.
        environ: the environment.
        configured: the settings that are configured for the program.
        select: returns what the environment selects.

    Raises:
        BadSetting: a variable is wrong, or says something of a model that the environment does not choose.
        ModelMissing: there is none.
    """
    predictors = {name: model_name(each.lm) for name, each in program.named_predictors() if each.lm is not None}
    selected, source = _selected(predictors, program, given, environ, configured, select)
    # Both are said, also if there is none: what another program's module has configured is none of this program's.
    used = {"lm": None, "adapter": None, **configured, **selected, **given}
    mine = configured.get("lm")
    unused = mine is not None and used.get("lm") is not mine
    if configured.get("adapter") is not None and "adapter" not in given:
        used["adapter"] = configured["adapter"]
    return ChosenLM(used, source, model_name(mine) if unused else "", predictors)


def _selected(
    predictors: Mapping[str, str],
    program: Any,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    configured: Mapping[str, Any],
    select: Callable[[Mapping[str, str]], SelectedLM],
) -> tuple[dict[str, Any], Source]:
    if given.get("lm") is not None:
        return {}, "argument"
    if environ.get("DSPEX_LM"):
        return select(environ).settings(), "environment"
    own = bool(predictors) and len(predictors) == len(program.predictors())
    if configured.get("lm") is None and not own:
        return select(environ).settings(), "embedded"
    for variable in _OF_THE_MODEL:
        if environ.get(variable):
            raise BadSetting(
                variable, "***", "the program's code has chosen its model; set DSPEX_LM too, to use another"
            )
    return ({}, "configured") if configured.get("lm") is not None else ({}, "predictors")


def model_name(lm: Any) -> str:
    """Return the name of a language model; empty if there is none."""
    return "" if lm is None else str(getattr(lm, "model", type(lm).__name__))
