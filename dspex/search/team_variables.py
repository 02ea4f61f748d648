"""What there is to choose in a team, for `dspex.teleprompt.BEACON`: its members, and the rule.

Each candidate for a member is one variable, ``in`` or ``out``; the rule is another. What a rule has to know, such as
weights, is not searched: for each set of members it is fitted anew to what they have answered. They are asked once, in
each of their settings, and all teams of them are reckoned from that.

What a rule was fitted to does not judge it: the validation examples are divided into parts, and those of each part are
decided by the rule as the others make it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import comb
from typing import Any, NamedTuple

import dspy
import msgspec

from dspex.fingerprints import content_digest
from dspex.teams import (
    BadTeam,
    CombinationRule,
    ConfusionVote,
    DropMember,
    FirstAnswer,
    MajorityVote,
    Member,
    MemberVote,
    RecordedVotes,
    SoftVote,
    Stacking,
    Team,
    TeamProgram,
    WeightedVote,
    WithProbabilities,
)
from dspex.teams.poll import Poll
from dspex.teams.records import Everybody
from dspex.teleprompt.errors import BadTrainset
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import RolloutJob
from dspex.teleprompt.run import OptimisationRun
from dspex.variables import Choice, Configuration, Variable
from dspex.variables.space import Constraint
from foundation.options import whole

#: Makes a rule of recorded votes.
Fit = Callable[[RecordedVotes], CombinationRule]

#: The rules by their names, each with what fits it.
RULES: Mapping[str, Fit] = {
    "majority": lambda _: MajorityVote(),
    "weighted": WeightedVote.fitted,
    "confusion": ConfusionVote.fitted,
    "corrected": SoftVote.fitted,
    "stacking": Stacking.fitted,
}
#: What a program has already, by this name.
OWN = "own"
#: The name of the one member of a program that is no team.
ALONE = "program"
_SIDES = {"in": True, "out": False}
#: At least so many of the sets of members that are drawn have to be no greater than they may be.
_LEAST_SHARE = 0.01


class TeamVariables:
    """A team's members and rule as variables of BEACON.

    >>> TeamVariables(max_members=3, rules=("stacking",)).parameters()
    {'max_members': 3, 'rules': {'stacking': None}, 'folds': 5}

    Of a student that is a team, the variables are ``member.NAME``, ``in`` or ``out``, and ``rule``, ``own`` or one of
    those that are given. A student that is not, with one predictor whose output is a ``Literal``, comes back as a team
    of one, and ``rule`` is whether its probabilities are ``corrected``: divided by their means, if its language model
    tells any.

    Args:
        max_members: how many members a team has at most; None for all. The first of them are the default.
        rules: which rules are tried besides the team's own: names of ``majority``, ``weighted``, ``confusion``,
            ``corrected`` and ``stacking``; or, by names of your own, what fits a rule to recorded votes. None for all
            of these; of a program that is no team, for ``corrected``.
        folds: into how many parts the validation examples are divided.

    Raises:
        BadTeam: there is no such rule.
        BadOption: a number makes no sense.
    """

    def __init__(
        self,
        max_members: int | None = None,
        *,
        rules: Iterable[str] | Mapping[str, Fit] | None = None,
        folds: int = 5,
    ) -> None:
        self.max_members = None if max_members is None else whole("TeamVariables: max_members", max_members)
        self.rules = None if rules is None else _rules(rules)
        self.folds = whole("TeamVariables: folds", folds, 2)

    def parameters(self) -> dict[str, Any]:
        """Return what decides what comes out."""
        rules = None
        if self.rules is not None:
            rules = {name: None if fit is RULES.get(name) else parameter(fit) for name, fit in self.rules.items()}
        return {"max_members": self.max_members, "rules": rules, "folds": self.folds}

    def trials(
        self, run: OptimisationRun, program: Any, trainset: Sequence[Any], valset: Sequence[Any]
    ) -> RecordedTrials:
        """Return the teams of a search.

        Args:
            run: asks the members.
            program: the student.
            trainset: examples to which rules are fitted, too.
            valset: examples by which teams are judged.

        Raises:
            BadTeam: the student cannot be such a team, or an example has no label.
            BadTrainset: there are too few examples.
        """
        return RecordedTrials(self, run, program, trainset, valset)


def _rules(given: Iterable[str] | Mapping[str, Fit]) -> Mapping[str, Fit]:
    if isinstance(given, Mapping):
        found: dict[Any, Any] = dict(given)
    else:
        found = {name: RULES.get(name) for name in ([given] if isinstance(given, str) else given)}
    for name, fit in found.items():
        if not isinstance(name, str) or name == OWN or not callable(fit):
            raise BadTeam("TeamVariables: rules", name, f"choose among {', '.join(RULES)}, or give what fits a rule")
    return found


class _Said(NamedTuple):
    """What a member has said to an example: its prediction, or why there is none."""

    prediction: Any
    failure: str | None


class RecordedTrials:
    """The teams of one search; see `TeamVariables`."""

    def __init__(
        self, of: TeamVariables, run: OptimisationRun, program: Any, trainset: Sequence[Any], valset: Sequence[Any]
    ) -> None:
        self._run, self._folds, self._judged = run, of.folds, len(valset)
        self._single = not isinstance(program, TeamProgram)
        whole_team = self._as_team(program)
        self._team, self._field, self._labels = whole_team.team, whole_team.field, whole_team._labels()
        self.names = [member.name for member in self._team.members]
        rungs = () if self._team.ladder is None else self._team.ladder.rungs
        #: Members without whom the team's ladder could not be.
        self._needed = {rung.member for rung in rungs if rung.member is not None}
        most = min(of.max_members or len(self.names), len(self.names))
        fits = of.rules
        if fits is None:
            fits = {"corrected": RULES["corrected"]} if self._single else RULES
        self._fits: dict[str, Fit] = {OWN: lambda _: self._team.rule, **fits}
        self.variables: Sequence[Variable] = [
            *([] if self._single else self._members(most)),
            Choice(name="rule", choices=self._fits, default=OWN),
        ]
        self._own = {variable.name for variable in self.variables}
        self.constraints: Mapping[str, Constraint] = (
            {}
            if self._single
            else {
                f"1 to {most} members": lambda found: 1 <= len(self._chosen(found)) <= most,
                "the members of the ladder stay": lambda found: self._needed <= {*self._chosen(found)},
            }
        )
        known = {content_digest(dict(example.items())) for example in valset}
        others = [example for example in trainset if content_digest(dict(example.items())) not in known]
        #: First those by which teams are judged.
        self._examples = [*valset, *others]
        self._truth = [self._label(example) for example in self._examples]
        if len(self._examples) < 2:
            raise BadTrainset(len(self._examples), 2)
        self._said: dict[str, list[_Said]] = {}

    def _as_team(self, program: Any) -> TeamProgram:
        if self._single:
            return Team(ALONE, (Member(ALONE, WithProbabilities(program)),), FirstAnswer()).program()
        if type(program) is not TeamProgram:
            raise BadTeam("TeamVariables: student", type(program).__name__, "give a Team's program(), and no pattern")
        found: TeamProgram = program
        return found

    def _members(self, most: int) -> list[Variable]:
        number = len(self.names)
        share = sum(comb(number, size) for size in range(1, most + 1)) / 2**number
        if share < _LEAST_SHARE:
            remedy = (
                f"of {number} candidates, hardly any set has so few: allow more, or give fewer, such as compose finds"
            )
            raise BadTeam("TeamVariables: max_members", most, remedy)
        return [
            Choice(name=f"member.{name}", choices=_SIDES, default="in" if place < most else "out")
            for place, name in enumerate(self.names)
        ]

    def _label(self, example: Any) -> Any:
        form = self._team.normal(example.get(self._field))
        if form is None:
            raise BadTeam("TeamVariables: examples", example, f"give each example a label, as {self._field}")
        return form

    def _chosen(self, configuration: Configuration) -> list[str]:
        if self._single:
            return self.names
        return [name for name in self.names if configuration[f"member.{name}"] == "in"]

    # -- what members say ----------------------------------------------------------------------------------------------

    async def record(self, candidates: Iterable[tuple[Any, Configuration]]) -> None:
        """Ask the members of candidates, as far as that was not done."""
        wanted: dict[str, Any] = {}
        for program, configuration in candidates:
            for name in self._chosen(configuration):
                key = self._key(name, configuration)
                if key not in self._said and key not in wanted:
                    wanted[key] = WithProbabilities(program) if self._single else program.asked_as(name)
        jobs = [
            RolloutJob(f"{key}/{number}", asked, example, kept=True, scored=False)
            for key, asked in wanted.items()
            for number, example in enumerate(self._examples)
        ]
        outcomes = await self._run.rollouts(jobs, check=False)
        said = [_Said(outcome.prediction, outcome.failure) for outcome in outcomes]
        count = len(self._examples)
        self._said.update((key, said[n * count : (n + 1) * count]) for n, key in enumerate(wanted))

    def _key(self, member: str, configuration: Configuration) -> str:
        """Return what tells a member's answers: its name, and all settings but those of other members."""
        others = tuple(f"members['{name}']" for name in self.names if name != member)
        settings = {
            name: value
            for name, value in configuration.items()
            if name not in self._own and not name.startswith(others)
        }
        return f"member/{member}/{content_digest(settings)[:16]}"

    # -- what comes of it ----------------------------------------------------------------------------------------------

    def judged(self, program: Any, configuration: Configuration) -> list[Any]:
        """Return for each validation example what answers as the team does, by the rule that the others make."""
        team, said, votes = self._recorded(configuration)
        fit = self._fits[configuration["rule"]]
        parts = [self._fitted(fit, votes, part) for part in range(min(self._folds, self._judged))]
        return [self._decision(team, said, number, parts[number % len(parts)]) for number in range(self._judged)]

    def _recorded(self, configuration: Configuration) -> tuple[Team, dict[str, list[_Said]], list[list[MemberVote]]]:
        """Return the team of a configuration, what its members have said, and their votes on each example."""
        names = self._chosen(configuration)
        team = msgspec.structs.replace(self._team, members=tuple(Member(name, None) for name in names))
        said = {name: self._said[self._key(name, configuration)] for name in names}
        everybody = msgspec.structs.replace(team, rule=Everybody(), max_calls=None)
        return team, said, [self._poll(everybody, said, number).votes for number in range(len(self._examples))]

    def _fitted(self, fit: Fit, votes: Sequence[Any], without: int | None) -> CombinationRule | Exception:
        """Return a rule that is fitted to all examples but those of one part; or what speaks against that."""
        parts = min(self._folds, self._judged)
        used = [n for n in range(len(votes)) if without is None or n >= self._judged or n % parts != without]
        try:
            return fit(RecordedVotes([votes[n] for n in used], [self._truth[n] for n in used]))
        except Exception as error:
            return error

    def _poll(self, team: Team, said: Mapping[str, Sequence[_Said]], number: int) -> Poll:
        poll = Poll(team, self._field, self._labels)
        for name, answers in said.items():
            answer = answers[number]
            if answer.failure is None:
                poll.answered(name, answer.prediction)
            else:
                poll.failed(name, RuntimeError(answer.failure))
        return poll

    def _decision(
        self, team: Team, said: Mapping[str, Sequence[_Said]], number: int, rule: CombinationRule | Exception
    ) -> Any:
        if isinstance(rule, Exception):
            return _Decision(rule)
        return _Decision(self._poll(msgspec.structs.replace(team, rule=rule), said, number))

    def made(self, program: Any, configuration: Configuration) -> Any:
        """Return a candidate as a team, with the rule that all examples make.

        Raises:
            BadWeights: they make none.
        """
        _, said, votes = self._recorded(configuration)
        found = self._as_team(program)
        gone = [DropMember(name) for name in self.names if name not in said]
        if gone:
            found = found.reshaped(*gone)
        rule = self._fitted(self._fits[configuration["rule"]], votes, None)
        if isinstance(rule, Exception):
            raise rule
        found.team = msgspec.structs.replace(found.team, rule=rule)
        return found


class _Decision(dspy.Module):  # type: ignore[misc]
    """Answers what a team has come to, or raises why it has not."""

    def __init__(self, of: Poll | Exception) -> None:
        super().__init__()
        self._of = of

    def forward(self, **_: Any) -> Any:
        """Answer."""
        if isinstance(self._of, Exception):
            raise self._of
        return self._of.result()
