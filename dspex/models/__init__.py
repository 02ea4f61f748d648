"""Language models: which one is used, one place for all of them, and a small one that is embedded.

- `selection` chooses a model by the environment, for a script or for a program of a tree. It knows `local`.
- `gateway` has limits, budgets, circuit breakers and fallbacks for all models of a tree. It knows `selection`, as an
  endpoint may be the embedded model.
- `local` serves the embedded model in an OS process, and asks it.
- `call_log` keeps every answer in the journal of a workflow, so that no call is made twice.
"""
