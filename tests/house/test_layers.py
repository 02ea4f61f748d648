"""What a package keeps to itself: the layers are held by ``make check``, the insides of a package here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervision", "foundation", "agents", "bridge", "dspex")


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_reaches_into_the_private_modules_of_another(package: str) -> None:
    others = set(PACKAGES) - {package}
    reached = [
        f"{module.relative_to(ROOT)}: {name}"
        for module in sorted((ROOT / package).rglob("*.py"))
        for name in imported(module)
        if name.split(".")[0] in others
        and any(part.startswith("_") and part != "__version__" for part in name.split("."))
    ]
    assert reached == []


def test_what_is_kept_for_a_runtime_is_kept_in_it() -> None:
    """A table by runtime, even a weak one, keeps each of them for ever as soon as what is in it knows its runtime."""
    modules = (module for package in PACKAGES for module in sorted((ROOT / package).rglob("*.py")))
    assert [
        str(module.relative_to(ROOT)) for module in modules if "WeakKeyDictionary[Runtime" in module.read_text()
    ] == []
