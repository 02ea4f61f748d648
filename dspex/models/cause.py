"""Why work with a language model cannot go on, in words for people: the first cause, truncated, without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dspex._compat import LM_ERRORS, is_refused
from dspex.fingerprints.programs import is_secret
from dspex.workflow.steps import error_message
from supervision.messages import cut

#: So long a reason may be, and what a provider says in it.
LONGEST, LONGEST_MESSAGE = 1_000, 300
#: That a language model is not to be had until somebody mends that, in a word.
REFUSED = "refused"
#: A secret has at least so many characters: what is shorter would be found in any text.
_SHORTEST_SECRET = 6
_HIDDEN = "***"
#: Errors of language models, and of connections.
_TROUBLE = (*LM_ERRORS, ConnectionError)
#: What comes before a secret.
_NAMED = r"""(\b(?:key|token|password|secret|credentials?)\b(?:\s+(?:provided|given|is))?\s*[:=]?\s*["'`(]?)"""
#: What looks like a secret, whoever has it, after what is left of it.
_SECRET_TEXTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Keys as providers write them, cut or not.
        r"()(?<![\w-])(?:sk|pk|rk|gsk|xai|hf|ghp|github_pat|glpat)[_-][\w*.-]*[\w*]",
        r"()(?<!\w)AIza[\w-]+",
        r"(\b(?:bearer|basic)\s+)[\w.~+/=*-]{16,}",
        rf"{_NAMED}(?=[^\s\"'`]*[\d*])[^\s\"'`&,;)]{{5,}}[^\s\"'`&,;.)]",
        r"([?&][\w.-]*(?:key|token|secret|password|signature)[\w-]*=)[^\s&\"']+",
        r"(\w://[^/\s:@]*:)[^/\s@]+(?=@)",
    )
)


def without_secrets(text: str, secrets: Collection[str] = ()) -> str:
    """Return a text in which no secret stands: none of these, none of the environment's, and nothing that looks so.

    >>> without_secrets("Incorrect API key provided: abc123def. See https://a.example/keys?key=9&page=2")
    'Incorrect API key provided: ***. See https://a.example/keys?key=***&page=2'
    """
    known = {*secrets, *(value for name, value in os.environ.items() if is_secret(name))}
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _HIDDEN)
    for pattern in _SECRET_TEXTS:
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return text


def secrets_of(lm: Any) -> Iterator[str]:
    """Return what of a language model's settings is secret, in every way in which it may be written."""
    for name, value in getattr(lm, "kwargs", {}).items():
        if is_secret(name):
            for text in value.values() if isinstance(value, Mapping) else (value,):
                if isinstance(text, str):
                    yield from {text, text.rpartition(" ")[2]}


def failure_words(error: BaseException, secrets: Collection[str] = (), model: str = "") -> tuple[str, str]:
    """Return why a job has failed, and the same in a word: `REFUSED` if a language model is not to be had.

    Args:
        error: has ended it.
        secrets: do not stand in it.
        model: which one it is, if the error does not say it.
    """
    if any(map(is_refused, _chain(error))):
        named = next((str(vars(each)["model"]) for each in _chain(error) if vars(each).get("model")), model)
        why = f"{_called(named)} is not to be had: {cause_words(error, secrets)}"
        return f"{why}; mend that, and resume the job", REFUSED
    return cut(without_secrets(f"{type(error).__name__}: {error_message(error)}", secrets), LONGEST), "error"


def away_words(error: BaseException, model: str, secrets: Collection[str] = ()) -> str:
    """Return that a language model is away, and why."""
    return f"{_called(model)} is away: {cause_words(error, secrets)}"


def cause_words(error: BaseException, secrets: Collection[str] = ()) -> str:
    """Return what has led to an error in the first place: of a model's error its HTTP status, and what was said.

    >>> cause_words(ConnectionError("refused by tcp://me:mine@models.example"))
    'ConnectionError: refused by tcp://me:***@models.example'
    """
    troubles = [each for each in _chain(error) if isinstance(each, _TROUBLE) or is_refused(each)]
    first = troubles[-1]
    status = next((vars(each)["status"] for each in troubles if vars(each).get("status") is not None), None)
    said = str(vars(first)["message"]) if isinstance(first, LM_ERRORS) else error_message(first)
    # After the first paragraph comes advice on how to call the client.
    said = " ".join(without_secrets(said, secrets).partition("\n\n")[0].split())
    return f"{'' if status is None else f'HTTP {status}, '}{type(first).__name__}: {cut(said, LONGEST_MESSAGE)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return an error, and what has led to it, the first cause last."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        why = vars(found).get("why")
        found = why if isinstance(why, BaseException) else found.__cause__


def _called(model: str) -> str:
    return f"the language model {model}" if model else "the language model"
