"""Why a job is where it is: the first cause in words, with status, model and what the provider says; no secrets."""

from __future__ import annotations

import dspy
import pytest

from dspex._compat import lm15
from dspex.evaluate.errors import EvaluationRefused
from dspex.models.cause import (
    LONGEST,
    LONGEST_MESSAGE,
    away_words,
    cause_words,
    failure_words,
    secrets_of,
    without_secrets,
)
from dspex.teleprompt.errors import ModelRefused


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-proj-ABCdef123456. You can", "Incorrect API key provided: ***. You can"),
        ("Incorrect API key provided: sk-ab***********cd.", "Incorrect API key provided: ***."),
        ("key AIzaSyD-12345abc is not valid", "key *** is not valid"),
        ("invalid api key 'f00ba4f00ba4'", "invalid api key '***'"),
        ("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.x was refused", "Authorization: Bearer *** was refused"),
        ("token=abc1234567&x=1", "token=***&x=1"),
        ("GET https://h.example/v1?api_key=hunter2&n=1", "GET https://h.example/v1?api_key=***&n=1"),
        ("cannot reach https://me:hunter2@h.example/v1", "cannot reach https://me:***@h.example/v1"),
        ("model gpt-4o-2024-08-06 is away; ask claude-sonnet-4-20250514", None),
        ("The API key is required, and the token limit of 8192 was passed", None),
        ("bearer authentication is needed at https://h.example:8000/v1", None),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, shown: str | None) -> None:
    assert without_secrets(text) == (text if shown is None else shown)


def test_secrets_of_the_environment_and_of_a_models_settings_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they look, and whichever is part of another; what is too short to be one is left."""
    monkeypatch.setenv("SHOP_API_KEY", "plainwords")
    monkeypatch.setenv("OTHER_TOKEN", "plain")
    options = {"api_key": "plainwords-too", "headers": {"authorization": "Bearer abcdefgh", "n": 5}, "temperature": 0.5}
    found = {*secrets_of(dspy.LM("openai/x", **options))}
    assert found == {"plainwords-too", "Bearer abcdefgh", "abcdefgh"}
    said = "plainwords-too, plainwords, abcdefgh and plain"
    assert without_secrets(said, found) == "***, ***, *** and plain"
    assert [*secrets_of(None)] == []


def wrapped(error: Exception, model: str = "openai/gpt-4o") -> Exception:
    """An error of a model as DSPy raises it."""
    kind = dspy.LMAuthError if isinstance(error, lm15.AuthError) else dspy.LMServerError
    made: Exception = kind(message=error.message, model=model, status=error.status)  # type: ignore[attr-defined]
    made.__cause__ = error
    return made


@pytest.mark.parametrize("kind", [ModelRefused, EvaluationRefused])
def test_a_refusal_says_model_status_and_what_the_provider_said(kind: type[Exception]) -> None:
    """Not what DSPy advises whoever writes code; and the secret is gone before it is cut."""
    error = kind(wrapped(lm15.AuthError("Incorrect API key: sk-abcdefgh1", status=401, provider="openai")))  # type: ignore[call-arg]
    why, cause = failure_words(error)
    name = "the language model openai/gpt-4o is not to be had"
    assert why == f"{name}: HTTP 401, AuthError: Incorrect API key: ***; mend that, and resume the job"
    assert cause == "refused"
    before = "x" * (LONGEST_MESSAGE - 5)
    said = cause_words(lm15.AuthError(f"{before} hunter2-hunter2", status=403), ["hunter2-hunter2"])
    assert said == f"HTTP 403, AuthError: {before} ***"
    assert cause_words(lm15.AuthError("y " * 1_000)).endswith("y…")


def test_an_outage_says_model_status_and_what_the_provider_said() -> None:
    error = wrapped(lm15.ServerError("The engine is overloaded.\n\n  To fix:\n  - wait", status=503))
    why = "the language model openai/gpt-4o is away: HTTP 503, ServerError: The engine is overloaded."
    assert away_words(error, "openai/gpt-4o") == why
    assert away_words(ConnectionRefusedError("nobody there"), "") == (
        "the language model is away: ConnectionRefusedError: nobody there"
    )


def test_a_missing_model_is_a_refusal_without_a_name() -> None:
    error = ModelRefused(ValueError("No LM is loaded. Please configure one"))
    assert failure_words(error)[0].startswith("the language model is not to be had: ValueError: No LM is loaded.")
    assert failure_words(error, (), "x/y")[0].startswith("the language model x/y is not to be had: ValueError")


def test_whatever_else_ends_a_job_is_told_whole_and_cut_if_it_is_long() -> None:
    """An error whose causes go round in a ring, or that cannot be told, is no trouble."""

    class Untold(Exception):
        def __str__(self) -> str:
            raise LookupError

    ring = LookupError("no such metric")
    ring.__cause__ = other = ValueError("x")
    other.__cause__ = ring
    assert failure_words(ring) == ("LookupError: no such metric", "error")
    assert failure_words(Untold())[0] == "Untold: its text cannot be had (LookupError)"
    assert len(failure_words(ValueError("x" * 5_000))[0]) == LONGEST
