"""``python -m dspex.evaluate`` says how it has ended by its exit status, and what it has found as text or as JSON."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex.evaluate import command
from dspex.evaluate.command import end_process, main

ROOT = Path(__file__).parents[3]

#: A program whose model stands in it: `wrong` cases are answered wrongly, and from `away` on nothing is answered.
SHOP = """
import os, signal
import dspy
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm, task

EXAMPLES, LABELS = task(150)
WRONG = int(os.environ.get("WRONG", "0"))
BROKEN = int(os.environ.get("BROKEN", "0"))
CALLS = []


def before(call):
    CALLS.append(call)
    if call == int(os.environ.get("KILLED_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    if call == int(os.environ.get("INTERRUPTED_AT", "0")):
        os.kill(os.getpid(), signal.SIGINT)


class Engine(ScriptedEngine):
    def answer(self, messages):
        found = super().answer(messages)
        number = int(messages[-1]["content"].partition("case number ")[2].split()[0])
        return found.replace(LABELS[f"case number {number}"], "violet") if number < WRONG else found


def model():
    away = os.environ.get("AWAY")
    return scripted_lm(Engine(LABELS, base=2.0, before=before, outage=Outage(away and int(away))))


def program():
    made = dspy.Predict("text -> label")
    made.lm = model()
    return made


def bare():
    return dspy.Predict("text -> label")


def metric(example, prediction):
    if int(example.text.split()[-1]) < BROKEN:
        raise ZeroDivisionError("no label")
    return exact(example, prediction)


if os.environ.get("CONFIGURE"):
    dspy.configure(lm=model())
"""

SPEC = """
program = "{shop}:program"
metric = "{shop}:metric"
log_dir = "runs"
num_threads = 2

[devset]
path = "cases.jsonl"
inputs = ["text"]
"""

VARIABLES = ("WRONG", "BROKEN", "KILLED_AT", "INTERRUPTED_AT", "AWAY", "CONFIGURE", "DSPEX_LM")

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a program, examples and a specification; and nothing of it is left over."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "shop.py").write_text(SHOP)
    lines = [json.dumps(example.toDict()) for example in _examples()]
    (tmp_path / "cases.jsonl").write_text("\n".join(lines))
    (tmp_path / "spec.toml").write_text(SPEC.format(shop="shop"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("shop", None)


def _examples() -> list[Any]:
    from dspex.testing.engine import task

    return task(150)[0]


def again(monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    """Have the program loaded anew, in another environment."""
    sys.modules.pop("shop", None)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)


def ran(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in the foreground: what runs the tests in the background ignores interrupts."""
    foreground = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    run = "runpy.run_module('dspex.evaluate', run_name='__main__', alter_sys=True)"
    return subprocess.run(
        [sys.executable, "-c", foreground + run, "spec.toml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_it_tells_the_score_and_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "spec.toml")]) == 0
    out, error = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "score     1 on 150 examples"
    assert lines[1].startswith("interval  0.9750 to 1.0000 at 95% (Wilson)")
    assert lines[-1].startswith("this run  150 calls of language models, ")
    assert error == ""
    assert main([str(folder / "spec.toml")]) == 0
    assert "0 calls of language models" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.once
def test_E016_killed_it_goes_on_where_it_was_and_says_the_same(folder: Path) -> None:
    killed = ran(folder, KILLED_AT="71", WRONG="15")
    assert killed.returncode == -signal.SIGKILL
    again = ran(folder, "--json", WRONG="15")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)["result"]
    assert (found["run"]["resumed"], found["score"], found["counts"]["scored"]) == (True, 0.9, 150)
    assert 80 <= found["run"]["calls"] <= 80 + 2
    undisturbed = json.loads(ran(folder, "--json", "--fresh", WRONG="15").stdout)["result"]
    assert {**found, "run": None} == {**undisturbed, "run": None}


@pytest.mark.once
def test_interrupted_it_says_how_to_go_on_and_ends_at_once(folder: Path) -> None:
    stopped = ran(folder, INTERRUPTED_AT="40")
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert stopped.stderr.splitlines()[-1] == (
        "dspex.evaluate: interrupted; what is done is kept: run it again to go on"
    )
    assert "Traceback" not in stopped.stderr
    assert "results were kept" in ran(folder).stdout


def test_interrupted_before_it_has_begun_it_says_so_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_spec(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load_spec", load_spec)
    assert main([str(folder / "spec.toml")]) == 130
    assert "run it again to go on" in capsys.readouterr().err


@pytest.mark.once
def test_the_program_s_own_configuration_is_honoured(folder: Path) -> None:
    spec = folder / "spec.toml"
    spec.write_text(spec.read_text().replace("shop:program", "shop:bare"))
    assert "score     0.9 on 150" in ran(folder, CONFIGURE="1", WRONG="15").stdout


def test_the_model_that_is_named_goes_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    @contextmanager
    def language_model(environ: Mapping[str, str], *, slots: int) -> Generator[None]:
        from shop import model  # type: ignore[import-not-found]

        asked.append((environ["DSPEX_LM"], slots))
        with dspy.context(lm=model()):
            yield

    monkeypatch.setattr(command, "language_model", language_model)
    spec = folder / "spec.toml"
    bare = spec.read_text().replace("shop:program", "shop:bare")
    spec.write_text(bare)
    assert main([str(spec)], {"DSPEX_LM": "openai/other"}) == 0
    assert main([str(spec), "--fresh"], {}) == 0
    spec.write_text(f'model = "openai/named"\n{bare}')
    assert main([str(spec), "--fresh"], {"DSPEX_LM": "openai/other"}) == 0
    assert asked == [("openai/other", 2), ("local", 2), ("openai/named", 2)]


@pytest.mark.once
def test_a_saved_state_is_loaded_and_named_in_the_result(folder: Path) -> None:
    program = dspy.Predict("text -> label")
    program.demos = [dspy.Example(text="case number 3", label="red")]
    program.save(folder / "better.json")
    spec = folder / "spec.toml"
    spec.write_text(spec.read_text().replace("shop:program", "shop:bare"))
    before = json.loads(ran(folder, "--json", CONFIGURE="1").stdout)["result"]["identity"]["program"]
    spec.write_text(f'state = "better.json"\n{spec.read_text()}')
    refused = ran(folder, "--json", CONFIGURE="1")
    assert (refused.returncode, json.loads(refused.stdout)["result"]) == (2, None)
    assert "log_dir holds another evaluation (program: " in refused.stderr
    after = json.loads(ran(folder, "--json", "--fresh", CONFIGURE="1").stdout)["result"]["identity"]["program"]
    assert after != before


def test_a_program_that_does_worse_ends_with_4(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, runs = str(folder / "spec.toml"), str(folder / "runs")
    assert main([spec]) == 0
    again(monkeypatch, WRONG="15")
    (folder / "shop.py").write_text(SHOP.replace('"text -> label"', '"text -> label", "Say it."'))
    spec_text = Path(spec).read_text().replace('"runs"', '"other"')
    (folder / "other.toml").write_text(spec_text)
    capsys.readouterr()
    assert main([str(folder / "other.toml"), "--against", runs]) == 4
    assert "verdict     worse (p = 6.104e-05, McNemar, exact)" in capsys.readouterr().out
    again(monkeypatch, WRONG="3")
    assert main([str(folder / "other.toml"), "--fresh", "--against", runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["comparison"]["verdict"], found["comparison"]["worse"]) == ("done", "not shown", 3)


def test_E021_too_few_that_count_end_with_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again(monkeypatch, BROKEN="10")
    assert main([str(folder / "spec.toml")]) == 3
    out, error = capsys.readouterr()
    assert "score     none" in out
    assert "note      no score: the coverage is below 0.95" in out
    assert error == "dspex.evaluate: too few examples count for a score\n"


def test_E020_a_model_that_does_not_come_back_ends_with_75(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = folder / "spec.toml"
    spec.write_text(f"patience = 0.0\n{spec.read_text()}")
    again(monkeypatch, AWAY="41")
    assert main([str(spec), "--json"]) == 75
    out, error = capsys.readouterr()
    found = json.loads(out)
    assert (found["state"], found["result"]["score"]) == ("suspended", None)
    assert found["result"]["counts"]["missing"] in (110, 111)
    assert "evaluate again with the same log_dir to go on" in error
    again(monkeypatch)
    assert main([str(spec)]) == 0


def test_E023_if_nothing_has_a_score_it_ends_with_1_and_the_first_cause(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again(monkeypatch, BROKEN="1000")
    assert main([str(folder / "spec.toml")]) == 1
    assert "the first one: metric: ZeroDivisionError: no label" in capsys.readouterr().err


def test_a_journal_that_cannot_be_read_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / "evaluation.sqlite").write_text("x" * 5000)
    assert main([str(folder / "spec.toml")]) == 1
    assert "evaluation.sqlite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("was", "now", "why"),
    [
        ('"shop:program"', '"shop:nothing"', "program = 'shop:nothing': write package.module:name; AttributeError"),
        ('"shop:program"', '"shop:LABELS"', "program = 'shop:LABELS': give a dspy.Module"),
        ('"shop:program"', '"broken:program"', "program = 'broken:program': write package.module:name; SyntaxError"),
        ('"shop:metric"', '"shop:LABELS"', "metric = 'shop:LABELS': give a function, not dict"),
        ('"shop:metric"', "7", "Expected `str`, got `int` - at `$.metric`"),
        ("num_threads", "threads", "Object contains unknown field `threads`"),
        ("num_threads = 2", "num_threads = 0", "num_threads = 0"),
        ("num_threads = 2", 'state = "none.json"', "state = 'none.json': "),
        ("num_threads = 2", "patience = -1.0", "patience"),
        ("num_threads = 2", "metric_timeout = 0.0", "metric_timeout = 0.0: give a finite number above 0"),
        ("num_threads = 2", "price = {input = inf, output = 1.0}", "price.input = inf: give a finite number from 0"),
        ("cases.jsonl", "none.jsonl", "none.jsonl: it cannot be read"),
        ('inputs = ["text"]', "", "missing required field `inputs`"),
        ("program = ", "program ", "spec.toml: "),
    ],
)
def test_what_is_wrong_with_a_specification_is_named_and_ends_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str], was: str, now: str, why: str
) -> None:
    (folder / "broken.py").write_text("program = (")
    spec = folder / "spec.toml"
    spec.write_text(spec.read_text().replace(was, now))
    assert main([str(spec), "--json"]) == 2
    out, error = capsys.readouterr()
    assert why in error
    assert json.loads(out)["state"] == "refused"
    assert not (folder / "runs").exists()


def test_a_metric_that_hangs_does_not_keep_the_command_from_ending(folder: Path) -> None:
    """Its thread is left to itself once the result is said."""
    with (folder / "shop.py").open("a") as file:
        file.write("\ndef hangs(example, prediction):\n    import threading\n    threading.Event().wait()\n")
    spec = folder / "spec.toml"
    spec.write_text("metric_timeout = 0.05\n" + spec.read_text().replace("shop:metric", "shop:hangs") + "limit = 2\n")
    ended = ran(folder, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["state"]) == (1, "failed"), ended.stderr


def test_a_thread_that_ends_is_waited_for_and_one_that_hangs_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []

    def end(status: int) -> None:
        ended.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", end)
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread(), thread])
    thread.start()
    print("said")
    with pytest.raises(SystemExit, match="4"):
        end_process(4, 0.01)
    assert (ended, capsys.readouterr().out) == ([4], "said\n")
    go_on.set()
    with pytest.raises(SystemExit, match="5"):
        end_process(5, 60.0)
    assert ended == [4]


def test_wrong_arguments_end_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "none.toml")]) == 2
    assert "none.toml: it cannot be read: No such file" in capsys.readouterr().err
    assert main([str(folder / "spec.toml"), "--against", str(folder / "none")]) == 2
    assert "no evaluation is kept there" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([])
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "Exit status: 0 done, 1 failed, 2 wrong usage" in " ".join(capsys.readouterr().out.split())


