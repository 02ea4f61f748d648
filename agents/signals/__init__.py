"""What carries signals: publish and subscribe, with acknowledgements, a log and redelivery.

- `bus`: the actor that delivers, and its subscriptions. `publishing`: how it takes signals, and writes. `delivering`:
  how it sends them, and hears what becomes of them. `subscription`: what becomes of each signal of a subscription, as a
  state machine. `bus_file`: what is kept of them in a storage. `messages`: what a bus is asked, and the functions that
  ask it.
- `causes`: which signals have led to which.
- `sinks`: actors that pass signals on: to a service over HTTP, to a process group, to the log.
- `cloudevents`: signals in the JSON of CloudEvents, as `sinks` and others send them.

A bus keeps its log in a storage of `agents.durability`, as an agent's server keeps its agent.

>>> import asyncio
>>> from agents import Signal
>>> from supervision import Actor, Runtime, handle
>>> class Billing(Actor):
...     @handle
...     def bill(self, delivery: Delivery) -> None:
...         print(delivery.signal.type, "attempt", delivery.attempt)
...         delivery.ack()
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         bus = await runtime.spawn(Bus, name="bus")
...         billing = await runtime.spawn(Billing)
...         await subscribe(bus, "order.**", billing, name="billing")
...         await publish(bus, Signal(type="order.placed", source="/shop", id="1"))
...         await publish(bus, Signal(type="weather.changed", source="/sky", id="2"))
...         await billing.stop()
>>> asyncio.run(main())
order.placed attempt 1
"""

# The bus.
from agents.signals.bus import Bus as Bus
from agents.signals.messages import publish as publish
from agents.signals.messages import subscribe as subscribe
from agents.signals.messages import unsubscribe as unsubscribe
from agents.signals.messages import Delivery as Delivery

# Its log, and what could not be delivered.
from agents.signals.messages import SignalRecord as SignalRecord
from agents.signals.messages import read_log as read_log
from agents.signals.messages import DeadLetter as DeadLetter
from agents.signals.messages import dead_letters as dead_letters
from agents.signals.messages import redrive as redrive
from agents.signals.messages import replay as replay
from agents.signals.messages import subscriptions as subscriptions
from agents.signals.messages import SubscriptionStatus as SubscriptionStatus

# What caused what.
from agents.signals.messages import causal_chain as causal_chain
from agents.signals.causes import Causes as Causes
