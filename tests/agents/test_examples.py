"""The examples with agents do what their texts say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agents import Signal, start_agent
from agents.durability import Durability, MemoryStorage
from agents.instances import start_instances
from agents.signals import Bus, publish, subscribe
from examples import order_team, watchman
from examples.triage_desk.__main__ import main as triage_desk
from examples.triage_desk.board import BoardAgent
from examples.triage_desk.tickets import TicketAgent
from supervision import Runtime
from supervision.testing import advance, settled
from tests.agents.kinds import Listener


async def test_the_team_fulfils_orders_and_undoes_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Each order ends, the customer is told of each, and what failed has left nothing behind."""
    desk = await order_team.main(orders=9)
    statuses = desk.orders
    assert len(statuses) == 9
    assert all(status in ("paid", "failed") for status in statuses.values())
    paid = sorted(id for id, status in statuses.items() if status == "paid")
    assert paid == sorted(order_team.CHARGED)
    assert {"o2", "o5", "o8"}.isdisjoint(paid)
    assert sum(order_team.STOCK.values()) == 9 + 1 - len(paid)
    assert sorted(signal.data["order"] for signal in order_team.TOLD) == sorted(statuses)
    assert "the customer was told of 9 orders" in capsys.readouterr().out


async def test_the_watchman_watches(capsys: pytest.CaptureFixture[str]) -> None:
    """It measures, reports by cron, and gives alarm once."""
    published = await watchman.main(seconds=7.0)
    kinds = [signal.type for signal in published]
    assert (kinds.count("alert.raised"), kinds.count("report.written"), kinds[-1]) == (1, 3, "watch.over")
    assert {"loop lag", "memory"} <= set(published[-2].data)
    assert "signals on the bus" in capsys.readouterr().out


@pytest.mark.once
def test_the_conversation_survives_a_kill(tmp_path: Path) -> None:
    """What was answered is known after a kill -9, and as it was at any time before."""
    command = [sys.executable, "-m", "examples.conversation", "--name", "joe", "--file", str(tmp_path / "talks.db")]

    def talk(*lines: str, kill: bool = True) -> list[str]:
        answers = []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            answers.append(process.stdout.readline().strip())
            for line in lines:
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
                answers.append(process.stdout.readline().strip())
            if kill:
                process.kill()
            else:
                process.stdin.close()
                answers += process.stdout.read().splitlines()
        assert kill or process.returncode == 0
        return answers

    assert talk("my name is Joe", "my name is Joseph")[1] == "I will remember your name."
    hello, name, past, age, chat = talk("what is my name?", "version 1", "what is my age", "well")
    assert hello == "Hello joe! We are at line 2."
    assert (name, past) == ("Your name is Joseph.", "At version 1 I knew {'name': 'Joe'}.")
    assert age == "You have not told me your age."
    assert chat == "You have said 5 things to me; I know 1 facts about you."
    assert talk("history", kill=False)[1:3] == ["1: my name is Joe", "2: my name is Joseph"]


def test_the_tree_of_the_triage_desk_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """As its user would; and what cannot be is said."""
    assert triage_desk(["--check"]) == 0
    assert "KeyedInstances" in capsys.readouterr().out
    for arguments, word in ((["--help"], "nothing that it has acknowledged"), (["--port", "0"], "--outside URL")):
        with pytest.raises(SystemExit):
            triage_desk(arguments)
        told = capsys.readouterr()
        assert word in " ".join((told.out + told.err).split())


async def test_a_ticket_that_waits_for_too_long_is_told_of_once(runtime: Runtime) -> None:
    """The board sweeps by cron, and reminds the agent of the ticket, again and again."""
    storage = MemoryStorage()
    durability = Durability(storage)
    bus = await runtime.spawn(Bus, name="bus")
    heard: list[Signal] = []
    await runtime.spawn(Listener, heard, name="webhook")
    board = await start_agent(runtime, BoardAgent, id="board", name="board", durability=durability)
    tickets = await start_instances(runtime, TicketAgent, name="tickets", durability=durability)
    await subscribe(bus, "ticket.*", board.address, name="board")
    await subscribe(bus, "ticket.opened", tickets.address, name="tickets")
    data = {"customer": "Ann", "text": "I cannot login"}
    await publish(bus, Signal(type="ticket.opened", source="/intake", id="1", subject="t1", data=data))
    await settled(runtime)
    for _ in range(10):  # there is no pool
        await advance(10.0)
    ticket = await tickets.find("t1")
    assert ticket is not None
    assert (ticket.state.status, ticket.state.late) == ("open", True)
    assert [one.type for one in heard] == ["ticket.late"]
