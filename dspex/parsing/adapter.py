"""Gives an adapter of DSPy the policy: the same adapter in all else, of a class of the same name.

The policy belongs to one question of a predictor. Each of its calls is the adapter's own call, so that prompts,
options, callbacks and streaming are those of the adapter; what is added is a turn at the end of the prompt that tells
what was wrong, and the reading of what the adapter itself cannot read.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import dspy

from dspex._compat import FinishReason, fallback_scope, next_models, parsing_reporter
from dspex.parsing.errors import AnswerRefused, PromptTooLong, UnparsedAnswer
from dspex.parsing.events import ParsingReport
from dspex.parsing.lenient import empty_fields, read, read_fields, wrong_fields
from dspex.parsing.steps import MoreTokens, NextModel, OnUnparsed, OtherAdapter, Reask, Repair, Shorten

#: How much of an answer is shown to the model again, in characters.
SHOWN = 2000

#: Which steps are of use against what.
_AGAINST: Mapping[str, tuple[type, ...]] = {
    "unreadable": (Reask, OtherAdapter, NextModel),
    "cut": (MoreTokens, NextModel),
    "too long": (Shorten, NextModel),
}


class BadParse(Exception):
    """A validator of the program's own types has raised an ``error`` that says nothing about the answer."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


#: What the policy is for.
_FAILURES = (dspy.AdapterParseError, dspy.ContextWindowExceededError, BadParse)


class _Call(NamedTuple):
    """One call: what is asked of whom, and after which turns of the conversation."""

    adapter: Any
    lm: Any
    options: Mapping[str, Any]
    demos: list[dict[str, Any]]
    inputs: dict[str, Any]
    turns: tuple[dict[str, str], ...] = ()


class _Question:
    """The calls of one question, and what is left of the policy.

    Args:
        policy: what may be tried.
        signature: of the question.
        first: the call that is made first.
    """

    def __init__(self, policy: OnUnparsed, signature: Any, first: _Call) -> None:
        self.call = first
        self.finish = FinishReason()
        self._policy = policy
        self._signature = signature
        self._error: Any = None
        self._attempts = 1
        self._report = parsing_reporter()
        self._steps = [(step, self._calls(step)) for step in policy.steps]

    @contextmanager
    def asked(self) -> Generator[tuple[Any, ...]]:
        """Have the next call made in this context, with what the adapter is called with. A failure ends the context."""
        call = self.call
        token = _question.set(self)
        self.finish.forget()
        try:
            with self.finish.watched():
                # The adapter changes the options.
                yield call.adapter, call.lm, dict(call.options), self._signature, call.demos, call.inputs
        except _FAILURES as error:
            self._error = error
        finally:
            _question.reset(token)

    # -- without another call ------------------------------------------------------------------------------------------

    def parse(self, adapter: Any, signature: Any, completion: str) -> Any:
        """Read an answer.

        Raises:
            dspy.AdapterParseError: it cannot be read, and not be mended either.
            BadParse: what checks it is at fault.
        """
        try:
            return _parsed(adapter, signature, completion)
        except dspy.AdapterParseError as error:
            for step in self._policy.steps:
                # What is read of an answer that was cut off may be cut off itself.
                if isinstance(step, Repair) and not (self.finish.cut and step.function is None):
                    mended = _mended(step, adapter, signature, completion, error)
                    if mended is not None:
                        self._tell(step.name, wrong_fields(signature, error), repaired=True)
                        return mended
            raise

    # -- another call --------------------------------------------------------------------------------------------------

    def go_on(self, begun: bool) -> None:
        """Make the next call, after one that has failed, that of the next step.

        Args:
            begun: whether somebody has seen a part of the answer: then no other can be given.

        Raises:
            Exception: nothing is left to be tried, or nobody waits any more.
        """
        unreadable = not isinstance(self._error, dspy.ContextWindowExceededError)
        if unreadable and self.finish.refused:
            raise AnswerRefused("the language model has refused to answer, or its answer was filtered out")
        step = None if begun or not self._may_ask() else self._next(unreadable)
        if unreadable:
            self._tell("none" if step is None else step, self._wrong())
        if step is None:
            raise self._failure()
        self._attempts += 1

    def _may_ask(self) -> bool:
        return self._attempts < self._policy.max_calls and getattr(self._report, "wanted", True)

    def _next(self, unreadable: bool) -> str | None:
        """Prepare the next call; return the name of its step."""
        against = _AGAINST["too long" if not unreadable else "cut" if self.finish.cut else "unreadable"]
        for step, calls in self._steps:
            if isinstance(step, against) and (call := next(calls, None)) is not None:
                self.call = call
                return step.name
        return None

    def _calls(self, step: Any) -> Iterator[_Call]:
        """Return the calls that a step has, each when it is needed."""
        match step:
            case Reask():
                for _ in range(step.times):
                    yield self.call._replace(turns=(*self.call.turns, *self._turns()))
            case OtherAdapter():
                yield self.call._replace(adapter=step.adapter, turns=())
            case MoreTokens():
                yield self.call._replace(options={**self.call.options, "max_tokens": step.max_tokens})
            case NextModel():
                for lm in next_models(self.call.lm):
                    yield self.call._replace(lm=lm, turns=())
            case _:
                yield from self._shortened(step)

    def _shortened(self, step: Shorten) -> Iterator[_Call]:
        if step.function is None:
            if self.call.demos:
                yield self.call._replace(demos=[])
            return
        while (inputs := dict(step.function(self.call.inputs, self._error))) != self.call.inputs:
            yield self.call._replace(inputs=inputs)

    def _turns(self) -> Iterator[dict[str, str]]:
        """Return the answer that cannot be read, and what is wrong with it, for the model."""
        text = str(getattr(self._error, "lm_response", "") or "")
        yield {"role": "assistant", "content": text[:SHOWN] or "(nothing)"}
        wrong = "\n".join(f"- `{name}` {what}" for name, what in self._wrong().items())
        why = str(self._error.__cause__ or self._error).partition("Adapter ")[0].strip()[:SHOWN]
        form = getattr(self.call.adapter, "user_message_output_requirements", lambda _: None)(self._signature)
        parts = ["Your answer cannot be read. What is wrong with it:", wrong, why, "Answer again, as a whole.", form]
        yield {"role": "user", "content": "\n".join(part for part in parts if part)}

    def _wrong(self) -> dict[str, str]:
        if isinstance(self._error, BadParse):
            return dict.fromkeys(self._signature.output_fields, "cannot be checked")
        return wrong_fields(self._signature, self._error)

    def _failure(self) -> Exception:
        """Return the error that the program gets."""
        if isinstance(self._error, BadParse):
            return self._error.error
        if isinstance(self._error, dspy.ContextWindowExceededError):
            return PromptTooLong(self._error, self._attempts)
        why = ": it was cut off where it was as long as it may be (max_tokens)" if self.finish.cut else ""
        return UnparsedAnswer(self._error, self._wrong(), self._attempts, why)

    def _tell(self, step: str, wrong: Mapping[str, str], *, repaired: bool = False) -> None:
        if self._report is not None:
            adapter = type(self.call.adapter).__name__
            self._report(ParsingReport(step, repaired, self._attempts, adapter, tuple(wrong)))


