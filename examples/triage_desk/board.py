"""The board: a durable agent that knows which tickets are open, and sweeps by cron for those that wait too long."""

from __future__ import annotations

import msgspec

from agents import Action, AgentType, Context, Cron, Emit, Result


class Board(msgspec.Struct, frozen=True):
    """What it knows: which tickets are open, and since when somebody has last looked at each; how many are closed."""

    waiting: dict[str, float] = {}
    closed: int = 0
    patience: float = 20.0


class Opened(Action[Board]):
    """A ticket was opened."""

    def run(self, context: Context[Board]) -> Board:
        """Write it on the board."""
        return msgspec.structs.replace(
            context.state, waiting={**context.state.waiting, _ticket(context): context.now()}
        )


class Closed(Action[Board]):
    """A ticket was closed."""

    def run(self, context: Context[Board]) -> Board:
        """Wipe it from the board."""
        board, ticket = context.state, _ticket(context)
        waiting = {id: since for id, since in board.waiting.items() if id != ticket}
        return msgspec.structs.replace(board, waiting=waiting, closed=board.closed + 1)


class Sweep(Action[Board]):
    """See which tickets wait for too long, and remind their agents."""

    def run(self, context: Context[Board]) -> Result[Board]:
        """Remind them; each once in the time that they have."""
        board, now = context.state, context.now()
        late = [id for id, since in board.waiting.items() if now - since >= board.patience]
        waiting = {**board.waiting, **dict.fromkeys(late, now)}
        reminders = tuple(Emit("ticket.overdue", subject=id, to="tickets") for id in late)
        return Result(msgspec.structs.replace(board, waiting=waiting), reminders)


def _ticket(context: Context[Board]) -> str:
    assert context.signal is not None
    return context.signal.subject or ""


class BoardAgent(AgentType[Board]):
    """The type of this agent."""

    name = "board"
    routes = {"ticket.opened": Opened, "ticket.closed": Closed, "sweep.due": Sweep}
    schedules = (Cron("*/5 * * * * *", "sweep.due"),)