def test_another_metric_is_refused_before_anything_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = folder / "spec.toml"
    assert main([str(spec)]) == 0
    again(monkeypatch)
    (folder / "shop.py").write_text(SHOP.replace("return exact", "return 1 - exact"))
    assert main([str(spec)]) == 2
    assert main([str(spec), "--fresh", "--against", str(folder / "runs")]) == 2
    assert "these evaluations cannot be compared: metric" in capsys.readouterr().err
    assert [path.name for path in (folder / "runs").glob("*.sqlite")] == ["evaluation.sqlite"]


def test_imported_the_command_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module("dspex.evaluate.__main__")
    assert capsys.readouterr().out == ""


def test_over_budget_is_a_status_of_its_own_and_more_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The option counts more than the specification."""
    spec = folder / "spec.toml"
    spec.write_text(f"max_calls = 20\n{spec.read_text()}")
    assert main([str(spec)]) == 5
    assert "over budget with" in capsys.readouterr().err
    assert main([str(spec), "--max-calls", "100", "--json"]) == 5
    out, error = capsys.readouterr()
    found = json.loads(out)
    assert (found["state"], found["status"]) == ("over_budget", 5)
    assert 50 <= found["result"]["counts"]["missing"] <= 51
    assert "100 of 100 calls are made" in error
    assert main([str(spec), "--max-calls", "150"]) == 0
    assert main([str(spec), "--budget", "1", "--fresh"]) == 2
    assert "give the price of" in capsys.readouterr().err
