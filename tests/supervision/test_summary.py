"""What an actor says of itself in a few words, for a look at the whole tree."""

from __future__ import annotations

from collections.abc import Mapping

from supervision import Actor, Ref, Runtime


class Plain(Actor):
    """Says nothing."""


class Talker(Actor):
    """Says much."""

    def summary(self) -> Mapping[str, object]:
        """Say it."""
        return {"count": 3, "text": "x" * 500}


class Broken(Actor):
    """Fails to say anything."""

    def summary(self) -> Mapping[str, object]:
        """Fail."""
        raise RuntimeError("no words")


def said(runtime: Runtime, ref: Ref) -> dict[str, str]:
    """Return what an actor says."""
    info = runtime.info(ref)
    assert info is not None
    return info.summary


async def test_an_actor_says_a_few_words(runtime: Runtime) -> None:
    """As short texts; nothing by default; and one that fails to says that it does, and goes on."""
    assert said(runtime, await runtime.spawn(Plain)) == {}
    words = said(runtime, await runtime.spawn(Talker))
    assert (words["count"], len(words["text"])) == ("3", 200)
    broken = await runtime.spawn(Broken)
    assert said(runtime, broken) == {"summary": "raised RuntimeError: no words"}
    assert broken.alive
