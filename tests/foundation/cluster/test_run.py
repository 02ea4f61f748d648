"""``python -m foundation.run TREE --cluster URL --node NAME``: a tree as a node of a cluster."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from foundation.cluster import Cluster, MemoryNetwork
from foundation.run.command import cluster_installed, main
from foundation.run.console import Console
from foundation.run.serve import Joining, RunOutcome, TreeRun
from foundation.run.settings import BadInput, Settings, read_settings, unknown_variables
from foundation.run.stopping import StopSignals
from foundation.tree import Tree, load_tree
from supervision import ChildSpec, Runtime
from tests.foundation.cluster.conftest import NatsServer, free_port
from tests.foundation.cluster.kinds import Clerk, Echo


def test_a_cluster_is_said_by_arguments_or_by_the_environment() -> None:
    told = read_settings(["--cluster", "nats://a", "--cluster", "nats://b", "--node", "x", "--share", "till"], {})
    assert (told.cluster, told.node, told.share) == (("nats://a", "nats://b"), "x", ("till",))
    environ = {"FOUNDATION_CLUSTER": "nats://a, nats://b", "FOUNDATION_NODE": "x", "FOUNDATION_SHARE": "till"}
    assert read_settings([], environ) == told
    assert unknown_variables(environ) == []
    assert "nats://" not in repr(told)
    assert Settings().cluster == ()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--cluster", "nats://a"], "--node: say as which node"),
        (["--node", "a"], "--cluster: say which cluster"),
        (["--share", "till"], "--cluster: say which cluster"),
        (["--cluster", "nats://a", "--node", "a b"], "--node = 'a b': give a name of up to 64 letters"),
        (["--cluster", "nats://u:sekret@a:abc", "--node", "a"], "--cluster: nats://a:abc is no URL of a server"),
        (["--cluster", "nats://u:sekret@a:99999", "--node", "a"], "--cluster: nats://a:99999 is no URL of a server"),
        (["--cluster", "http://u:sekret@a", "--node", "a"], "--cluster: http://a: begin with one of nats://, tls://"),
        (["--cluster", "nats://a", "--cluster", "ws://b"], "--cluster: give URLs that begin all with nats or tls"),
        (["--clutser=nats://u:sekret@a"], "command line = '--clutser=nats://a': there is no such option"),
    ],
)
def test_half_of_a_cluster_is_refused(arguments: list[str], why: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_settings(arguments, {})
    assert str(caught.value).startswith(why)
    assert "sekret" not in str(caught.value)


def test_commas_stand_between_several_on_the_command_line_too() -> None:
    told = read_settings(["--cluster", "nats://a,nats://b", "--node", "x", "--share", "till,other"], {})
    assert (told.cluster, told.share) == (("nats://a", "nats://b"), ("till", "other"))


def test_a_name_to_share_that_no_child_has_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    tree = str(Path(__file__).parents[3] / "examples" / "till.toml")
    cluster = ["--cluster", "nats://a", "--node", "x"]
    assert main([tree, *cluster, "--share", "till,tilll", "--check"], {}) == 0
    told = capsys.readouterr().out
    assert "warning: --share tilll: no child of the tree has this name (did you mean 'till'?)" in told
    assert "--share till:" not in told


def test_the_client_is_imported_before_the_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Imported(Exception):
        """It is."""

    def imported() -> None:
        with pytest.raises(RuntimeError, match="no running"):
            asyncio.get_running_loop()
        raise Imported

    monkeypatch.setattr("foundation.run.command.import_nats", imported)
    with pytest.raises(Imported):
        main(["--cluster", "nats://a", "--node", "x"], {})


def test_a_bad_server_is_bad_input_also_when_the_tree_is_only_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cluster", "nats://u:sekret@a:abc", "--node", "x", "--check"], {}) == 2
    assert "--cluster: nats://a:abc is no URL" in capsys.readouterr().err


def test_the_client_of_nats_is_needed_for_a_cluster_and_for_nothing_else() -> None:
    cluster_installed((), lambda: False)
    cluster_installed(("nats://a",), lambda: True)
    cluster_installed(("nats://a",))
    with pytest.raises(BadInput, match=r"pip install 'foundation-otp\[cluster\]'"):
        cluster_installed(("nats://a",), lambda: False)


class Screen:
    """What the command prints."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines.append(text)


def service(
    network: MemoryNetwork, node: str, signals: StopSignals, tree: Tree | None = None
) -> tuple[TreeRun, Screen]:
    screen = Screen()
    tree = tree or load_tree([ChildSpec("clerk", Clerk, name="clerk")])
    joining = Joining(network.port(), node, ("clerk", "till"))
    console = Console(screen, screen)  # type: ignore[arg-type]
    return TreeRun(tree, console, signals, 5.0, joining=joining), screen


async def test_a_tree_runs_as_a_node_and_leaves_the_cluster_at_its_end() -> None:
    network, signals = MemoryNetwork(), StopSignals()
    run, screen = service(network, "b", signals)
    running = asyncio.ensure_future(run.run())
    async with Runtime(watchdog=None) as runtime, Cluster(runtime, network.port(), node="a") as a:
        await a.wait_for_name("clerk")
        assert await runtime.name("clerk").call(Echo("x")) == "x"
        signals.stop.set()
        assert await running == RunOutcome(0)
        assert a.nodes() == {}
        assert a.whereis("clerk") is None
    text = "".join(screen.lines)
    assert "joining the cluster as node b ..." in text
    assert "node b has joined, as its process number 1" in text


