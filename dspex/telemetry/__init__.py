"""What is seen of runs: attempts at language models, counted, for the record of a call; and spans, metrics and events.

- `observation` is what a run is observed by; `dspex._compat.attempts` tells it of attempts. It needs nothing else.
- `tracing`, `spans` and `callback` make the spans of a run, `providers` says where they go. These need OpenTelemetry,
  and are imported only if somebody wants to know.
- `conventions` has all names, `content` what is said of a conversation.
"""
