"""The workers of the pool: they find out what a ticket is about. They know nothing, so they need not be saved."""

from __future__ import annotations

import msgspec

from agents import Action, AgentType, Attempts, Context, Failure

#: What tickets are about, by words in them.
WORDS = {"invoice": "billing", "refund": "billing", "password": "account", "login": "account", "crash": "bug"}


class Finding(msgspec.Struct, frozen=True):
    """What the last ticket was about."""

    topic: str = ""


class Classify(Action[Finding]):
    """Find out what a ticket is about. It stands for a call of a model that has a bad line: each fifth one fails."""

    text: str
    attempts = Attempts(retries=4, backoff=0.02)

    async def run(self, context: Context[Finding]) -> Finding:
        """Look for words that are known."""
        assert context.ref is not None
        if context.ref.runtime.random.random() < 0.2:
            raise Failure("the model does not answer")
        words = self.text.lower().split()
        return Finding(next((topic for word, topic in WORDS.items() if word in words), "other"))


class Worker(AgentType[Finding]):
    """The type of these agents."""

    routes = {"triage.wanted": Classify}
