"""A program's settings, when the program is in one process and its caller in another.

The caller's process applies what the program does to its settings; in the program's process, proxies forward to the
caller.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Protocol

import dspy
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.clients.base_lm import GLOBAL_HISTORY, MAX_HISTORY_SIZE
from dspy.clients.capabilities import planning_scope
from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides
from dspy.utils.callback import ACTIVE_CALL_ID
from dspy.utils.callback import BaseCallback as BaseCallback
from dspy.utils.usage_tracker import UsageTracker

from dspex._compat.attempts import OBSERVER, Attempt, observer
from dspex._compat.language_models import CallerLMs, described_lm
from dspex._compat.parsing import PARSING, parsing_reporter

_active_call_id: ContextVar[Any] = ACTIVE_CALL_ID
_log = logging.getLogger(__name__)

#: Settings that are made anew in the program's process: they lead back to the caller.
_NOT_SENT = ("trace", "usage_tracker", "caller_modules", "caller_predict", "send_stream", PARSING)
_HINTS = ("supports_function_calling", "supports_reasoning", "supports_response_schema", "supported_params")
_PLAIN = (
    "model",
    "model_type",
    "cache",
    "num_retries",
    "use_developer_role",
    "callbacks",
    "_cache_responses",
    "dspex_chain",
)


def is_language_model(value: Any) -> bool:
    """Return whether something is a language model."""
    return isinstance(value, dspy.BaseLM)


def is_callback(value: Any) -> bool:
    """Return whether something is a callback."""
    return isinstance(value, BaseCallback)


def module_paths(program: Any) -> dict[int, tuple[Any, str]]:
    """Return the modules of a program, each with its path, by their ``id``."""
    return {id(module): (module, path) for path, module in program.named_sub_modules(dspy.Module)}


# -- in the caller's process ---------------------------------------------------------------------------------------


def active_call_id() -> str | None:
    """Return which call is under way, for callbacks."""
    found: str | None = _active_call_id.get()
    return found


def settings_to_send() -> dict[str, Any]:
    """Return the settings that count here, as they go to another process.

    For those that are not sent, there is only whether they are set.
    """
    every = {**main_thread_config, **thread_local_overrides.get()}
    every.pop(OBSERVER, None)
    # A predictor wants to know of listeners whether it is heard.
    every["stream_listeners"] = [SimpleNamespace(predict=each.predict) for each in every["stream_listeners"] or ()]
    return {key: value is not None if key in _NOT_SENT else value for key, value in every.items()}


def describe_lm(lm: Any) -> dict[str, Any]:
    """Return what an adapter, or a program, may want to know of a language model; keys and addresses are not in it."""
    with planning_scope(lm, None):  # in which it finds out once what it can do
        found = {name: getattr(lm, name) for name in (*_PLAIN, *_HINTS) if hasattr(lm, name)}
    return {**found, "kwargs": {key: value for key, value in lm.kwargs.items() if key not in CLIENT_KEYS}}


def call_back(callback: Any, handler: str, parent: str | None, kwargs: Mapping[str, Any]) -> None:
    """Call a callback, as DSPy does: what it raises is logged."""
    _active_call_id.set(parent)
    try:
        getattr(callback, handler)(**kwargs)
    except Exception as error:
        _log.warning("Error when applying callback %s's handler %s: %s.", callback, handler, error)


def note_cache_hit(parent: str | None) -> None:
    """Tell the run's observer that DSPy's cache had an answer."""
    told = observer()
    assert told is not None
    _active_call_id.set(parent)
    told.cache_hit()


def note_usage_of(lm: str, entry: dict[str, Any]) -> None:
    """Count what an answer has used."""
    dspy.settings.usage_tracker.add_usage(lm, entry)


def note_history(entry: dict[str, Any], owners: list[Any], callers: bool) -> None:
    """Record an answer in some histories; for ``callers``, also in those of the calling modules and the global one."""
    if callers:
        _append(GLOBAL_HISTORY, entry, MAX_HISTORY_SIZE)
    for owner in (*owners, *((dspy.settings.caller_modules or ()) if callers else ())):
        _append(owner.history, entry, dspy.settings.max_history_size)


def note_unparsed(report: Any) -> None:
    """Tell of an answer that could not be read, if somebody wants to know."""
    reporter = parsing_reporter()
    if reporter is not None:
        reporter(report)


def note_trace(entry: Any) -> None:
    """Record in the trace what a predictor did."""
    _append(dspy.settings.trace, tuple(entry), dspy.settings.max_trace_size)


def _append(entries: list[Any], entry: Any, most: int) -> None:
    if len(entries) >= most:
        entries.pop(0)
    entries.append(entry)


async def send_piece(piece: Any, predictor: Any) -> None:
    """Send a piece of an answer to the caller's stream, as that of one of the caller's predictors."""
    if predictor is not None:
        piece.predict_id = id(predictor)
    await dspy.settings.send_stream.send(piece)


# -- in the program's process --------------------------------------------------------------------------------------


class CallerConnection(CallerLMs, Protocol):
    """The connection to the caller."""

    def tell(self, kind: str, *values: Any) -> None:
        """Send the caller something that is not answered."""

    async def ask(self, kind: str, *values: Any) -> Any:
        """Ask the caller something."""

    def module_of(self, number: int | None) -> Any:
        """Return the module of the program with an ``id``; None if there is none."""


class _CallbackProxy(BaseCallback):  # type: ignore[misc]
    """The proxy of a callback that has stayed with the caller."""

    def __init__(self, number: int, tell: Callable[..., None]) -> None:
        self.dspex_number = number
        self._tell = tell


def _handler(name: str) -> Any:
    def handler(self: Any, **kwargs: Any) -> None:
        self._tell("callback", self, name, ACTIVE_CALL_ID.get(), kwargs)

    return handler


for _name in dir(BaseCallback):
    if _name.startswith("on_"):
        setattr(_CallbackProxy, _name, _handler(_name))


def proxy_callback(number: int, tell: Callable[..., None]) -> Any:
    """Return the proxy of a callback."""
    return _CallbackProxy(number, tell)


def is_proxy(value: Any) -> bool:
    """Return whether something is a proxy of what has stayed with the caller."""
    return isinstance(value, _CallbackProxy) or (isinstance(value, dspy.BaseLM) and hasattr(value, "dspex_number"))


class _History(list[Any]):
    """The history of a language model, or of the program's caller: what is appended is sent to the caller."""

    def __init__(self, note: Callable[[Any], None]) -> None:
        super().__init__()
        self._note = note

    def append(self, entry: Any) -> None:
        self._note(entry)


