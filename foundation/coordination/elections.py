"""Elections: one of several actors leads, and another one when it ends. Each leadership is a term with a number.

>>> import asyncio
>>> from supervision import Actor, Runtime
>>> class Candidate(Actor):
...     pass
>>> async def main() -> tuple[bool, int]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Elections)
...         election = Election(runtime, "writer")
...         one, two = [await runtime.spawn(Candidate) for _ in range(2)]
...         await election.stand(one)
...         await election.stand(two)
...         one.kill()
...         leader = await election.leader_after(term=1)
...         return leader.ref is two, leader.term
>>> asyncio.run(main())
(True, 2)
"""

from __future__ import annotations

import msgspec

from foundation.coordination.kept import kept
from foundation.events import LeaderElected
from foundation.naming import own_name
from supervision import (
    Actor,
    Address,
    Down,
    Message,
    Monitor,
    NoProcess,
    Ref,
    Refuse,
    ReplyTo,
    Request,
    Runtime,
    handle,
)


class Leader(msgspec.Struct, frozen=True):
    """Who leads.

    Attributes:
        ref: the actor.
        term: grows by one with each leader. Whoever is led can refuse a smaller one than it has seen.
    """

    ref: Ref
    term: int


class Contest(msgspec.Struct):
    """What is known of an election."""

    term: int = 0
    leader: Leader | None = None
    candidates: dict[Ref, int] = {}


class Stand(Request[Leader], frozen=True):
    """Be a candidate. The answer is who leads now."""

    name: str
    candidate: Ref
    priority: int


class Resign(Request[bool], frozen=True):
    """Be a candidate no more. The answer tells whether it was one."""

    name: str
    candidate: Ref


class AwaitLeader(Request[Leader], frozen=True):
    """Wait for a leader of a later term."""

    name: str
    after: int


class Follow(Request[None], frozen=True):
    """Be told of each leader."""

    name: str
    follower: Address


class LeaderChanged(Message, frozen=True):
    """To followers: there is a new leader, or none (``leader`` is None)."""

    election: str
    leader: Leader | None


class Elections(Actor):
    """Decides who leads: of those who stand, the one with the highest priority, and of these the first.

    A leader leads until it ends or resigns, also if somebody with a higher priority stands later. It is named
    ``elections`` unless started with another name. Candidates and terms survive its restart.
    """

    infrastructure = True

    def __init__(self) -> None:
        self._watched: dict[Ref, Monitor] = {}
        self._awaiting: dict[str, list[tuple[ReplyTo[Leader], int]]] = {}

    def init(self) -> None:
        """Take over who stands and who leads."""
        name = own_name(self, "elections")
        self._contests: dict[str, Contest] = kept(self.runtime, name)
        self._followers: dict[str, list[Address]] = kept(self.runtime, f"{name} followers")
        for contest in self._contests.values():
            for candidate in contest.candidates:
                self._watch(candidate)

    @handle
    def stand(self, request: Stand) -> Leader:
        """Take a candidate."""
        if not request.candidate.alive:
            raise Refuse(NoProcess(request.candidate, request, "it has ended"))
        contest = self._contests.setdefault(request.name, Contest())
        contest.candidates[request.candidate] = request.priority
        self._watch(request.candidate)
        self._elect(request.name, contest)
        assert contest.leader is not None
        return contest.leader

    @handle
    def resign(self, request: Resign) -> bool:
        """Let a candidate go, and elect another one if it leads."""
        contest = self._contests.get(request.name, Contest())
        there = contest.candidates.pop(request.candidate, None) is not None
        if there:
            self._elect(request.name, contest)
        return there

    @handle
    def wait(self, request: AwaitLeader) -> Leader | None:
        """Answer as soon as there is a leader of a later term."""
        contest = self._contests.get(request.name, Contest())
        if contest.leader is not None and contest.leader.term > request.after:
            return contest.leader
        self._awaiting.setdefault(request.name, []).append((self.defer_reply(), request.after))
        return None

    @handle
    def follow(self, request: Follow) -> None:
        """Tell somebody of each leader from now on, and of the one there is."""
        followers = self._followers.setdefault(request.name, [])
        if request.follower not in followers:
            followers.append(request.follower)
        request.follower.cast(LeaderChanged(request.name, self._contests.get(request.name, Contest()).leader))

    @handle
    def ended(self, message: Down) -> None:
        """Let a candidate go that has ended."""
        ref = message.target
        assert isinstance(ref, Ref)
        del self._watched[ref]
        for name, contest in self._contests.items():
            if contest.candidates.pop(ref, None) is not None:
                self._elect(name, contest)
        for followers in self._followers.values():
            followers[:] = [one for one in followers if one is not ref]

    def _elect(self, name: str, contest: Contest) -> None:
        if contest.leader is not None and contest.leader.ref in contest.candidates:
            return
        living = [candidate for candidate in contest.candidates if candidate.alive]
        if living:
            contest.term += 1
            contest.leader = Leader(max(living, key=contest.candidates.__getitem__), contest.term)
        elif contest.leader is None:
            return
        else:
            contest.leader = None
        leader = contest.leader
        self.runtime.events.emit(
            LeaderElected, election=name, term=contest.term, leader=None if leader is None else leader.ref
        )
        for follower in self._followers.get(name, []):
            follower.cast(LeaderChanged(name, leader))
        if leader is not None:
            awaiting = self._awaiting.pop(name, [])
            for reply, after in awaiting:
                if leader.term > after:
                    reply.reply(leader)
                else:
                    self._awaiting.setdefault(name, []).append((reply, after))

    def _watch(self, ref: Ref) -> None:
        if ref not in self._watched:
            self._watched[ref] = self.monitor(ref)


class Election:
    """An election, by its name.

    Args:
        runtime: where the actor runs that decides.
        name: of the election: what there is to be led.
        actor: the name of the `Elections`.
    """

    def __init__(self, runtime: Runtime, name: str, *, actor: str = "elections") -> None:
        self.name = name
        self._address = runtime.name(actor)
        self._contests: dict[str, Contest] = kept(runtime, actor)

    @property
    def leader(self) -> Leader | None:
        """Who leads now; nobody whose actor has ended."""
        contest = self._contests.get(self.name)
        leader = None if contest is None else contest.leader
        return leader if leader is not None and leader.ref.alive else None

    async def stand(self, candidate: Ref, priority: int = 0) -> Leader:
        """Let an actor stand, until it ends or resigns. Return who leads.

        Args:
            candidate: the actor.
            priority: who has the highest is elected, when there is no leader.

        Raises:
            NoProcess: the candidate has ended; or no `Elections` runs.
        """
        return await self._address.call(Stand(self.name, candidate, priority))

    async def resign(self, candidate: Ref) -> bool:
        """Let an actor stand no more; tell whether it did."""
        return await self._address.call(Resign(self.name, candidate))

    async def leader_after(self, term: int = 0, timeout: float | None = None) -> Leader:
        """Wait for a leader of a later term than this one.

        Raises:
            CallTimeout: there was none in time.
        """
        return await self._address.call(AwaitLeader(self.name, term), timeout)

    async def follow(self, follower: Address) -> None:
        """Have an actor told of each leader with `LeaderChanged`, of the present one at once."""
        await self._address.call(Follow(self.name, follower))
