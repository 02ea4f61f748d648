"""What is wrong with a federation or a client in a tree file is said when that is read: nothing is started."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.federated import FederatedAveraging
from foundation.tree import TreeError, load_tree
from tests.dspex.federated.world import START

HERE = "tests.dspex.federated.test_tree_files:"
PLAN = FederatedAveraging(initial=START)
NOTHING = 3


def plan() -> Any:
    """A plan, when it is wanted: not when a file is read."""
    raise RuntimeError("called")


class Work:
    """A learner with an option."""

    def __init__(self, name: str = "") -> None:
        raise RuntimeError(f"called for {name}")

    def train(self, weights: dict[str, Any], settings: Any) -> Any:
        """Never called."""


class _Made:
    def score(self, candidate: Any) -> Any:
        """Never called."""


MADE = _Made()


def read(start: str, *args: Any, **kwargs: Any) -> None:
    """Read a tree with one child."""
    load_tree({"children": [{"id": "it", "start": f"dspex.federated:{start}", "args": list(args), "kwargs": kwargs}]})


@pytest.mark.parametrize("name", ["plan", "PLAN"])
def test_a_federation_that_can_be_started_is_read(name: str) -> None:
    read("Federation", HERE + name, ["north", "south"], "log.sqlite", rounds={"enough": 2}, resume_after=5.0)


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        (["nowhere:plan", ["a"], "log"], {}, "No module named 'nowhere'"),
        ([HERE + "NOTHING", ["a"], "log"], {}, "give a FederatedAveraging or a FederatedChoice"),
        ([HERE + "PLAN", [], "log"], {}, "give the names of the client actors"),
        ([HERE + "PLAN", "north", "log"], {}, "give the names of the client actors"),
        ([HERE + "PLAN", ["a", "a"], "log"], {}, "each once"),
        ([HERE + "PLAN", ["a"], ""], {}, "store = '': give the path of a file"),
        ([HERE + "PLAN", ["a"], 5], {}, "store = 5: give the path of a file"),
        ([HERE + "PLAN", ["a"], "log"], {"rounds": {"enuogh": 1}}, "enuogh"),
        ([HERE + "PLAN", ["a"], "log"], {"rounds": {"enough": 2}}, "there are 1 clients"),
        ([HERE + "PLAN", ["a"], "log"], {"rounds": {"deadline": -1.0}}, "deadline"),
        ([HERE + "PLAN", ["a"], "log"], {"resume_after": 0.0}, "resume_after"),
        ([HERE + "PLAN", ["a"], "log"], {"resume": 1.0}, "resume"),
    ],
)
def test_one_that_cannot_is_not(args: list[Any], kwargs: dict[str, Any], why: str) -> None:
    with pytest.raises(TreeError, match=why):
        read("Federation", *args, **kwargs)


@pytest.mark.parametrize("kind", ["Client", "ProcessClient"])
def test_clients_are_looked_at_as_well(kind: str) -> None:
    read(kind, HERE + "Work", name="north")
    read(kind, HERE + "MADE")
    for work, options, why in (
        ("nowhere:work", {}, "No module named 'nowhere'"),
        (HERE + "NOTHING", {}, "give an object with a method `train`"),
        (HERE + "Work", {"named": "north"}, "unexpected keyword argument 'named'"),
    ):
        with pytest.raises(TreeError, match=why):
            read(kind, work, **options)