def proxy_lm(number: int, shown: Mapping[str, Any], caller: CallerConnection) -> Any:
    """Return the proxy of a language model: cache, parameters and retries are here, its engine is with the caller."""
    made = described_lm(shown, number, caller)
    made.dspex_number = number
    made.history = _History(lambda entry: caller.tell("history", entry, [made], False))
    return made


class _Usage(UsageTracker):  # type: ignore[misc]
    def __init__(self, caller: CallerConnection) -> None:
        super().__init__()
        self._caller = caller

    def __deepcopy__(self, memo: dict[int, Any]) -> _Usage:
        return self

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        self._caller.tell("usage", lm, usage_entry)


class _Trace(list[Any]):
    def __init__(self, caller: CallerConnection) -> None:
        super().__init__()
        self._caller = caller

    def append(self, entry: Any) -> None:
        super().append(entry)
        self._caller.tell("trace", *entry)

    def extend(self, entries: Iterable[Any]) -> None:
        for entry in entries:
            self.append(entry)


def _unheard(*_: Any) -> None:
    """Take what comes of an attempt that a program makes at a model of its own making."""


class _RemoteObserver:
    """Observes a run for the caller: attempts are made, and observed, there; DSPy's cache is here."""

    def __init__(self, caller: CallerConnection) -> None:
        self._caller = caller

    def attempt(self, attempt: Attempt) -> AbstractContextManager[Any]:
        return nullcontext(SimpleNamespace(piece=_unheard, answered=_unheard, failed=_unheard))

    def cache_hit(self) -> None:
        self._caller.tell("cache_hit", _active_call_id.get())


class _Stream:
    def __init__(self, caller: CallerConnection) -> None:
        self._caller = caller

    async def send(self, piece: Any) -> None:
        await self._caller.ask("send", piece, self._caller.module_of(getattr(piece, "predict_id", None)))


@contextmanager
def remote_settings(sent: Mapping[str, Any], caller: CallerConnection) -> Generator[None]:
    """Apply the caller's settings, with proxies for those that have stayed there."""

    def note(entry: Any) -> None:
        modules = [module for module in dspy.settings.caller_modules if caller.module_of(id(module)) is not None]
        caller.tell("history", entry, modules, True)

    here = {
        "trace": _Trace(caller),
        "usage_tracker": _Usage(caller),
        "send_stream": _Stream(caller),
        PARSING: lambda report: caller.tell("unparsed", *report),
    }
    found: dict[str, Any] = {key: value for key, value in sent.items() if key not in _NOT_SENT}
    found.update({key: value if sent.get(key) else None for key, value in here.items()})
    found[OBSERVER] = _RemoteObserver(caller)
    with dspy.context(**found, caller_modules=[SimpleNamespace(history=_History(note))], caller_predict=None):
        yield


@contextmanager
def under_call(call_id: str | None) -> Generator[None]:
    """Say which call is under way, for callbacks."""
    token = _active_call_id.set(call_id)
    try:
        yield
    finally:
        _active_call_id.reset(token)
