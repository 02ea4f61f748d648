"""Programs that come with the package, each with the children that serve it.

- `sentiment` is the program of the default tree; `score` says how often it is right.
"""
