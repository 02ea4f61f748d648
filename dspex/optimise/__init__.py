"""Optimisations as supervised jobs (`dspex.jobs`).

`spec` says what is to be done; `work` is one optimisation; `actor` owns them. ``python -m dspex.optimise SPEC.toml``
does one.
"""

from dspex.optimise.actor import Optimisations as Optimisations
from dspex.optimise.spec import BadOptimisationSpec as BadOptimisationSpec
from dspex.optimise.spec import OptimisationSpec as OptimisationSpec