async def test_the_example_sells_at_the_till_of_another_node(capsys: pytest.CaptureFixture[str]) -> None:
    network, signals = MemoryNetwork(), StopSignals()
    examples = Path(__file__).parents[3] / "examples"
    shop, _ = service(network, "a", signals, load_tree(examples / "shop.toml"))
    till, _ = service(network, "b", signals, load_tree(examples / "till.toml"))
    loop = asyncio.get_running_loop()
    opening = loop.create_future()
    loop.call_later(2.5, opening.set_result, None)
    loop.call_later(6.0, signals.stop.set)

    async def opened_later() -> RunOutcome:
        await opening
        return await till.run()

    assert await asyncio.gather(shop.run(), opened_later()) == [RunOutcome(0), RunOutcome(0)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "call of <Name till> with Sell(price=3): nobody holds this name"
    assert [line for line in lines if line.startswith("in the till")][:2] == ["in the till: 3", "in the till: 6"]


async def test_what_becomes_of_other_nodes_is_logged() -> None:
    network, signals = MemoryNetwork(), StopSignals()
    run, _ = service(network, "b", signals)
    with capture_logs() as logs:
        running = asyncio.ensure_future(run.run())
        async with Runtime(watchdog=None) as runtime, Cluster(runtime, network.port(), node="a") as a:
            await a.wait_for_name("clerk")
            network.kill("a")
            await runtime.sleep(2.0)
        signals.stop.set()
        assert await running == RunOutcome(0)
    nodes = [(log["event"], log["node"], log.get("why")) for log in logs if log["event"].startswith("node_")]
    assert nodes == [("node_up", "a", None), ("node_down", "a", "nothing heard for 1 s")]


async def test_a_node_that_cannot_join_ends_with_status_1() -> None:
    network = MemoryNetwork()
    network.keys_down = True
    run, _ = service(network, "b", StopSignals())
    assert await run.run() == RunOutcome(1, "node b did not join the cluster: watch: no answer")


async def test_a_node_that_waits_to_join_can_be_stopped() -> None:
    network, signals = MemoryNetwork(), StopSignals()
    async with Runtime(watchdog=None) as runtime:
        await Cluster(runtime, network.port(), node="b").__aenter__()
        network.kill("b")
        run, screen = service(network, "b", signals)
        asyncio.get_running_loop().call_later(5.0, signals.stop.set)
        signals.name = "SIGINT"
        assert await run.run() == RunOutcome(0)
    assert not any("has joined" in line for line in screen.lines)
    assert any("SIGINT: stopping; node b had not joined yet" in line for line in screen.lines)


async def test_a_node_that_is_withdrawn_ends_so_that_it_is_started_again() -> None:
    network, ended = MemoryNetwork(), []
    signals = StopSignals(lambda: ended.append("begun"))
    run, screen = service(network, "b", signals)
    running = asyncio.ensure_future(run.run())
    async with Runtime(watchdog=None) as runtime, Cluster(runtime, network.port(), node="a") as a:
        await a.wait_for_name("clerk")
        network.bucket("foundation_names", None).entries.clear()
        network._ports["b"].reload()
        outcome = await running
    why = "the keys of the cluster are lost: it is another one now"
    assert outcome == RunOutcome(1, f"node b takes no part in the cluster any more: {why}; start it again")
    assert ended == ["begun"]
    signals.ask("something else")  # one end is enough
    assert (ended, signals.name) == (["begun"], "node b is withdrawn")
    assert any("node b is withdrawn: stopping, within 5 s" in line for line in screen.lines)
    assert not any(line.startswith("stopped\n") for line in screen.lines)


async def test_what_is_wrong_with_a_runtime_is_raised() -> None:
    run, _ = service(MemoryNetwork(), "not a name", StopSignals())
    with pytest.raises(ValueError, match="letters, digits"):
        await run.run()


# -- for real ----------------------------------------------------------------------------------------------------------

TREE = """
[[children]]
id = "clerk"
start = "tests.foundation.cluster.kinds:Clerk"
name = "clerk"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    file = tmp_path / "tree.toml"
    file.write_text(TREE)
    return file


def command(tree: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "foundation.run", str(tree), *arguments]


def begun(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


ENVIRON = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


@pytest.mark.once
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_the_command_joins_a_cluster_on_nats(tree: Path, nats_server: NatsServer) -> None:
    arguments = ["--cluster", nats_server.url, "--node", "b", "--share", "clerk"]
    process = begun(command(tree, *arguments))
    try:
        async with Runtime(watchdog=None) as runtime, Cluster(runtime, nats_server.url, node="a") as a:
            await a.wait_for_name("clerk", 60.0)
            assert await runtime.name("clerk").call(Echo("x")) == "x"
            process.terminate()
            out, _ = await asyncio.to_thread(process.communicate)
            assert process.returncode == 0
            assert b"node b has joined, as its process number 1" in out
    finally:
        process.kill()
        process.communicate()


@pytest.mark.once
def test_the_command_ends_when_there_is_no_server(tree: Path) -> None:
    arguments = ["--cluster", f"nats://127.0.0.1:{free_port()}", "--node", "b"]
    done = subprocess.run(command(tree, *arguments), env=ENVIRON, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert b"node b did not join the cluster" in done.stderr
