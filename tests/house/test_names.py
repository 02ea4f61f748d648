"""One name, one thing: a public name of one package is not something else in another."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervision", "foundation", "agents", "bridge", "dspex")

#: Names that stand in two packages, and why none of them is called otherwise.
TWICE = {
    "Client": "a party of a federation; inside of the test kit, whoever calls a service under chaos",
    "OutcomeUnknown": "the same of the storage of agents and of the store: nobody knows whether something was written",
    "ReplaceState": "an operation of agents; OTP's message is sent by `system.replace_state` and never written",
    "Turns": "inside of agents: the actor that takes their turns; of teams the ending after so many",
    "decoded": "what a module makes of bytes, each of its own format",
    "differences": "inside of agents and of workflows: what two values differ in",
    "encoded": "what a module makes bytes of, each of its own format",
    "key_of": "inside of agents' storage and of workflows: what a value is found by",
    "main": "the entry point of a program, as everywhere in Python",
    "orphaned": "inside: what happens when the other end is gone, of an agent and of a process",
    "publish": "signals to a bus, messages to a group: read with its module",
    "run": "the word of `asyncio.run`: a tree, a test on the virtual clock, a comparison",
    "serve": "inside: the loop of a process, of an actor's and of a language model's",
    "stop": "inside of agents' executors; of applications it is OTP's",
    "supervisor_of": "inside: the supervisor of agents, and the one of a victim",
}


def public(package: str) -> Iterator[tuple[str, str]]:
    """The classes and functions of a package's public modules, with the modules."""
    for file in sorted((ROOT / package).rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if not any(part.startswith("_") for part in module.split(".")):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                    yield node.name, module


def test_public_names_are_unique_across_packages_but_for_a_few() -> None:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for name, module in public(package):
            found[name].add(module)
    twice = {name: sorted(modules) for name, modules in found.items() if len({m.split(".")[0] for m in modules}) > 1}
    assert {name: where for name, where in twice.items() if name not in TWICE} == {}
    assert TWICE.keys() - twice.keys() == set(), "these stand in one package only, and need no reason any more"
