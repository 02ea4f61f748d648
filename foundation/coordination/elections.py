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

from collections import OrderedDict
from typing import Any

import msgspec

from foundation.coordination.errors import BadArgument
from foundation.coordination.retained import (
    MonotonicCounter,
    RunUndo,
    UndoQueue,
    answer_or_else,
    answer_or_undo,
    retained,
)
from foundation.coordination.validation import MOST, address, living_ref, plain_number, reference, refusing, text, whole
from foundation.events import LeaderElected
from foundation.extras import sorted_dict
from foundation.holders import HolderMonitors
from foundation.naming import own_name
from supervision import Actor, Address, Down, Message, Name, Ref, ReplyTo, Request, Runtime, handle

#: For so many seconds a follower is remembered by a name that nobody holds.
NAMELESS = 60.0


class Leader(msgspec.Struct, frozen=True):
    """Who leads.

    Attributes:
        ref: the actor.
        term: grows by one with each leader. Whoever is led can refuse a smaller one than it has seen.
    """

    ref: Ref
    term: int


class Stand(Request[Leader], frozen=True):
    """Be a candidate. The answer is who leads now."""

    name: str
    candidate: Ref
    priority: float


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


class Unfollow(Request[bool], frozen=True):
    """Be told no more. The answer tells whether it was."""

    name: str
    follower: Address


class LeaderChanged(Message, frozen=True):
    """To followers: there is a new leader, or none (``leader`` is None)."""

    election: str
    leader: Leader | None


class CheckFollower(Message, frozen=True):
    """To itself: somebody may hold the name of a follower again."""

    name: str
    follower: Address


class Candidacy(msgspec.Struct, frozen=True):
    """Somebody stands.

    Attributes:
        asked: the request.
        priority: what it said.
        number: as which one it stood first.
        before: what it replaces, in case that nobody learns that it was taken.
    """

    asked: Stand
    priority: float
    number: int
    before: Candidacy | None

    @property
    def rank(self) -> tuple[float, int]:
        """The candidate with the smallest rank is elected."""
        return (-self.priority, self.number)


class ElectionState(msgspec.Struct):
    """What is known of an election, as long as somebody stands, waits or follows."""

    term: int
    last: int = 0
    leader: Leader | None = None
    candidates: dict[Ref, Candidacy] = {}
    #: Those who may be elected, by rank.
    ranked: Any = msgspec.field(default_factory=lambda: sorted_dict("an election"))
    #: With the request of each.
    followers: dict[Address, Follow] = {}

    def stands(self, candidate: Ref, candidacy: Candidacy | None) -> None:
        """Somebody stands, or (None) does no more."""
        before = self.candidates.pop(candidate, None)
        if before is not None:
            self.ranked.pop(before.rank, None)
        if candidacy is not None:
            self.candidates[candidate] = candidacy
            self.ranked[candidacy.rank] = candidate

    def best(self) -> Ref | None:
        """Return who is to be elected. Who has ended is not asked again."""
        while self.ranked:
            rank, candidate = self.ranked.peekitem(0)
            if candidate.alive:
                return candidate  # type: ignore[no-any-return]
            del self.ranked[rank]
        return None


