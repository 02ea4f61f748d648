"""Trees from wherever they come: a TOML file, an import path, or objects of Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from foundation.tree.errors import TreeError
from foundation.tree.format import parse, read_file
from foundation.tree.imports import BadImport, resolve
from foundation.tree.optional import missing_dependency
from foundation.tree.tree import Builder, Tree, check_unique_names
from supervision import ChildSpec, SpecError, Supervisor, check_child_specs

#: The tree that runs if no other is named.
DEFAULT = Path(__file__).parent.parent / "run" / "default.toml"
#: What ``${name}`` in a tree stands for unless somebody says otherwise.
VALUES: Mapping[str, object] = {"host": "127.0.0.1", "port": 8000, "state": ".foundation"}

_KINDS = (
    "give a Tree, a ChildSpec, a Supervisor class, a list of child specs, a mapping like a tree file, or a function"
)


def load_tree(
    source: object = DEFAULT, *, values: Mapping[str, object] | None = None, without: Collection[str] = ()
) -> Tree:
    """Return a tree, with everything imported and checked, and nothing started.

    Args:
        source: the path of a TOML file (see `foundation.tree.format`); an import path ``package.module:attribute``; or
            what may stand there: a `Tree`, a `ChildSpec`, a `Supervisor` class, a list of child specifications, a
            mapping like a tree file, or a function that returns one of these.
        values: what ``${name}`` in a file's arguments stands for; ``host``,
            ``port`` and ``state`` (the directory for what is kept) are always known.
        without: paths below the root of parts of a file to do without, such as ``http``.

    Raises:
        TreeError: something is wrong with it.
    """
    known = {**VALUES, **(values or {})}
    if isinstance(source, Path) or (isinstance(source, str) and not _is_import_path(source)):
        path = Path(source)
        raw = read_file(path)
        return Builder(_short(path), known, without).build(parse(_short(path), raw), path.stem)
    if isinstance(source, str):
        return _imported(source, known, without)
    return _made("tree", "tree", source, known, without)


def _is_import_path(source: str) -> bool:
    return ":" in source and not Path(source).exists()


def _short(path: Path) -> str:
    return "the default tree" if path == DEFAULT else str(path)


def _imported(path: str, values: Mapping[str, object], without: Collection[str]) -> Tree:
    try:
        found = resolve(path)
    except BadImport as error:
        raise TreeError(path, "", None, str(error)) from error
    except Exception as error:
        part = missing_dependency(error)
        assert part is not None
        raise TreeError(path, "", None, part.line) from error
    return _made(path, path.rpartition(":")[2].rpartition(".")[2].lower(), found, values, without)


def _made(source: str, id: str, found: Any, values: Mapping[str, object], without: Collection[str]) -> Tree:
    """Return the tree that an object of Python stands for."""
    if callable(found) and not isinstance(found, type):
        return _made(source, id, _called(source, found), values, without)
    if isinstance(found, Mapping):
        return Builder(source, values, without).build(parse(source, found), id)
    if without:
        raise TreeError(source, "without", list(without), "only parts of a tree file can be left out")
    if isinstance(found, Tree):
        return found
    tree = Tree(source, _root(source, id, found))
    check_unique_names(tree)
    return tree


def _called(source: str, function: Any) -> Any:
    try:
        return function()
    except Exception as error:
        part = missing_dependency(error)
        line = f"it raised {type(error).__name__}: {error}" if part is None else part.line
        raise TreeError(source, "", None, line) from error


def _root(source: str, id: str, found: Any) -> ChildSpec:
    try:
        if isinstance(found, ChildSpec):
            spec = found
        elif isinstance(found, type):
            spec = ChildSpec.of(found)
        elif isinstance(found, (list, tuple)):
            spec = ChildSpec(id, Supervisor, kwargs={"children": check_child_specs(found)}, restart="temporary")
        else:
            raise TreeError(source, "", found, _KINDS)
    except SpecError as error:
        raise TreeError(source, error.field, error.value, error.remedy) from error
    if not getattr(spec.kind, "is_supervisor", False):
        raise TreeError(source, "", spec.start, f"this is no supervisor; {_KINDS}")
    return spec
