"""The members of a program: its parts by their paths, or those of a team by their names."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import dspy

from agents.core.failures import is_order
from dspex._compat import bare_acall, bare_call, is_async, routed_class
from dspex.search.errors import BadMember
from dspex.teams import TeamProgram
from dspex.variables.structure import ROOT, module_at, replaced


def votes(program: Any) -> bool:
    """Return whether a program is a team whose members answer the same question, and whose rule combines them."""
    return isinstance(program, TeamProgram) and program.reshapable and program.uses_rule


def member_of(program: Any, name: str) -> Any:
    """Return a member's program.

    Raises:
        BadMember: there is none of this name.
    """
    found = program.members.get(name) if votes(program) else module_at(program, name)
    if found is None:
        raise BadMember(name, member_names(program))
    return found


def member_names(program: Any) -> list[str]:
    """Return the names of all members."""
    if votes(program):
        return list(program.members)
    paths = [path.removeprefix(f"{ROOT}.") for path, _ in program.named_sub_modules(dspy.Module)]
    return paths[1:] or paths


def with_member(program: Any, name: str, member: Any) -> Any:
    """Return a copy of a program with another one as a member."""
    found = program.deepcopy()
    return replaced(found, member_of(found, name), member)


def thawed(program: Any) -> tuple[Any, list[str]]:
    """Return a copy of a program, and which of its parts were compiled.

    DSPy takes such parts for frozen: it would neither optimise them, nor save them, nor find their language models.
    """
    found, names = program.deepcopy(), []
    both = zip(found.named_sub_modules(dspy.Module), program.named_sub_modules(dspy.Module), strict=True)
    for (path, mine), (_, given) in both:
        if path != ROOT and getattr(given, "_compiled", False):
            names.append(path.removeprefix(f"{ROOT}."))
            mine._compiled = False
        if isinstance(given, dspy.Predict):
            mine.lm = given.lm  # DSPy has copied that as well
    return found, names


class _Told(NamedTuple):
    """What a member has answered, or raised."""

    prediction: Any
    error: BaseException | None


class _Enough(BaseException):
    """Ends a run whose member has answered. It is none of the errors that a program may take for its own."""


#: Where what the member answers in the running call is put.
_heard: ContextVar[list[_Told] | None] = ContextVar("dspex.search.heard", default=None)


class _Cut:
    """Takes the calls of a member, and ends the run with its first answer."""

    def call(self, member: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call it."""
        try:
            found = _Told(bare_call(member, args, kwargs), None)
        except Exception as error:
            found = _Told(None, error)
        self._end(found)

    async def acall(self, member: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call it."""
        try:
            found = _Told(await bare_acall(member, args, kwargs), None)
        except Exception as error:
            found = _Told(None, error)
        self._end(found)

    @staticmethod
    def _end(found: _Told) -> None:
        heard = _heard.get()
        assert heard is not None
        heard.append(found)
        raise _Enough


class MemberAlone(dspy.Module):  # type: ignore[misc]
    """Runs a program until one of its members has answered, and returns what that has answered.

    What comes before the member is asked as ever; what comes behind it is not asked.

    Args:
        program: is given away: its member is changed.
        name: of the member.
    """

    def __init__(self, program: Any, name: str) -> None:
        super().__init__()
        member = member_of(program, name)
        self.program = replaced(program, member, routed_class(type(member), _Cut()).of(member))
        self.name = name

    def forward(self, **inputs: Any) -> Any:
        """Run it."""
        heard: list[_Told] = []
        token = _heard.set(heard)
        try:
            self.program(**inputs)
        except BaseException as error:
            self._ended(heard, error)
        finally:
            _heard.reset(token)
        return self._answer(heard)

    @staticmethod
    def _ended(heard: list[_Told], error: BaseException) -> None:
        if not heard or is_order(error):
            raise error

    def _answer(self, heard: list[_Told]) -> Any:
        if not heard:
            raise LookupError(f"{self.name} was not asked")
        if heard[0].error is not None:
            raise heard[0].error
        return heard[0].prediction


class _AsyncMemberAlone(MemberAlone):
    """The same of a program that runs as a coroutine."""

    async def aforward(self, **inputs: Any) -> Any:
        """Run it."""
        heard: list[_Told] = []
        token = _heard.set(heard)
        try:
            await self.program.acall(**inputs)
        except BaseException as error:
            self._ended(heard, error)
        finally:
            _heard.reset(token)
        return self._answer(heard)


def alone(program: Any, name: str) -> Any:
    """Return a program that answers with what a member answers: a team's asks that member, others run up to it.

    Args:
        program: is given away.
        name: of the member.
    """
    if votes(program):
        return program.members[name]
    return (_AsyncMemberAlone if is_async(program) else MemberAlone)(program, name)
