"""A small service: orders come in over HTTP, are worked on by a pool of actors, and are written into a book.

``uvicorn examples.orders:app`` serves it. Its chaos test is in ``docs/chaos-testing.md``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

from supervision import Actor, CallError, ChildSpec, Message, Request, Runtime, Supervisor, handle

WORKERS = 4

#: The database of this service: it outlives the workers.
Book = dict[str, int]


class Place(Request[int]):
    """An order to be placed. The answer is its number."""

    order: str


class Worker(Actor):
    """Places orders: writes each into the book before it answers. An order that comes again keeps its number."""

    def __init__(self, book: Book) -> None:
        self.book = book

    @handle
    async def place(self, request: Place) -> int:
        """Place an order."""
        await self.runtime.sleep(0.05)  # stands for what the work is
        return self.book.setdefault(request.order, len(self.book) + 1)


class Save(Message):
    """The order to oneself to write down what was placed."""


class ForgetfulWorker(Worker):
    """The same, but wrong: it answers at once, and writes a little later, to be faster."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.unsaved: Book = {}

    def init(self) -> None:
        """Write twice a second."""
        self.send_interval(0.5, Save())

    @handle
    async def place(self, request: Place) -> int:
        """Place an order."""
        await self.runtime.sleep(0.05)
        return self.unsaved.setdefault(request.order, len(self.book) + len(self.unsaved) + 1)

    @handle
    def save(self, message: Save) -> None:
        """Write down what was placed."""
        self.book.update(self.unsaved)
        self.unsaved.clear()


def pool(book: Book, worker: type[Worker] = Worker) -> list[ChildSpec]:
    """Return the specifications of the workers."""
    return [ChildSpec(n, worker, (book,), name=f"worker-{n}") for n in range(WORKERS)]


def application(runtime: Runtime) -> FastAPI:
    """Return the web application of a runtime in which the workers are."""
    api = FastAPI()

    @api.post("/orders/{order}")
    async def place(order: str) -> int:
        worker = runtime.name(f"worker-{len(order) % WORKERS}")
        try:
            return await worker.call(Place(order), timeout=2.0)
        except CallError as error:
            raise HTTPException(503, str(error), {"retry-after": "1"}) from error

    return api


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Run the workers as long as the service."""
    async with Runtime() as runtime:
        await runtime.spawn(Supervisor, pool({}), name="orders")
        api.mount("/", application(runtime))
        yield


app = FastAPI(lifespan=lifespan)
