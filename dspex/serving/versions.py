"""Versions of a program: swapped while the program serves, and back; in memory, or kept in a folder.

A folder (`dspex.serving.version_folder`) has them as DSPy's own files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio.to_thread
import orjson

from dspex._tasks import finished
from dspex.serving.version_folder import FolderContent, SavedVersion, VersionFolder, file_name
from foundation.programs import BadVersion, Version
from supervision import Ref
from supervision.events import Event

T = TypeVar("T")

#: What DSPy writes beside the parts of a program: versions of libraries.
METADATA = "metadata"
#: What DSPy saves of a predictor, with the type that it has; ``fields`` only if a decision has any.
KEYS: Mapping[str, type] = {"traces": list, "train": list, "demos": list, "signature": dict, "fields": dict}
SIGNATURE: Mapping[str, type] = {"instructions": str, "fields": list}
FIELD: Mapping[str, type] = {"prefix": str, "description": str}


class VersionChanged(Event, frozen=True, kw_only=True):
    """A program serves another version from now on: ``version`` is its number."""

    ref: Ref
    path: str
    program: str
    version: int


class VersionSkipped(Event, frozen=True, kw_only=True):
    """A file of a program's versions cannot be used, and is left out: ``file`` is its name, and ``why`` says why."""

    ref: Ref
    path: str
    program: str
    file: str
    why: str


