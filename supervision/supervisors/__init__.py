"""Everything that supervises: supervisors, the specifications of their children, and orders to them.

- `supervisor`: an ordered list of children and three strategies. `dynamic_supervisor`: children that come and go.
  `partition_supervisor`: copies of one child, found by a key; a `Supervisor` with a table of its own.
- `_base`: what they share: how one child is started and stopped, the restart budget, the events.
- `childspec`: how a child is started, restarted and stopped, checked before anything runs.
- `restarts`: whether an ended child is restarted, after which pause, and the budget. Knows none of the others.
- `administration`: requests to a running supervisor, and their answers. Reads specifications and budgets only.

Supervisors are actors, so all of them stand on `supervision.actor` and on the kernel's inside, `supervision._core`.
`supervision` exports what a program needs.
"""
