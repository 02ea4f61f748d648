"""Rename in a folder of Python, trees and documents what Foundation renamed: `python -m tests.house.rename FOLDER`.

The table stands in `renames.toml` beside this file, and CHANGELOG shows it. What a file means by a name is looked up
through its imports, scope by scope, as Python does; only such names change. In prose and in strings, import paths
change everywhere, other names where they are marked as code. It goes with 1.0.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("supervision", "foundation", "agents", "bridge", "dspex")
TEXTS = (".md", ".toml", ".yaml", ".yml", ".json", ".cfg", ".ini", ".sh", ".txt", ".html", ".js", ".service")
_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+(?::[A-Za-z_]\w*)?")
_CODE = re.compile(r"`+[^`\n]+`+|^\s*(?:>>>|\.\.\.) .*$", re.MULTILINE)
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?!\w)")
_TYPE = re.compile(r"""["'](?=[^"']*[\[|])[\w\s.,|\[\]]+["']\Z""")
_HUMPS = re.compile(r"_*[A-Z]\w*[a-z0-9][A-Z]\w*\Z")
_BLOCK = re.compile(r"^( *)```(?:python|py|pycon)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@dataclass
class Table:
    """What was renamed: modules (`a.b`), names (`a.b:Name`), members (`a.b:Class.member`), strings that users meet."""

    modules: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    strings: Mapping[str, str] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    """Names that something else had, too, and kept: in prose they stay."""
    known: frozenset[str] = frozenset()
    """Every module there was, so that `a.b.c` can be told from the name `c` in `a.b`."""

    def __post_init__(self) -> None:
        modules = {*self.known, *self.modules, *(name.partition(":")[0] for name in self.names), *PACKAGES}
        self.known = frozenset(
            ".".join(module.split(".")[:n]) for module in modules for n in range(1, module.count(".") + 2)
        )

    @classmethod
    def read(cls, path: Path) -> Table:
        content = tomllib.loads(path.read_text())
        return cls(**{**content, "shared": frozenset(content.get("shared", ()))})

    def module(self, module: str) -> str:
        """What a module is called now; a folder that was moved takes along what is in it."""
        for n in range(module.count(".") + 1, 0, -1):
            head = ".".join(module.split(".")[:n])
            if head in self.modules:
                return self.modules[head] + module[len(head) :]
        return module

    def is_module(self, module: str, name: str) -> bool:
        """Whether what a module has under a name is a module."""
        return f"{module}.{name}" in self.known and f"{module}:{name}" not in self.names

    def name(self, module: str, name: str) -> tuple[str, str]:
        """The module that has a name now, and what it is called there."""
        if (new := self.names.get(f"{module}:{name}")) is not None:
            home, _, bare = new.partition(":")
            return home, bare
        if f"{module}.{name}" in self.known:
            home, _, bare = self.module(f"{module}.{name}").rpartition(".")
            return home, bare
        return self.module(module), name

    def of_class(self, module: str, name: str) -> Mapping[str, str]:
        """The members of a class that are called otherwise now."""
        head = f"{module}:{name}."
        return {old[len(head) :]: new for old, new in self.members.items() if old.startswith(head)}

    def path(self, path: str) -> str:
        """An import path, `a.b.c`, `a.b:Name` or `a.b.Name.member`, as it is written now."""
        dotted, colon, name = path.partition(":")
        parts = dotted.split(".")
        n = max(n for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in self.known)
        module, rest = ".".join(parts[:n]), parts[n:]
        if colon:
            home, new = self.name(module, name) if not rest else (self.module(dotted), name)
            return f"{home}:{new}"
        if rest:
            home, new = self.name(module, rest[0])
            return ".".join([home, new, *rest[1:]])
        return self.module(module)


@dataclass(frozen=True)
class _Bound:
    """What a name in a scope stands for: a module (no `name`) or a name of a module."""

    module: str
    name: str | None
    local: str
    """What the name in the scope is from now on."""


Scope = dict[str, _Bound | None]


class _Source(ast.NodeVisitor):
    """The edits of one file of Python."""

    def __init__(self, table: Table, module: str | None, text: str) -> None:
        self.table = table
        self.module = module
        self.data = text.encode()
        starts = [0]
        for line in self.data.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self.starts = starts
        self.scopes: list[Scope] = [{}]
        self.classes: list[Scope] = []
        self.edits: list[tuple[int, int, str]] = []
        self.renamed: dict[str, str] = {}
        self.unsure: list[str] = []
        self.ours = False

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno or 0, node.end_col_offset or 0)

    def edit(self, start: int, end: int, new: str) -> None:
        if self.data[start:end].decode() != new:
            self.edits.append((start, end, new))

    def edited(self) -> str:
        """The source after all edits."""
        data = self.data
        for start, end, new in sorted(self.edits, reverse=True):
            data = data[:start] + new.encode() + data[end:]
        return data.decode()

    # What names stand for

    def bind(self, body: Iterable[ast.AST], scope: Scope, *, top: bool) -> None:
        """Enter what a scope binds: first all that is assigned in it, then its imports."""
        imports: list[ast.Import | ast.ImportFrom] = []
        for node in _within(body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(node)
                continue
            for name in _assigned(node):
                here = top and self.module is not None
                new = self.table.name(self.module, name)[1] if here and self.module else name
                scope[name] = _Bound(self.module, name, new) if here and self.module and new != name else None
                if new != name:
                    self.renamed[name] = new
        for node in imports:
            for alias in node.names:
                self._bind_import(node, alias, scope)

    def _bind_import(self, node: ast.Import | ast.ImportFrom, alias: ast.alias, scope: Scope) -> None:
        local = alias.asname or alias.name
        if isinstance(node, ast.Import):
            if alias.asname is None:
                local = alias.name.partition(".")[0]
                scope[local] = _Bound(local, None, local) if local in PACKAGES else None
            else:
                scope[local] = _Bound(alias.name, None, local) if _ours(alias.name) else None
            return
        if node.level or not _ours(node.module or ""):
            scope.setdefault(local, None)
            return
        module = str(node.module)
        new = self.table.name(module, alias.name)[1]
        kept = alias.asname is not None and alias.asname != alias.name
        after = local if kept else new
        if self.table.is_module(module, alias.name):
            scope[local] = _Bound(f"{module}.{alias.name}", None, after)
        else:
            scope[local] = _Bound(module, alias.name, after)
        if local != after:
            self.renamed[local] = after

    def found(self, name: str) -> _Bound | None:
        for scope in reversed(self.scopes):
            if name in scope and (scope is self.scopes[-1] or not any(scope is one for one in self.classes)):
                return scope[name]  # what a class binds, its methods do not see
        return None

    # The walk

    def run(self, tree: ast.Module) -> None:
        self.bind(tree.body, self.scopes[0], top=True)
        self.ours = any(bound is not None for bound in self.scopes[0].values())
        for node in tree.body:
            self.visit(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        arguments = node.args
        for part in [
            *getattr(node, "decorator_list", []),
            *arguments.defaults,
            *(d for d in arguments.kw_defaults if d),
        ]:
            self.visit(part)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for argument in every:
            if argument is not None and argument.annotation is not None:
                self.visit(argument.annotation)
        if not isinstance(node, ast.Lambda) and node.returns is not None:
            self.visit(node.returns)
        scope: Scope = {argument.arg: None for argument in every if argument is not None}
        body = node.body if isinstance(node.body, list) else [node.body]
        self.bind(body, scope, top=False)
        for statement in _within(body):
            if isinstance(statement, ast.Global | ast.Nonlocal):
                for name in statement.names:
                    scope.pop(name, None)
        self.scopes.append(scope)
        for part in body:
            self.visit(part)
        self.scopes.pop()

    def _defined(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        bound = self.found(node.name) if len(self.scopes) == 1 else None
        if bound is not None and bound.local != node.name:
            self._rename_definition(node, bound.local)

    def _rename_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, new: str) -> None:
        word = b"class " if isinstance(node, ast.ClassDef) else b"def "
        start = self.data.index(node.name.encode(), self.data.index(word, self.span(node)[0]))
        self.edit(start, start + len(node.name.encode()), new)

    def _members_of(self, node: ast.expr) -> Mapping[str, str]:
        """The renamed members of the class that an expression names."""
        node = node.value if isinstance(node, ast.Subscript) else node
        if isinstance(node, ast.Name):
            bound = self.found(node.id)
            return self.table.of_class(bound.module, bound.name) if bound is not None and bound.name else {}
        if isinstance(node, ast.Attribute):
            module = self._module_of(node.value)
            return self.table.of_class(module, node.attr) if module is not None else {}
        return {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._defined(node)
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._defined(node)
        self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._defined(node)
        for part in [*node.decorator_list, *node.bases, *node.keywords]:
            self.visit(part)
        members = {old: new for base in node.bases for old, new in self._members_of(base).items()}
        for method in node.body:
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name in members:
                self._rename_definition(method, members[method.name])
        scope: Scope = {}
        self.bind(node.body, scope, top=False)
        self.scopes.append(scope)
        self.classes.append(scope)
        for part in node.body:
            self.visit(part)
        self.scopes.pop()
        self.classes.pop()

    def visit_Name(self, node: ast.Name) -> None:
        bound = self.found(node.id)
        if bound is not None and bound.local != node.id:
            self.edit(*self.span(node), bound.local)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root, links = _chain(node)
        bound = self.found(root.id) if root is not None else None
        if root is None or bound is None or bound.name is not None:
            for old, new in self.table.members.items():
                if node.attr == old.rpartition(".")[2] and self.ours:
                    what = old.partition(":")[2]
                    self.unsure.append(f"line {node.lineno}: if .{node.attr} is {what}, it is .{new} now")
                    break
            self.visit(node.value)
            return
        module = bound.module
        while links and self.table.is_module(module, links[0].attr):
            module = f"{module}.{links.pop(0).attr}"
        end = self.span(links[0] if links else node)[1]
        if links:
            home, name = self.table.name(module, links[0].attr)
            old, new = f"{module}.{links[0].attr}", f"{home}.{name}"
        else:
            old, new = module, self.table.module(module)
        moved = self.table.module(bound.module)
        if new == old and bound.local == root.id:
            return
        if bound.module == root.id:  # `import a.b`: the whole path is written
            self.edit(self.span(root)[0], end, new)
        elif new.startswith(f"{moved}.") or new == moved:
            self.edit(self.span(root)[0], end, bound.local + new[len(moved) :])
        else:
            self.unsure.append(f"line {node.lineno}: {old} is {new} now, which is not in {moved}")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Their parts have no true positions before Python 3.12: the words in them are changed as text."""
        start, end = self.span(node)
        text = rename_text(self.table, self.data[start:end].decode(), self.renamed)
        self.edit(start, end, re.sub(r"\{[^{}]*\}", lambda found: _words(found[0], self.renamed), text))

    def visit_Import(self, node: ast.Import) -> None:
        new = [(self.table.module(alias.name), alias) for alias in node.names]
        if any(name != alias.name for name, alias in new):
            text = ", ".join(name + (f" as {alias.asname}" if alias.asname else "") for name, alias in new)
            self.edit(*self.span(node), f"import {text}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not _ours(node.module or ""):
            return
        module = str(node.module)
        groups: dict[str, list[str]] = {}
        changed = False
        for alias in node.names:
            home, name = (self.table.module(module), "*") if alias.name == "*" else self.table.name(module, alias.name)
            changed = changed or (home, name) != (module, alias.name)
            asname = alias.asname
            if asname is not None and asname == alias.name:
                asname = name
            groups.setdefault(home, []).append(name if asname is None else f"{name} as {asname}")
        if not changed:
            return
        indent = " " * node.col_offset
        lines = []
        for home, names in groups.items():
            line = f"from {home} import {', '.join(names)}"
            if len(indent) + len(line) > 120:
                line = f"from {home} import (\n" + "".join(f"{indent}    {name},\n" for name in names) + f"{indent})"
            lines.append(line)
        self.edit(*self.span(node), f"\n{indent}".join(lines))

    def visit_Call(self, node: ast.Call) -> None:
        """`monkeypatch.setattr(module, "name", …)` and its like name by a string what they mean."""
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {"setattr", "getattr", "delattr", "hasattr", "object"} and len(node.args) >= 2:
            target, name = node.args[0], node.args[1]
            module = self._module_of(target)
            if module is not None and isinstance(name, ast.Constant) and isinstance(name.value, str):
                new = self.table.name(module, name.value)[1]
                if new != name.value:
                    self.edit(*self.span(name), f'"{new}"')
        members = self._members_of(node.func)
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg in members:
                start = self.at(keyword.lineno, keyword.col_offset)
                self.edit(start, start + len(keyword.arg.encode()), members[keyword.arg])
        self.generic_visit(node)

    def _module_of(self, node: ast.expr) -> str | None:
        root, links = _chain(node)
        bound = self.found(root.id) if root is not None else None
        if bound is None or bound.name is not None:
            return None
        module = ".".join([bound.module, *(link.attr for link in links)])
        return module if module in self.table.known else None


def _ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _chain(node: ast.expr) -> tuple[ast.Name | None, list[ast.Attribute]]:
    """What `a.b.c` begins with, if that is a name, and its attributes from the left."""
    links: list[ast.Attribute] = []
    while isinstance(node, ast.Attribute):
        links.insert(0, node)
        node = node.value
    return (node if isinstance(node, ast.Name) else None), links


def _within(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every node of one scope: what is inside of functions and classes in it belongs to these."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _within(ast.iter_child_nodes(node))


def _assigned(node: ast.AST) -> Sequence[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        return [node.name]
    return []


def rename_python(table: Table, text: str, module: str | None = None) -> tuple[str, list[str]]:
    """The source with every name as it is now, and what has to be looked at by hand."""
    source = _Source(table, module, text)
    source.run(ast.parse(text))
    in_code = list(source.edits)
    for start, end, new in _texts(table, source, text):
        if not any(begin < end and start < finish for begin, finish, _ in in_code):
            source.edit(start, end, new)
    return source.edited(), source.unsure


def _texts(table: Table, source: _Source, text: str) -> Iterator[tuple[int, int, str]]:
    """The edits in strings and comments."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in {tokenize.STRING, tokenize.COMMENT}:
            continue
        start = source.at(token.start[0], len(lines[token.start[0] - 1][: token.start[1]].encode()))
        end = start + len(token.string.encode())
        new = rename_text(table, token.string, source.renamed)
        if token.type == tokenize.STRING and _TYPE.match(token.string):
            new = _words(new, source.renamed)
        if new != token.string:
            yield start, end, new


def _words(text: str, renamed: Mapping[str, str]) -> str:
    return _WORD.sub(lambda word: renamed.get(word[0], word[0]), text)


def rename_text(table: Table, text: str, renamed: Mapping[str, str]) -> str:
    """Prose: import paths everywhere, other names where they are marked as code or cannot be a word of English."""
    for old, new in table.strings.items():
        text = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", new.replace("\\", r"\\"), text)
    text = _PATH.sub(lambda path: table.path(path[0]), text)
    text = _CODE.sub(lambda code: _words(code[0], renamed), text)
    return _WORD.sub(lambda word: renamed.get(word[0], word[0]) if _HUMPS.match(word[0]) else word[0], text)


def rename_document(table: Table, text: str) -> tuple[str, list[str]]:
    """A document: its blocks of Python as one program, the rest as prose about that program."""
    source = _Source(table, None, "")
    for block in _BLOCK.finditer(text):
        source.bind(_parsed(block[2], block[1]), source.scopes[0], top=True)
    everywhere = {name.partition(":")[2]: new.partition(":")[2] for name, new in table.names.items()}
    sure = {old: new for old, new in everywhere.items() if _HUMPS.match(old) and old not in table.shared}
    of = {**sure, **source.renamed}
    unsure: list[str] = []

    def block_renamed(block: re.Match[str]) -> str:
        code = block[2]
        inner = _Source(table, None, code)
        inner.scopes[0].update(source.scopes[0])
        tree = _parsed(code, block[1])
        if tree and not block[1]:
            for node in tree:
                inner.visit(node)
            unsure.extend(inner.unsure)
            code = inner.edited()
        else:
            code = _words(code, source.renamed)
        return block[0].replace(block[2], rename_text(table, code, source.renamed), 1)

    pieces, end = [], 0
    for block in _BLOCK.finditer(text):
        pieces += [rename_text(table, text[end : block.start()], of), block_renamed(block)]
        end = block.end()
    return "".join([*pieces, rename_text(table, text[end:], of)]), unsure


def _parsed(code: str, indent: str) -> list[ast.stmt]:
    try:
        return ast.parse("\n".join(line.removeprefix(indent) for line in code.splitlines())).body
    except SyntaxError:
        return []


def rename_folder(table: Table, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Rename in every file of a folder; gives each file that changed, with what is to be looked at by hand."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix not in {".py", *TEXTS}:
            continue
        before = path.read_text()
        if path.suffix == ".py":
            after, unsure = rename_python(table, before)
        elif path.suffix == ".md":
            after, unsure = rename_document(table, before)
        else:
            after, unsure = rename_text(table, before, {}), []
        if after != before:
            path.write_text(after)
        if after != before or unsure:
            yield path, unsure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.house.rename", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="the folder, or one file")
    options = parser.parse_args(arguments)
    if not options.folder.exists():
        parser.error(f"there is no {options.folder}")
    table = Table.read(Path(__file__).with_name("renames.toml"))
    for path, unsure in rename_folder(table, options.folder):
        print(path)
        for line in unsure:
            print(f"  by hand: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