class Versions:
    """The versions of one program.

    Whatever waits for the disk does so in a thread, one thing after the other, so that the program serves meanwhile.

    Args:
        program: as it was written: version 0.
        folder: where they are kept; None for in memory. It is read by `open`.
        settings: what a version that is given as a state may set of ``Predict.config``, such as ``temperature``.
        turn: held while something is changed; whoever shares a folder in one process shares this.

    Attributes:
        number: of the version that serves.
        skipped: what the folder has that cannot be used, by file, and why.
    """

    def __init__(
        self,
        program: Any,
        folder: str | Path | None = None,
        settings: Collection[str] = (),
        turn: asyncio.Lock | None = None,
    ) -> None:
        self._settings = frozenset(settings)
        self._original = program
        self._folder = None if folder is None else VersionFolder(Path(folder))
        self._programs = {0: program}
        self._served: tuple[int, ...] = (0,)
        self._pristine: Any = None
        self._turn = asyncio.Lock() if turn is None else turn
        self.skipped: dict[str, str] = {}

    @property
    def folder(self) -> Path | None:
        """Where they are kept; None for in memory."""
        return None if self._folder is None else self._folder.path

    @property
    def number(self) -> int:
        """The number of the version that serves."""
        return self._served[0]

    @property
    def program(self) -> Any:
        """The program of the version that serves."""
        return self._programs[self.number]

    def of(self, number: int) -> Any:
        """Return the program of a version.

        Raises:
            BadVersion: there is none of that number.
        """
        if number not in self._programs:
            there = ", ".join(map(str, sorted(self._programs)))
            raise BadVersion(number, f"there are {there}")
        return self._programs[number]

    def list(self) -> list[Version]:
        """Return the versions, the oldest first."""
        return [Version(number, number == self.number) for number in sorted(self._programs)]

    def summary(self) -> Mapping[str, object]:
        """Return which version serves, and what is left out, for ``/tree``."""
        skipped = {"skipped": ", ".join(sorted(self.skipped))} if self.skipped else {}
        return {"version": self.number, **skipped}

    async def _in_turn(self, work: Coroutine[Any, Any, T]) -> T:
        """Do one thing after the other, each to its end: what a thread has begun is not left alone."""

        async def locked() -> T:
            async with self._turn:
                return await work

        return await finished(locked())

    async def open(self) -> None:
        """Read the folder. What in it is damaged, or does not fit the program, is skipped, and told in ``skipped``.

        If that is the version that served, the one serves that did so before it.
        """
        if self._folder is not None:
            await self._in_turn(self._open(self._folder))

    async def _open(self, folder: VersionFolder) -> None:
        found = await _in_thread(folder.read)
        pristine = self._copied() if found.versions else None
        self._programs |= await _in_thread(partial(self._all_fitted, found, pristine))
        self.skipped = found.damaged
        served = [number for number in found.served if number in self._programs]
        for number in found.served[: found.served.index(served[0]) if served else None]:
            self.skipped.setdefault(file_name(number), "it is not there")
        self._served = (*served, 0)

    def _all_fitted(self, found: FolderContent, pristine: Any) -> dict[int, Any]:
        programs = {}
        for number, saved in found.versions.items():
            try:
                programs[number] = fitted(number, pristine, saved)
            except BadVersion as error:
                found.damaged[file_name(number)] = str(error)
        return programs

    def _copied(self) -> Any:
        """Return a copy of the program as it was written, that nobody runs."""
        if self._pristine is None:
            self._pristine = self._original.deepcopy()
        return self._pristine

    async def use(self, number: int) -> Version:
        """Make a version the one that serves.

        Raises:
            BadVersion: there is none of that number, or its file is damaged.
            OSError: it cannot be written. Nothing has changed.
        """
        return await self._in_turn(self._use(number))

    async def _use(self, number: int) -> Version:
        await self._find(number)
        return await self._serve(number)

    async def find(self, number: int) -> Any:
        """Return the program of a version, also of one that another process has added to the folder.

        Raises:
            BadVersion: there is none of that number, or its file is damaged.
        """
        await self._in_turn(self._find(number))
        return self.of(number)

    async def _find(self, number: int) -> None:
        folder = self._folder
        if number not in self._programs and folder is not None and number > 0:
            try:
                saved = await _in_thread(partial(folder.version, number))
                self._programs[number] = await _in_thread(partial(fitted, number, self._copied(), saved))
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                raise error if isinstance(error, BadVersion) else BadVersion(number, f"its file: {error}") from error
        self.of(number)

    async def _serve(self, number: int) -> Version:
        served = (number, *(other for other in self._served if other != number))
        if self._folder is not None:
            await _in_thread(partial(self._folder.serve, served))
        self._served = served
        return Version(number, True)

    async def add(self, program: Any, *, serve: bool = True) -> Version:
        """Keep another version.

        Args:
            program: a program of the same structure, or its state. A state is checked key by key: it may come from
                anybody, and DSPy would take whatever is in it, such as the address of another language model.
            serve: whether it serves from now on.

        Raises:
            BadVersion: it does not fit, cannot be saved, or has something in it that it may not. Nothing has changed.
            OSError: it cannot be written. Nothing has changed.
        """
        return await self._in_turn(self._add(program, serve))

    async def _add(self, program: Any, serve: bool) -> Version:
        number = max(self._programs) + 1
        saved = self._saved(number, program)
        made = await _in_thread(partial(fitted, number, self._copied(), saved))
        if self._folder is not None:
            write = partial(self._folder.add, made.save, orjson.dumps(saved.config), max(self._programs))
            number = await _in_thread(write)
        self._programs[number] = made
        return await self._serve(number) if serve else Version(number, False)

    async def rebuild(self, program: Any) -> Version:
        """Serve a program of another structure from now on. States that are given later are of this one.

        Raises:
            BadVersion: versions are kept in a folder, where one of another structure has no place.
        """
        return await self._in_turn(self._rebuild(program))

    async def _rebuild(self, program: Any) -> Version:
        number = max(self._programs) + 1
        if self._folder is not None:
            raise BadVersion(number, "versions that are kept in a folder are of one structure; serve it without one")
        self._programs[number] = program
        self._original, self._pristine = program, None
        return await self._serve(number)

    def _saved(self, number: int, program: Any) -> SavedVersion:
        """Return what of a program, or of its state, is to be kept, as it comes out of a file."""
        reference = self._copied()
        if isinstance(program, Mapping):
            state, config = check_state(number, program, reference.dump_state(), self._settings)
            before = {name: found.config for name, found in reference.named_predictors()}
            config = {name: {**before.get(name, {}), **given} for name, given in config.items()}
        else:
            # Such as a team, whose rule and pattern are in no state.
            refused = getattr(reference, "why_no_version", None)
            why = None if refused is None else refused(program)
            if why is not None:
                raise BadVersion(number, why)
            try:
                state = program.dump_state()
                config = {name: found.config for name, found in program.named_predictors()}
            except Exception as error:
                raise BadVersion(number, f"it cannot be saved ({type(error).__name__}: {error})") from error
        return SavedVersion(_as_json(number, "the state", state), _settings_as_json(number, config, reference))


