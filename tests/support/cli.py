"""Commands as users run them, in processes of their own; and the demonstration as a broker to run them against."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes import left_of
from tests.support.server import ROOT

_OWN = ("QUERYBROKER", "DATABASE_URL", "PG", "OTEL", "COLUMNS", "XDG_")
_ADDRESS = re.compile(r"^Broker +(\S+), log", re.MULTILINE)
_DSN = re.compile(r"psql '(postgresql://[^']+)'")
SERVING = "Serving."


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without what would change a command, and with `more`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return {**kept, "PATH": path, **more}


def run_broker(
    *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs ``broker`` with the arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        cwd=cwd,
        env=environment(**(env or {})),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@dataclass(frozen=True)
class Demo:
    """A demonstration that serves; ``shown`` is what it has printed until then."""

    address: str
    dsn: str
    home: Path
    process: subprocess.Popen[str]
    shown: str

    def broker(self, *arguments: str, cwd: Path = ROOT, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a client command against it."""
        return run_broker(*arguments, cwd=cwd, env={"QUERYBROKER_ADDRESS": self.address}, stdin=stdin)

    def family(self) -> list[psutil.Process]:
        """All processes that belong to it, itself included."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def child(self, command: str) -> psutil.Process:
        """The process of ``broker serve`` or ``broker worker``."""
        direct = psutil.Process(self.process.pid).children()
        return next(process for process in direct if command in process.cmdline())

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=100)


def start_demo(home: Path, *options: str) -> subprocess.Popen[str]:
    """Starts the demonstration with its files below ``home``."""
    return subprocess.Popen(
        [sys.executable, "-m", "broker", "demo", "--dir", str(home), *options],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def serving_demo(home: Path, *options: str) -> Iterator[Demo]:
    """A demonstration that serves on a free port; nothing of it is left afterwards."""
    process = start_demo(home, "--port", "0", *options)
    lines: list[str] = []
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if line.startswith(SERVING):
                break
        shown = "".join(lines)
        address, dsn = _ADDRESS.search(shown), _DSN.search(shown)
        if address is None or dsn is None:
            raise RuntimeError(f"the demonstration did not start:\n{shown}")
        demo = Demo(address[1], dsn[1], home, process, shown)
        family = demo.family()
        try:
            yield demo
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            alive = left_of(family, 60)
            for left in alive:
                left.kill()
            process.wait(timeout=10)
    assert not alive, f"left running: {alive}"
