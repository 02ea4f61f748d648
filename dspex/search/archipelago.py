"""All islands of one run, what they send each other, and the race of their winners in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.fingerprints import content_digest
from dspex.search.ascent import IslandPlace, TeamAscent
from dspex.search.ascent_report import AscentReport, Migration
from dspex.search.events import ProgramMigrated
from dspex.search.islands import IslandPool, Ring, RingStopped
from dspex.search.items import stratified
from dspex.search.rules import Halving, mean, winner
from dspex.teleprompt.errors import CallsSpent
from dspex.teleprompt.rollouts import RolloutJob, RolloutOutcome

if TYPE_CHECKING:
    from dspex.search.team_simba import TeamSIMBA
    from dspex.teleprompt.run import OptimisationRun

#: How the winners of all islands race.
RACE = Halving()
#: The barrier in the end.
_END = "end"


class Archipelago:
    """The islands of one run of a `TeamSIMBA`.

    Args:
        simba: whose parameters are used.
        run: the whole of it.
        parts: of the run, one for each island.
        student: with language models of its own.
        trainset: the examples.
        seed: of the first island; the next ones have those behind it.
        ascents: takes those of the islands, by their numbers.
    """

    def __init__(
        self,
        simba: TeamSIMBA,
        run: OptimisationRun,
        parts: Sequence[OptimisationRun],
        student: Any,
        trainset: list[Any],
        seed: int,
        ascents: dict[int, TeamAscent],
    ) -> None:
        self._of, self._run, self._parts = simba, run, parts
        self._student, self._trainset, self._seed = student, trainset, seed
        self._ring = Ring(run, simba.islands, simba.ring_patience)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._closed = False
        self.ascents = ascents
        assert isinstance(run.report, AscentReport)
        self._report = run.report
        for island, part in enumerate(parts):
            part.on_made = partial(self._ring.alive, island)
        #: Candidates that are noted: an island that begins again makes them once more.
        self._noted: set[int] = set()

    # -- the whole ---------------------------------------------------------------------------------------------------

    async def best(self) -> Any:
        """Have all islands ascend, and return the best of what they have found, with language models of its own.

        Raises:
            CallsSpent: all calls are made.
        """
        pool = IslandPool(self._run.runtime, f"{self._run.name}.islands", self._of.islands)
        asked = {island: asyncio.ensure_future(pool.ascend(self, island)) for island in range(self._of.islands)}
        end = asyncio.ensure_future(self._ring.met(_END))
        try:
            waiting = {end, *asked.values()}
            while not end.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done - {end}:
                    one.result()
            found = end.result()
        except RingStopped:
            await self._ring.ended(asked)
            raise CallsSpent(self._of.max_calls or 0) from None
        finally:
            self.close()
            for one in (end, *asked.values()):
                one.cancel()
        if self._of.max_calls is not None:
            self._run.limit_calls(self._of.max_calls)
        return await self._raced([program for programs in found.values() for program in programs])

    def close(self) -> None:
        """End what is under way."""
        self._closed = True
        self._ring.close()
        for task in self._tasks.values():
            task.cancel()

    @property
    def share(self) -> float:
        """Which part of it is done."""
        return sum(ascent.done for ascent in self.ascents.values()) / (self._of.islands * (self._of.max_steps + 1))

    # -- one island --------------------------------------------------------------------------------------------------

    async def ascend(self, island: int) -> None:
        """Ascend on an island."""
        task = self._tasks[island] = asyncio.ensure_future(self._ascend(island))
        try:
            await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not self._closed or (current is not None and current.cancelling()):
                raise

    async def _ascend(self, island: int) -> None:
        run = self._parts[island]
        run.go_on()
        self._ring.alive(island)
        with run.settings():
            place = IslandPlace(island, self._of.islands, self._noted)
            ascent = TeamAscent(self._of, run, self._student, self._trainset, self._seed + island, place)
            self.ascents[island] = ascent
            try:
                for step in range(self._of.max_steps):
                    await ascent.step(step)
                    self._run.progress.share(self.share)
                    if (step + 1) % self._of.migrate_every == 0 and step + 1 < self._of.max_steps:
                        await self._exchange(island, ascent, step)
                await self._ring.meet(_END, island, [run.original_program(one) for one in ascent.winners()])
            except (CallsSpent, RingStopped):
                self._ring.stop(island)

    async def _exchange(self, island: int, ascent: TeamAscent, step: int) -> None:
        """Send the best program to the next island, and take that of the one before."""
        found = await self._ring.meet(str(step), island, ascent.emigrant())
        numbers = list(found)
        source = numbers[numbers.index(island) - 1] if island in found else island
        sent = found.get(source)
        if source == island or sent is None:
            return
        ascent.register(sent)
        migration = Migration(step, source, island, mean(sent.scores))
        if migration not in self._report.migrations:
            self._report.migrations.append(migration)
            optimiser = self._report.optimiser
            self._run.runtime.events.emit(ProgramMigrated, optimiser=optimiser, **migration._asdict())

    def summary_of(self, island: int) -> dict[str, object]:
        """Return how far an island is, for ``/tree``."""
        ascent = self.ascents.get(island)
        return {"island": island} if ascent is None else {"island": island, **ascent.summary()}

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _raced(self, programs: Sequence[Any]) -> Any:
        """Return the best of several programs: they race on the whole training set, the student among them."""
        run = self._run
        with run.settings():
            different: dict[str, Any] = {}
            for program in (self._student, *programs):
                mine = run.durable_program(program)
                different.setdefault(state_digest(mine), mine)
            keys, entrants = list(different), list(different.values())
            order = stratified(self._trainset, self._seed)
            decisions = RACE.decisions(len(entrants), len(order))
            known: dict[int, list[RolloutOutcome]] = {which: [] for which in range(len(entrants))}
            live = set(known)
            scores: Mapping[int, Sequence[float]] | None = None
            while True:
                try:
                    wanted = decisions.send(scores)  # type: ignore[arg-type]
                except StopIteration as over:
                    live -= {one.hypothesis for one in over.value}
                    break
                live -= {one.hypothesis for one in wanted.dropped}
                jobs = [
                    RolloutJob(
                        f"end/{keys[look.hypothesis]}/{number}", entrants[look.hypothesis], self._trainset[number]
                    )
                    for look in wanted.begin
                    for number in order[len(known[look.hypothesis]) : look.items]
                ]
                made = iter(await run.rollouts(jobs))
                for look in wanted.begin:
                    mine = known[look.hypothesis]
                    mine += [next(made) for _ in range(look.items - len(mine))]
                scores = {which: [outcome.score for outcome in known[which]] for which in wanted.needed}
        all_scores = {which: [outcome.score for outcome in found] for which, found in known.items()}
        return self._won(entrants, all_scores, winner(all_scores, live))

    def _won(self, entrants: Sequence[Any], scores: Mapping[int, Sequence[float]], best: int) -> Any:
        ranked = sorted(scores, key=lambda which: (-len(scores[which]), -mean(scores[which]), which))
        found: Any = entrants[best].deepcopy()
        found.candidate_programs = [{"score": mean(scores[which]), "program": entrants[which]} for which in ranked]
        for candidate in found.candidate_programs:
            self._run.original_program(candidate["program"])
        found.trial_logs = logs_of(self.ascents)
        self._report.finalists = len(entrants)
        return self._run.original_program(found)


def logs_of(ascents: Mapping[int, TeamAscent]) -> dict[int, dict[int, dict[str, Any]]]:
    """Return what is told of the steps of each island."""
    return {island: ascent.logs for island, ascent in sorted(ascents.items())}


def state_digest(program: Any) -> str:
    """Return what programs of equal state have in common, whatever language models they have."""
    bare = program.deepcopy()
    for _, predictor in bare.named_predictors():
        predictor.lm = None
    team = getattr(program, "team", None)
    return content_digest([bare.dump_state(), repr(getattr(team, "rule", None))])[:16]
