"""Play tenants: they write to the program, and say whether its answer was right.

``python tenants.py http://localhost:8000/programs/repairs 300`` has 300 of them write.
"""

import csv
import json
import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

url, number = sys.argv[1], int(sys.argv[2])


def post(path: str, body: object, **headers: str) -> tuple[dict[str, str], dict[str, str]]:
    """Send JSON, and return what comes back, with its headers."""
    request = Request(url + path, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    with urlopen(request) as answer:
        return json.load(answer), {name.lower(): value for name, value in answer.headers.items()}


def write(row: dict[str, str]) -> tuple[str, bool]:
    """Be one tenant: ask, and say what is to be said. Return which version has answered, and whether it was right."""
    tenant = f"tenant-{random.randrange(10**9)}"
    try:
        answer, headers = post("", {"message": row["message"]}, **{"x-session-key": tenant})
        right = answer["topic"] == row["topic"]
        post("/feedback", {"call": headers["x-call-id"], "value": right})
    except HTTPError as error:
        return f"status {error.code}", False
    return f"version {headers['x-program-version']}", right


with Path("test.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
with ThreadPoolExecutor(4) as pool:
    found = Counter(pool.map(write, random.choices(rows, k=number)))
for who in sorted({who for who, _ in found}):
    print(f"{who}: {found[who, True]} of {found[who, True] + found[who, False]} answers were right")
