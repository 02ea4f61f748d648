"""A scripted language model: the same request has the same answer, on any machine.

It stands for a real one in tests and benchmarks of everything around it. Whether an answer is right is decided by a
hash of the request; demonstrations and advice in the prompt make it more likely. So optimisers have something to find,
and find the same each time.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import dspy

from dspex._compat import chat_messages, lm15, plain_response, streamed_words

_INPUT = re.compile(r"\[\[ ## text ## \]\]\n(.*?)(?:\n\n|\Z)", re.DOTALL)
_WANTED = re.compile(r"`\[\[ ## (?!completed)(\w+) ## \]\]`")
_ADVICE = "Look closely:"


class Outage:
    """Says which calls of a model fail, as those of a model that is gone do.

    Args:
        first: the number of the first call that fails, counted from 1; None if none does.
        last: the number of the last one; None if the model never comes back by itself.
    """

    def __init__(self, first: int | None = None, last: int | None = None) -> None:
        self.first = first
        self.last = last

    def covers(self, call: int) -> bool:
        """Return whether a call fails."""
        return self.first is not None and call >= self.first and (self.last is None or call <= self.last)


class ScriptedEngine:
    """An engine of ``dspy.LM`` that classifies texts, better or worse, as a hash decides.

    Asked for something else than a ``label``, such as a new instruction, it gives advice.

    Args:
        labels: for each text the right label.
        base: the chance that an answer is right with a bare prompt; each demonstration adds ``demo``, up to four, and
            advice adds ``advice``.
        demo: see ``base``.
        advice: see ``base``.
        seed: another seed, another model.
        outage: which calls fail.
        before: called with the number of each call before it is answered.
    """

    supports_response_schema = False

    def __init__(
        self,
        labels: Mapping[str, str],
        *,
        base: float = 0.45,
        demo: float = 0.07,
        advice: float = 0.05,
        seed: int = 0,
        outage: Outage | None = None,
        before: Callable[[int], None] | None = None,
    ) -> None:
        self.labels = dict(labels)
        self.choices = sorted(set(self.labels.values()))
        self.outage = outage or Outage()
        self.calls = 0
        self.failed = 0
        self._chances = (base, demo, advice)
        self._seed = seed
        self._before = before
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedEngine:
        return self

    def complete(self, request: Any) -> Any:
        """Answer a request."""
        with self._lock:
            self.calls += 1
            number = self.calls
            gone = self.outage.covers(number)
            self.failed += gone
        if self._before is not None:
            self._before(number)
        if gone:
            raise lm15.TransportError(f"call {number}: the model is gone")
        return plain_response(request, self.answer(chat_messages(request)))

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer a request word by word."""
        return streamed_words(self.complete(request))

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text of the answer to a conversation."""
        system, last = messages[0]["content"], messages[-1]["content"]
        if "module_advice" in system:
            return self._advice(messages)
        wanted = _WANTED.findall(last.rpartition("Respond with")[2])
        if wanted and "label" not in wanted:
            return self._proposal(messages, wanted)
        found = _INPUT.search(last)
        text = found.group(1).strip() if found else last
        demos = sum(message["role"] == "assistant" for message in messages[:-1])
        base, demo, advice = self._chances
        chance = base + demo * min(demos, 4) + advice * min(system.count(_ADVICE), 2)
        shown = "\n".join(message["content"] for message in messages[:-1])
        right = self.labels.get(text, self.choices[0])
        # How hard a text is does not depend on the prompt; what the prompt adds is mostly skill, and a little luck.
        luck = 0.6 * self._number(text) + 0.4 * self._number(text, shown)
        wrong = [label for label in self.choices if label != right] or [right]
        label = right if luck < chance else wrong[int(self._number(text, "wrong") * len(wrong))]
        return f"[[ ## label ## ]]\n{label}\n\n[[ ## completed ## ]]"

    def _advice(self, messages: Sequence[Mapping[str, str]]) -> str:
        shown = hashlib.sha256("\n".join(message["content"] for message in messages).encode()).hexdigest()[:8]
        names = re.findall(r"Module (\S+)", messages[-1]["content"])
        advice = ", ".join(f'"{name}": "{_ADVICE} case {shown}."' for name in dict.fromkeys(names))
        fields = f"[[ ## discussion ## ]]\nIt went wrong.\n\n[[ ## module_advice ## ]]\n{{{advice}}}"
        return f"{fields}\n\n[[ ## completed ## ]]"

    def _proposal(self, messages: Sequence[Mapping[str, str]], wanted: Sequence[str]) -> str:
        """Return what an optimiser asks for, such as a new instruction: advice, in each field."""
        shown = hashlib.sha256("\n".join(message["content"] for message in messages).encode()).hexdigest()[:8]
        fields = [f"[[ ## {name} ## ]]\n{_ADVICE} case {shown}." for name in dict.fromkeys(wanted)]
        return "\n\n".join([*fields, "[[ ## completed ## ]]"])

    def _number(self, *parts: str) -> float:
        digest = hashlib.sha256("\x00".join((str(self._seed), *parts)).encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64


class AsyncScriptedEngine:
    """The same for ``acall``.

    Args:
        engine: that answers.
    """

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncScriptedEngine:
        return self

    async def complete(self, request: Any) -> Any:
        """Answer a request."""
        return self._engine.complete(request)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        """Answer a request word by word."""
        for event in self._engine.stream(request):
            yield event


def scripted_lm(engine: ScriptedEngine, **options: Any) -> Any:
    """Return the model as a ``dspy.LM``, without cache or retries unless ``options`` say otherwise."""
    defaults = {"cache": False, "num_retries": 0, "temperature": 0.0}
    return dspy.LM("known/model", engine=engine, async_engine=AsyncScriptedEngine(engine), **{**defaults, **options})


def task(size: int, choices: Sequence[str] = ("red", "green", "blue")) -> tuple[list[Any], dict[str, str]]:
    """Return examples with fields ``text`` and ``label``, and the labels that a `ScriptedEngine` has to know."""
    texts = [f"case number {n}" for n in range(size)]
    labels = {text: choices[hashlib.sha256(text.encode()).digest()[0] % len(choices)] for text in texts}
    examples = [dspy.Example(text=text, label=label).with_inputs("text") for text, label in labels.items()]
    return examples, labels


def exact(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001
    """Return 1 if the label is right: a metric."""
    return float(example.label == prediction.label)
