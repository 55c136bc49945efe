"""The service with nothing but its hot store, in this process, on a free port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from connectors.framed import FramedLog
from connectors.listen import Server
from decision_engine.service.app import Receiver, create_app
from decision_engine.service.people import People
from decision_engine.service.publish import Publishing
from decision_engine.service.store import HotStore

API_KEY = "the-key-of-the-service"


def with_hot_store(project: Path, url: str) -> None:
    """Uncomment the hot store in a new project's file, at this address."""
    path = project / "nextmove.yml"
    text = path.read_text()
    block = text[text.index("  # hot_store:") : text.index("\n# The hot path, `nextmove serve`")]
    active = block.replace("  # ", "  ").replace("http://127.0.0.1:8801", url)
    path.write_text(text.replace(block, active))


@dataclass(frozen=True)
class HotService:
    """Where it listens, and the store it fills."""

    url: str
    store: HotStore
    receiver: Receiver


@contextmanager
def hot_service(folder: Path, port: int = 0) -> Iterator[HotService]:
    """Serving until the end of the block; `folder` holds the store and the log."""
    listening: list[str] = []
    ready = threading.Event()

    def is_ready(url: str) -> None:
        listening.append(url)
        ready.set()

    with FramedLog(folder / "inbound") as log, HotStore(folder / "hot") as store:
        receiver = Receiver(log)
        app = create_app(receiver, [Publishing(receiver, store, People(store), API_KEY)])
        config = uvicorn.Config(app, port=port, lifespan="off", log_level="warning")
        server = Server(config, is_ready)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
        thread.start()
        try:
            assert ready.wait(10), "it does not listen"
            yield HotService(listening[0], store, receiver)
        finally:
            server.should_exit = True
            thread.join()
