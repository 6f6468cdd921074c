"""What compose.yaml starts, started here: the same commands, variables and files, over a database made by shop.sql."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from broker.telemetry.document import prometheus_name
from querybroker import QueryBrokerError, SyncClient, query
from tests.deploy import compose, dashboard, dockerfile
from tests.support.pg import Databases, run_sync
from tests.support.telemetry import OF_TROUBLE

KEY = "qb_key-of-the-dashboards"
HERE = {"server.host": "127.0.0.1", "server.port": "0", "server.drain.notice": "0"}
SECONDS = 60


@dataclass(frozen=True)
class Stack:
    """The processes; ``run`` runs a command of the broker like ``docker compose exec broker``."""

    environment: Mapping[str, str]
    address: str
    metrics: tuple[str, ...]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, "QUERYBROKER_ADDRESS": self.address}
        return broker(command, environment)


def broker(command: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "broker", *command]
    return subprocess.run(line, env=environment, check=False, capture_output=True, text=True, timeout=SECONDS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def on_this_machine(service: compose.Service, dsn: str, results: Path) -> dict[str, str]:
    """The variables of a container, with the places of this machine in place of those in the container."""
    image = {name: value for name, value in dockerfile.pairs("ENV").items() if name != "PATH"}
    variables = {**image, **service.environment}
    places = {
        target: str(results if not source.startswith(".") else compose.FOLDER / source)
        for target, source in service.mounts.items()
    }
    moved = {name: places.get(value, value) for name, value in variables.items()}
    database = urlsplit(dsn)
    address = f"postgresql://{database.username}@{database.hostname}:{database.port}{database.path}"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **moved, "DATABASE_URL": address}


@contextmanager
def running(command: tuple[str, ...], environment: Mapping[str, str], log: Path) -> Iterator[tuple[str, str]]:
    """A process that serves; gives its address and that of its metrics, and expects it to end in order."""
    metrics = f"127.0.0.1:{free_port()}"
    host, port = metrics.split(":")
    settings = {**HERE, "telemetry.prometheus_host": host, "telemetry.prometheus_port": port}
    reader, writer = os.pipe()
    line = [sys.executable, "-m", "broker", *command, "--ready-fd", str(writer)]
    line += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with log.open("wb") as output, os.fdopen(reader) as ready:
        process = subprocess.Popen(line, env=environment, stdout=output, stderr=output, pass_fds=[writer])
        os.close(writer)
        try:
            told = ready.readline()  # ends without a line when the process dies
            assert told, log.read_text()
            yield json.loads(told).get("address", ""), metrics
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def stack(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    dsn = run_sync(databases.create())
    given = {
        "POSTGRES_PASSWORD": urlsplit(dsn).password or "",
        "API_KEY_SHA256": hashlib.sha256(KEY.encode()).hexdigest(),
    }
    services = compose.services(given)
    (script,) = [source for source in services["postgres"].mounts.values() if source.endswith(".sql")]
    run_sync(execute(dsn, (compose.FOLDER / script).read_text()))
    environments = {name: on_this_machine(services[name], dsn, home / "results") for name in compose.OURS}
    migrated = broker(services["migrate"].command, environments["migrate"])
    assert migrated.returncode == 0, migrated.stderr
    with ExitStack() as exits:
        started = [
            exits.enter_context(running(services[name].command, environments[name], home / f"{name}.log"))
            for name in ("broker", "worker")
        ]
        yield Stack(environments["broker"], started[0][0], tuple(metrics for _, metrics in started))


async def execute(dsn: str, script: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


def test_the_health_check_passes(stack: Stack) -> None:
    _, *command = dockerfile.command("HEALTHCHECK")
    outcome = stack.run(*command)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("service", ["liveness", "querybroker.v1.QueryService", "querybroker.v1.JobService"])
def test_a_probe_passes(stack: Stack, service: str) -> None:
    outcome = stack.run("ping", "--service", service)
    assert outcome.returncode == 0, outcome.stderr


def test_a_caller_with_the_key_gets_answers(stack: Stack) -> None:
    with SyncClient(stack.address, api_key=KEY) as client:
        answer = client.ask(query("orders", measures=["orders", "revenue"], dimensions="country"))
    assert sum(answer.column("orders")) == 200_000
    assert len(answer) == 7


def test_a_caller_without_the_key_is_refused(stack: Stack) -> None:
    with SyncClient(stack.address) as client, pytest.raises(QueryBrokerError) as caught:
        client.ask(query("orders", measures="orders"))
    assert caught.value.code == "UNAUTHENTICATED"


def test_the_broker_gives_out_what_the_worker_has_written(stack: Stack, tmp_path: Path) -> None:
    asked = ("submit", "orders", "-m", "orders", "-b", "country", "--format", "csv", "-o", str(tmp_path))
    outcome = stack.run(*asked, "--api-key", KEY)
    assert outcome.returncode == 0, outcome.stderr
    (file,) = tmp_path.rglob("*.csv")
    assert len(file.read_text().splitlines()) == 1 + 7


def test_the_commands_of_the_page_work(stack: Stack) -> None:
    page = (dockerfile.ROOT / "docs/deployment.md").read_text()
    commands = [shlex.split(line)[2:] for line in page.splitlines() if line.startswith("shop broker ")]
    assert {command[0] for command in commands} == {"query", "submit"}
    for command in commands:
        outcome = stack.run(*command, "--api-key", KEY)
        assert outcome.returncode == 0, outcome.stderr


def test_everything_on_the_dashboard_is_measured(stack: Stack) -> None:
    with SyncClient(stack.address, api_key=KEY) as client:
        client.ask(query("orders", measures="orders"))
        client.jobs.wait(client.jobs.submit(query("orders", measures="orders")).name)
    served = ""
    for address in stack.metrics:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=SECONDS) as response:
            served += response.read().decode()
    names = {line.partition("{")[0].partition(" ")[0] for line in served.splitlines()}
    later = {prometheus_name(metric) for metric in OF_TROUBLE}
    assert {name for name in dashboard.metrics() if not name.startswith(tuple(later))} <= names
