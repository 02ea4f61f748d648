"""Does work hold wherever it is cut off? A scenario is run once for each point at which it can be interrupted.

- `explorer`: `explore` runs a scenario again and again, one point after the other, and collects the failures.
- `scenario`: `ScenarioRun`, one run: sets the world up, interrupts the work, and checks that nothing is left.
- `_points`: counts the points at which the work waits, and strikes at the chosen one.

The points depend on the loop with virtual time (`virtual_time`), so that every run meets the same ones.
"""
