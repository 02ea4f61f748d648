"""A served program whose process is killed with SIGKILL, 20 times in each state of a rollout.

In each life the program is led to the state, again and again if that is a final one, while 20 keys ask. What it says
before it does something, and after it was acknowledged, goes through a pipe, and the kill comes at a random moment. The
next life must find the rollout where it was acknowledged to be, or where it was about to be; one open rollout at most;
and each key is answered by the version that serves, or by the one that is tried; in the same state by the same one.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import random
import select
import signal
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bench.figure import Figure

#: Where the program is when it is killed, and how often it is.
PHASES = (
    *("candidate", "shadow", "canary", "held", "promoted", "rolled_back", "inconclusive", "aborted", "superseded"),
)
KILLS = 20
#: States in which a rollout stays, and those that people can ask for.
_OPEN = ("shadow", "canary", "held")
_DECIDED = ("held", "promoted", "rolled_back", "aborted")
_KEYS = [f"user-{number}" for number in range(20)]
#: A life has so many seconds at most between its first word and the kill.
_LONGEST = 0.15


class Findings(NamedTuple):
    """What went wrong over all kills in a state, and how many there were."""

    kills: int
    lost: int
    wrong_version: int
    two_open: int
    in_moves: int


# -- the process that is killed ----------------------------------------------------------------------------------------


def _program() -> Any:
    import dspy

    class Teller(dspy.Module):  # type: ignore[misc]
        """Answers with the demonstration that its version has."""

        def __init__(self) -> None:
            super().__init__()
            self.told = dspy.Predict("text -> label")

        async def aforward(self, text: str) -> Any:
            return dspy.Prediction(label=str(self.told.demos[0]["text"]) if self.told.demos else "0")

    return Teller()


def _version(number: int) -> Any:
    import dspy

    made = _program()
    made.told.demos = [dspy.Example(text=str(number), label="x")]
    return made


class _Life:
    """One life of the process."""

    def __init__(self, folder: str, phase: str, pipe: int) -> None:
        self._folder = folder
        self._phase = phase
        self._pipe = pipe

    def say(self, kind: str, **what: Any) -> None:
        os.write(self._pipe, orjson.dumps({"kind": kind, **what}) + b"\n")

    async def live(self) -> None:
        import dspy

        from dspex import ProgramActor
        from foundation.programs import AddVersion, ListVersions
        from supervision import ChildSpec, Runtime, Supervisor

        async with Runtime(reports=False) as runtime:
            options = {"lm": dspy.LM("openai/none"), "versions": Path(self._folder)}
            spec = ChildSpec("p", ProgramActor, (_program(),), options, name="program:shop")
            await runtime.spawn(Supervisor, [spec])
            ref: Any = runtime.whereis("program:shop")
            self._ref = ref
            for number in range(len(await self._ref.call(ListVersions())), 3):
                await self._ref.call(AddVersion(_version(number)))
            await self._found()
            while True:
                if self._phase != "candidate":
                    await self._move()
                await self._asked()

    async def _found(self) -> None:
        from foundation.rollouts import GetRolloutHistory

        past = [(one.moves[0].rollout, one.moves[-1].target) for one in await self._ref.call(GetRolloutHistory())]
        self.say("found", past=past, answers=await self._answers(), candidate=await self._candidate())

    async def _state(self) -> Any:
        from foundation.rollouts import GetRollout, NoRollout

        with suppress(NoRollout):
            return await self._ref.call(GetRollout())
        return None

    async def _candidate(self) -> int | None:
        state = await self._state()
        return None if state is None else state.version

    async def _answers(self) -> list[int]:
        from foundation.programs import RunProgram

        told = [await self._ref.call(RunProgram({"text": "x"}, key=key), None) for key in _KEYS]
        return [int(answer.outputs["label"]) for answer in told]

    async def _asked(self) -> None:
        self.say("answers", answers=await self._answers())

    async def _move(self) -> None:
        """Begin a rollout, and lead it to the state: unless it stays there, and is there already."""
        from foundation.rollouts import DecideRollout, StartRollout

        state = await self._state()
        if state is not None and state.state == self._phase and self._phase in _OPEN:
            return
        serving = state.baseline if state is not None and state.state in _OPEN else (await self._answers())[0]
        number = 2 if serving == 1 else 1
        settings: dict[str, Any] = {"version": number, "steps": [0.4]}
        if self._phase == "shadow":
            settings |= {"shadow": 0.5, "min_pairs": 50_000, "max_pairs": 100_000}  # so that it stays there
        if self._phase == "inconclusive":
            settings |= {"min_units": 1, "max_units": 2, "step_units": 1, "slos": [{"kind": "errors", "bound": 0.001}]}
        for _ in range(2 if self._phase == "superseded" else 1):
            self.say("begin", candidate=number)
            state = await self._ref.call(StartRollout(settings, replace=True))
            self.say("at", id=state.id, state=state.state, candidate=number)
        assert state is not None
        if self._phase in _DECIDED:
            self.say("to", id=state.id, state=self._phase)
            await self._ref.call(DecideRollout(self._phase))  # type: ignore[arg-type]
            self.say("at", id=state.id, state=self._phase, candidate=number)
        if self._phase == "inconclusive":
            self.say("to", id=state.id, state=self._phase)
            while (await self._state()).state == "canary":
                await self._answers()
            self.say("at", id=state.id, state=self._phase, candidate=number)


def _live(folder: str, phase: str, pipe: int) -> None:
    logging.disable(logging.ERROR)
    asyncio.run(_Life(folder, phase, pipe).live())


# -- the one that kills ------------------------------------------------------------------------------------------------


class _Expected:
    """What was heard of a rollout, and what must be so after the next kill."""

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self.at: dict[str, str] = {}
        self.to: dict[str, str] = {}
        self.beginning = False
        self.candidate: int | None = None
        self.serving = 0
        self.answers: list[int] | None = None
        self.lost = self.wrong = self.two = self.in_moves = 0

    def hear(self, said: dict[str, Any]) -> None:
        """Hear what a life says."""
        getattr(self, f"_{said['kind']}")(said)

    def ended(self) -> None:
        """A life was killed."""
        self.in_moves += self.beginning or bool(self.to)

    def _begin(self, said: dict[str, Any]) -> None:
        self.beginning, self.answers = True, None

    def _to(self, said: dict[str, Any]) -> None:
        self.to[said["id"]], self.answers = said["state"], None

    def _at(self, said: dict[str, Any]) -> None:
        if said["id"] not in self.at:
            # Whatever was open before has ended with it.
            self.at = {id: state if state not in _OPEN else "superseded" for id, state in self.at.items()}
        self.at[said["id"]], self.candidate, self.beginning, self.answers = (
            said["state"],
            said["candidate"],
            False,
            None,
        )
        self.to.pop(said["id"], None)
        if said["state"] == "promoted":
            self.serving = said["candidate"]

    def _answers(self, said: dict[str, Any]) -> None:
        tried = {self.candidate} if any(state in ("canary", "held") for state in self.at.values()) else set()
        self.wrong += not {*said["answers"]} <= {self.serving, *tried}
        self.wrong += self.answers is not None and said["answers"] != self.answers
        self.answers = said["answers"]

    def _found(self, said: dict[str, Any]) -> None:
        past = dict(said["past"])
        self.two += sum(state in _OPEN for state in past.values()) > 1
        fresh = past.keys() - self.at.keys()
        self.lost += len(fresh) > self.beginning
        for id, state in self.at.items():
            # Whoever begins a rollout ends the one before it first: a kill between the two leaves none open.
            ended = {"superseded"} if self.beginning and state in _OPEN else set()
            by_rule = {"inconclusive"} if self._phase == "inconclusive" else set()
            self.lost += past.get(id) not in {state, self.to.get(id, state)} | ended | by_rule
        promoted = {id for id, state in past.items() if state == "promoted"} - {
            id for id, state in self.at.items() if state == "promoted"
        }
        self.candidate = said["candidate"]
        if promoted and self.candidate is not None:
            self.serving = self.candidate
        moved = past != self.at
        self.at, self.to, self.beginning = past, {}, False
        before = None if moved else self.answers
        self.answers = before
        self._answers(said)


def killed(phase: str, kills: int = KILLS, seed: int = 1) -> Findings:
    """Kill a program so often in a state."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.rollout_preload"])
    chance, expected = random.Random(f"{seed} {phase}"), _Expected(phase)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(kills):
            read, write = os.pipe()
            life = context.Process(target=_live, args=(folder, phase, _Passed(write)), daemon=True)
            life.start()
            os.close(write)
            _heard_until_killed(life, read, expected, chance.random() * _LONGEST)
            os.close(read)
            life.join()
            expected.ended()
    return Findings(kills, expected.lost, expected.wrong, expected.two, expected.in_moves)


