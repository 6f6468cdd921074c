"""The broker's end of the fork server: starts it, asks it for workers, hears of their ends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

_ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # mimalloc reserves a gigabyte, which the limit of memory would count
    "POLARS_MAX_THREADS": "1",  # a worker is one seat of the pool, and takes one processor
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "RUST_BACKTRACE": "0",
}
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended: its exit code, negative for a signal, None when nobody could tell; and its last words."""

    code: int | None = None
    errors: str = ""

    @property
    def out_of_memory(self) -> bool:
        """Whether an allocation failed where Python does not see it, which ends the process."""
        return "memory allocation of" in self.errors or "bad_alloc" in self.errors


class ForkServer:
    """One process that forks workers for all pools. It is started anew when it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._exits: dict[int, asyncio.Future[Exit]] = {}
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process, when it runs."""
        return self._process.pid if self._process is not None else None

    async def fork(self, number: int, file: socket.socket, memory: int, nice: int) -> asyncio.Future[Exit]:
        """Starts worker ``number`` on its end of a socket; the future tells how it ends."""
        async with self._starting:
            if self._control is None:
                await self._start()
        assert self._control is not None
        command = json.dumps({"fork": number, "memory": memory, "nice": nice}).encode()
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._exits[number] = ended
        try:
            socket.send_fds(self._control, [command], [file.fileno()])
        except OSError:
            self._lost()
        return ended

    def kill(self, number: int) -> None:
        """Kills a worker; nothing happens when it has ended."""
        if self._control is None or number not in self._exits:
            return
        try:
            self._control.send(json.dumps({"kill": number}).encode())
        except OSError:
            self._lost()

    async def close(self) -> None:
        """Ends all workers and the process, and waits until it is gone."""
        self._closed = True
        process = self._process
        self._lost()
        if process is not None:
            await asyncio.to_thread(_wait, process)

    async def _start(self) -> None:
        if self._closed:
            raise ConnectionError("the fork server is closed")
        if self._process is not None:
            await asyncio.to_thread(_wait, self._process)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = await asyncio.to_thread(_start, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    def _hear(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost()
            return
        report = json.loads(message)
        self._tell(report["exited"], Exit(report["code"], report["errors"]))

    def _lost(self) -> None:
        """The process is gone or is told to go: it ends when its socket does, and the kernel ends its workers."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        if self._process is not None and self._process.poll() is None and not self._closed:
            self._process.kill()
        for number in list(self._exits):
            self._tell(number, Exit())

    def _tell(self, number: int, end: Exit) -> None:
        ended = self._exits.pop(number, None)
        if ended is not None and not ended.done():
            ended.set_result(end)


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "broker.aggregation.zygote", str(control.fileno())]
    environment = {**os.environ, **_ENVIRONMENT}
    return subprocess.Popen(command, env=environment, pass_fds=[control.fileno()], stdin=subprocess.DEVNULL)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