async def _in_thread(work: Callable[[], T]) -> T:
    """Wait for the disk, or for a copy of a program, in a thread."""
    return await anyio.to_thread.run_sync(work)


def fitted(number: int, pristine: Any, saved: SavedVersion) -> Any:
    """Return a copy of a program, with a state and the settings of its predictors.

    Raises:
        BadVersion: it does not fit the program.
    """
    try:
        reference = pristine.dump_state()
        state = {name: value for name, value in saved.state.items() if name != METADATA}
        _Checker(number, frozenset(), trusted=True).state(state, reference)
        program = pristine.deepcopy()
        program.load_state(state)
        _check_loaded(number, "", state, orjson.loads(orjson.dumps(program.dump_state())))
        for name, predictor in program.named_predictors():
            given = (saved.config or {}).get(name)
            if given is not None:
                predictor.config = {**_kept_settings(predictor.config), **given}
    except BadVersion:
        raise
    except Exception as error:
        raise BadVersion(number, f"it does not fit the program ({type(error).__name__}: {error})") from error
    return program


def _check_loaded(number: int, where: str, given: Any, loaded: Any) -> None:
    """Check that what a state says is what the program has: DSPy leaves out what it does not take.

    Raises:
        BadVersion: it says something else; the key is named.
    """
    if isinstance(given, dict) and isinstance(loaded, dict):
        for name, value in given.items():
            _check_loaded(number, f"{where}.{name}" if where else name, value, loaded.get(name))
    elif given != loaded:
        raise BadVersion(number, f"it does not fit the program ({where}: DSPy loads something else)")


def _as_json(number: int, what: str, value: Any) -> Any:
    """Return a value as it comes out of a file in JSON.

    Raises:
        BadVersion: it cannot be written, by DSPy neither.
    """
    try:
        return orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError) as error:
        why = f"{what} cannot be saved as JSON ({error}); leave out what is neither text, number, list nor object"
        raise BadVersion(number, why) from error


def _settings_as_json(number: int, config: Mapping[str, Mapping[str, Any]], reference: Any) -> dict[str, Any]:
    """Return the settings of predictors that a file can hold. Others, such as classes, are the program's own code.

    Raises:
        BadVersion: one that cannot be written is not the program's own.
    """
    own = {name: _kept_settings(found.config) for name, found in reference.named_predictors()}
    saved: dict[str, Any] = {}
    for name, settings in config.items():
        kept = own.get(name, {})
        for key, value in settings.items():
            if not (key in kept and kept[key] is value):
                saved.setdefault(name, {})[key] = _as_json(number, f"the setting {name}.config.{key}", value)
        saved.setdefault(name, {})
    return saved


