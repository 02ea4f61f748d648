"""The contracts of storages and of buses, as checks that any backend can be run through.

>>> import asyncio
>>> from agents.durability import MemoryStorage
>>> for check in storage_contract(MemoryStorage):
...     asyncio.run(check())

With pytest::

    @pytest.mark.parametrize("check", storage_contract(lambda: RedisStorage("redis://localhost/9")), ids=str)
    async def test_redis_keeps_the_contract(check: ContractCheck) -> None:
        await check()
"""

from agents.testing.bus import bus_contract as bus_contract
from agents.testing.contract import ContractCheck as ContractCheck
from agents.testing.storage import storage_contract as storage_contract