class _Passed:
    """A file descriptor that goes to a process of the fork server."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> Any:
        from multiprocessing.reduction import DupFd

        return _detached, (DupFd(self._number),)


def _detached(passed: Any) -> int:
    return int(passed.detach())


def _heard_until_killed(life: Any, read: int, expected: _Expected, patience: float) -> None:
    """Hear what a life says; kill it so long after its first word; hear the rest."""
    rest, deadline, told = b"", None, False
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = select.select([read], [], [], wait)[0]
        if not ready:
            os.kill(life.pid, signal.SIGKILL)
            told, deadline = True, None
            continue
        data = os.read(read, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            expected.hear(orjson.loads(line))
            if deadline is None and not told:
                deadline = time.monotonic() + patience
    if not told:
        raise RuntimeError(f"the program has ended by itself: {life.exitcode}")


@cache
def _all() -> dict[str, Findings]:
    found = {}
    for phase in PHASES:
        found[phase] = one = killed(phase)
        said = f"{one.kills} kills, {one.in_moves} in moves: lost {one.lost}, wrong version {one.wrong_version}"
        print(f"{phase:<14} {said}, two open {one.two_open}", file=sys.stderr)
    return found


async def killed_in_each_state() -> Figure:
    """What was found wrong after a kill: a state that was lost, a version that must not answer, two open rollouts."""
    found = await asyncio.to_thread(_all)
    kills = sum(one.kills for one in found.values())
    wrong = {
        "lost": float(sum(one.lost for one in found.values())),
        "wrong_version": float(sum(one.wrong_version for one in found.values())),
        "two_open": float(sum(one.two_open for one in found.values())),
    }
    total = sum(wrong.values())
    more = {"states": float(len(found)), "in_moves": float(sum(one.in_moves for one in found.values())), **wrong}
    return Figure(
        value=total, unit="wrong", limit=kills, ratio=total / kills, reach=0.0, better="lower", promise=True, more=more
    )
