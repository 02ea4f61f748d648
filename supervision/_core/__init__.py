"""The inside of the kernel: what runs messages. Nothing here is public; the names that are stand in `supervision`.

One circle of parts knows each other, because one message passes through all of them: a `cell` is one incarnation of an
actor; the `scheduler` keeps the queue of runnable cells, with two parts in files of their own, `deadlines` (how calls
end) and `cancellation` (what becomes of the code of killed actors); a `worker` is a task that drains the queue when a
handler is a coroutine; `turns` call the handlers; `start` makes the actor and runs its ``init``; `death` releases
everything at its end. To cut the circle would mean to hand the same objects around under other names.

Around it, and known by it:

- `phases`: phases, sentinels, the intent of a handler, the context variables. Knows none of the others.
- `links`: links and monitors, the base of a cell. `names`: names whose next holder is about to be started.
- `foreign`: addresses of actors that live elsewhere, for whoever hooks a cluster into a runtime.
- `cell_variants`: cells with a bounded mailbox, and cells whose messages carry a context.
- `dispatch`: from a class to its table of handlers; `signatures`: what annotations promise; `layers`: what stands
  between messages and handlers, such as observers and faults.
- `threads`: blocking handlers; `timers`; `watchdog`.
- `introspection`: the state of an actor as others may see it; `info`: what a runtime tells of actors and of itself.
"""
