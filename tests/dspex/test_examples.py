"""Examples are read from CSV and JSONL as they stand there, and what is wrong is named with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspex.data.examples import BadExamples, read_examples
from supervision.errors import BadOption


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def plain(examples: list[Any]) -> list[dict[str, Any]]:
    return [example.toDict() for example in examples]


def test_rows_of_a_table_are_examples_whose_inputs_are_told_from_labels(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'text,label\n"one, or\ntwo",x\n\nthree,\n')
    first, second = read_examples(path, ["text"])
    assert first.inputs().toDict() == {"text": "one, or\ntwo"}
    assert first.labels().toDict() == {"label": "x"}
    assert second.toDict() == {"text": "three", "label": ""}


def test_lines_of_jsonl_are_examples_with_the_types_that_they_have_there(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": "a", "n": 1, "tags": ["x"]}\n\n{"text": "b", "n": null}\r\n')
    assert plain(read_examples(path, "text")) == [{"text": "a", "n": 1, "tags": ["x"]}, {"text": "b", "n": None}]


def test_a_byte_order_mark_tabs_and_upper_case_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.TSV", b"\xef\xbb\xbftext\tlabel\na,b\tc\n")
    assert plain(read_examples(path, ["text"])) == [{"text": "a,b", "label": "c"}]


def test_a_column_may_be_called_as_something_of_dspys_own(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "base,inputs,labels\na,b,c\n")
    (found,) = read_examples(path, ["base", "inputs"])
    assert found.toDict() == {"base": "a", "inputs": "b", "labels": "c"}
    assert found.inputs().toDict() == {"base": "a", "inputs": "b"}


def test_fields_of_a_table_have_the_types_that_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'n,x,yes,tags\n7,0.5,True,"[""a"", 1]"\n')
    types = {"n": "int", "x": "float", "yes": "bool", "tags": "json"}
    assert plain(read_examples(path, ["n"], types=types)) == [{"n": 7, "x": 0.5, "yes": True, "tags": ["a", 1]}]


def test_only_as_many_are_read_as_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": 1}\n{"text": 2}\nno JSON\n')
    assert plain(read_examples(path, ["text"], limit=2)) == [{"text": 1}, {"text": 2}]


BAD = [
    ("a.csv", "", None, "no examples"),
    ("a.csv", "text,label\n", None, "no examples"),
    ("a.csv", "text,text\na,b\n", 1, "two columns are called 'text'"),
    ("a.csv", "text,label\na,b\na,b,c\n", 3, "3 cells for 2 columns"),
    ("a.csv", "text,label\na\n", 2, "1 cells for 2 columns"),
    ("a.csv", 'text,label\n"a,b\n', 2, "no table"),
    ("a.csv", f"text\n{'x' * 200_000}\n", 2, "no table: field larger"),
    ("a.csv", "label\na\n", 2, "no field 'text'; there are 'label'"),
    ("a.csv", b"text\nfine\n\xff\xfe\n", 1, "no UTF-8"),
    ("a.jsonl", '{"text": 1}\n{"text": \n', 2, "no JSON object"),
    ("a.jsonl", "[1]\n", 1, "no JSON object"),
    ("a.jsonl", '{"text": NaN}\n', 1, "no JSON object"),
    ("a.jsonl", '{"text": ' + "[" * 100_000 + "\n", 1, "no JSON object"),
    ("a.jsonl", "\n\n", None, "no examples"),
    ("a.xlsx", "", None, "its name has to end in one of .csv, .tsv, .jsonl, .ndjson"),
]


@pytest.mark.parametrize(("name", "content", "line", "why"), BAD)
def test_what_is_wrong_with_a_file_is_named(
    tmp_path: Path, name: str, content: str | bytes, line: int | None, why: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(BadExamples, match=why) as caught:
        read_examples(path, ["text"])
    assert (caught.value.path, caught.value.line) == (path, line)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("field", ["n", "x", "yes", "tags", "missing"])
def test_a_cell_that_is_not_of_its_type_is_named(tmp_path: Path, field: str) -> None:
    path = written(tmp_path, "a.csv", "text,n,x,yes,tags\na,1.5,nan,perhaps,[\n")
    kind = {"n": "int", "x": "float", "yes": "bool", "tags": "json", "missing": "int"}[field]
    with pytest.raises(BadExamples, match=f"line 2: .*{field}"):
        read_examples(path, ["text"], types={field: kind})


def test_a_type_for_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": null}\n')
    with pytest.raises(BadExamples, match="text = None is no int"):
        read_examples(path, ["text"], types={"text": "int"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadExamples, match=r"it cannot be read: No such file"):
        read_examples(tmp_path / "a.csv", ["text"])
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(BadExamples, match=r"it cannot be read: Is a directory"):
        read_examples(tmp_path / "b.csv", ["text"])


@pytest.mark.parametrize(
    "options", [{"inputs": []}, {"types": {"text": "date"}}, {"types": {"text": None}}, {"limit": 0}]
)
def test_an_argument_that_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    path = written(tmp_path, "a.csv", "text\na\n")
    with pytest.raises(BadOption):
        read_examples(path, **{"inputs": ["text"], **options})
