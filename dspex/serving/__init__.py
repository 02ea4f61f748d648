"""Programs that are served under a name, as children of a tree.

- `program` is the actor: it runs a program for requests of the platform (`foundation.programs`), with the language
  model that is selected for it.
- `pool` is such an actor that has several agents run the program.
- `interface` says which inputs and outputs a program has, and checks inputs before anything runs.
- `versions` keeps the versions of a program, and checks a state that is given as one, which may come from anybody.
"""
