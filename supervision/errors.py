"""The errors of the kernel. Each names the value that is wrong and, where there is one, the remedy.

::

    SupervisionError
    ├── CallError                    the call got no answer
    │   ├── NoProcess                nobody there
    │   ├── ActorExited              the actor ended before it answered
    │   ├── CallTimeout              no answer in time (also a TimeoutError)
    │   ├── CallCycle                the call would close a cycle of actors that wait for each other
    │   ├── MailboxFull              the mailbox is bounded, full and refuses
    │   ├── UnhandledMessage         the actor has no handler for this request
    │   └── Fenced                   the caller itself was killed
    ├── StartError                   an actor did not start
    │   └── StartIgnored             its ``init`` answered IGNORE
    ├── ChildError                   a supervisor refused an order
    │   ├── AlreadyStarted, AlreadyPresent, ChildNotFound, ChildRunning, ChildRestarting, MaxChildren, NotOffered
    ├── SpecError                    a specification is wrong (also a ValueError)
    │   ├── BadChildSpec, BadStrategy, BadBudget, BadBackoff, BadMailbox, BadHandler, BadName, BadTime, BadOption,
    │       BadApplication
    ├── ApplicationError             a controller refused an order
    │   ├── UnknownApplication, ApplicationAlreadyStarted, ApplicationNotStarted, ApplicationFailed
    ├── AlreadyRegistered, NotOwner, AlreadyReplied, NotRunning, NoPartitions, BadTransition, CallbackFailed,
        TaskExited, TaskTimeout
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervision.messages import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervision.reasons import ExitReason
    from supervision.ref import Name, Ref


class SupervisionError(Exception):
    """The root of all errors of this package."""


class CallError(SupervisionError):
    """A call got no answer.

    Attributes:
        target: whom it was sent to.
        request: what was asked.
        begun: whether a handler may have begun the request. False says that none has, and none will: it has left no
            trace, and can be asked again without danger.
    """

    def __init__(self, target: Ref | Name, request: object, why: str, *, begun: bool = True) -> None:
        self.target = target
        self.request = request
        self.begun = begun
        super().__init__(why)

    def __str__(self) -> str:
        # Not before somebody wants to read it: with a long mailbox, thousands fail at once.
        return f"call of {self.target} with {describe(self.request)}: {self.why()}"

    def why(self) -> str:
        """Say why there is no answer."""
        return str(self.args[0])


class NoProcess(CallError):
    """There is no such actor: it has ended, or nobody holds that name."""

    def __init__(self, target: Ref | Name, request: object, why: str = "no such actor") -> None:
        super().__init__(target, request, why, begun=False)


class ActorExited(CallError):
    """The actor ended, for ``reason``, before it answered; ``begun`` tells whether it had begun the request."""

    def __init__(self, target: Ref | Name, request: object, reason: ExitReason, *, begun: bool = True) -> None:
        self.reason = reason
        super().__init__(target, request, "it ended", begun=begun)

    def why(self) -> str:
        """Say why there is no answer."""
        return f"it ended before it {'answered' if self.begun else 'began with this'}: {self.reason}"


class CallTimeout(CallError, TimeoutError):
    """No answer within ``seconds``. ``lag`` is by how many seconds the loop itself was late when it noticed."""

    def __init__(
        self, target: Ref | Name, request: object, seconds: float, lag: float = 0.0, *, begun: bool = True
    ) -> None:
        self.seconds = seconds
        self.lag = lag
        late = f" (the event loop was blocked: noticed {lag:.3g} s late)" if lag > 0.05 else ""
        super().__init__(target, request, f"no answer within {seconds:g} s{late}", begun=begun)


class CallCycle(CallError):
    """The call would close a cycle of actors that wait for each other, so that none could ever answer."""

    def __init__(self, target: Ref | Name, request: object, cycle: Sequence[Ref], *, begun: bool = True) -> None:
        self.cycle = tuple(cycle)
        waits = "each waits for the next: " + " → ".join(str(ref) for ref in cycle)
        super().__init__(target, request, waits, begun=begun)


class MailboxFull(CallError):
    """The mailbox holds as many messages as it may."""

    def __init__(self, target: Ref | Name, request: object, capacity: int, *, begun: bool = False) -> None:
        self.capacity = capacity
        super().__init__(target, request, f"its mailbox is full ({capacity} messages)", begun=begun)


class UnhandledMessage(CallError):
    """The actor has no handler for a request of this type."""

    def __init__(self, target: Ref | Name, request: object) -> None:
        kind = type(request).__qualname__
        super().__init__(target, request, f"no handler for {kind}; mark a method of the actor with @handle for it")


class Fenced(CallError):
    """The caller was killed: what its code still tries has no effect."""

    def __init__(self, target: Ref | Name, request: object) -> None:
        super().__init__(target, request, "the caller was killed and may no longer act", begun=False)


class StartError(SupervisionError):
    """An actor did not start, for ``reason``."""

    def __init__(self, what: str, reason: ExitReason) -> None:
        self.what = what
        self.reason = reason
        super().__init__(f"{what} did not start: {reason}")


class StartIgnored(StartError):
    """The actor's ``init`` answered IGNORE and declined the start."""


class ChildError(SupervisionError):
    """A supervisor refused an order about the child ``id``."""

    def __init__(self, id: object, why: str) -> None:
        self.id = id
        super().__init__(f"child {id!r}: {why}")


class AlreadyStarted(ChildError):
    """A child with this id runs already, as ``ref``."""

    def __init__(self, id: object, ref: Ref) -> None:
        self.ref = ref
        super().__init__(id, f"already started as {ref}")


