"""A TCP proxy that behaves badly on request: refuses, cuts, delays, or answers S3 requests with 503."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_PIECE = 65536
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FaultProxy:
    """Passes bytes on between a port of its own and a server.

    Attributes
    ----------
    delay_s : float
        Waited before each piece is passed on.
    cut_after : int or None
        Bytes that are passed on, both ways; then every connection is cut, until `heal`.
    errors : int
        How many of the next connections are answered with 503.
    passed : int
        Bytes so far.
    connections : int
        That were accepted so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.delay_s, self.cut_after, self.errors, self.passed = 0.0, None, 0, 0
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.listen()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def listen(self) -> None:
        """Accept connections, on the same port as before."""

        async def start() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

        if self._server is None:
            self._run(start())

    def refuse(self) -> None:
        """Cut every connection and refuse new ones."""

        async def stop() -> None:
            if self._server is not None:
                self._server.close()
            self._server = None
            self._abort()

        self._run(stop())

    def heal(self) -> None:
        """Pass everything on again."""
        self.delay_s, self.cut_after, self.errors, self.passed = 0.0, None, 0, 0
        self.listen()

    def close(self) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.errors > 0:
            self.errors -= 1
            return await self._slow_down(reader, writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            return writer.transport.abort()
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        self._writers -= {writer, there_writer}
        return None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_PIECE):
                await asyncio.sleep(self.delay_s)
                self.passed += len(data)
                if self.cut_after is not None and self.passed > self.cut_after:
                    self._abort()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    async def _slow_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0
        )
        if b"expect: 100-continue" not in head.lower():
            await reader.readexactly(length)
        writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n")
        body = b"" if head.startswith(b"HEAD ") else _SLOW_DOWN
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(_SLOW_DOWN), body))
        await writer.drain()
        writer.close()
