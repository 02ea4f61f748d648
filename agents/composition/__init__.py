"""Composition: actions made of actions, which to a command are one.

>>> from typing import Any
>>> from agents import Action, Context, execute
>>> class Fetch(Action[dict[str, Any]]):
...     page: str
...
...     def run(self, context: Context[Any]) -> dict[str, Any]:
...         return {"text": f"words of {self.page}"}
>>> class Count(Action[dict[str, Any]]):
...     text: str
...
...     def run(self, context: Context[Any]) -> dict[str, Any]:
...         return {"words": len(self.text.split())}
>>> class Language(Action[dict[str, Any]]):
...     text: str
...
...     def run(self, context: Context[Any]) -> dict[str, Any]:
...         return {"language": "en"}
>>> execute(Chain(Fetch, Parallel(Count, Language)), {"page": "home"})
{'words': 3, 'language': 'en'}
>>> plan = Plan().add("fetch", Fetch).add("count", Count, after=["fetch"]).add("language", Language, after=["fetch"])
>>> plan.phases()
(('fetch',), ('count', 'language'))
>>> execute(plan, {"page": "home"})
{'words': 3, 'language': 'en'}
"""

from agents.composition.branch import Branch as Branch
from agents.composition.chain import Chain as Chain
from agents.composition.parallel import Parallel as Parallel
from agents.composition.plan import Plan as Plan
