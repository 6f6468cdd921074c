"""The tour of the demonstration: the commands that a newcomer would type, run for real, with what they print.

Every step is a command of this program in a process of its own, shown before it runs, so what is shown can be copied.
At the end the exported file is read back and compared with what the exploration streamed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import click
from rich.console import Console

_DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
_DETAIL: Final = ("flights", "-m", "flights,miles,dep_delay", "-b", "carrier,dest,tailnum")
_YEAR: Final = ("-r", "2013", "-g", "hour", "-z", "America/New_York")


class TourError(Exception):
    """A step of the tour failed; what it printed stands above."""


@dataclass(frozen=True, slots=True)
class Tour:
    """Steps against the broker at ``address``; files go into ``home``."""

    console: Console
    address: str
    home: Path

    async def dashboard(self) -> None:
        """Several panels in one call."""
        file = await self._file("dashboard.yaml")
        await self.step("A dashboard: five panels, one call, one snapshot", "query", "-f", file)

    async def rollups(self) -> None:
        """What is aggregated ahead, and what it is worth."""
        await self.step("A rollup: aggregated ahead by the worker", "rollup", "refresh", "flights.daily")
        file = await self._file("rollups.yaml")
        await self.step("A question answered from the rollup, and again from the tables", "query", "-f", file)

    async def rest(self) -> None:
        """Exploration, export and explanation."""
        stream, folder = self.home / "flights.arrow", self.home / "exports"
        await self.step(
            "An exploration: every plane and hour, streamed as Arrow",
            "explore", *_DETAIL, *_YEAR, "--format", "arrow", "-o", shown_path(stream),
        )  # fmt: skip
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self.step(
            "The same as a job: stored, run by the worker, downloaded and verified",
            "submit", *_DETAIL, *_YEAR, "--format", "parquet", "-o", shown_path(folder),
        )  # fmt: skip
        click.echo(await asyncio.to_thread(compare, stream, folder))
        await self.step(
            "An explanation: how a question would be answered",
            "explain", "flights", "-m", "flights,p95_delay", "-b", "airline", "-w", "origin = JFK", "-r", "2013-06",
        )  # fmt: skip

    async def _file(self, name: str) -> str:
        """Puts a file of questions where it can be looked at."""
        source = files("broker.demo").joinpath(name).read_text("utf-8")
        file = self.home / name
        await asyncio.to_thread(file.write_text, source, "utf-8")
        return shown_path(file)

    async def step(self, title: str, *arguments: str) -> None:
        """Shows and runs one command. Raises `TourError` when it does not end well."""
        self.console.rule(f"[bold]{title}", align="left")
        click.echo(f"{click.style('$', fg='green')} {self.shown(*arguments)}\n")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "broker",
            *arguments,
            env={**os.environ, "QUERYBROKER_ADDRESS": self.address},
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            raise
        if code:
            raise TourError(f"`broker {arguments[0]}` ended with exit code {code}, see above.")
        click.echo()

    def shown(self, *arguments: str) -> str:
        """A command as a person would type it here."""
        address = () if self.address == _DEFAULT_ADDRESS else ("--address", self.address)
        return shlex.join([program(), *arguments, *address])


def program() -> str:
    """The shortest name by which the shell finds this program."""
    own = Path(sys.executable).parent / "broker"
    found = shutil.which("broker")
    if found is not None and Path(found) == own:
        return "broker"
    return shown_path(own)


def shown_path(path: Path) -> str:
    """The path, relative to the current directory where that is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def compare(stream: Path, folder: Path) -> str:
    """Reads the exported file back and compares it with the streamed one. Raises `TourError` when they differ."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.memory_map(str(stream)) as source:
        streamed = pa.ipc.open_file(source).read_all()
        exported = pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])
        keys = [(name, "ascending") for name in streamed.column_names]
        if not exported.select(streamed.column_names).sort_by(keys).equals(streamed.sort_by(keys)):
            raise TourError(f"{folder} does not hold the rows of {stream}: this is a bug, please report it.")
        flights = sum(exported.column("flights").to_pylist())
    rows = f"{exported.num_rows:,} rows, {flights:,} flights"
    return f"Read back with pyarrow: {rows}, equal to the exploration's, row by row.\n"


def next_steps(tour: Tour, metrics: str, dsn: str) -> Sequence[str]:
    """What to try while it serves, each line to be copied."""
    grpcurl = (
        'grpcurl -plaintext -d \'{"panels": [{"query": {"dataset": "flights", "measures": ["flights"], '
        f'"dimensions": ["carrier"]}}}}]}}\' {tour.address} querybroker.v1.QueryService/Dashboard'
    )
    lines = [
        tour.shown("datasets", "flights"),
        tour.shown(
            "query",
            "flights",
            "-m",
            "flights,arr_delay",
            "-b",
            "dest_name",
            "--top",
            "5 dest_name by flights",
        ),
        tour.shown("query", "flights", "-m", "flights", "-r", "2013-12", "-g", "week", "--compare", "1 week"),
        tour.shown("query", "flights", "-m", "fligths", "-w", "orign = JFK"),
        tour.shown("explore", *_DETAIL, "-w", "carrier = HA", "--rows", "5"),
        tour.shown("rollup", "status"),
        grpcurl,
    ]
    if metrics:
        lines.append(f"curl -s http://{metrics}/metrics | grep ^querybroker")
    return [*lines, f"psql '{dsn}'"]