class AlreadyPresent(ChildError):
    """A child with this id is known but does not run; restart or delete it."""

    def __init__(self, id: object) -> None:
        super().__init__(id, "already present but not running; restart_child or delete_child first")


class ChildNotFound(ChildError):
    """The supervisor has no such child."""

    def __init__(self, id: object) -> None:
        super().__init__(id, "not found")


class ChildRunning(ChildError):
    """The child runs; terminate it first."""

    def __init__(self, id: object) -> None:
        super().__init__(id, "is running; terminate_child first")


class ChildRestarting(ChildError):
    """The child is waiting for its next restart attempt."""

    def __init__(self, id: object) -> None:
        super().__init__(id, "is restarting; terminate_child first")


class NotOffered(ChildError):
    """This kind of supervisor does not offer the order ``order``."""

    def __init__(self, id: object, order: str, remedy: str) -> None:
        self.order = order
        self.remedy = remedy
        super().__init__(id, f"{order}: not offered by a dynamic supervisor; {remedy}")


class MaxChildren(ChildError):
    """The dynamic supervisor has as many children as it may; those that wait for a restart count."""

    def __init__(self, id: object, limit: int) -> None:
        self.limit = limit
        super().__init__(id, f"not started: the supervisor already has its {limit} children (max_children)")


class SpecError(SupervisionError, ValueError):
    """A specification is wrong. ``field`` says where, ``value`` what was given."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = remedy
        super().__init__(f"{field} = {describe(value)}: {remedy}")


class BadChildSpec(SpecError):
    """A child specification, or a list of them, is wrong."""


class BadStrategy(SpecError):
    """There is no such restart strategy."""


class BadBudget(SpecError):
    """The restart budget (``max_restarts`` in ``max_seconds``) is wrong."""


class BadBackoff(SpecError):
    """The pause between restarts is wrong."""


class BadMailbox(SpecError):
    """The mailbox is declared wrongly."""


class BadHandler(SpecError):
    """A method marked with ``@handle`` cannot be a handler."""


class BadName(SpecError):
    """This cannot be the name of an actor."""


class BadTime(SpecError):
    """This is no length of time."""


class BadOption(SpecError):
    """This option is not known, or not with this value."""


class AlreadyRegistered(SupervisionError):
    """The name is taken by ``ref``, or the actor already has a name."""

    def __init__(self, name: str, ref: Ref, why: str = "is taken by") -> None:
        self.name = name
        self.ref = ref
        super().__init__(f"name {name!r} {why} {ref}")


class NotOwner(SupervisionError):
    """Only the actor that made a monitor may remove it."""

    def __init__(self, monitor: object, owner: object) -> None:
        super().__init__(f"{monitor} belongs to {owner}; only it may demonitor")


class BadTransition(SupervisionError):
    """A state machine cannot do this in its ``state``."""

    def __init__(self, machine: object, state: object, why: str) -> None:
        self.state = state
        where = "" if state is None else f" in state {state!r}"
        super().__init__(f"{type(machine).__name__}{where}: {why}")


class CallbackFailed(SupervisionError):
    """A function that was sent to an actor, to run there, raised ``error``; nothing has changed."""

    def __init__(self, function: object, error: BaseException) -> None:
        self.error = error
        super().__init__(f"{describe(function)} raised {type(error).__name__}: {error}")


class BadApplication(SpecError):
    """The applications that a controller was given do not fit together."""


class ApplicationError(SupervisionError):
    """A controller of applications refused an order about the application ``name``."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(f"application {name!r}: {why}")


class UnknownApplication(ApplicationError):
    """The controller has no such application."""


class ApplicationAlreadyStarted(ApplicationError):
    """The application runs, or is starting."""


class ApplicationNotStarted(ApplicationError):
    """The application does not run, or one that it requires does not."""


class ApplicationFailed(ApplicationError):
    """The application did not start, for ``reason``."""

    def __init__(self, name: str, reason: ExitReason) -> None:
        self.reason = reason
        super().__init__(name, f"did not start: {reason}")


class TaskExited(SupervisionError):
    """A task that is awaited ended without a result, for ``reason``."""

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason
        super().__init__(f"the task ended without a result: {reason}")


class TaskTimeout(SupervisionError, TimeoutError):
    """A task that is awaited has not ended within ``seconds``."""

    def __init__(self, what: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"{what}: no result within {seconds:g} s")


class NoPartitions(SupervisionError):
    """A partition supervisor has been resized to nothing, so that no key leads anywhere."""

    def __init__(self, supervisor: object) -> None:
        super().__init__(f"{supervisor} has no partitions; resize it to 1 or more")


class AlreadyReplied(SupervisionError):
    """A request is answered once."""

    def __init__(self, request: object) -> None:
        super().__init__(f"{describe(request)} has been answered already")


class NotRunning(SupervisionError):
    """The runtime is not running, or this code does not run in an actor."""


class Stop(Exception):
    """Raised by an actor's own code to end it with ``reason`` (OTP's ``exit/1``); ``terminate`` runs."""

    def __init__(self, reason: object) -> None:
        self.reason: Any = reason
        super().__init__(reason)


class Refuse(Exception):
    """Raised in a handler of a request: the caller gets ``error``, and the actor lives on.

    An expected failure is an answer, not a crash. A request that was cast, so that nobody waits for its answer, is a
    dead letter (``refused``). In ``init`` it makes the start fail without a crash report.
    """

    def __init__(self, error: BaseException | object) -> None:
        self.error = error if isinstance(error, BaseException) else SupervisionError(str(error))
        super().__init__(error)
