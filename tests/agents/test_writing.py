"""What it is like to write agents: mistakes are found early, and say where they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents import Action, AgentType, BadRoute, Chain, Context, Parallel, acmd, cmd, start_agent
from supervision import Runtime
from tests.agents.kinds import Counter


class HeldHere(msgspec.Struct, frozen=True):
    """A state."""

    at: float = 0.0


class OtherHere(msgspec.Struct, frozen=True):
    """Another one."""

    at: float = 0.0


class ForOther(Action[None]):
    """An action for the other state."""

    def run(self, context: Context[OtherHere]) -> None:
        """Do nothing."""


class Colour(msgspec.Struct, frozen=True):
    """A result that fits nowhere."""

    colour: str = ""


class Paints(Action[Colour]):
    """Returns it."""

    def run(self, context: Context[Any]) -> Colour:
        """Return it."""
        return Colour()


class Numbered(Action[None], rename="camel"):
    """Has parameters."""

    the_number: int
    label: str = ""

    def run(self, context: Context[Any]) -> None:
        """Do nothing."""


class Held(AgentType[HeldHere]):
    """Has a state."""

    routes = {"ready": (Numbered, {"theNumber": 1, "label": "a"})}


async def test_an_error_of_a_chain_names_its_step() -> None:
    """Also in a chain in a chain; an error that lets nothing be noted is an error all the same."""

    class Sealed(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError("sealed")

    class Step(Action[None]):
        sealed: bool = False

        async def run(self, context: Context[Any]) -> None:
            raise Sealed("no") if self.sealed else ValueError("no")

    class Fine(Action[None]):
        def run(self, context: Context[Any]) -> None:
            """Do nothing."""

    agent = Counter.new("c")
    chains = (Chain(Fine, Step), Chain(Fine, Chain(Step)), Chain((Step, {"sealed": True})))
    errors = [(await acmd(agent, chain)).errors[0].action for chain in chains]
    assert errors == ["Chain: step 2, Step", "Chain: step 2, Chain: step 1, Step", "Chain"]


def test_a_route_to_an_action_of_another_state_is_refused_when_the_class_is_made() -> None:
    """Also one that returns what the state does not have; what says nothing of its state is believed."""

    class Anything(Action[dict[str, int]]):
        def run(self, context: Context[Any]) -> dict[str, int]:
            return {}

    class Unknown(Action[None]):
        def run(self, context: Context[Nowhere]) -> None:  # type: ignore[name-defined] # noqa: F821
            """Do nothing."""

    class Given(Action[None]):
        number: int = 0
        other: Nowhere = 0  # type: ignore[name-defined] # noqa: F821

    class Holder(AgentType[HeldHere]):
        routes = {
            "a": Anything,
            "b": Unknown,
            "c": Chain(Anything, Paints),
            "d": (Chain(Anything), {"x": 1}),
            "e": (Given, {"number": 1}),
            "f": (Unknown, {}),
        }

    assert Holder.name == "Holder"
    with pytest.raises(BadRoute, match="it is an action for OtherHere, and the state is HeldHere"):

        class Wrong(AgentType[HeldHere]):
            routes = {"a": ForOther}  # type: ignore[dict-item]

    with pytest.raises(BadRoute, match="it returns colour, which HeldHere does not have"):

        class AlsoWrong(AgentType[HeldHere]):
            routes = {"a": Paints}


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (Chain(Paints, ForOther), "it is an action for OtherHere, and the state is HeldHere"),
        (Chain(Paints, Parallel(Paints, (ForOther, {}))), "it is an action for OtherHere, and the state is HeldHere"),
        ((Chain(ForOther), {"a": 1}), "it is an action for OtherHere, and the state is HeldHere"),
        ((Numbered, {"figure": 1}), "its parameters: there is no field 'figure'; there are theNumber, label"),
        ((Numbered, {"theNumber": "one"}), "its parameters: Expected `int`, got `str` - at `\\$.theNumber`"),
        ((Numbered, {}), "its parameters: Object missing required field `theNumber`"),
        (
            ((Numbered, {"theNumber": 1}), (Numbered, {"theNumber": 1, "more": 2})),
            "its parameters: there is no field 'more'",
        ),
    ],
)
def test_parts_and_parameters_that_do_not_fit_are_refused_when_the_class_is_made(work: Any, why: str) -> None:
    """They would fail in each turn."""
    with pytest.raises(BadRoute, match=why):
        type("Wrong", (Held,), {"routes": {"a": work}})


async def test_an_action_can_ask_for_the_time() -> None:
    """That of the runtime; without one there is none."""

    class Look(Action[dict[str, float]]):
        def run(self, context: Context[HeldHere]) -> dict[str, float]:
            return {"at": context.now()}

    class Clock(AgentType[HeldHere]):
        routes = {"look": Look}

    async with Runtime(watchdog=None, reports=False) as runtime:
        clock = await start_agent(runtime, Clock)
        before = runtime.clock.wall_time()
        await clock.call(clock.signal("look"))
        assert clock.state.at >= before
    assert "has no clock" in str(cmd(Clock.new("c"), Look()).errors[0].error)
