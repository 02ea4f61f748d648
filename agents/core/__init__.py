"""Values and pure functions: what an agent is, and how commands change it.

Nothing here runs an actor or waits for a message: `agents.server` does. What is to happen outside is returned as data,
as directives, and carried out there.

- `router`, `signal`: to which work a type of signals is routed, and what agents are sent.
- `structs`: values of declared types, checked and patched; parameters, results and states are checked by it.
- `operations`, `cron`, `directives`: what an action asks for beside its result: changes of the agent, and effects.
- `agent`: the value itself, its parent, and how far it is.
- `action`: a unit of work, and how often it is attempted. `execution` runs actions, with retries, time limits and
  compensation; `composition` makes one action of several.
- `command`: from an agent and actions to a new agent and directives. `strategies` say how the commands of a type are
  run, `plugin` what can be added to a type, and `agent_type` puts all of it together.

Read in this order. At runtime no module knows one that stands behind it. For type checkers some do: a directive names
work and types of agents, a composition is given the execution that runs it, and `StartSensor` names a sensor, which is
the one part of `agents.server` that is named here.
"""
