"""Trees as values: what is to be started, built from a tree file's tables, checked, and not yet running."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from foundation.tree.errors import TreeError, did_you_mean
from foundation.tree.format import (
    OF_DYNAMIC,
    OF_STATIC,
    OF_SUPERVISORS,
    OF_WORKERS,
    REMEDIES,
    ChildTable,
    RootTable,
    SupervisorTable,
)
from foundation.tree.imports import BadImport, call, check_arguments, resolve
from foundation.tree.optional import LeftOutPart, MissingDependency, OptionalSupervisor, Presence, require_module
from supervision import Backoff, ChildSpec, DynamicSupervisor, SpecError, Supervisor, check_child_specs
from supervision.supervisors.restarts import RestartBudget


class Tree(msgspec.Struct, frozen=True):
    """A supervision tree that can be started.

    Attributes:
        source: where it is from: a file, or an import path.
        root: the specification of its root supervisor.
        left_out: its optional parts that cannot run here.
    """

    source: str
    root: ChildSpec
    left_out: tuple[LeftOutPart, ...] = ()

    @property
    def id(self) -> str:
        """The id of the root, with which all paths begin."""
        return str(self.root.id)

    def outline(self) -> Iterator[tuple[str, ChildSpec]]:
        """Return all specifications that are known before the start, parents first, each with its path.

        >>> from supervision import Actor, Supervisor
        >>> root = ChildSpec("app", Supervisor, args=([ChildSpec("worker", Actor)],))
        >>> [path for path, spec in Tree("example", root).outline()]
        ['/app', '/app/worker']
        """
        return _outline("", self.root)


def _outline(above: str, spec: ChildSpec) -> Iterator[tuple[str, ChildSpec]]:
    path = f"{above}/{spec.id}"
    yield path, spec
    for child in children_of(spec):
        yield from _outline(path, child)


def children_of(spec: ChildSpec) -> list[ChildSpec]:
    """Return the children that a supervisor's specification lists; none if it lists them in a way of its own."""
    if not getattr(spec.kind, "is_supervisor", False):
        return []
    listed: Any = spec.kwargs.get("children", spec.args[0] if spec.args else ())
    return [ChildSpec.of(child) for child in listed] if isinstance(listed, (list, tuple)) else []


_PLACEHOLDER = re.compile(r"\$\{(\w*)\}")