class Elections(Actor):
    """Decides who leads: of those who stand, the one with the highest priority, and of these the first.

    A leader leads until it ends or resigns, also if somebody with a higher priority stands later. It is named
    ``elections`` unless started with another name. Candidates and terms survive its restart.
    """

    infrastructure = True

    def __init__(self) -> None:
        self._awaiting: dict[str, OrderedDict[ReplyTo[Leader], int]] = {}
        #: By actor: the elections in which it stands, and those in which it follows, as itself or by its name.
        self._watched: HolderMonitors[tuple[str, Address | None]] = HolderMonitors(self)

    def init(self) -> None:
        """Take over who stands, who leads and who follows."""
        name = own_name(self, "elections")
        self._elections: dict[str, ElectionState] = retained(self.runtime, name)
        self._numbers = MonotonicCounter(self.runtime, name)
        self._undo_queue = UndoQueue(self.runtime, name)
        for election, state in self._elections.items():
            for candidate in state.candidates:
                self._watched.add(candidate, (election, None))
            for follower in state.followers:
                self._attend(election, follower)
        self.collect(RunUndo())
        for election in list(self._elections):
            self._forget(election)

    @handle
    @refusing
    def stand(self, request: Stand) -> Leader:
        """Take a candidate."""
        name, candidate = text("name", request.name), living_ref(self.runtime, "candidate", request.candidate, request)
        priority = plain_number(request.priority)
        if priority is None:
            raise BadArgument("priority", request.priority, "give a finite number")
        state = self._state_of(name)
        before = state.candidates.get(candidate)
        if before is None:
            state.last += 1
        else:
            before = msgspec.structs.replace(before, before=None)
        number = state.last if before is None else before.number
        state.stands(candidate, Candidacy(request, priority, number, before))
        self._watched.add(candidate, (name, None))
        self._elect(name, state)
        assert state.leader is not None
        return state.leader

    @handle
    @refusing
    def resign(self, request: Resign) -> bool:
        """Let a candidate go, and elect another one if it leads."""
        return self._withdraw(text("name", request.name), reference(self.runtime, "candidate", request.candidate))

    @handle
    @refusing
    def wait(self, request: AwaitLeader) -> Leader | None:
        """Answer as soon as there is a leader of a later term."""
        name, after = text("name", request.name), whole("term", request.after, least=-MOST)
        state = self._elections.get(name)
        if state is not None and state.leader is not None and state.leader.term > after:
            return state.leader
        reply = self.defer_reply()
        self._state_of(name)
        self._awaiting.setdefault(name, OrderedDict())[reply] = after
        reply.on_abandoned(lambda: self._left(name, reply))
        return None

    @handle
    @refusing
    def follow(self, request: Follow) -> None:
        """Tell somebody of each leader from now on, and of the one there is."""
        name, follower = text("name", request.name), address(self.runtime, "follower", request.follower)
        state = self._state_of(name)
        if follower not in state.followers:
            state.followers[follower] = request
            self._attend(name, follower)
        follower.cast(LeaderChanged(name, state.leader))

    @handle
    @refusing
    def unfollow(self, request: Unfollow) -> bool:
        """Tell somebody no more."""
        return self._lose_follower(text("name", request.name), address(self.runtime, "follower", request.follower))

    @handle
    def collect(self, message: RunUndo) -> None:
        """Do what callers wanted that could not wait for the reply, and undo requests that were cancelled before it."""
        for request in self._undo_queue.take():
            if isinstance(request, Stand):
                self._undo_stand(request)
            elif isinstance(request, Follow):
                state = self._elections.get(request.name)
                if state is not None and state.followers.get(request.follower) is request:
                    self._lose_follower(request.name, request.follower)
            elif isinstance(request, Resign):
                self._withdraw(request.name, request.candidate)
            else:
                self._lose_follower(request.name, request.follower)

    @handle
    def ended(self, message: Down) -> None:
        """Let a candidate go that has ended, and look later whether a follower's name is held again."""
        for name, follower in self._watched.ended(message):
            if follower is None:
                assert isinstance(message.target, Ref)
                self._withdraw(name, message.target)
            elif isinstance(follower, Ref):
                self._lose_follower(name, follower)
            elif self._follows(name, follower):
                self._attend(name, follower)

    @handle
    @refusing
    def look_again(self, message: CheckFollower) -> None:
        """Forget a follower whose name nobody has held for so long."""
        name, follower = text("name", message.name), address(self.runtime, "follower", message.follower)
        if self._follows(name, follower) and isinstance(follower, Name):
            if follower.resolve() is None:
                self._lose_follower(name, follower)
            else:
                self._attend(name, follower)

    def _state_of(self, name: str) -> ElectionState:
        state = self._elections.get(name)
        if state is None:
            state = self._elections[name] = ElectionState(self._numbers.last)
        return state

    def _attend(self, name: str, follower: Address) -> None:
        """Hear of the end of a follower, or of who holds its name."""
        holder = follower.resolve() if isinstance(follower, Name) else follower
        if holder is None:
            self.send_after(NAMELESS, CheckFollower(name, follower))
        else:
            assert isinstance(holder, Ref)
            self._watched.add(holder, (name, follower))

    def _follows(self, name: str, follower: Address) -> bool:
        state = self._elections.get(name)
        return state is not None and follower in state.followers

    def _withdraw(self, name: str, candidate: Ref) -> bool:
        state = self._elections.get(name)
        if state is None or candidate not in state.candidates:
            return False
        state.stands(candidate, None)
        self._watched.discard(candidate, (name, None))
        self._elect(name, state)
        self._forget(name)
        return True

    def _undo_stand(self, request: Stand) -> None:
        state = self._elections.get(request.name)
        candidacy = None if state is None else state.candidates.get(request.candidate)
        if state is None or candidacy is None:
            return
        before = candidacy.before
        if candidacy.asked is not request:
            if before is not None and before.asked is request:
                state.stands(request.candidate, msgspec.structs.replace(candidacy, before=None))
        elif before is None:
            self._withdraw(request.name, request.candidate)
        else:
            state.stands(request.candidate, before)

    def _lose_follower(self, name: str, follower: Address) -> bool:
        state = self._elections.get(name)
        if state is None or state.followers.pop(follower, None) is None:
            return False
        holder = follower.resolve() if isinstance(follower, Name) else follower
        assert holder is None or isinstance(holder, Ref)
        self._watched.discard(holder, (name, follower))
        self._forget(name)
        return True

    def _left(self, name: str, reply: ReplyTo[Leader]) -> None:
        """Somebody has given up waiting."""
        awaiting = self._awaiting.get(name)
        if awaiting is not None and self.ref.alive:
            awaiting.pop(reply, None)
            if not awaiting:
                del self._awaiting[name]
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Forget an election that nobody needs: but not that terms were used."""
        state = self._elections.get(name)
        if state is not None and not (state.candidates or state.followers or name in self._awaiting):
            del self._elections[name]
            self._numbers.forget(state.term)

    def _elect(self, name: str, state: ElectionState) -> None:
        if state.leader is not None and state.leader.ref in state.candidates:
            return
        best = state.best()
        if best is not None:
            state.term += 1
            state.leader = Leader(best, state.term)
        elif state.leader is None:
            return
        else:
            state.leader = None
        leader = state.leader
        for follower in state.followers:
            follower.cast(LeaderChanged(name, leader))
        if leader is not None:
            self._tell_those_who_wait(name, leader)
        self.runtime.events.emit(
            LeaderElected, election=name, term=state.term, leader=None if leader is None else leader.ref
        )

    def _tell_those_who_wait(self, name: str, leader: Leader) -> None:
        awaiting = self._awaiting.get(name, OrderedDict())
        for reply in [reply for reply, after in awaiting.items() if leader.term > after]:
            del awaiting[reply]
            reply.reply(leader)
        if not awaiting:
            self._awaiting.pop(name, None)


class Election:
    """An election, by its name.

    Args:
        runtime: where the actor runs that decides.
        name: of the election: what there is to be led.
        actor: the name of the `Elections`.
    """

    def __init__(self, runtime: Runtime, name: str, *, actor: str = "elections") -> None:
        self.name = text("name", name)
        self._runtime = runtime
        actor = text("actor", actor)
        self._address = runtime.name(actor)
        self._elections: dict[str, ElectionState] = retained(runtime, actor)
        self._undo_queue = UndoQueue(runtime, actor)

    @property
    def leader(self) -> Leader | None:
        """Who leads now; nobody whose actor has ended."""
        state = self._elections.get(self.name)
        leader = None if state is None else state.leader
        return leader if leader is not None and leader.ref.alive else None

    async def stand(self, candidate: Ref, priority: float = 0) -> Leader:
        """Let an actor stand, until it ends or resigns. Return who leads.

        Whoever is cut off before it learns of that has not let it stand.

        Args:
            candidate: the actor.
            priority: who has the highest is elected, when there is no leader: any finite number.

        Raises:
            BadArgument: the priority is no number, or the candidate no actor.
            NoProcess: the candidate has ended; or no `Elections` runs.
        """
        request = Stand(self.name, candidate, priority)
        return await answer_or_undo(self._address.call(request), lambda _: self._undo_queue.put(id(request), request))

    async def resign(self, candidate: Ref) -> bool:
        """Let an actor stand no more; tell whether it did. It resigns whatever is raised, other than `BadArgument`.

        Raises:
            BadArgument: the candidate is no actor.
        """
        return await self._done(Resign(self.name, reference(self._runtime, "candidate", candidate)))

    async def leader_after(self, term: int = 0, timeout: float | None = None) -> Leader:
        """Wait for a leader of a later term than this one.

        Raises:
            CallTimeout: there was none in time.
            BadArgument: the term is no whole number.
            ActorExited: the `Elections` was restarted; ask again.
        """
        return await answer_or_undo(self._address.call(AwaitLeader(self.name, term), timeout))

    async def follow(self, follower: Address) -> None:
        """Have an actor told of each leader with `LeaderChanged`, of the present one at once.

        Until it ends, or `unfollow`; a follower by name, until nobody has held the name for a minute.

        Raises:
            BadArgument: the follower is no address in this runtime.
        """
        request = Follow(self.name, follower)
        await answer_or_undo(self._address.call(request), lambda _: self._undo_queue.put(id(request), request))

    async def unfollow(self, follower: Address) -> bool:
        """Have an actor told no more; tell whether it was. It is so whatever is raised, other than `BadArgument`."""
        return await self._done(Unfollow(self.name, address(self._runtime, "follower", follower)))

    async def _done(self, request: Resign | Unfollow) -> bool:
        return await answer_or_else(self._address.call(request), lambda: self._undo_queue.put(id(request), request))
