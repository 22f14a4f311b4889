"""A hostile network: a TCP proxy in front of a server, with changing weather. It runs until its process ends.

Bytes are never altered; the weather decides when they pass, how many do, and when a connection breaks.
"""

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress
from typing import Final

WEATHERS: Final = ("clear", "slow", "narrow", "resets", "503", "cut")
CHUNK_BYTES: Final = 1 << 14
NARROW_BYTES_S: Final = 60_000
STORM_BODY: Final = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>a storm</Message></Error>"
STORM: Final = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(STORM_BODY), STORM_BODY)
)


class Proxy:
    """Listens on a free port of this machine, in its own thread.

    Args:
        port: The server's port, on this machine.
        seed: Decides which connections are hit.

    Attributes:
        url: The proxy's endpoint.
        weather: One of WEATHERS; may be set at any time.
        hits: Number of disturbances, by kind.
    """

    def __init__(self, port: int, *, seed: int) -> None:
        self._server_port = port
        self._rng = random.Random(seed)
        self.weather = "clear"
        self.hits: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        ready: list[int] = []
        started = threading.Event()
        threading.Thread(target=self._serve, args=(ready, started), daemon=True).start()
        started.wait()
        self.url = f"http://127.0.0.1:{ready[0]}"

    def _serve(self, ready: list[int], started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._meet, "127.0.0.1", 0))
        ready.append(server.sockets[0].getsockname()[1])
        started.set()
        self._loop.run_forever()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        with suppress(OSError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            there = asyncio.create_task(self._pass_on(reader, up_writer, writer))
            try:
                await self._pass_back(up_reader, writer)
            finally:
                there.cancel()
                up_writer.transport.abort()
        writer.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        """Pass on requests: each may be refused before it arrives."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self.weather == "cut":
                    self._hit("cut")
                    back.transport.abort()
                    break
                if self.weather == "503":
                    self._hit("503")
                    back.write(STORM)
                    await back.drain()
                    back.close()
                    break
                await self._linger(len(chunk))
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass back responses: each may be cut short, or never arrive."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self.weather == "cut" or (self.weather == "resets" and self._rng.random() < 0.2):
                    self._hit("answer cut short")
                    writer.write(chunk[: self._rng.randrange(len(chunk))])
                    writer.transport.abort()
                    return
                await self._linger(len(chunk))
                writer.write(chunk)
                await writer.drain()

    async def _linger(self, size_bytes: int) -> None:
        if self.weather == "slow":
            self._hit("delay")
            await asyncio.sleep(self._rng.uniform(0.05, 0.8))
        elif self.weather == "narrow":
            self._hit("narrow")
            await asyncio.sleep(size_bytes / NARROW_BYTES_S)

    def _hit(self, what: str) -> None:
        self.hits[what] += 1
