"""Processes: that one has ended is said only if it is certain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from foundation.cluster import Cluster
from foundation.cluster.identity import NodeRecord
from foundation.cluster.leases import Lease
from foundation.cluster.processes import has_ended, identify
from supervision import Runtime
from tests.foundation.cluster.conftest import Nodes


def proc(folder: Path, *, boot: str = "b1", pid: int = 7, state: str = "S", started: int = 99) -> Path:
    """What a kernel tells of a process."""
    (folder / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
    (folder / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
    (folder / "self/ns").mkdir(parents=True, exist_ok=True)
    (folder / "self/ns/pid").touch()
    (folder / str(pid)).mkdir(exist_ok=True)
    fields = [state, *map(str, range(18)), str(started), "0"]
    (folder / str(pid) / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}")
    return folder


def test_a_process_that_runs_has_not_ended_and_one_whose_number_is_free_or_taken_again_has(tmp_path: Path):
    process = identify(7, proc(tmp_path))
    assert not has_ended(process, tmp_path)
    assert has_ended(process, proc(tmp_path, started=100))
    assert has_ended(process, proc(tmp_path, state="Z"))
    assert has_ended(process.replace(" 7 ", " 8 "), tmp_path)


def test_nothing_is_known_of_other_machines_and_without_a_kernel_that_tells(tmp_path: Path):
    process = identify(7, proc(tmp_path))
    assert not has_ended(process, proc(tmp_path, boot="b2"))
    assert not has_ended(process, tmp_path / "nowhere")
    assert not has_ended("", proc(tmp_path))
    assert identify(8, tmp_path) == ""
    assert identify(proc=tmp_path / "nowhere") == ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells")
def test_a_real_process_that_is_killed_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = identify(child.pid)
    assert not has_ended(process)
    child.kill()
    child.communicate()
    assert has_ended(process)
    assert not has_ended(identify())
    assert f" {os.getpid()} " in identify()


@pytest.mark.parametrize("lease", [True, False], ids=["lease", "lease over"])
@pytest.mark.parametrize(("ended", "waits"), [(True, False), (False, True)])
async def test_a_node_whose_process_has_ended_on_this_machine_is_started_again_at_once(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, ended: bool, waits: bool, lease: bool
):
    monkeypatch.setattr("foundation.cluster.identity.has_ended", lambda process: process == "gone" and ended)
    bucket = nodes.network.bucket("foundation_nodes", 30.0)
    if lease:
        bucket.put("a", msgspec.msgpack.encode(Lease(3, "before", "here")), 0)
    record = NodeRecord(3, "before", process="gone")
    nodes.network.bucket("foundation_names", None).put("epoch.a", msgspec.msgpack.encode(record), 0)
    async with Runtime(watchdog=None, reports=False) as runtime:
        began = runtime.clock.time()
        async with Cluster(runtime, nodes.network.port(), node="a") as a:
            assert a.identity.epoch == 4
            assert (runtime.clock.time() - began > 20.0) == waits