def _parsed(adapter: Any, signature: Any, completion: str) -> Any:
    """Read an answer as the adapter does; an empty text that is required is no answer."""
    try:
        values = type(adapter).dspex_bare.parse(adapter, signature, completion)
    except dspy.AdapterParseError:
        raise
    except Exception as error:
        raise BadParse(error) from None
    if empty := empty_fields(signature, values):
        raise dspy.AdapterParseError(
            type(adapter).__name__, signature, completion, f"{', '.join(empty)}: empty", parsed_result=values
        )
    return values


def _mended(step: Repair, adapter: Any, signature: Any, completion: str, error: Any) -> Any:
    """Return what a repair makes of an answer; None if that is nothing."""
    try:
        if step.function is None:
            return read(signature, completion)
        found = step.function(completion, error)
        if isinstance(found, Mapping):
            return read_fields(signature, found)
        return None if found is None else _parsed(adapter, signature, str(found))
    except dspy.AdapterParseError:
        return None
    except Exception as raised:
        raise raised if isinstance(raised, BadParse) else BadParse(raised) from None


_question: ContextVar[_Question | None] = ContextVar("dspex.question", default=None)


def guarded(adapter: Any, policy: OnUnparsed) -> Any:
    """Return an adapter with a policy; it shares its attributes with what is given.

    Args:
        adapter: any ``dspy.Adapter``. One that has a policy already gets this one.
        policy: see `OnUnparsed`.
    """
    bare = unguarded(adapter)
    made = copy.copy(bare)
    kind: Any = type(bare)
    made.__class__ = _guarded_class(kind)
    if hasattr(bare, "use_json_adapter_fallback"):
        made.use_json_adapter_fallback = False
    # What another adapter answers is mended, and not asked again by itself.
    only_mended = OnUnparsed(tuple(step for step in policy.steps if isinstance(step, Repair)))
    steps = (
        OtherAdapter(guarded(step.adapter, only_mended)) if isinstance(step, OtherAdapter) else step
        for step in policy.steps
    )
    made.dspex_policy = OnUnparsed(tuple(steps), policy.max_calls)
    made.dspex_given = bare, policy
    return made


def unguarded(adapter: Any) -> Any:
    """Return the adapter without its policy."""
    return adapter.dspex_given[0] if isinstance(adapter, _Guarded) else adapter


class _Guarded:
    """What the class of an adapter with a policy adds to the adapter's own."""

    dspex_bare: Any
    dspex_policy: OnUnparsed
    dspex_given: tuple[Any, OnUnparsed]

    def __reduce__(self) -> Any:
        return guarded, self.dspex_given

    def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
        """Ask a language model, as the adapter does."""
        question = _Question(self.dspex_policy, signature, _Call(self, lm, lm_kwargs, demos, inputs))
        with fallback_scope() as shown:
            while True:
                with question.asked() as (adapter, *arguments):
                    return type(adapter).dspex_bare.__call__(adapter, *arguments)
                question.go_on(shown.begun())

    async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
        """Ask a language model, as the adapter does, without blocking."""
        question = _Question(self.dspex_policy, signature, _Call(self, lm, lm_kwargs, demos, inputs))
        with fallback_scope() as shown:
            while True:
                with question.asked() as (adapter, *arguments):
                    return await type(adapter).dspex_bare.acall(adapter, *arguments)
                question.go_on(shown.begun())


def _format(self: Any, signature: Any, demos: Any, inputs: Any) -> Any:
    """Write the prompt as the adapter does, and what was said since."""
    question = _question.get()
    messages = type(self).dspex_bare.format(self, signature, demos, inputs)
    return messages if question is None else [*messages, *question.call.turns]


def _parse(self: Any, signature: Any, completion: Any) -> Any:
    """Read an answer as the adapter does, or as the policy says."""
    question = _question.get()
    if question is None:
        return type(self).dspex_bare.parse(self, signature, completion)
    return question.parse(self, signature, completion)


@cache
def _guarded_class(kind: Any) -> Any:
    looks = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    made = type(kind)(kind.__name__, (_Guarded, kind), {**looks, "dspex_bare": kind})
    # Set afterwards, so that callbacks are called by the adapter's own methods, and once.
    made.format, made.parse = _format, _parse
    return made
