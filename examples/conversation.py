"""A conversation that is never lost: kill the process at any time, start it again, and it goes on where it was.

Run it, say something, kill it with ``kill -9``, and run it again::

    python -m examples.conversation --name joe

What is acknowledged with an answer is on the disk. Say ``history`` to see it all, ``version 3`` for how it was then.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from agents import Action, AgentHandle, AgentType, Context
from agents.durability import Durability, SqliteStorage, replay
from agents.instances import start_instances
from supervision import Runtime


class Talk(msgspec.Struct, frozen=True):
    """What is known of a conversation: what was said, and what was learned from it."""

    lines: tuple[str, ...] = ()
    facts: dict[str, str] = {}
    answer: str = ""


class Say(Action[dict[str, Any]]):
    """Say something: "my NAME is VALUE" is learned, "what is my NAME" is answered from it."""

    text: str

    def run(self, context: Context[Talk]) -> dict[str, Any]:
        """Answer it."""
        known, facts = context.state.facts, {}
        if learned := re.fullmatch(r"my (\w+) is (.+)", self.text.strip(), re.IGNORECASE):
            facts = {learned[1].lower(): learned[2]}
            answer = f"I will remember your {learned[1].lower()}."
        elif asked := re.fullmatch(r"what is my (\w+)\??", self.text.strip(), re.IGNORECASE):
            name = asked[1].lower()
            answer = f"Your {name} is {known[name]}." if name in known else f"You have not told me your {name}."
        else:
            answer = f"You have said {len(context.state.lines) + 1} things to me; I know {len(known)} facts about you."
        return {"lines": (*context.state.lines, self.text), "facts": facts, "answer": answer}


class Conversation(AgentType[Talk]):
    """A conversation with one person."""

    name = "conversation"
    routes = {"say": Say}


async def answer(storage: SqliteStorage, talk: AgentHandle[Talk], text: str) -> str:
    """Return the answer to a line."""
    if text == "history":
        return "\n".join(f"{n}: {line}" for n, line in enumerate(talk.state.lines, 1)) or "Nothing was said yet."
    if (asked := re.fullmatch(r"version (\d+)", text)) and int(asked[1]) <= talk.agent.version:
        past = await replay(storage, Conversation, talk.agent.id, int(asked[1]))
        return f"At version {past.version} I knew {past.state.facts}."
    reply = await talk.call(talk.signal("say", {"text": text}))
    return reply.errors[0].error.message if reply.errors else reply.agent.state.answer


async def main(name: str, path: Path) -> None:
    """Talk until there is nothing more to read."""
    storage = SqliteStorage(path)
    async with Runtime() as runtime:
        talks = await start_instances(runtime, Conversation, durability=Durability(storage, journal=True))
        talk = await talks.get(name)
        print(f"Hello {name}! We are at line {len(talk.state.lines)}.", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await answer(storage, talk, line.strip()), flush=True)
    storage.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A conversation that is never lost.")
    parser.add_argument("--name", default="you", help="with whom (you)")
    parser.add_argument("--file", type=Path, default=Path(".foundation/conversations.db"), help="where it is saved")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(main(options.name, options.file))
