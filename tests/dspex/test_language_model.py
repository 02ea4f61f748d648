"""A language model for a script: there as long as the script needs it, and then gone."""

from __future__ import annotations

import threading

import dspy
import pytest

from dspex import BadSetting, CompactAdapter, language_model
from tests.dspex.children import GOOD, alive, pid_of, python


def homes() -> list[str]:
    """The threads of runtimes for scripts."""
    return [thread.name for thread in threading.enumerate() if thread.name == "dspex language model"]


def test_the_embedded_model_is_served_as_long_as_it_is_used() -> None:
    """It is DSPy's language model inside of the context, with its own adapter; then its process has ended."""
    with language_model({}, arguments=python(GOOD)) as lm:
        assert dspy.settings.lm is lm
        assert isinstance(dspy.settings.adapter, CompactAdapter)
        pid = pid_of(lm._engine_spec._endpoint())
        assert alive(pid)
    assert not alive(pid)
    assert homes() == []
    assert dspy.settings.lm is not lm


def test_another_model_needs_no_process() -> None:
    """What the environment names is used."""
    with language_model({"DSPEX_LM": "openai/none"}) as lm:
        assert (lm.model, dspy.settings.lm) == ("openai/none", lm)


def test_a_wrong_setting_leaves_nothing_behind() -> None:
    """The error is the environment's."""
    with pytest.raises(BadSetting, match="DSPEX_TEMPERATURE='hot'"), language_model({"DSPEX_TEMPERATURE": "hot"}):
        raise AssertionError("there is no such model")
    assert homes() == []