class Builder:
    """Makes a `Tree` of what a file says.

    Args:
        source: where it is from, for errors.
        values: what ``${name}`` in arguments stands for.
        without: paths below the root, such as ``http`` or ``programs/sentiment``, of parts to do without.
    """

    def __init__(self, source: str, values: Mapping[str, object], without: Collection[str]) -> None:
        self._source = source
        self._values = values
        self._without = set(without)
        self._seen: set[str] = set()
        self._left_out: list[LeftOutPart] = []
        self._root = ""

    def build(self, group: RootTable, default_id: str) -> Tree:
        """Return the tree.

        Raises:
            TreeError: something in it is wrong, or needs what is not installed and is not optional.
        """
        self._root = group.id or default_id
        options = self._complete_options(group)
        root = self._spec("", lambda: ChildSpec(self._root, Supervisor, kwargs=options, restart="temporary"))
        for path in sorted(self._without - self._seen):
            remedy = "there is no such part to leave out" + did_you_mean(path, self._seen)
            raise TreeError(self._source, "without", path, remedy)
        tree = Tree(self._source, root, tuple(self._left_out))
        check_unique_names(tree)
        return tree

    # -- children --------------------------------------------------------------------------------------------------

    def _children(self, group: SupervisorTable, path: str) -> list[ChildSpec]:
        if isinstance(group.children, str):
            return self._called_children(group.children, path)
        specs = [self._child(entry, f"{path}/{entry.id}".lstrip("/")) for entry in group.children or ()]
        return [spec for spec in specs if spec is not None]

    def _called_children(self, function: str, path: str) -> list[ChildSpec]:
        try:
            specs = call(function)
            if not isinstance(specs, (list, tuple)):
                raise BadImport(f"it must return a list of child specifications, not {type(specs).__name__}")
            return check_child_specs(specs)
        except (BadImport, SpecError) as error:
            raise self._error(path, "children", function, str(error)) from error

    def _child(self, entry: ChildTable, path: str) -> ChildSpec | None:
        """Return the specification of a child, or None if it is left out."""
        self._seen.add(path)
        if path in self._without:
            return None
        try:
            self._check_keys(entry, path)
            self._require(entry, path)
            return self._worker(entry, path) if entry.start is not None else self._supervisor(entry, path)
        except MissingDependency as missing:
            self._do_without(entry, path, missing)
            return None

    def _do_without(self, entry: ChildTable, path: str, missing: MissingDependency) -> None:
        missing.remedy = missing.remedy or entry.install
        missing.path = missing.path or path
        if not entry.optional:
            raise missing
        self._left_out.append(LeftOutPart(f"/{self._root}/{path}", str(missing), missing.remedy))

    def _require(self, entry: ChildTable, path: str) -> None:
        for requirement in entry.requires:
            try:
                call(requirement) if ":" in requirement else require_module(requirement)
            except BadImport as error:
                raise self._error(path, "requires", requirement, str(error)) from error

    def _worker(self, entry: ChildTable, path: str) -> ChildSpec:
        assert entry.start is not None
        args, kwargs = self._filled(entry.args or [], path, "args"), self._filled(entry.kwargs or {}, path, "kwargs")
        try:
            start = resolve(entry.start)
            check_arguments(start, args, kwargs)
        except BadImport as error:
            raise self._error(path, "start", entry.start, str(error)) from error
        return self._entry_spec(entry, path, start, tuple(args), kwargs)

    def _supervisor(self, entry: ChildTable, path: str) -> ChildSpec:
        options = self._options(entry, path)
        if entry.dynamic:
            return self._entry_spec(entry, path, DynamicSupervisor, (), options)
        if not entry.optional:
            return self._entry_spec(entry, path, Supervisor, (), options)
        return self._entry_spec(entry, path, OptionalSupervisor, (), {**options, "presence": Presence()})

    def _entry_spec(
        self, entry: ChildTable, path: str, start: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ChildSpec:
        pause = entry.backoff
        spec: ChildSpec = self._spec(
            path,
            lambda: ChildSpec(
                entry.id,
                start,
                args=args,
                kwargs=kwargs,
                restart=entry.restart,
                shutdown=entry.shutdown,
                significant=entry.significant,
                backoff=None if pause is None else Backoff(**msgspec.structs.asdict(pause)),
                name=entry.name,
                tags=tuple(entry.tags),
            ),
        )
        return spec

    # -- supervisors -----------------------------------------------------------------------------------------------

    def _options(self, group: SupervisorTable, path: str) -> dict[str, Any]:
        """Return the arguments of a supervisor, checked as its class would."""
        keys = ("strategy", "max_restarts", "max_seconds", "auto_shutdown", "max_children")
        given = {key: getattr(group, key, None) for key in keys}
        options = {key: value for key, value in given.items() if value is not None}
        children = self._children(group, path)
        self._spec(path, lambda: RestartBudget(options.get("max_restarts", 3), options.get("max_seconds", 5.0)))
        self._spec(path, lambda: check_child_specs(children, options.get("auto_shutdown", "never")))
        return {"children": children, **options}

    def _complete_options(self, group: RootTable) -> dict[str, Any]:
        """Return the arguments of the root; what is missing so far up may not be missing."""
        try:
            return self._options(group, "")
        except MissingDependency as missing:
            raise TreeError(self._source, f"child {missing.path}", None, missing.line) from missing

    def _check_keys(self, entry: ChildTable, path: str) -> None:
        """Refuse keys that mean nothing together."""
        if entry.start is not None:
            self._refuse(entry, path, OF_SUPERVISORS, "belongs to a supervisor, and this child has a start: remove one")
            return
        if entry.children is None and not entry.dynamic:
            raise self._error(path, "start", None, f"is missing; {REMEDIES['start']}, or children for a supervisor")
        self._refuse(entry, path, OF_WORKERS, "belongs to a start, and this child is a supervisor: remove it")
        wrong, kind = (
            (OF_STATIC, "not to a dynamic one") if entry.dynamic else (OF_DYNAMIC, "to one with dynamic = true")
        )
        self._refuse(entry, path, wrong, f"belongs to a supervisor, {kind}: remove it")
        if entry.dynamic and entry.max_children is not None and entry.max_children < 0:
            raise self._error(path, "max_children", entry.max_children, REMEDIES["max_children"])

    def _refuse(self, entry: ChildTable, path: str, keys: tuple[str, ...], remedy: str) -> None:
        for key in keys:
            value = getattr(entry, key)
            if value is not None and value is not False:
                raise self._error(path, key, value, remedy)

    # -- arguments -------------------------------------------------------------------------------------------------

    def _filled(self, value: Any, path: str, key: str) -> Any:
        """Return arguments with every ``${name}`` replaced by what it stands for."""
        if isinstance(value, dict):
            return {name: self._filled(item, path, f"{key}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, path, key) for item in value]
        if not isinstance(value, str):
            return value
        for name in _PLACEHOLDER.findall(value):
            if name not in self._values:
                known = ", ".join(f"${{{name}}}" for name in self._values)
                raise self._error(path, key, value, f"choose from {known}{did_you_mean(name, self._values)}")
        whole = _PLACEHOLDER.fullmatch(value)
        if whole is not None:  # it may stand for something else than text
            return self._values[whole[1]]
        return _PLACEHOLDER.sub(lambda match: str(self._values[match[1]]), value)

    # -- errors ----------------------------------------------------------------------------------------------------

    def _error(self, path: str, key: str, value: object, remedy: str) -> TreeError:
        return TreeError(self._source, f"child {path}: {key}" if path else key, value, remedy)

    def _spec(self, path: str, make: Callable[[], Any]) -> Any:
        """Make something of the kernel's, whose errors name the field."""
        try:
            return make()
        except SpecError as error:
            field = re.sub(r"^child .*?: |^Backoff\b\.?", "", error.field) or "backoff"
            raise self._error(path, field, error.value, error.remedy) from error


def check_unique_names(tree: Tree) -> None:
    """Make sure that no two children of a tree ask for the same name.

    Raises:
        TreeError: two do.
    """
    holders: dict[str, str] = {}
    for path, spec in tree.outline():
        if spec.name is None:
            continue
        if spec.name in holders:
            raise TreeError(tree.source, f"{path}: name", spec.name, f"{holders[spec.name]} has this name already")
        holders[spec.name] = path
