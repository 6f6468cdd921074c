"""Watchers for the benchmark ``watch``, in a process of their own: `watchers FILE ADDRESS OTHER`.

FILE has the names of the jobs, one a line. Prints ``ready`` when every watcher has had its first event. Then, for a
line of input ``FROM TO`` (seconds of the wall clock), the milliseconds from a change to its event, of changes made
between them; and when every watch has ended, how many saw the final state. A watcher whose broker is lost goes on at
the other one from the last revision that it has seen.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from broker.runtime import collector
from querybroker.v1 import job_pb2, job_service_pb2

CHANNELS = 8
CHANGED = re.compile(rb"t=(\d+\.\d+);")
METHOD = "/querybroker.v1.JobService/WatchJob"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


class Crowd:
    """All watchers of the process. Events are looked at as bytes: what is measured is the broker, not its clients."""

    def __init__(self, names: list[str], addresses: list[str]) -> None:
        self.names = names
        self.seen: list[tuple[float, float]] = []
        self.final = 0
        self.waiting = len(names)
        self.ready = asyncio.Event()
        self.calls: list[list[Any]] = [
            [
                grpc.aio.insecure_channel(address, options=OPTIONS).unary_stream(
                    METHOD, request_serializer=None, response_deserializer=None
                )
                for _ in range(CHANNELS)
            ]
            for address in addresses
        ]

    async def run(self) -> None:
        """Until every watch has ended."""
        async with asyncio.TaskGroup() as tasks:
            for number, name in enumerate(self.names):
                tasks.create_task(self.watch(number, name))
                if number % 50 == 49:
                    await asyncio.sleep(0.05)

    async def watch(self, number: int, name: str) -> None:
        """One watcher."""
        where, revision, last = 0, 0, b""
        while True:
            request = job_service_pb2.WatchJobRequest(name=name, after_revision=revision).SerializeToString()
            call: Any = self.calls[where][number % CHANNELS](request)
            try:
                async for last in call:
                    now = time.time()
                    if (found := CHANGED.search(last)) is not None:
                        self.seen.append((float(found[1]), now))
                    if not revision:
                        revision = 1
                        self.waiting -= 1
                        if not self.waiting:
                            self.ready.set()
            except grpc.aio.AioRpcError:
                where = 1 - where
                await asyncio.sleep(random.uniform(0.0, 2.0))  # clients wait before they come again
            else:
                job = job_service_pb2.WatchJobResponse.FromString(last).job
                if job.state == job_pb2.JOB_STATE_SUCCEEDED:
                    self.final += 1
                    return
            if last:
                revision = max(1, job_service_pb2.WatchJobResponse.FromString(last).job.revision)


async def main(file: str, *addresses: str) -> None:
    """Watches."""
    names = await asyncio.to_thread(Path(file).read_text)
    crowd = Crowd(names.split(), list(addresses))
    collector.settle()
    running = asyncio.create_task(crowd.run())
    await crowd.ready.wait()
    print("ready", flush=True)
    since, until = map(float, (await asyncio.to_thread(sys.stdin.readline)).split())
    times = [1000 * (now - then) for then, now in crowd.seen if since <= then < until]
    print(json.dumps(times), flush=True)
    await running
    print(crowd.final, flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
