"""A team of five that is killed at random, served by a quorum and a ladder: every call is answered, or says why not."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from dspex.workflow import DegradationLadder, DegradationReason, QuorumRound, Rung
from foundation.coordination.consensus import Majority
from foundation.programs import Unavailable
from supervision import Actor, ActorExited, CallTimeout, ChildSpec, NoProcess, Request, Runtime, Supervisor, handle

NAMES = [f"member.{number}" for number in range(5)]
CALLS, KILLS = 400, 1000


class Ask(Request[str], frozen=True):
    """Ask a member."""


class Member(Actor):
    """Answers after a while."""

    @handle
    async def ask(self, request: Ask) -> str:
        await self.runtime.sleep(self.runtime.random.uniform(0.01, 0.2))
        return "answer"


async def served(runtime: Runtime, ladder: DegradationLadder, coverage: Counter[float]) -> tuple[str | None, str]:
    """Answer a call within a second: by a quorum of the team, by a single member, or by default."""
    deadline = runtime.clock.time() + 1.0
    taken = ladder.begin(left=1.0)
    while True:
        asked = NAMES if taken.rung.name == "full" else NAMES[:1]
        if taken.rung.name == "default":
            ladder.good()
            coverage[0.0] += 1
            return taken.label, "none"
        open_round = QuorumRound(dict.fromkeys(asked, 1), Majority(), deadline)

        async def ask(who: str, open_round: QuorumRound = open_round) -> None:
            try:
                value = await runtime.name(who).call(Ask(), timeout=deadline - runtime.clock.time())
                open_round.answer(who, value, fence=1, now=runtime.clock.time())
            except (ActorExited, NoProcess, CallTimeout) as error:
                open_round.lose(who, type(error).__name__)

        await asyncio.gather(*(ask(who) for who in asked))
        closed = open_round.look(runtime.clock.time())
        assert closed is not None
        left = max(0.0, deadline - runtime.clock.time())
        if closed.state == "decided":
            ladder.good()
            coverage[closed.coverage] += 1
            return taken.label, "answer"
        taken = ladder.down(taken, DegradationReason("lost", f"{len(closed.lost)} of {len(asked)}"), left=left)


async def test_T092_under_a_thousand_kills_every_call_is_answered_or_degraded_with_a_label(runtime: Runtime) -> None:
    children = [ChildSpec(name, Member, name=name) for name in NAMES]
    await runtime.spawn(Supervisor, children, max_restarts=10_000, max_seconds=1.0, name="team")
    chance, coverage = random.Random(1), Counter[float]()
    ladder = DegradationLadder([Rung("full", p95=0.2), Rung("single", p95=0.2), Rung("default")])
    outcomes: list[tuple[str | None, str]] = []
    refused = 0

    async def killer() -> None:
        for _ in range(KILLS):
            await runtime.sleep(chance.expovariate(25.0))
            found = runtime.whereis(chance.choice(NAMES))
            if found is not None:
                found.kill()

    async def client() -> None:
        nonlocal refused
        for _ in range(CALLS // 4):
            try:
                outcomes.append(await asyncio.wait_for(served(runtime, ladder, coverage), 1.5))
            except Unavailable:
                refused += 1
            await runtime.sleep(chance.expovariate(5.0))

    await asyncio.gather(killer(), *(client() for _ in range(4)))
    assert len(outcomes) + refused == CALLS
    assert sum(coverage.values()) == len(outcomes)
    assert {kind for label, kind in outcomes if label is None} == {"answer"}
    labels: set[Any] = {label.partition(":")[0] for label, _ in outcomes if label is not None}
    assert labels <= {"single", "default"}
    assert len([label for label, _ in outcomes if label is None]) > 20
    assert len(labels) == 2
    actors = [info for ref in runtime.actors() if (info := runtime.info(ref)) is not None]
    assert sorted(info.kind for info in actors) == ["Member"] * 5 + ["Supervisor"]