def _kept_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that no file can hold."""
    return {key: value for key, value in config.items() if not _is_json(value)}


def _is_json(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


# -- states, checked --------------------------------------------------------------------------------------------------


class Checked(NamedTuple):
    """A state that may be loaded, and the settings of each predictor that it changes."""

    state: dict[str, Any]
    config: dict[str, dict[str, Any]]


def check_state(
    number: int, state: Mapping[str, Any], reference: Mapping[str, Any], settings: Collection[str]
) -> Checked:
    """Return a state if it has allowed keys only.

    Args:
        number: the version that it is to be.
        state: the state.
        reference: what the program as it was written would save.
        settings: which settings it may change.

    Raises:
        BadVersion: it says more, or something else. The key is named.
    """
    checker = _Checker(number, frozenset(settings))
    parts = {name: value for name, value in checker.mapping("", state).items() if name != METADATA}
    return Checked(checker.state(parts, reference), checker.config)


class _Checker:
    """Checks a state, key by key.

    Args:
        number: the version that it is to be.
        settings: which settings it may change.
        trusted: whether it comes from a program, or from the folder: it may name a language model then, and what DSPy
            itself has no shape for is not looked at.
    """

    def __init__(self, number: int, settings: frozenset[str], *, trusted: bool = False) -> None:
        self._number = number
        self._settings = settings
        self._trusted = trusted
        self.config: dict[str, dict[str, Any]] = {}

    def state(self, state: dict[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
        """Check the state of a program. DSPy saves one that is nothing but a predictor as that."""
        check = self.predictor if "signature" in reference else self.program
        return check("", state, reference)

    def program(self, where: str, state: Any, reference: Mapping[str, Any]) -> dict[str, Any]:
        """Check a program: each of its parts, and no other."""
        parts = self.mapping(where, state)
        self._only(where, parts, reference)
        for name, known in reference.items():
            # What is no part, such as the rule of a team, is left as it is.
            if name not in parts and isinstance(known, Mapping):
                raise self._wrong(where + name, "is missing")
        return {name: self._part(where + name, value, reference[name]) for name, value in parts.items()}

    def _part(self, where: str, state: Any, reference: Any) -> Any:
        predictor = isinstance(reference, Mapping) and "signature" in reference
        if self._trusted and not predictor:
            return state
        if not isinstance(reference, Mapping):
            return state if type(state) is type(reference) else self._raise(where, f"is no {type(reference).__name__}")
        if not predictor:
            return self.program(f"{where}.", state, reference)
        return self.predictor(where, self.mapping(where, state), reference)

    def predictor(self, where: str, state: dict[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
        """Check a predictor."""
        dot = where and f"{where}."
        config = state.pop("config", None)
        if config is not None:
            self.config[where or "self"] = self._allowed(f"{dot}config", config)
        if state.get("lm") is not None and not self._trusted:
            raise self._wrong(f"{dot}lm", "the language model is chosen in the tree, not by a version")
        # A predictor of somebody's own may save more.
        own = {name: object if self._trusted else type(value) for name, value in reference.items()}
        self._typed(dot, {name: value for name, value in state.items() if name != "lm"}, {**own, **KEYS})
        for name in ("demos", "signature"):
            if name not in state:
                raise self._wrong(dot + name, "is missing")
        self._signature(f"{dot}signature", state["signature"], reference["signature"])
        for index, demo in enumerate(state["demos"]):
            self.mapping(f"{dot}demos.{index}", demo)
        return {"lm": None, **state}

    def _signature(self, where: str, state: Mapping[str, Any], reference: Mapping[str, Any]) -> None:
        self._typed(f"{where}.", state, SIGNATURE)
        fields, known = state.get("fields"), reference["fields"]
        if "instructions" not in state or fields is None or len(fields) != len(known):
            raise self._wrong(where, f"needs instructions, and {len(known)} fields")
        for index, field in enumerate(fields):
            place = f"{where}.fields.{index}"
            self._typed(f"{place}.", self.mapping(place, field), FIELD)
            if len(field) != len(FIELD):
                raise self._wrong(place, f"needs {' and '.join(FIELD)}")

    def _allowed(self, where: str, config: Any) -> dict[str, Any]:
        given = self.mapping(where, config)
        for name in given:
            if name not in self._settings:
                there = ", ".join(sorted(self._settings)) or "none"
                raise self._wrong(f"{where}.{name}", f"is no setting that a version may change; there are {there}")
        return given

    def _typed(self, where: str, state: Mapping[str, Any], types: Mapping[str, type]) -> None:
        self._only(where, state, types)
        for name, value in state.items():
            if not isinstance(value, types[name]):
                raise self._wrong(where + name, f"is no {types[name].__name__}")

    def _only(self, where: str, state: Mapping[str, Any], known: Collection[str]) -> None:
        for name in state:
            if name not in known:
                raise self._wrong(where + str(name), f"there is no such part; there are {', '.join(map(str, known))}")

    def mapping(self, where: str, state: Any) -> dict[str, Any]:
        """Return a state as a dict of its own."""
        return dict(state) if isinstance(state, Mapping) else self._raise(where, "is no object")

    def _raise(self, where: str, why: str) -> Any:
        raise self._wrong(where, why)

    def _wrong(self, where: str, why: str) -> BadVersion:
        return BadVersion(self._number, f"it does not fit the program ({where or 'the state'}: {why})")
