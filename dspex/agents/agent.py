"""Starts an agent for a program, and returns a program of the same class whose calls run in a supervised actor."""

from __future__ import annotations

from itertools import count
from pkgutil import resolve_name
from typing import Any

import dspy

from dspex._compat import overrides, routed_class
from dspex.agents.background import PROGRAM_AGENTS, background_runtime
from dspex.agents.dispatcher import Dispatcher
from dspex.agents.process import runner_of
from supervision import Address, ChildSpec, Runtime, start_child

_numbers = count(1)


def agent(program: object, **options: Any) -> Any:
    """Make a program run in a supervised agent, and return it: the same program, whose calls go to the agent.

    For code without an event loop of its own: scripts, notebooks, optimisers. The agent lives in a thread that all
    share (`dspex.agents.background.background_runtime`). In an async service, `start_program_agent` starts it in the
    service's own runtime.

    >>> import dspy
    >>> from dspy.utils.dummies import DummyLM
    >>> qa = agent(dspy.Predict("question -> answer"))
    >>> with dspy.context(lm=DummyLM([{"answer": "blue"}])):
    ...     qa(question="What colour is the sky?").answer
    'blue'
    >>> isinstance(qa, dspy.Predict)
    True

    Args:
        program: a ``dspy.Module``, or what makes one; see `dspex.agents.agent.load`.
        options: as for `start_program_agent`.

    Raises:
        BadProgram, BadOption: there is no such program, or an option is wrong.
    """
    background = background_runtime()
    declared = {**overrides(), **options.pop("settings", {})}
    return background.run(lambda: start_program_agent(background.runtime, program, settings=declared, **options))


async def start_program_agent(
    runtime: Runtime,
    program: object,
    *,
    supervisor: Address | None = None,
    name: str | None = None,
    settings: dict[str, Any] | None = None,
    concurrency: int = 64,
    waiting: int | None = None,
    timeout: float | None = None,
    retries: int = 3,
    patience: float = 5.0,
    isolation: str = "none",
) -> Any:
    """Start a supervised agent for a program, and return the program, whose calls go to the agent.

    What comes back is a ``dspy.Module`` of the program's class, with the program's own predictors: what is changed in
    it counts from the next call on, and every ``dspy.Evaluate``, optimiser or ``dspy.streamify`` takes it for the
    program. Copies of it run in the same agent. Everything that the caller has set with ``dspy.context`` counts; then
    ``settings``; then what ``dspy.configure`` has set.

    Args:
        runtime: where it lives.
        program: a ``dspy.Module``, or what makes one; see `dspex.agents.agent.load`.
        supervisor: a `DynamicSupervisor` that starts it again when it dies; if None the one of
            `dspex.agents.background.agents_supervisor`, which is in the tree then.
        name: its name in the runtime; if None one that nobody has.
        settings: for ``dspy.context``, where a caller has not overridden them; besides what is overridden here.
        concurrency: how many calls run at the same time.
        waiting: how many more may wait; the next raises `ProgramOverloaded`. None for any number.
        timeout: seconds that a call may take; None for any time.
        retries: how often a call is sent again when the agent has died under it.
        patience: seconds that a call waits for the restart of its agent.
        isolation: ``process`` to run it in an OS process of its own; see `dspex.agents.process.ProcessRunner`.

    Raises:
        BadProgram, BadOption: there is no such program, or an option is wrong.
        NoProcess: the supervisor does not run.
    """
    found = load(program)
    key = name or f"dspex.agent:{type(found).__name__}:{next(_numbers)}"
    declared = {**overrides(), **(settings or {})}
    spec = ChildSpec(key, runner_of(isolation), (concurrency, waiting, declared), name=key)
    await start_child(runtime.name(PROGRAM_AGENTS) if supervisor is None else supervisor, spec)
    return proxy(found, Dispatcher(runtime, runtime.name(key), timeout=timeout, retries=retries, patience=patience))


def proxy(program: Any, dispatcher: Dispatcher) -> Any:
    """Return a program whose calls go to an agent that runs already, such as one of a tree.

    Args:
        program: the module. What is returned shares its attributes.
        dispatcher: sends calls to a `ProgramRunner`, or a `ProgramActor`.
    """
    return routed_class(type(program), dispatcher).of(program)


def load(source: object) -> Any:
    """Return a program.

    Args:
        source: a ``dspy.Module``; a class or function that makes one; or a string ``package.module:name``
            that names any of these.

    Raises:
        BadProgram: there is none.
    """
    found = source
    if isinstance(source, str):
        try:
            found = resolve_name(source)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadProgram(source, f"write package.module:name; {error}") from error
    if callable(found) and not isinstance(found, dspy.Module):
        found = found()
    if not isinstance(found, dspy.Module):
        raise BadProgram(source, f"give a dspy.Module, or what makes one, not {type(found).__name__}")
    return found


class BadProgram(ValueError):
    """This names, or makes, no program. ``value`` is what was given."""

    def __init__(self, value: object, remedy: str) -> None:
        self.value = value
        self.remedy = remedy
        super().__init__(f"program {value!r}: {remedy}")
