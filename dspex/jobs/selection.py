"""Which language model a job asks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dspy

from dspex.models.gateway.client import gateway_lm
from dspex.models.local.server import LANGUAGE_MODEL, Locator
from dspex.models.selection import GATEWAY_PREFIX, SelectedLM, select_lm
from foundation.programs import GetSettings, program_name
from supervision import Runtime, call_when_ready

#: Seconds that a served program has to start.
_READY = 60.0


async def job_settings(runtime: Runtime, program: str, lm: Any, server: str = LANGUAGE_MODEL) -> dict[str, Any]:
    """Return the settings of a job for a program: the language model, and the adapter.

    Args:
        runtime: where the program, the gateway, or the embedded model, is found.
        program: the name of the program.
        lm: a language model, or its model string; None for the one with which the program is served, or, if it is not,
            for what the environment says.
        server: under which name the embedded model is found.

    Raises:
        CallError: the program does not say it.
        BadSetting, ModelMissing: there is no such language model.
    """
    name = program_name(program)
    if lm is not None or (runtime.whereis(name) is None and not runtime.expected(name)):
        selected = select_model(runtime, lm, server)
        return {**selected.settings(), "lm": selected.lm}
    settings = await call_when_ready(runtime.name(name), GetSettings(), _READY)
    return {key: settings[key] for key in ("lm", "adapter")}


def select_model(runtime: Runtime, lm: Any, server: str = LANGUAGE_MODEL) -> SelectedLM:
    """Return the language model for a job, and its adapter.

    Args:
        runtime: where the gateway, or the embedded model, is found.
        lm: a language model, or its model string; None for what the environment says.
        server: under which name the embedded model is found.
    """

    def made(model: str, options: Mapping[str, Any]) -> Any:
        if model.startswith(GATEWAY_PREFIX):
            return gateway_lm(runtime, model.removeprefix(GATEWAY_PREFIX), **options)
        return dspy.LM(model, **options)

    if lm is None:
        return select_lm(os.environ, Locator(runtime, server), chance=runtime.random, make=made)
    return SelectedLM(made(lm, {}) if isinstance(lm, str) else lm, None)
