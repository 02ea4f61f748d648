"""Clients keep their examples: also what goes over the pipe to a process of its own has none of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from agents.durability import MemoryStorage
from dspex.federated import (
    BadFederation,
    CandidateScore,
    Client,
    Federation,
    LocalUpdate,
    ProcessClient,
    RunRound,
    ScoreCandidates,
    SoftmaxLearner,
    TrainWeights,
    Weights,
)
from dspex.workflow import GetResult
from supervision import ChildSpec, Runtime, Supervisor
from supervision.isolation import pid_of
from supervision.isolation.process import ChildProcess
from tests.dspex.federated import processes
from tests.dspex.federated.processes import NUMBER, SECRET


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytearray]:
    """Return all bytes that go to processes, and come from them."""
    from supervision.isolation import process

    seen = {"to": bytearray(), "from": bytearray()}
    encode, read = process.encode, ChildProcess._read  # type: ignore[attr-defined]

    def encoded(frame: Any) -> bytes:
        data = encode(frame)
        seen["to"] += data
        return data

    async def reading(self: ChildProcess, length: int) -> bytes | None:
        data = await read(self, length)
        seen["from"] += data or b""
        return data

    monkeypatch.setattr(process, "encode", encoded)
    monkeypatch.setattr(ChildProcess, "_read", reading)
    return seen


def files(folder: Path) -> list[str]:
    """Write the examples of two clients, and return where they are."""
    found = []
    for number in range(2):
        rows = [
            {"text": f"{SECRET}, {number} {n}", "features": [NUMBER, float(n)], "label": (n + number) % 2}
            for n in range(6)
        ]
        path = folder / f"{number}.json"
        path.write_text(json.dumps(rows))
        found.append(str(path))
    return found


@pytest.mark.once
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_over_the_pipe_goes_no_example(runtime: Runtime, tmp_path: Path, pipe: dict[str, bytearray]) -> None:
    branch, here = "tests.dspex.federated.processes:Branch", "tests.dspex.federated.processes"
    specs = [
        ChildSpec(f"c{number}", ProcessClient, (branch,), {"path": path}, name=f"c{number}")
        for number, path in enumerate(files(tmp_path))
    ]
    specs += [
        ChildSpec(plan, Federation, (f"{here}:{plan}", ["c0", "c1"], MemoryStorage()), name=plan)
        for plan in ("averaging", "choosing")
    ]
    await runtime.spawn(Supervisor, specs)
    refs = [runtime.whereis(f"c{number}") for number in range(2)]
    assert len({pid_of(ref) for ref in refs if ref is not None} - {None}) == 2
    trained, chosen = [await runtime.name(plan).call(GetResult(), timeout=60.0) for plan in ("averaging", "choosing")]
    assert (trained.stopped, trained.rounds, chosen.stopped, chosen.chosen) == ("done", 2, "done", "owes")
    for way, data in pipe.items():
        assert len(data) > 100, way
        for part in ("Robinson", "Bow Street", "pounds"):
            assert part.encode() not in data, way
        for form in ("<d", ">d"):
            assert struct.pack(form, NUMBER) not in data, way
        assert str(NUMBER).encode() not in data, way
    # What is looked for would be found: weights are there as such numbers, but for the last ones, which nobody got.
    assert processes.averaging().initial.parts["constant"].data in pipe["to"]
    assert trained.weights.parts["constant"].data not in pipe["to"]


class Learns:
    def train(self, weights: Any, settings: Any) -> LocalUpdate:
        return LocalUpdate(weights, 1)


class Judges:
    async def score(self, candidate: Any) -> CandidateScore:
        return CandidateScore.of([1.0])


def made(of: str = "learner") -> Any:
    return Learns() if of == "learner" else Judges()


@pytest.mark.parametrize(
    ("work", "options"),
    [
        (Learns(), {}),
        (Learns, {}),
        (made, {"of": "scorer"}),
        ("tests.dspex.federated.processes:Branch", None),
    ],
)
async def test_work_may_be_given_in_several_ways(runtime: Runtime, tmp_path: Path, work: Any, options: Any) -> None:
    options = {"path": files(tmp_path)[0]} if options is None else options
    client = await runtime.spawn(Client, work, **options)
    found = client.runtime  # it has started
    assert found is runtime


@pytest.mark.parametrize("wrong", [None, 3, "nowhere", "json:nothing", "json:dumps.__name__", object(), lambda: 3])
async def test_what_is_no_work_is_refused(runtime: Runtime, wrong: Any) -> None:
    with pytest.raises(BadFederation, match="Client: work"):
        await runtime.spawn(Client, wrong)


async def test_scorers_may_be_async(runtime: Runtime) -> None:
    client = await runtime.spawn(Client, Judges)
    report = await client.call(RunRound("all", "me", 1, 1, ScoreCandidates(["a", "b"])))
    assert (report.client, report.examples, report.runs) == ("me", 1, 2)
    assert report.scores == (CandidateScore.of([1.0]),) * 2


async def test_learners_say_what_they_have_run(runtime: Runtime) -> None:
    client = await runtime.spawn(Client, SoftmaxLearner([[1.0], [2.0]], [0, 1], 2))
    start = SoftmaxLearner([[1.0]], [0], 2).begin()
    report = await client.call(RunRound("all", "me", 1, 1, TrainWeights(start, {"steps": 3})))
    assert (report.examples, report.runs, set(report.metrics)) == (2, 6, {"loss", "accuracy"})
    other = await client.call(
        RunRound("all", "me", 1, 2, TrainWeights(Weights.of({"weights": [[1.0, 0.0]], "constant": [0.0, 0.0]})))
    )
    assert other.weights != report.weights  # another task in the same round is done anew
