"""The ladder of a served team: the lesser answers that it may give when it has no full one, in their order. Values.

>>> [rung.name for rung in TeamLadder.of(["quorum", "single:chat", "cached:3600", "refuse"]).rungs]
['quorum', 'single', 'cached', 'refuse']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from dspex.teams.errors import BadTeam
from dspex.workflow.degradation import DegradationLadder, Rung
from foundation.options import above_zero, is_a, text, whole
from supervision.errors import BadOption

#: What a rung answers with.
RungKind: TypeAlias = Literal["quorum", "single", "cached", "default", "refuse"]
#: The answer of all who were asked: above each ladder.
FULL = Rung("full")


class TeamRung(Rung, frozen=True, kw_only=True):
    """One lesser answer. The functions of this class make them.

    Attributes:
        kind: what it answers with.
        member: of ``single``: whose answer; None for the best member's.
        outputs: of ``default``: the answer.
        retry_after: of ``refuse``: the seconds after which another try is worth it.
    """

    kind: RungKind
    member: str | None = None
    outputs: Mapping[str, Any] = {}
    retry_after: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.member is not None:
            text("TeamRung: member", self.member)
        above_zero("TeamRung: retry_after", self.retry_after)
        if not isinstance(self.outputs, Mapping):
            raise BadOption("TeamRung: outputs", self.outputs, "give the fields of the answer, as a mapping")

    @classmethod
    def quorum(cls) -> TeamRung:
        """Return the rung of an answer by those that have answered, if they are enough (``Team.min_answers``)."""
        return cls(name="quorum", kind="quorum")

    @classmethod
    def single(cls, member: str | None = None, *, p95: float | None = None, name: str = "single") -> TeamRung:
        """Return the rung of an answer by one member: the one it has given in this call, or else a new one.

        Args:
            member: its name; None for the one of those that have answered whose vote counts most.
            p95: seconds in which it answers 19 times of 20; None for what is measured.
            name: of the rung, if there are several of this kind.
        """
        return cls(name=name, kind="single", member=member, p95=p95)

    @classmethod
    def cached(cls, max_age: float) -> TeamRung:
        """Return the rung of the last full answer to the same inputs, at most so many seconds old."""
        return cls(name="cached", kind="cached", max_age=max_age)

    @classmethod
    def default(cls, **outputs: Any) -> TeamRung:
        """Return the rung of an answer that is always the same."""
        return cls(name="default", kind="default", outputs=outputs)

    @classmethod
    def refuse(cls, retry_after: float = 1.0) -> TeamRung:
        """Return the last rung: the call is refused (`Unavailable`), with a word when to try again."""
        return cls(name="refuse", kind="refuse", retry_after=retry_after)


class TeamLadder(msgspec.Struct, frozen=True):
    """Lesser answers, the best first. The full answer is above them, and need not be named.

    Attributes:
        rungs: the best first; ``quorum`` only as the first one, ``refuse`` only as the last.
        recover_after: how many good calls in a row it takes until the team is asked again, once calls begin lower.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    rungs: tuple[TeamRung, ...]
    recover_after: int = 5

    def __post_init__(self) -> None:
        rungs = tuple(self.rungs) if isinstance(self.rungs, Sequence) and not isinstance(self.rungs, str) else ()
        if not rungs or not all(is_a(rung, TeamRung) for rung in rungs):
            raise BadTeam("TeamLadder: rungs", self.rungs, "give at least one TeamRung, such as TeamRung.quorum()")
        for number, rung in enumerate(rungs):
            if rung.kind == "quorum" and number > 0:
                raise BadTeam("TeamLadder: rungs", "quorum", "write it first: nothing is better, but the full answer")
            if rung.kind == "refuse" and number < len(rungs) - 1:
                raise BadTeam("TeamLadder: rungs", "refuse", "write it last: nothing comes after it")
            if rung.name == FULL.name or rung.name in {other.name for other in rungs[:number]}:
                raise BadTeam("TeamLadder: rungs", rung.name, "give each rung a name of its own, other than full")
        whole("TeamLadder: recover_after", self.recover_after)
        msgspec.structs.force_setattr(self, "rungs", rungs)

    @classmethod
    def of(cls, source: Any) -> TeamLadder:
        """Return a ladder as a tree file writes it.

        Args:
            source: a `TeamLadder`; or a list of words, such as ``quorum``, ``single``, ``single:MEMBER``,
                ``cached:SECONDS`` and ``refuse:SECONDS``, and of tables, such as
                ``{rung = "default", outputs = {label = "other"}}``; or a table with these as ``rungs``.

        Raises:
            BadTeam, BadOption: it is none.
        """
        if isinstance(source, cls):
            return source
        options = dict(source) if isinstance(source, Mapping) else {"rungs": source}
        if not options.keys() <= {"rungs", "recover_after"} or not isinstance(options.get("rungs"), (list, tuple)):
            raise BadTeam("ladder", source, 'give a list of rungs, such as ["quorum", "single", "refuse"]')
        options["rungs"] = tuple(map(_rung, options["rungs"]))
        return cls(**options)

    def state(self) -> DegradationLadder:
        """Return where calls begin, which is at the full answer for now."""
        lesser = [rung for rung in self.rungs if rung.kind != "refuse"]
        return DegradationLadder([FULL, *lesser], recover_after=self.recover_after)

    @property
    def retry_after(self) -> float:
        """The seconds after which a call that is refused is worth another try."""
        return self.rungs[-1].retry_after

    @property
    def keeps_answers(self) -> bool:
        """Whether full answers are kept, to be given again."""
        return any(rung.kind == "cached" for rung in self.rungs)

    def check(self, members: Sequence[str], field: str | None) -> None:
        """Check that a team can have this ladder.

        Args:
            members: the names of those that can answer alone.
            field: the output that the team combines; None if that is not known yet.

        Raises:
            BadTeam: it names a member that cannot, or is not there, or there is none that can; or it has a default
                without the field that the team combines.
        """
        for rung in self.rungs:
            if rung.kind == "single" and not members:
                raise BadTeam("ladder", rung.name, "leave it out: nobody here can answer without the others")
            if rung.member is not None and rung.member not in members:
                raise BadTeam("ladder: single", rung.member, f"choose among {', '.join(members)}, who can answer alone")
            if rung.kind == "default" and field is not None and field not in rung.outputs:
                raise BadTeam("ladder: default", dict(rung.outputs), f"say what {field} is")


