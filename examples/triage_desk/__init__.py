"""A triage desk: tickets come in over HTTP, are looked at by a pool of workers, and are given to an engineer.

What was acknowledged survives ``kill -9`` and is done once for services that know tokens. Run it:
``python -m examples.triage_desk``. Its tree is ``desk.toml``; ``docs/chaos-testing.md`` shows its chaos test.

- `tickets`: the durable agent of one ticket, with a saga;
- `workers`: the agents of the pool, which find out what a ticket is about, and have to try more than once;
- `board`: a durable agent that knows which tickets are open, and sweeps by cron;
- `intake`: how tickets come in;
- `outside`: the services outside, with a ledger of their own.
"""
