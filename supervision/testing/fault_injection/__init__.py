"""Faults, plans of faults, and whether a service survives them.

- `faults`: what can go wrong, as data. `plan`: which fault when, to whom. `victims`: a choice among actors.
- `injector`: injects one fault, and heals it; with `handler_faults` (layers before handlers) and `wire` (delivery).
- `chaos`: carries a plan out, and holds back what a supervisor could not afford by `restart_costs`; `report` counts.
- `client`: retries requests meanwhile, as the clients of a service do.
- `survival`: a service under plans of many seeds; `shrink` finds the smallest plan that still fails.

Data (`faults`, `plan`, `victims`) knows nothing of those that act on it.
"""
