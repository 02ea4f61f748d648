"""Applications: named trees that need each other, started and stopped as wholes (OTP's ``application``).

A *controller* knows some applications and runs those that it is told to. What an application's actors start is part of
it, wherever they start it; when the application has stopped, none of it is left.

>>> import asyncio
>>> from supervision import Actor, Application, Applications, ChildSpec, Runtime, applications
>>> class Ledger(Application):
...     name = "ledger"
...
...     def start(self, start_type: str) -> object:
...         return [ChildSpec("book", Actor)]
>>> class Shop(Application):
...     name = "shop"
...     requires = ("ledger",)
...
...     def start(self, start_type: str) -> object:
...         return [ChildSpec("till", Actor), ChildSpec("shelf", Actor)]
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         controller = await runtime.spawn(Applications, [Shop(), Ledger()], name="applications")
...         print(await applications.ensure_all_started(controller, "shop"))
...         print([ref.path for ref in runtime.actors() if "till" in ref.path])
>>> asyncio.run(main())
['ledger', 'shop']
['/applications/shop/top/till']
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal, get_args

import msgspec

from supervision import events
from supervision._core.cell import Cell
from supervision._core.dispatch import handle
from supervision.actor import Actor
from supervision.call import ReplyTo
from supervision.clock import seconds
from supervision.errors import (
    ApplicationAlreadyStarted,
    ApplicationFailed,
    ApplicationNotStarted,
    BadApplication,
    BadOption,
    Refuse,
    StartError,
    Stop,
    UnknownApplication,
)
from supervision.messages import Exit, Message, Request
from supervision.reasons import (
    KILLED,
    SHUTDOWN,
    ApplicationEnded,
    BadReturnValue,
    ExitReason,
    FailedCallback,
    Normal,
    crashed,
)
from supervision.ref import Address, Ref, as_address
from supervision.supervisors.childspec import ChildSpec
from supervision.supervisors.supervisor import Supervisor

#: What the end of an application means: for ``permanent`` ones any, for ``transient`` ones any but a normal one ends
#: all others, and the controller; the end of a ``temporary`` one is reported.
StartType = Literal["permanent", "transient", "temporary"]


class Application:
    """A named tree. Subclasses say what it consists of; all callbacks may be ``async``.

    Attributes:
        name: by which others require it.
        requires: the names of those that must run before it is started.
        start_phases: names for `start_phase`, in order.
    """

    name: ClassVar[str] = ""
    requires: ClassVar[tuple[str, ...]] = ()
    start_phases: ClassVar[tuple[str, ...]] = ()

    def start(self, start_type: str) -> Any:
        """Return what it consists of.

        Args:
            start_type: ``permanent``, ``transient`` or ``temporary``.

        Returns:
            A list of child specifications, for a supervisor of their own; one `ChildSpec` or actor class, for the top
            of the tree; or the address of a top that was started with `spawn_link`.
        """
        raise NotImplementedError(f"{type(self).__qualname__} does not say what it consists of: define start()")

    def start_phase(self, phase: str) -> Any:
        """Do what a start phase is for, when the tree is up. If it raises, the tree is killed and the start fails."""

    def prep_stop(self) -> Any:
        """Prepare for the stop, while the tree is still there."""

    def stop(self) -> Any:
        """Clean up, when the tree has ended."""


# -- the master of one application -----------------------------------------------------------------------------------


class Stopped(Message, frozen=True):
    """A master's message to the controller at its end."""

    name: str
    leftovers: tuple[str, ...]


