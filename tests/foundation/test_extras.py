"""What only one service needs is an extra of that service; without it the rest works, and an error says what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from foundation.cache import Cache
from foundation.extras import MissingExtra
from foundation.protection import Retry
from foundation.registry import Registry
from foundation.tree.optional import missing_dependency
from supervision import Runtime, StartError

LIBRARIES = ("aiolimiter", "cachetools", "sortedcontainers", "stamina", "tenacity")


@pytest.mark.parametrize(
    ("library", "extra", "use"),
    [
        ("cachetools", "cache", lambda runtime: Cache(runtime, "c")),
        ("stamina", "protection", lambda runtime: Retry()),
    ],
)
def test_a_service_without_its_library_says_which_extra_to_install(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, library: str, extra: str, use: Any
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=f"needs {library}, which is not installed") as caught:
        use(runtime)
    assert caught.value.remedy == f"pip install 'foundation-otp[{extra}]'"
    part = missing_dependency(caught.value)
    assert part is not None
    assert part.remedy == caught.value.remedy


async def test_an_ordered_index_without_its_library_is_told_at_the_start(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sortedcontainers", None)
    await runtime.spawn(Registry, {"a": "hash"})
    with pytest.raises(StartError) as caught:
        await runtime.spawn(Registry, {"a": "ordered"}, name="other")
    assert isinstance(caught.value.__cause__, MissingExtra)


def test_the_services_are_imported_without_any_of_these_libraries() -> None:
    names = "cache", "dead_letters", "protection", "registry", "resources", "holders", "naming"
    code = f"import sys\nfor name in {LIBRARIES}: sys.modules[name] = None\n"
    code += "".join(f"import foundation.{name}\n" for name in names if name != "dead_letters")
    subprocess.run([sys.executable, "-c", code], check=True)
