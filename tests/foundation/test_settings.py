"""What the command can be told, by arguments and by the environment."""

from __future__ import annotations

import re

import pytest

from foundation.run.settings import BadInput, Settings, read_settings, unknown_variables
from foundation.tree import DEFAULT


def test_without_arguments_the_default_tree_runs_at_loopback() -> None:
    assert read_settings([], {}) == Settings(
        tree=str(DEFAULT), check=False, json_logs=False, host="127.0.0.1", port=8000, uvloop=None, shutdown_timeout=30.0
    )


def test_all_can_be_said_by_arguments() -> None:
    arguments = ["t.toml", "--check", "--json-logs", "--host", "::", "--port", "0", "--state", "s", "--no-uvloop"]
    assert read_settings([*arguments, "--shutdown-timeout", "2.5", "--trace", "0.5"], {}) == Settings(
        "t.toml", True, True, "::", 0, "s", False, 2.5, trace=0.5
    )


def test_all_can_be_said_by_the_environment_and_arguments_win() -> None:
    environ = {
        "FOUNDATION_TREE": "t.toml",
        "FOUNDATION_JSON_LOGS": "yes",
        "FOUNDATION_HOST": "h",
        "FOUNDATION_PORT": "1",
        "FOUNDATION_STATE": "s",
        "FOUNDATION_UVLOOP": "off",
        "FOUNDATION_SHUTDOWN_TIMEOUT": "3",
    }
    assert read_settings([], environ) == Settings("t.toml", False, True, "h", 1, "s", False, 3.0)
    told = read_settings(["u.toml", "--no-json-logs", "--port", "2", "--uvloop"], environ)
    assert told == Settings("u.toml", False, False, "h", 2, "s", True, 3.0)


def test_what_is_kept_goes_where_the_service_manager_says_unless_somebody_says_otherwise() -> None:
    systemd = {"STATE_DIRECTORY": "/var/lib/x"}
    assert read_settings([], {}).state == ".foundation"
    assert read_settings([], systemd).state == "/var/lib/x"
    assert read_settings([], {**systemd, "FOUNDATION_STATE": "s"}).state == "s"
    assert read_settings(["--state", "t"], systemd).state == "t"


def test_names_in_a_tree_stand_for_what_is_set() -> None:
    """By arguments, one each; by the environment, one a line."""
    assert read_settings(["--set", "sink=http://a?b=c", "--set", "n=1"], {}).values == {
        "sink": "http://a?b=c",
        "n": "1",
    }
    assert read_settings([], {"FOUNDATION_VALUES": "a=1\n\nb="}).values == {"a": "1", "b": ""}
    assert read_settings(["--set", "a=2"], {"FOUNDATION_VALUES": "a=1\nb=1"}).values == {"a": "2"}


def test_a_variable_that_is_wrong_does_not_matter_if_an_argument_wins() -> None:
    assert read_settings(["--port", "2"], {"FOUNDATION_PORT": "many"}).port == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        (["--port", "many"], {}, "--port = 'many': give a whole number from 0 (any free port) to 65535"),
        (["--port", "65536"], {}, "--port = '65536': give a whole number"),
        (["--port", "-1"], {}, "--port = '-1': give a whole number"),
        (["--host", ""], {}, "--host = '': give something that is not empty"),
        (["--shutdown-timeout", "soon"], {}, "--shutdown-timeout = 'soon': give a finite number of seconds"),
        (["--shutdown-timeout", "inf"], {}, "--shutdown-timeout = 'inf': give a finite number of seconds"),
        (["--trace", "2"], {}, "--trace = '2': give the share of traces to keep, from 0 to 1"),
        (["--trace", "all"], {}, "--trace = 'all': give the share of traces to keep, from 0 to 1"),
        ([], {"FOUNDATION_PORT": "many"}, "FOUNDATION_PORT = 'many': give a whole number"),
        ([], {"FOUNDATION_UVLOOP": "maybe"}, "FOUNDATION_UVLOOP = 'maybe': choose one of 1, true, yes, on, or 0, fa"),
        ([], {"FOUNDATION_TREE": ""}, "FOUNDATION_TREE = '': give something"),
        (["--set", "sink"], {}, "--set = 'sink': 'sink': give NAME=VALUE"),
        (["--set", "a b=1"], {}, "--set = 'a b=1': 'a b=1': give NAME=VALUE"),
        (["--set", "port=1"], {}, "--set = 'port=1': 'port=1': give NAME=VALUE, and a name of letters other than host"),
        (["--prot", "1"], {}, "command line = '--prot': there is no such option (did you mean '--port'?); --help"),
        (["a", "b"], {}, "command line = 'b': there is no such option; --help tells more"),
        (["--port"], {}, "command line: argument --port: expected one argument; --help tells more"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(arguments: list[str], environ: dict[str, str], line: str) -> None:
    with pytest.raises(BadInput, match="^" + re.escape(line)):
        read_settings(arguments, environ)


def test_a_variable_with_a_slip_of_the_pen_is_noticed() -> None:
    environ = {"FOUNDATION_PROT": "1", "FOUNDATION_PORT": "1", "FOUNDATION_QQQ": "1", "PATH": ""}
    assert unknown_variables(environ) == ["FOUNDATION_PROT means nothing (did you mean 'FOUNDATION_PORT'?)"]
