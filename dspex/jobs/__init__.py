"""Long work for a program as supervised jobs: started, watched, paused, cancelled, and resumed by whoever is next.

`owner` is the actor that owns the jobs of a kind, `job` the one that does one, under a supervisor, and `work` what it
does; `spending` holds it to its budget; `history` is what is kept of all jobs; `selection` finds the language model.
Optimisations (`dspex.optimise`) and evaluations (`dspex.evaluate`) are such jobs.
"""

from dspex.jobs.events import BudgetReached as BudgetReached
from dspex.jobs.events import JobMoved as JobMoved
