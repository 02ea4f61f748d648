"""Operations on states: each by what it means, and all together against dictionaries."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import (
    Action,
    Agent,
    AgentType,
    BadState,
    Context,
    DeleteKeys,
    DeletePath,
    Emit,
    ReplaceState,
    Result,
    SetPath,
    SetSlice,
    SetState,
    StateMachineStrategy,
    cmd,
)
from agents.core.operations import StateOperation


class Job(msgspec.Struct, frozen=True):
    """The state of a job."""

    counter: int = 0
    name: str = ""
    step: str = "new"
    metadata: dict[str, Any] = {}
    config: dict[str, Any] = {}
    primary_result: str | None = None


class Apply(Action[None]):
    """Apply operations."""

    operations: tuple[Any, ...]

    def run(self, context: Context[Job]) -> Result[None]:
        """Return them."""
        return Result(None, self.operations)


class Worker(AgentType[Job]):
    """Has such a state."""


def applied(state: Job, *operations: StateOperation) -> Job:
    """Return what operations make of a state, in a command."""
    step = cmd(Worker.new("w", state), Apply(operations))
    assert step.directives == ()
    return step.agent.state


def test_s09_set_state_merges_what_is_nested() -> None:
    """Mappings are merged at any depth; other fields, and other keys, stay."""
    state = applied(Job(counter=5, metadata={"author": "joe", "pages": 3}), SetState({"metadata": {"author": "alice"}}))
    state = applied(state, SetState({"metadata": {"version": "2.0"}}))
    assert state == Job(counter=5, metadata={"author": "alice", "pages": 3, "version": "2.0"})


def test_s09_replace_state_leaves_nothing_of_the_old_one() -> None:
    """Fields that the new state does not give have their defaults."""
    before = Job(counter=7, metadata={"author": "alice"})
    after = applied(before, ReplaceState({"counter": 0, "name": "fresh", "step": "reset"}))
    assert after == Job(counter=0, name="fresh", step="reset")
    assert applied(before, ReplaceState(Job(name="ready"))) == Job(name="ready")


def test_s09_delete_keys_gives_defaults_again_and_minds_nothing_missing() -> None:
    """Fields have their defaults again; names of no field are passed over."""
    before = Job(counter=5, name="x", metadata={"a": 1})
    assert applied(before, DeleteKeys(("name", "metadata", "colour"))) == Job(counter=5)


def test_s09_paths_make_what_is_missing_and_leave_what_is_beside() -> None:
    """A path is set also where its branch is missing, and removed without a trace of the rest."""
    made = applied(Job(), SetPath("config.database.host", "localhost"))
    assert made.config == {"database": {"host": "localhost"}}
    kept = applied(Job(config={"timeout": 1000, "retries": 3}), SetPath("config.timeout", 5000))
    assert kept.config == {"timeout": 5000, "retries": 3}
    less = applied(Job(config={"timeout": 1000, "retries": 3}), DeletePath("config.retries"))
    assert less.config == {"timeout": 1000}
    assert applied(Job(counter=3), DeletePath("counter")) == Job()
    assert applied(Job(counter=3), SetPath("counter", 4)) == Job(counter=4)


@pytest.mark.parametrize("path", ["colour", "colour.shade", "config.missing", "config.missing.deep", "counter.deep"])
def test_removing_what_is_missing_changes_nothing(path: str) -> None:
    """Also where the parent is missing."""
    before = Job(counter=3, config={"a": 1})
    assert DeletePath(path).applied(before) == before


@pytest.mark.parametrize(
    "operation",
    [
        SetState({"counter": "x"}),
        SetState({"colour": 1}),
        ReplaceState({"counter": "x"}),
        SetPath("colour", 1),
        SetPath("counter.deep", 1),
        SetSlice("nothing", {}),
    ],
)
def test_an_operation_that_does_not_fit_fails_its_action(operation: Any) -> None:
    """Nothing of the action's result is kept, nor what its other operations had done."""
    agent = Worker.new("w", {"counter": 1})
    step = cmd(agent, Apply((SetState({"counter": 2}), operation, Emit("done"))))
    assert step.agent == agent
    assert [type(one).__name__ for one in step.directives] == ["ErrorDirective"]
    assert step.errors[0].error.kind == "agents.errors.BadState"


def test_a_slice_is_changed_by_its_key() -> None:
    """What a strategy knows is beside the state, and has its own types."""

    class Machine(AgentType[Job]):
        strategy = StateMachineStrategy("ready", {"ready": ["processing"], "processing": ["ready"]})

    agent = Machine.new("m")
    step = cmd(agent, Apply((SetSlice("strategy", {"processed_count": 4}),)))
    assert step.agent.slices["strategy"].processed_count == 4
    assert step.agent.version == 1
    with pytest.raises(BadState, match="Expected `int`"):
        SetSlice("strategy", {"processed_count": "x"}).applied_to(agent)


def test_s10_a_result_then_operations_then_directives() -> None:
    """The result changes the state first, then the operations do; directives are all that is left."""

    class Finish(Action[dict[str, Any]]):
        def run(self, context: Context[Job]) -> Result[dict[str, Any]]:
            return Result({"primary_result": "done", "step": "first"}, (SetState({"step": "completed"}), Emit("x")))

    agent, directives = cmd(Worker.new("w"), Finish)
    assert (agent.state.primary_result, agent.state.step, agent.version) == ("done", "completed", 1)
    assert directives == (Emit("x"),)


# -- against dictionaries ----------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(st.integers(0, 3), lambda inner: st.dictionaries(KEYS, inner, max_size=2), max_leaves=4)
TREES = st.dictionaries(KEYS, VALUES, max_size=3)
PATHS = st.lists(KEYS, min_size=1, max_size=3)
OPERATIONS = st.one_of(
    st.builds(lambda tree: ("set", tree), TREES),
    st.builds(lambda path, value: ("set_path", path, value), PATHS, VALUES),
    st.builds(lambda path: ("delete_path", path), PATHS),
)


def merged(old: Any, new: Any) -> Any:
    """Return the deep merge of two trees, by its definition."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {
        key: merged(old[key], new[key]) if key in old and key in new else {**old, **new}[key] for key in {**old, **new}
    }


def in_model(tree: dict[str, Any], operation: Any) -> dict[str, Any]:
    """Return what an operation makes of a tree."""
    what, *rest = operation
    if what == "set":
        return merged(tree, rest[0])  # type: ignore[no-any-return]
    path = rest[0]
    node = tree = msgspec.json.decode(msgspec.json.encode(tree))
    for key in path[:-1]:
        if not isinstance(node.get(key), dict):
            if what == "delete_path":
                return tree
            node[key] = {}
        node = node[key]
    if what == "set_path":
        node[path[-1]] = rest[1]
    else:
        node.pop(path[-1], None)
    return tree


def as_operation(operation: Any) -> StateOperation:
    """Return the operation itself, on the field ``config``."""
    what, *rest = operation
    if what == "set":
        return SetState({"config": rest[0]})
    path = ".".join(["config", *rest[0]])
    return SetPath(path, rest[1]) if what == "set_path" else DeletePath(path)


@given(TREES, st.lists(OPERATIONS, max_size=6))
def test_operations_agree_with_dictionaries(tree: dict[str, Any], operations: list[Any]) -> None:
    """Any operations in a row make of nested mappings what they mean."""
    agent: Agent[Job] = Worker.new("w", {"config": tree})
    for operation in operations:
        tree = in_model(tree, operation)
        agent = as_operation(operation).applied_to(agent)
    assert agent.state.config == tree