_FIELDS = ("name", "p95", "max_age", "member", "outputs", "retry_after")


def _rung(source: Any) -> TeamRung:
    if isinstance(source, TeamRung):
        return source
    if isinstance(source, Mapping) and source.get("rung") in get_args(RungKind) and {*source} <= {"rung", *_FIELDS}:
        kind = source["rung"]
        return _checked(source, {"name": kind, "kind": kind, **{key: source[key] for key in source if key != "rung"}})
    word, colon, value = source.partition(":") if isinstance(source, str) else ("", "", "")
    if word in get_args(RungKind) and (not colon or word in _VALUES):
        given = {} if not colon else {_VALUES[word]: value if word == "single" else _number(str(source), value)}
        return _checked(source, {"name": word, "kind": word, **given})
    raise BadTeam("ladder", source, f"write one of {', '.join(get_args(RungKind))}, or a table with that as its rung")


#: What stands behind the colon.
_VALUES = {"single": "member", "cached": "max_age", "refuse": "retry_after"}


def _number(source: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise BadTeam("ladder", source, "give seconds behind the colon, such as cached:3600") from None


def _checked(source: Any, given: Mapping[str, Any]) -> TeamRung:
    if given["kind"] == "cached" and given.get("max_age") is None:
        raise BadTeam("ladder", source, "say how many seconds old the answer may be, such as cached:3600")
    return TeamRung(**given)
