"""A language model for a script: the one that the environment asks for, ready to be used."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import dspy

from dspex.home import Home
from dspex.lm import select, uses_embedded
from dspex.local.address import LANGUAGE_MODEL, Locator
from dspex.local.server import LanguageModelServer
from supervision import ChildSpec, Supervisor


@contextmanager
def language_model(environ: Mapping[str, str] | None = None, *, slots: int = 2, **options: Any) -> Generator[Any]:
    """Use the language model that the environment asks for (`dspex.lm`), as long as this context lasts.

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
        home = Home("dspex language model")
        stack.callback(home.close)
        selected = select(found, Locator(home.runtime))
        if uses_embedded(found):
            spec = ChildSpec(
                LANGUAGE_MODEL, LanguageModelServer, kwargs={"slots": slots, **options}, name=LANGUAGE_MODEL
            )
            home.run(lambda: home.runtime.spawn(Supervisor, [spec]))
        stack.enter_context(dspy.context(**selected.settings()))
        yield selected.lm
