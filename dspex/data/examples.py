"""Examples from files: each row of a CSV file, or each line of a JSONL file, becomes a ``dspy.Example``."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import dspy
import msgspec

from foundation.options import whole
from supervision.errors import BadOption

#: A row, and the line of the file in which it ends.
_Row = tuple[int, dict[str, Any]]


class BadExamples(ValueError):
    """A file of examples cannot be used.

    Attributes:
        path: of the file.
        line: in it, from 1; None if it is about the whole.
        why: what is wrong, and what to do.
    """

    def __init__(self, path: str | Path, line: int | None, why: str) -> None:
        self.path, self.line, self.why = Path(path), line, why
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {why}")


class ExampleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of examples, as a specification has it; see `read_examples`.

    Attributes:
        path: of the file.
        inputs: the fields that a program is given.
        types: of fields of a table.
        limit: how many examples are read at most; None for all.
    """

    path: str
    inputs: tuple[str, ...]
    types: dict[str, str] = {}
    limit: int | None = None

    def read(self, folder: Path) -> list[Any]:
        """Return the examples of the file, whose path is taken from a folder; raises as `read_examples`."""
        return read_examples(folder / self.path, self.inputs, types=self.types, limit=self.limit)


def read_examples(
    path: str | Path,
    inputs: Sequence[str],
    *,
    types: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> list[Any]:
    """Return the examples of a file, in its order.

    >>> from importlib import resources
    >>> with resources.as_file(resources.files("dspex.data") / "sentiment.csv") as path:
    ...     first = read_examples(path, ["text"], limit=1)[0]
    >>> first.inputs().keys(), first.labels().toDict()
    (['text'], {'sentiment': 'positive'})

    Args:
        path: a file in UTF-8 whose name ends in ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson``. The first row of a table
            has the names of the fields; each line of JSONL is an object.
        inputs: the fields that a program is given; all others are labels.
        types: of fields of a table, in which everything is text: ``int``, ``float``, ``bool`` (true or false) or
            ``json``.
        limit: how many examples are read at most; None for all.

    Raises:
        BadExamples: the file cannot be read, or is not as it should be; or there is no example in it.
        BadOption: an argument makes no sense.
    """
    fields = [inputs] if isinstance(inputs, str) else list(inputs)
    if not fields:
        raise BadOption("read_examples: inputs", inputs, "name the fields that the program is given")
    file = Path(path)
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise BadExamples(path, None, f"its name has to end in one of {', '.join(_READERS)}")
    most = None if limit is None else whole("read_examples: limit", limit)
    converters = {field: _converter(field, kind) for field, kind in (types or {}).items()}
    found = [_example(file, row, fields, converters) for row in islice(_rows(file, read), most)]
    if not found:
        raise BadExamples(path, None, "no examples; it needs at least one")
    return found


def _rows(path: Path, read: Callable[[Path, TextIO], Iterator[_Row]]) -> Iterator[_Row]:
    line = 0
    try:
        # Spreadsheets begin their files with a byte-order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, row in read(path, file):
                yield line, row
    except UnicodeDecodeError as error:
        raise BadExamples(path, line + 1, f"no UTF-8 from here on ({error.reason}); save it in that encoding") from None
    except OSError as error:
        raise BadExamples(path, None, f"it cannot be read: {error.strerror or error}") from error


def _table(delimiter: str) -> Callable[[Path, TextIO], Iterator[_Row]]:
    def read(path: Path, file: TextIO) -> Iterator[_Row]:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = next(reader, [])
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise BadExamples(path, 1, f"two columns are called {twice!r}; rename one")
            for cells in reader:
                if cells and len(cells) != len(names):
                    why = f"{len(cells)} cells for {len(names)} columns; quote cells that contain {delimiter!r}"
                    raise BadExamples(path, reader.line_num, why)
                if cells:
                    yield reader.line_num, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise BadExamples(path, reader.line_num, f"no table: {error}") from None

    return read


def _lines(path: Path, file: TextIO) -> Iterator[_Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadExamples(path, number, f"no JSON object: {error}") from None


_READERS: dict[str, Callable[[Path, TextIO], Iterator[_Row]]] = {
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".jsonl": _lines,
    ".ndjson": _lines,
}


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.strip().lower()]


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_KINDS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": _number,
    "bool": _boolean,
    "json": msgspec.json.decode,
}


def _converter(field: str, kind: str) -> tuple[str, Callable[[str], Any]]:
    try:
        return kind, _KINDS[kind]
    except (KeyError, TypeError):
        raise BadOption(f"read_examples: type of {field!r}", kind, f"give one of {', '.join(_KINDS)}") from None


def _example(
    path: Path, row: _Row, inputs: list[str], converters: Mapping[str, tuple[str, Callable[[str], Any]]]
) -> Any:
    line, values = row
    for field in (*inputs, *converters):
        if field not in values:
            raise BadExamples(path, line, f"no field {field!r}; there are {', '.join(map(repr, values))}")
    for field, (kind, convert) in converters.items():
        try:
            values[field] = convert(values[field])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadExamples(path, line, f"{field} = {values[field]!r} is no {kind}") from None
    return dspy.Example(values).with_inputs(*inputs)
