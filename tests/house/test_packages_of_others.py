"""A package of ours that another distribution has overwritten is named, with both distributions and the remedy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.installation import PACKAGES, ForeignPackage, foreign, require_own, warn_of_foreign
from tests.house.conftest import bare, run


def package(place: Path, name: str, text: str = "", distribution: str = "") -> None:
    """Make a package, as if a distribution had installed it."""
    (place / name).mkdir(parents=True)
    (place / name / "__init__.py").write_text(text)
    if distribution:
        told = place / f"{distribution}-1.0.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (told / "RECORD").write_text(f"{name}/__init__.py,,\n")


def test_all_packages_are_ours_here() -> None:
    assert [foreign(name) for name in PACKAGES] == [None] * 5
    require_own(*PACKAGES)
    warn_of_foreign(*PACKAGES)


def test_a_package_of_another_distribution_is_named_with_both_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "otters", distribution="sea-otters")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ForeignPackage) as caught:
        require_own("supervision", "otters")
    assert (caught.value.name, caught.value.foreign.distributions) == ("otters", ("sea-otters",))
    text = str(caught.value)
    assert f"'otters' is {tmp_path}/otters/__init__.py, of sea-otters, and not that of foundation-otp" in text
    assert "give sea-otters and foundation-otp an environment each" in text
    assert "pip install --force-reinstall --no-deps foundation-otp" in text
    with pytest.warns(UserWarning, match="of sea-otters"):
        warn_of_foreign("otters")


def test_a_folder_of_the_users_own_with_that_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "otters")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ForeignPackage, match=r"of no distribution known here.*rename it, or take its folder off"):
        require_own("otters")
    warn_of_foreign("otters")  # not needed at once, and nobody's fault


def test_a_package_that_is_gone_is_named() -> None:
    with pytest.raises(ForeignPackage, match="the package 'otters' is not there: run: pip install --force-reinstall"):
        require_own("otters")


@pytest.mark.once
def test_what_is_imported_and_checked_says_so(environment: Callable[..., Path], tmp_path: Path) -> None:
    """Real ones, in an environment: first somebody's ``agents``, then somebody's ``supervision``."""
    scripts = environment()

    def python(code: str, status: int = 0) -> str:
        return run(scripts / "python", "-c", code, cwd=tmp_path, status=status)

    site = Path(python("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "agents" / "__init__.py").unlink()
    (site / "agents").rename(tmp_path / "away")
    package(site, "agents", distribution="openagents")
    tree = tmp_path / "tree.toml"
    tree.write_text('[[children]]\nid = "lamp"\nstart = "supervision:Actor"\n')
    assert "of openagents, and not that of foundation-otp" in python("import foundation")
    assert "of openagents" in python("import bridge", status=1)
    assert "of openagents" in python("import dspex", status=1)
    assert "warning: the package 'agents' is" in run(scripts / "foundation", "--check", tree, cwd=tmp_path)
    (site / "supervision").rename(tmp_path / "gone")
    package(site, "supervision", "raise RuntimeError('never run')", "cv-supervision")
    printed = python("import foundation", status=1)
    assert "ForeignPackage: the package 'supervision' is" in printed
    assert "of cv-supervision, and not that of foundation-otp" in printed


def test_looking_at_packages_imports_nothing() -> None:
    code = "import sys, foundation; sys.exit(bool({'agents', 'bridge', 'dspex'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=bare()).returncode == 0
