"""The members of the suite ``team``: one small model, asked in twelve ways for the section of a headline.

Each wording is asked in the model's chat format and plainly, without demonstrations and with five. What was asked once
is kept in a file, beside that of the suite ``quality``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import metadata
from itertools import chain
from typing import Any, TypeVar

import dspy
import httpx

from bench.quality import Answers, AsyncEngine, served
from bench.quality_data import FOLDER, TASKS
from dspex._compat import chat_messages, lm15
from dspex.models.local.adapter import CompactAdapter
from dspex.models.local.engine import ChoiceEngine, Exchange, choice_of
from dspex.models.local.weights import find_model
from dspex.models.selection import EMBEDDED
from dspex.teams import Member, RecordedVotes, Team, WithProbabilities, record

T = TypeVar("T")
#: How many headlines there are, and how many demonstrations; these come from the end of the data.
HEADLINES, SHOTS = 300, 5
TOPIC = TASKS["topics"].signature
LABELS: tuple[str, ...] = TOPIC.output_fields["topic"].annotation.__args__
WORDINGS = (TOPIC.instructions, *TASKS["topics"].instructions[:2])


class PlainEngine(ChoiceEngine):
    """Asks without the model's chat format: what is said stands there, a paragraph for each turn."""

    def _exchange(self, exchange: Exchange[Any], client: httpx.Client) -> Any:
        said = "\n\n".join(turn["content"] for turn in next(exchange).body["messages"])
        return super()._exchange(_begun(exchange, {"prompt": f"{said}\n"}), client)


def _begun(exchange: Exchange[Any], answer: dict[str, Any]) -> Exchange[Any]:
    """Go on with an exchange whose first question has this answer."""
    post = exchange.send(answer)
    while True:
        try:
            post = exchange.send((yield post))
        except StopIteration as end:
            return end.value


class KeptEngine:
    """Answers choices, and tells the probabilities; asks only for what is not in the file.

    Args:
        engine: that is asked.
        answers: the file.
        way: what tells this engine's answers to a prompt from another's.
    """

    supports_response_schema = True
    supported_params = ChoiceEngine.supported_params

    def __init__(self, engine: ChoiceEngine, answers: Answers, way: str) -> None:
        self._engine, self._answers, self._way = engine, answers, way

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptEngine:
        return self

    def complete(self, request: Any) -> Any:
        """Answer a request for a choice."""
        choice = choice_of(request)
        assert choice is not None
        asked = [self._way, chat_messages(request), choice.title, choice.values]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        shares: Any = self._answers.shares(key, lambda: self._engine.complete(request).provider_data["choices"])
        best = max(zip(choice.values, choice.texts(), strict=True), key=lambda one: shares[one[1]])[0]
        message = lm15.Message.assistant([lm15.TextPart(json.dumps({choice.field: best}))])
        return lm15.Response("known", request.model, message, "stop", lm15.Usage(), provider_data={"choices": shares})


class Asked:
    """What is asked of the model, once.

    Args:
        url: where it is served.
        answers: what is known.
    """

    def __init__(self, url: str, answers: Answers) -> None:
        engines = {"chat": ChoiceEngine(lambda: url), "plain": PlainEngine(lambda: url)}
        self._models = {way: _lm(KeptEngine(engine, answers, way)) for way, engine in engines.items()}
        examples = TASKS["topics"].examples()
        self.headlines = examples[:HEADLINES]
        self._demonstrations = examples[-SHOTS:]
        self._answers = answers

    def member(self, name: str, signature: Any, way: str, shots: int = 0, **more: Any) -> Member:
        """Return a member that asks in one way."""
        program = dspy.Predict(signature)
        program.demos = self._demonstrations[:shots]
        program.set_lm(self._models[way])
        return Member(name, WithProbabilities(program), **more)

    def members(self) -> list[Member]:
        """Return the twelve."""
        return [
            self.member(f"{way} {n}, {shots} shown", TOPIC.with_instructions(wording), way, shots)
            for n, wording in enumerate(WORDINGS, 1)
            for way in self._models
            for shots in (0, SHOTS)
        ]

    def show(self, step: str) -> None:
        """Show how far it is; nothing if that is empty."""
        told = f"{step}, {self._answers.new} prompts asked" if step else ""
        print(f"\r{told:<79}", end="" if step else "\r", file=sys.stderr, flush=True)

    def record(self, members: Sequence[Member], examples: Sequence[Any], field: str = "topic") -> RecordedVotes:
        """Return the members' votes on examples. One member after the other, as its prompts begin alike."""
        found = []
        for n, member in enumerate(members, 1):

            def show(done: int, step: str = f"[{n}/{len(members)}] {member.name}") -> None:
                self.show(f"{step}: {done} of {len(examples)}")

            with dspy.context(adapter=CompactAdapter()):
                one = Team("one", (member,), field=field)
                found.append(asyncio.run(record(one, examples, width=2, done=show)))
        self.show("")
        return beside(found)


def beside(found: Sequence[RecordedVotes]) -> RecordedVotes:
    """Return the votes of several, on the same examples, as those of one team."""
    together = zip(*(records.votes for records in found), strict=True)
    return RecordedVotes([list(chain.from_iterable(cast)) for cast in together], found[0].truth)


def _lm(engine: Any) -> Any:
    return dspy.LM(EMBEDDED, engine=engine, async_engine=AsyncEngine(engine), cache=False, temperature=0.0)


def asking(use: Callable[[Asked], T]) -> T:
    """Serve the model, and return what somebody makes of it."""
    model = find_model()
    digest = hashlib.sha256(model.read_bytes()).hexdigest()[:12]
    path = FOLDER / f"team-{digest}-{metadata.version('xllamacpp')}.sqlite"
    with closing(Answers(path)) as answers, served(model, threads=2) as url:
        return use(Asked(url, answers))
