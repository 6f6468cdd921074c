"""The demonstration as a user runs it: the tour, its ends in order and out of order."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support import processes
from tests.support.cli import Demo, run_broker, serving_demo, start_demo


def left_of(home: Path) -> list[list[str]]:
    """Command lines of processes that name the directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(home) in word for word in words):
            found.append(words)
    return found


def test_it_shows_a_dashboard_and_what_to_try_next(demo: Demo) -> None:
    for part in (
        "Airlines by delay",
        "(other)",
        "live · ",
        "5 panels in ",
        "one snapshot",
        "rollup refresh flights.daily",
        "rollup · ",
        "grpcurl",
        "explore",
    ):
        assert part in demo.shown


def test_the_tour_ends_well_and_leaves_nothing_running(home: Path) -> None:
    process = start_demo(home, "--once", "--rows", "5000", "--port", "0")
    shown, _ = process.communicate(timeout=200)
    assert process.returncode == 0, shown
    for part in ("SHA-256", "verified", "equal to the exploration's, row by row", "rows/s", "fingerprint"):
        assert part in shown
    assert not left_of(home)


def test_a_second_start_finds_the_data_of_the_first(home: Path) -> None:
    with serving_demo(home, "--rows", "1000") as first:
        assert "1,000 flights, loaded" in first.shown
        assert first.stop(signal.SIGINT) == 0
    with serving_demo(home, "--rows", "1000") as second:
        assert "1,000 flights, there from before" in second.shown
        assert second.stop(signal.SIGTERM) == 0


def test_a_directory_in_use_is_named_with_its_user(demo: Demo) -> None:
    result = run_broker("demo", "--once", "--dir", str(demo.home))
    assert result.returncode == 1
    assert f"in use by process {demo.process.pid}" in result.stdout
    assert demo.broker("ping").returncode == 0


def test_a_port_in_use_is_named_before_anything_starts(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_broker("demo", "--once", "--dir", str(home), "--port", str(port))
    assert result.returncode == 1
    assert f"Port {port} is in use" in result.stdout
    assert not list(home.iterdir())


@pytest.mark.parametrize(("command", "name"), [("serve", "broker"), ("worker", "worker")])
def test_a_child_that_dies_ends_the_demonstration_with_its_log(home: Path, command: str, name: str) -> None:
    with serving_demo(home, "--rows", "1000") as demo:
        demo.child(command).kill()
        assert demo.process.wait(timeout=100) == 1
        assert demo.process.stdout is not None
        assert f"The {name} was ended by SIGKILL" in demo.process.stdout.read()
    assert not left_of(home)


def test_nothing_outlives_a_demonstration_that_was_killed(home: Path) -> None:
    with serving_demo(home, "--rows", "1000") as demo:
        family = demo.family()
        assert len(family) > 5  # it, PostgreSQL with its supervisor, broker, worker, their processes
        demo.process.kill()
        assert not processes.left_of(family, 60)


def test_ctrl_c_while_it_starts_is_an_interruption(home: Path) -> None:
    process = start_demo(home, "--rows", "1000", "--port", "0")
    log = home / "postgres" / "postgres.log"
    while not log.exists():  # PostgreSQL is being made
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Stopped." in shown
    assert not left_of(home)
