"""Blackboards: members read what is on a board and add to it, until nobody has anything to add.

>>> import dspy
>>> from dspex.teams import Member, Team
>>> class Facts(dspy.Module):
...     def forward(self, text):
...         return dspy.Prediction(facts=text.split())
>>> class Label(dspy.Module):
...     def forward(self, facts):
...         return dspy.Prediction(label="sport" if "goal" in facts else "other")
>>> desk = Team("desk", (Member("label", Label()), Member("facts", Facts())), field="label")
>>> board = Blackboard(desk, [BoardSource("label", reads=("facts",)), BoardSource("facts", reads=("text",))])
>>> answer = board(text="what a goal")
>>> answer.label, answer.ended, answer.steps
('sport', 'quiescent', 2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import dspy
import msgspec

from dspex.teams.ballot import coverage
from dspex.teams.declared import make_signature, signature_of
from dspex.teams.errors import BadTeam
from dspex.teams.patterns.in_turn import AskedInTurn, Conversation, MemberReply, Question, Replies
from dspex.teams.poll import prediction_fields
from dspex.teams.team import Team
from foundation.options import finite, text, whole

#: Who wrote the inputs of a call.
CALLER = ""
#: Why nobody is asked any more.
BoardEnding: TypeAlias = Literal["quiescent", "until", "max_steps", "max_runs", "unasked"]


class EntryConflict(Exception):
    """An entry has changed since it was read: ``expected`` is the version that was, ``version`` the one that is."""

    def __init__(self, name: str, expected: int, version: int) -> None:
        self.name, self.expected, self.version = name, expected, version
        super().__init__(f"{name} was read in version {expected}, and has version {version}: read it again")


class BoardEntry(msgspec.Struct, frozen=True):
    """What stands on a board under a name.

    Attributes:
        name: of the entry.
        value: what it says.
        by: the member that wrote it; of an input, nobody.
        version: grows with each change on the board.
        step: at which step it was written.
        supports: who else has written the same.
    """

    name: str
    value: Any
    by: str
    version: int
    step: int
    supports: tuple[str, ...] = ()


class Board(msgspec.Struct, frozen=True):
    """A snapshot of a board.

    Attributes:
        entries: by their names.
        limit: how many there may be, besides inputs.
        changes: how many there were: the version of the last.
    """

    entries: Mapping[str, BoardEntry] = {}
    limit: int = 100
    changes: int = 0

    def get(self, name: str) -> Any:
        """Return the value of an entry; None if there is none."""
        found = self.entries.get(name)
        return None if found is None else found.value

    def version(self, name: str) -> int:
        """Return the version of an entry; 0 if there is none."""
        found = self.entries.get(name)
        return 0 if found is None else found.version

    def written(self, name: str, value: Any, by: str, *, expected: int, step: int = 0) -> Board:
        """Return the board after a write. What is written again as it stands makes no new version, and supports it.

        If there are too many entries, the oldest one goes that nobody supports; else the oldest one.

        Args:
            name: of the entry.
            value: what it says.
            by: who writes it.
            expected: the version that was read.
            step: at which step.

        Raises:
            EntryConflict: it has another version by now.
        """
        old = self.entries.get(name)
        if self.version(name) != expected:
            raise EntryConflict(name, expected, self.version(name))
        if old is None or not same_value(old.value, value):
            changes = self.changes + 1
            entry = BoardEntry(name, value, by, changes, step)
            return Board(self._bounded({**self.entries, name: entry}, name), self.limit, changes)
        if by == old.by or by in old.supports:
            return self
        entry = msgspec.structs.replace(old, supports=(*old.supports, by))
        return Board({**self.entries, name: entry}, self.limit, self.changes)

    def _bounded(self, entries: dict[str, BoardEntry], keep: str) -> dict[str, BoardEntry]:
        own = [entry for entry in entries.values() if entry.by != CALLER and entry.name != keep]
        if len(own) >= self.limit:
            del entries[min(own, key=lambda entry: (bool(entry.supports), entry.step)).name]
        return entries


def _always(_: Board) -> bool:
    return True


def _equally(_: Board) -> float:
    return 0.0


class BoardSource(msgspec.Struct, frozen=True):
    """What a member can add to a board.

    It has its turn when everything that it reads is there, and something of it has changed since it was there last.

    Attributes:
        member: who is asked.
        reads: the entries that are its inputs; None for the inputs of its program's first predictor.
        when: whether it has something to add, by what is on the board.
        estimate: how much it would add; of several, who would add most has the next turn.

    Raises:
        BadTeam, BadOption: one of these is something else.
    """

    member: str
    reads: tuple[str, ...] | None = None
    when: Callable[[Board], bool] = _always
    estimate: Callable[[Board], float] = _equally

    def __post_init__(self) -> None:
        text("BoardSource: member", self.member)
        if self.reads is not None:
            if not isinstance(self.reads, (tuple, list)):
                raise BadTeam("BoardSource: reads", self.reads, 'give a tuple of names, such as ("text",)')
            names = tuple(text("BoardSource: reads", name) for name in self.reads)
            msgspec.structs.force_setattr(self, "reads", names)
        for name in ("when", "estimate"):
            if not callable(getattr(self, name)):
                raise BadTeam(f"BoardSource: {name}", getattr(self, name), "give a function of the board")


class Blackboard(AskedInTurn):
    """A team that works on a board.

    The inputs of a call are its first entries. Each turn asks the member of one source, whose outputs become entries.
    It is over when no source has anything to add, or something else says so:

    - ``ended``: why: ``quiescent``; ``until``; ``max_steps`` or ``max_runs``, if some would still have had turns; or
      ``unasked``, without time or budget;
    - ``steps``: how many turns there were;
    - ``board``: the last `Board`.

    The answer has all entries but the inputs as its fields, and ``degraded`` such as ``board:max_steps`` if it did not
    end by itself, or ``board:lost 1 of 3`` if a member was away.

    Args:
        team: whose ``field`` is the entry that is wanted.
        sources: in the team's order; by default one for each member.
        until: says that the board is good enough.
        max_steps: how many turns there are at most.
        max_runs: how many of these each source has at most.
        limit: how many entries the board has at most.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    #: Its sources are those of its members.
    reshapable = False
    all_answer = False

    def __init__(
        self,
        team: Team,
        sources: Iterable[BoardSource] | None = None,
        *,
        until: Callable[[Board], bool] | None = None,
        max_steps: int = 20,
        max_runs: int = 3,
        limit: int = 100,
    ) -> None:
        super().__init__(team)
        self.sources = self._sources(sources)
        if until is not None and not callable(until):
            raise BadTeam("Blackboard: until", until, "give a function of the board, or None")
        self.until = until
        self.max_steps = whole("Blackboard: max_steps", max_steps)
        self.max_runs = whole("Blackboard: max_runs", max_runs)
        self.limit = whole("Blackboard: limit", limit)
        self.check_ladder()

    @property
    def able_alone(self) -> list[str]:
        """The members that say what is wanted, and read nothing that others write, as far as that is known."""
        able = super().able_alone
        return [one.member for one in self.sources if one.member in able and self._by(one).isdisjoint(one.reads or ())]

    def _by(self, source: BoardSource) -> set[str]:
        """Return what the members but one are known to write."""
        others = [self._known_outputs[one.member] or () for one in self.sources if one is not source]
        return {name for names in others for name in names}

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member writes on the board by itself."""
        found = super().alone(member)
        found.sources = tuple(one for one in self.sources if one.member == member)
        return found

    @property
    def signature(self) -> Any:
        """What is read and not written, and what is wanted; None if it is not known what is written."""
        known = [self._known_outputs[source.member] for source in self.sources]
        written = {name for names in known for name in names or ()}
        read = {
            name: found
            for source in reversed(self.sources)
            for name, found in self._read(source).items()
            if name not in written
        }
        if None in known or not read:
            return None
        return make_signature({**read, self.field: (Any, dspy.OutputField())})

    def _read(self, source: BoardSource) -> dict[str, Any]:
        """Return what a source reads, as fields of a signature."""
        found = signature_of(self.members[source.member], self.field)
        inputs = {} if found is None else found.input_fields
        kinds = {name: inputs[name].annotation if name in inputs else Any for name in source.reads or ()}
        return {name: (kind, dspy.InputField()) for name, kind in kinds.items()}

    def _sources(self, given: Iterable[BoardSource] | None) -> tuple[BoardSource, ...]:
        names = [member.name for member in self.team.members]
        found = tuple(map(BoardSource, names)) if given is None else tuple(given)
        if not found or not all(isinstance(source, BoardSource) for source in found):
            raise BadTeam("Blackboard: sources", found, "give at least one BoardSource, or None for one of each member")
        asked = [source.member for source in found]
        if stray := [name for name in asked if name not in names]:
            raise BadTeam("Blackboard: sources", stray, f"name members: {', '.join(names)}")
        if len({*asked}) < len(asked):
            raise BadTeam("Blackboard: sources", asked, "give each member one source")
        ordered = sorted(found, key=lambda source: names.index(source.member))
        return tuple(self._reading(source) for source in ordered)

    def _reading(self, source: BoardSource) -> BoardSource:
        """Return a source that says what it reads."""
        if source.reads is not None:
            return source
        predictors = self.members[source.member].predictors()
        if not predictors:
            raise BadTeam(
                "Blackboard: sources", source.member, "say which entries it reads: BoardSource(member, reads=(...))"
            )
        return msgspec.structs.replace(source, reads=tuple(predictors[0].signature.input_fields))

    def conversation(self, inputs: Mapping[str, Any], replies: Replies) -> Conversation:
        """Ask one source after another."""
        board, turns = _inputs(inputs, self.limit), _BoardTurns(self.sources, self.max_runs)
        ended: BoardEnding | None = None
        while ended is None:
            source = turns.next(board)
            ended = self._ended(board, turns, source)
            if source is not None and ended is None:
                reply = yield Question(source.member, {name: board.get(name) for name in source.reads or ()})
                if reply.answer.outcome == "unasked":
                    ended = "unasked"
                else:
                    board = turns.taken(source, board, reply, self.field)
        return self._answer(board, ended, turns.steps, replies)

    def _ended(self, board: Board, turns: _BoardTurns, source: BoardSource | None) -> BoardEnding | None:
        """Return why it is over; None if whose turn it is is asked."""
        if turns.steps and self.until is not None and self.until(board):
            return "until"
        if source is None:
            return "max_runs" if turns.held_up(board) else "quiescent"
        return "max_steps" if turns.steps >= self.max_steps else None

    def _answer(self, board: Board, ended: BoardEnding, steps: int, replies: Replies) -> Any:
        if self.team.normal(board.get(self.field)) is None:
            raise replies.missing()
        ballot = replies.ballot
        away = sum(one.outcome in ("lost", "late") for one in ballot)
        degraded = f"board:{ended}" if ended in ("max_steps", "max_runs", "unasked") else None
        if degraded is None and away:
            degraded = f"board:lost {away} of {sum(one.outcome != 'unasked' for one in ballot)}"
        fields = {name: entry.value for name, entry in board.entries.items() if entry.by != CALLER}
        told = {"ballot": ballot, "coverage": coverage(ballot, lambda _: 1.0), "confidence": 1.0, "degraded": degraded}
        return dspy.Prediction(**{**fields, **told, "ended": ended, "steps": steps, "board": board})


class _BoardTurns:
    """Whose turn it is, in one call."""

    def __init__(self, sources: Iterable[BoardSource], max_runs: int) -> None:
        self._sources = tuple(sources)
        self._max_runs = max_runs
        self._seen: dict[str, list[int]] = {}
        self._runs: dict[str, int] = {}
        self.steps = 0

    def next(self, board: Board) -> BoardSource | None:
        """Return whose turn it is: of those that may add something, who would add most; of equals, the first."""
        able = [source for source in self._able(board) if self._runs.get(source.member, 0) < self._max_runs]
        return max(able, key=lambda source: _estimate(source, board), default=None)

    def held_up(self, board: Board) -> bool:
        """Return whether somebody could still add something, but has had all its turns."""
        return bool(self._able(board))

    def _able(self, board: Board) -> list[BoardSource]:
        return [source for source in self._sources if self._is_new(source, board) and source.when(board)]

    def _is_new(self, source: BoardSource, board: Board) -> bool:
        versions = _versions(source, board)
        return all(versions) and versions != self._seen.get(source.member)

    def taken(self, source: BoardSource, board: Board, reply: MemberReply, field: str) -> Board:
        """Return the board with what came of a turn. What a source has written itself is not new to it."""
        self.steps += 1
        self._runs[source.member] = self._runs.get(source.member, 0) + 1
        for name, value in prediction_fields(reply.prediction, field).items():
            if value is not None and not _is_input(board, name):
                board = board.written(name, value, source.member, expected=board.version(name), step=self.steps)
        self._seen[source.member] = _versions(source, board)
        return board


def _inputs(given: Mapping[str, Any], limit: int) -> Board:
    board = Board(limit=limit)
    for name, value in given.items():
        board = board.written(name, value, CALLER, expected=0)
    return board


def _versions(source: BoardSource, board: Board) -> list[int]:
    return [board.version(name) for name in source.reads or ()]


def _is_input(board: Board, name: str) -> bool:
    found = board.entries.get(name)
    return found is not None and found.by == CALLER


def _estimate(source: BoardSource, board: Board) -> float:
    estimate = source.estimate(board)
    found = finite(estimate)
    if found is None:
        raise BadTeam(f"Blackboard: estimate of {source.member}", estimate, "return a finite number")
    return found


def same_value(one: Any, other: Any) -> bool:
    """Return whether two values are the same; what cannot be compared is not."""
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:
        return False
