"""Which language model to use, selected from the environment; for a script, `language_model` also serves it.

===================== ==================================================================================
``DSPEX_LM``          any model string of ``dspy.LM``, such as ``openai/gpt-4o-mini``; not set, or
                      ``local``: the embedded model; or ``gateway/NAME``, for programs in a tree with a `dspex.Gateway`
``DSPEX_API_BASE``    where the model is served, if not where its provider does
``DSPEX_API_KEY``     the key; without it, DSPy reads the provider's own variable
``DSPEX_MODEL_TYPE``  ``chat``, ``text`` or ``responses``
``DSPEX_TEMPERATURE`` a number, 0 or more
``DSPEX_MAX_TOKENS``  the longest answer, in tokens
===================== ==================================================================================

A variable that is set to nothing counts as not set. The environment is read when these functions are called,
never at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any, NamedTuple

import dspy

from dspex.agents.background import BackgroundRuntime
from dspex.models.local.adapter import CompactAdapter
from dspex.models.local.engine import AsyncChoiceEngine, ChoiceEngine
from dspex.models.local.server import LANGUAGE_MODEL, LanguageModelServer, Locator
from dspex.models.local.weights import find_model
from supervision import ChildSpec, Supervisor

#: How the model strings of a gateway begin.
GATEWAY_PREFIX = "gateway/"
#: The model string that means the embedded model.
LOCAL = "local"
#: How the embedded model is called in usage, history and saved programs.
EMBEDDED = "local/smollm2"
#: The longest answer of the embedded model, in tokens, unless set otherwise: it does not always
#: find an end.
EMBEDDED_MAX_TOKENS = 256

MODEL_TYPES = ("chat", "text", "responses")


@contextmanager
def language_model(environ: Mapping[str, str] | None = None, *, slots: int = 2, **options: Any) -> Generator[Any]:
    """Use the language model that the environment asks for (`dspex.models.selection`), as long as this context lasts.

    The embedded one is served meanwhile, in an OS process of its own, and restarted if it ends. ``dspy.configure`` is
    not called: the model, and the adapter that suits it, are set as by ``dspy.context``.

    Args:
        environ: the environment; that of the process if None.
        slots: how many requests the embedded model computes side by side.
        options: for `LanguageModelServer`.

    Returns:
        The language model, a ``dspy.LM``.

    Raises:
        BadSetting, ModelMissing: there is no such language model.
    """
    found = os.environ if environ is None else environ
    with ExitStack() as stack:
        background = BackgroundRuntime("dspex language model")
        stack.callback(background.close)
        selected = select_lm(found, Locator(background.runtime))
        if uses_embedded(found):
            spec = ChildSpec(
                LANGUAGE_MODEL, LanguageModelServer, kwargs={"slots": slots, **options}, name=LANGUAGE_MODEL
            )
            background.run(lambda: background.runtime.spawn(Supervisor, [spec]))
        stack.enter_context(dspy.context(**selected.settings()))
        yield selected.lm


class SelectedLM(NamedTuple):
    """A language model, and the adapter that suits it; None for DSPy's own choice."""

    lm: Any
    adapter: Any

    def settings(self) -> dict[str, Any]:
        """Return both as settings for ``dspy.context``."""
        return {"lm": self.lm} if self.adapter is None else {"lm": self.lm, "adapter": self.adapter}


def select_lm(
    environ: Mapping[str, str],
    endpoint: Callable[[], str],
    *,
    chance: Random | None = None,
    installed: Callable[[], object] = find_model,
    make: Callable[[str, Mapping[str, Any]], Any] | None = None,
) -> SelectedLM:
    """Return the language model that the environment asks for.

    Args:
        environ: the environment, such as ``os.environ``.
        endpoint: returns where the embedded model is served.
        chance: where the embedded model's draws come from.
        installed: raises `ModelMissing` if the embedded model cannot be used.
        make: makes a language model of a model string and options; None for ``dspy.LM``, and none of a gateway's.

    Raises:
        BadSetting: a variable is wrong.
        ModelMissing: the embedded model is asked for and not installed. The message names the command that
            does it.
    """
    options = _options(environ)
    if not uses_embedded(environ):
        return SelectedLM((make or _bare)(environ["DSPEX_LM"], options), None)
    for variable in ("DSPEX_API_BASE", "DSPEX_API_KEY", "DSPEX_MODEL_TYPE"):
        if environ.get(variable):
            raise BadSetting(variable, "***", "the embedded model ignores it; set DSPEX_LM too")
    installed()
    return SelectedLM(embedded_lm(endpoint, chance=chance, **options), CompactAdapter())


def _bare(model: str, options: Mapping[str, Any]) -> Any:
    if model.startswith(GATEWAY_PREFIX):
        raise BadSetting("DSPEX_LM", model, "a gateway answers programs in a tree (dspex.ProgramActor); name a model")
    return dspy.LM(model, **options)


def _options(environ: Mapping[str, str]) -> dict[str, Any]:
    model_type = environ.get("DSPEX_MODEL_TYPE")
    if model_type and model_type not in MODEL_TYPES:
        raise BadSetting("DSPEX_MODEL_TYPE", model_type, f"choose one of {', '.join(MODEL_TYPES)}")
    options = {
        "model_type": model_type,
        "api_base": environ.get("DSPEX_API_BASE"),
        "api_key": environ.get("DSPEX_API_KEY"),
        "temperature": _number(environ, "DSPEX_TEMPERATURE", float, 0, "give a number, 0 or more"),
        "max_tokens": _number(environ, "DSPEX_MAX_TOKENS", int, 1, "give a whole number, 1 or more"),
    }
    return {name: value for name, value in options.items() if value is not None and value != ""}


def _number(
    environ: Mapping[str, str], variable: str, kind: Callable[[str], float], least: int, remedy: str
) -> float | None:
    text = environ.get(variable)
    if not text:
        return None
    try:
        number = kind(text)
    except ValueError:
        raise BadSetting(variable, text, remedy) from None
    if not least <= number < float("inf"):
        raise BadSetting(variable, text, remedy)
    return number


def uses_embedded(environ: Mapping[str, str]) -> bool:
    """Return whether the environment asks for the embedded model."""
    return (environ.get("DSPEX_LM") or LOCAL) == LOCAL


def embedded_lm(endpoint: Callable[[], str], *, chance: Random | None = None, **options: Any) -> Any:
    """Return the embedded model as a ``dspy.LM``.

    Args:
        endpoint: returns where it is served; asked at each request.
        chance: where its draws come from, at a temperature above 0.
        options: for ``dspy.LM``. Without any, it is deterministic (temperature 0) and does not use DSPy's
            cache.
    """
    defaults = {"cache": False, "temperature": 0.0, "max_tokens": EMBEDDED_MAX_TOKENS}
    return dspy.LM(
        EMBEDDED,
        engine=ChoiceEngine(endpoint, chance=chance),
        async_engine=AsyncChoiceEngine(endpoint, chance=chance),
        **{**defaults, **options},
    )


class BadSetting(ValueError):
    """A variable of the environment is wrong: ``variable`` has ``value``; ``remedy`` is what to do."""

    def __init__(self, variable: str, value: str, remedy: str) -> None:
        self.variable = variable
        self.value = value
        self.remedy = remedy
        super().__init__(f"{variable}={value!r}: {remedy}")