class Master(Actor):
    """Starts the tree of one application, watches over its top, and stops it (OTP's application master)."""

    trap_exit = True
    infrastructure = True
    shutdown = "infinity"

    def __init__(self, application: Application, start_type: str, controller: Ref) -> None:
        self._application = application
        self._type = start_type
        self._controller = controller
        self._top: Cell | None = None

    async def init(self) -> None:
        """Start the tree, and go through the phases."""
        application = self._application
        self.runtime.master_of[self._cell] = self._cell
        try:
            self._top = await self._begin(await _finish(application.start(self._type)))
        except Exception as error:
            raise self._failed("start", error) from error
        for phase in application.start_phases:
            try:
                await _finish(application.start_phase(phase))
            except Exception as error:
                self._end_leftovers()
                raise self._failed(f"start_phase({phase!r})", error) from error
        self._cell.emit(events.ApplicationStarted, application=application.name)

    async def _begin(self, what: Any) -> Cell:
        if isinstance(what, Cell):
            self.link(what)
            return what
        many = isinstance(what, (list, tuple))
        one = isinstance(what, ChildSpec) or (isinstance(what, type) and issubclass(what, Actor))
        if not many and not one:
            raise StartError(f"application {self._application.name!r}", BadReturnValue(what))
        if many:
            begun = self.runtime.begin(Supervisor, (what,), {}, parent=self._cell, label="top")
        else:
            spec = ChildSpec.of(what)
            if spec.kind is None:
                raise StartError(f"application {self._application.name!r}", BadReturnValue(what))
            named = {"name": spec.name, "label": spec.id, "isolation": spec.isolation}
            begun = self.runtime.begin(spec.kind, spec.args, spec.kwargs, parent=self._cell, **named)
        if begun.starting is not None:
            await begun.starting
        return begun

    def _failed(self, callback: str, error: Exception) -> Stop:
        reason = error.reason if isinstance(error, StartError) else crashed(error)
        return Stop(FailedCallback(f"{type(self._application).__qualname__}.{callback}", reason))

    @handle
    def exited(self, message: Exit) -> None:
        """The top has ended by itself: so does the application."""
        if message.sender is self._top:
            self.stop(message.reason)

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the tree, and what is left outside of it."""
        top = self._top
        assert top is not None
        await self._hook("prep_stop")
        await self.runtime.shut_down(top, "infinity")
        await self._hook("stop")
        leftovers = self._end_leftovers()
        self._controller.cast(Stopped(self._application.name, leftovers))
        self._cell.emit(
            events.ApplicationStopped, application=self._application.name, reason=reason, leftovers=leftovers
        )

    async def _hook(self, callback: str) -> None:
        try:
            await _finish(getattr(self._application, callback)())
        except Exception as error:
            name = self._application.name
            self._cell.emit(events.ApplicationHookFailed, application=name, callback=callback, reason=crashed(error))

    def _end_leftovers(self) -> tuple[str, ...]:
        return end_leftovers(self._cell)


def end_leftovers(master: Cell) -> tuple[str, ...]:
    """Kill what is part of an application, but for its master; return their paths."""
    masters = master.runtime.master_of
    left = [cell for cell, owner in masters.items() if owner is master and cell is not master and cell is not None]
    paths = tuple(cell.path for cell in left)
    for cell in left:
        cell.end_by_force(KILLED)
    return paths


async def _finish(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


# -- requests --------------------------------------------------------------------------------------------------------


class ApplicationInfo(msgspec.Struct, frozen=True):
    """An application that runs. ``ref`` is its master."""

    name: str
    type: str
    ref: Ref


class StartApplication(Request[None], frozen=True):
    """Start an application."""

    name: str
    type: str


class StopApplication(Request[tuple[str, ...]], frozen=True):
    """Stop an application. The answer has the paths of what was left over."""

    name: str


class WhichApplications(Request[list[ApplicationInfo]], frozen=True):
    """List the applications that run, the last started first."""


class GetStartOrder(Request[list[str]], frozen=True):
    """Return which applications have to be started for one to run, in order; those that run are left out."""

    name: str


class Begun(Message, frozen=True):
    """The start of an application is over."""

    name: str
    error: BaseException | None


class Applications(Actor):
    """A controller of applications.

    It starts none by itself. When it is stopped, it stops those that run, the last started first, one at a time.

    Args:
        applications: those that it knows, or their classes.
        shutdown_timeout: seconds that each has to stop when the controller is stopped; then it is killed. None for any
            time.
        before_stop: called first when the controller is stopped; may be ``async``.

    Raises:
        BadApplication: a name stands twice or is missing, or what one requires is not there, or they require each other
            in a cycle.
    """

    trap_exit = True
    infrastructure = True
    shutdown = "infinity"

    def __init__(
        self,
        applications: Iterable[Application | type[Application]],
        *,
        shutdown_timeout: float | None = None,
        before_stop: Callable[[], Any] | None = None,
    ) -> None:
        made = [each() if isinstance(each, type) else each for each in applications]
        self._known = _checked(made)
        self._limit = None if shutdown_timeout is None else seconds("shutdown_timeout", shutdown_timeout)
        self._before_stop = before_stop
        #: In the order of their starts.
        self._running: dict[str, ApplicationInfo] = {}
        self._starting: dict[str, tuple[ApplicationInfo, ReplyTo[None]]] = {}
        self._stopping: dict[str, list[ReplyTo[tuple[str, ...]]]] = {}
        self._leftovers: dict[str, tuple[str, ...]] = {}

    def _application(self, name: str) -> Application:
        application = self._known.get(name)
        if application is None:
            raise Refuse(UnknownApplication(name, f"there is no such application; there are {_listed(self._known)}"))
        return application

    @handle
    def start(self, request: StartApplication) -> None:
        """Start an application; the answer comes when it runs. Other orders are taken meanwhile."""
        name = request.name
        application = self._application(name)
        if request.type not in get_args(StartType):
            raise Refuse(BadOption("type", request.type, f"choose one of {', '.join(get_args(StartType))}"))
        if name in self._running or name in self._starting:
            raise Refuse(ApplicationAlreadyStarted(name, "runs already" if name in self._running else "is starting"))
        missing = [each for each in application.requires if each not in self._running]
        if missing:
            raise Refuse(ApplicationNotStarted(name, f"requires {_listed(missing)}; start that first"))
        master = self.runtime.begin(Master, (application, request.type, self.ref), {}, parent=self._cell, label=name)
        self._starting[name] = ApplicationInfo(name, request.type, master), self.defer_reply()
        assert master.starting is not None
        master.starting.add_done_callback(lambda done: self.ref.cast(Begun(name, done.exception())))

    @handle
    def begun(self, message: Begun) -> None:
        """A start is over: answer."""
        info, token = self._starting.pop(message.name)
        if isinstance(message.error, StartError):
            token.fail(ApplicationFailed(message.name, message.error.reason))
        else:
            self._running[message.name] = info
            token.reply(None)

    @handle
    def stop_one(self, request: StopApplication) -> None:
        """Stop an application; the answer comes when it has stopped."""
        self._application(request.name)
        info = self._running.get(request.name)
        if info is None:
            raise Refuse(ApplicationNotStarted(request.name, "does not run"))
        waiting = self._stopping.setdefault(request.name, [])
        waiting.append(self.defer_reply())
        if len(waiting) == 1:
            assert isinstance(info.ref, Cell)
            info.ref.signal(self._cell, SHUTDOWN, parent=True, patient=True)

    @handle
    def stopped(self, message: Stopped) -> None:
        """Note what an application has left over."""
        self._leftovers[message.name] = message.leftovers

    @handle
    def exited(self, message: Exit) -> None:
        """An application has ended: answer those who ordered it; without an order, act by its type."""
        info = next((each for each in self._running.values() if each.ref is message.sender), None)
        if info is None:
            return
        del self._running[info.name]
        assert isinstance(info.ref, Cell)
        leftovers = self._leftovers.pop(info.name, None) or end_leftovers(info.ref)
        ordered = self._stopping.pop(info.name, None)
        if ordered is not None:
            for token in ordered:
                token.reply(leftovers)
        elif info.type == "permanent" or (info.type == "transient" and not isinstance(message.reason, Normal)):
            self.stop(ApplicationEnded(info.name, message.reason))

    async def terminate(self, reason: ExitReason) -> None:
        """Stop all that run, the last started first."""
        if self._before_stop is not None:
            try:
                await _finish(self._before_stop())
            except Exception as error:
                self._cell.emit(
                    events.ApplicationHookFailed, application="", callback="before_stop", reason=crashed(error)
                )
        begun = [info for info, _ in self._starting.values()]
        for info in reversed([*self._running.values(), *begun]):
            assert isinstance(info.ref, Cell)
            await self.runtime.shut_down(info.ref, "infinity" if self._limit is None else self._limit)
            end_leftovers(info.ref)

    @handle
    def which(self, request: WhichApplications) -> list[ApplicationInfo]:
        """List those that run."""
        return list(reversed(self._running.values()))

    @handle
    def order(self, request: GetStartOrder) -> list[str]:
        """Return what has to be started for one."""
        order: dict[str, None] = {}

        def visit(name: str) -> None:
            for required in self._application(name).requires:
                visit(required)
            if name not in self._running:
                order[name] = None

        visit(request.name)
        return list(order)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _checked(applications: list[Application]) -> dict[str, Application]:
    known: dict[str, Application] = {}
    for application in applications:
        if not application.name:
            raise BadApplication("name", application, "give the application a name")
        if application.name in known:
            raise BadApplication("name", application.name, "stands twice")
        known[application.name] = application
    for application in applications:
        for required in application.requires:
            if required not in known:
                where = f"{application.name}: requires"
                raise BadApplication(where, required, f"there is no such application; there are {_listed(known)}")
    for name in known:
        _check_no_cycle(known, name, ())
    return known


def _check_no_cycle(known: dict[str, Application], name: str, above: tuple[str, ...]) -> None:
    if name in above:
        cycle = " → ".join((*above[above.index(name) :], name))
        raise BadApplication("requires", cycle, "applications must not require each other in a cycle")
    for required in known[name].requires:
        _check_no_cycle(known, required, (*above, name))


# -- what users call -------------------------------------------------------------------------------------------------


async def start(controller: Address, name: str, type: StartType = "temporary") -> None:
    """Start an application, and wait until it runs. What it requires is not started for it.

    Raises:
        UnknownApplication: there is none of this name.
        ApplicationAlreadyStarted: it runs, or is starting.
        ApplicationNotStarted: one that it requires does not run.
        ApplicationFailed: it did not start; nothing of it is left.
    """
    await as_address("controller", controller).call(StartApplication(name, type), timeout=None)


async def ensure_all_started(controller: Address, name: str, type: StartType = "temporary") -> list[str]:
    """Start an application and, before it, all that it requires, directly or not.

    Returns:
        The names of those that were started, in order; those that ran before are left out.

    Raises:
        UnknownApplication: there is none of this name.
        ApplicationFailed: one did not start. Those that were started for it have been stopped, the last one first.
    """
    started: list[str] = []
    for each in await as_address("controller", controller).call(GetStartOrder(name), timeout=None):
        try:
            await start(controller, each, type)
        except ApplicationAlreadyStarted:
            continue
        except BaseException:
            for other in reversed(started):
                await stop(controller, other)
            raise
        started.append(each)
    return started


async def stop(controller: Address, name: str) -> tuple[str, ...]:
    """Stop an application; those that require it go on.

    Returns:
        The paths of the actors that were left over outside of its tree, and were killed.

    Raises:
        UnknownApplication, ApplicationNotStarted: there is none of this name, or it does not run.
    """
    return await as_address("controller", controller).call(StopApplication(name), timeout=None)


async def which_applications(controller: Address) -> list[ApplicationInfo]:
    """Return the applications that run, the last started first."""
    return await as_address("controller", controller).call(WhichApplications(), timeout=None)
