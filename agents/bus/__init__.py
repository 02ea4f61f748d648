"""The bus: signals for whoever subscribes, acknowledged, replayed, and never lost on the way.

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

from agents.bus.bus import Bus as Bus
from agents.bus.causes import Causes as Causes
from agents.bus.messages import DeadLetter as DeadLetter
from agents.bus.messages import Delivery as Delivery
from agents.bus.messages import Recorded as Recorded
from agents.bus.messages import chain as chain
from agents.bus.messages import dead_letters as dead_letters
from agents.bus.messages import publish as publish
from agents.bus.messages import redrive as redrive
from agents.bus.messages import replay as replay
from agents.bus.messages import subscribe as subscribe
from agents.bus.messages import unsubscribe as unsubscribe
