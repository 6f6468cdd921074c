"""init, check-config, migrate, serve on a database of one's own, and the page that promises five minutes for it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent, indent

import asyncpg
import pytest
import yaml

from tests.support.cli import environment, run_broker
from tests.support.pg import Databases, run_sync
from tests.support.server import FLIGHTS_MODEL, ROOT

PAGE = (ROOT / "docs/your-own-database.md").read_text("utf-8")
SHOP = """
    CREATE TABLE customers (id bigint PRIMARY KEY, country text);
    CREATE TYPE order_status AS ENUM ('open', 'paid');
    CREATE TABLE orders (
        id bigint PRIMARY KEY,
        customer_id bigint NOT NULL REFERENCES customers,
        ordered_at timestamptz NOT NULL,
        status order_status NOT NULL,
        amount numeric(12, 2)
    );
    INSERT INTO customers VALUES (1, 'DE'), (2, NULL);
    INSERT INTO orders SELECT i, 1 + i % 2, now() - i * interval '1 hour', 'paid', i FROM generate_series(1, 100) i;
    ANALYZE;
"""


@pytest.fixture(scope="module")
def shop(databases: Databases) -> Iterator[str]:
    dsn = run_sync(databases.create())

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(SHOP)
        await connection.close()

    run_sync(fill())
    yield dsn
    run_sync(databases.drop(dsn))


def test_from_a_database_to_the_first_answer(shop: str, tmp_path: Path) -> None:
    own = {"DATABASE_URL": shop}
    proposed = run_broker("init", cwd=tmp_path, env=own)
    assert proposed.returncode == 0, proposed.stderr
    assert shop not in (tmp_path / "querybroker.yaml").read_text()  # the password stays out of the file
    checked = run_broker("check-config", "--database", cwd=tmp_path, env=own)
    assert checked.returncode == 0, checked.stderr
    assert "It fits the database." in checked.stdout
    assert "applied 0001_jobs" in run_broker("migrate", cwd=tmp_path, env=own).stderr
    assert "up to date" in run_broker("migrate", cwd=tmp_path, env=own).stderr
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "broker",
            "serve",
            "--set",
            "server.port=0",
            "--set",
            "telemetry.prometheus_port=0",
        ],
        cwd=tmp_path,
        env=environment(**own),
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            ready = next(line for line in server.stderr if line.startswith("broker: serving at "))
            client = {"QUERYBROKER_ADDRESS": ready.split()[3].rstrip(".")}
            assert run_broker("ping", "--service", "querybroker.v1.JobService", env=client).returncode == 0
            asked = ("orders", "-m", "orders,total_amount", "-b", "customers_country")
            answer = run_broker("query", *asked, "--format", "json", env=client)
            rows = [json.loads(line) for line in answer.stdout.splitlines()]
            assert rows == [
                {"customers_country": "DE", "orders": 50, "total_amount": "2550.00"},
                {"customers_country": None, "orders": 50, "total_amount": "2500.00"},
            ]
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0


def test_init_does_not_replace_a_file_and_says_what_it_lacks(shop: str, tmp_path: Path) -> None:
    (tmp_path / "querybroker.yaml").write_text("mine")
    again = run_broker("init", cwd=tmp_path, env={"DATABASE_URL": shop})
    assert (again.returncode, (tmp_path / "querybroker.yaml").read_text()) == (2, "mine")
    assert run_broker("init", "--force", "orders", cwd=tmp_path, env={"DATABASE_URL": shop}).returncode == 0
    assert list(yaml.safe_load((tmp_path / "querybroker.yaml").read_text())["datasets"]) == ["orders"]
    assert "no readable table" in run_broker("init", "-o", "-", "oders", env={"DATABASE_URL": shop}).stderr
    assert "Set DATABASE_URL" in run_broker("init", "-o", "-").stderr
    away = run_broker("init", "-o", "-", "--dsn", "postgresql://127.0.0.1:1/shop")
    assert (away.returncode, "No connection to the database" in away.stderr) == (6, True)


def test_the_page_of_the_five_minutes_shows_a_model_that_works(shop: str, tmp_path: Path) -> None:
    model, caller, policy = map(dedent, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "querybroker.yaml").write_text(model)
    checked = run_broker("check-config", "--database", "--strict", cwd=tmp_path, env={"DATABASE_URL": shop})
    assert checked.returncode == 0, checked.stderr
    whole = (
        model + indent(policy.replace("tenant_id", "status::text"), " " * 4) + caller.replace("…", "0" * 64)
    )
    (tmp_path / "querybroker.yaml").write_text(whole)
    checked = run_broker("check-config", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_errors_of_a_configuration_have_their_place_and_their_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("datasets:\n  orders:\n    tabel: orders\n    measures: {n: cuont}\n")
    for command in ("check-config", "serve", "worker", "migrate"):
        result = run_broker(command, "-c", str(file))
        assert result.returncode == 3, command
        assert f"{file}:3:5: error: datasets.orders.tabel: " in result.stderr
        assert "did you mean 'count'?" in result.stderr
    assert run_broker("check-config", "-c", str(tmp_path / "none.yaml")).returncode == 3


def test_warnings_are_errors_where_one_is_strict(tmp_path: Path) -> None:
    file = tmp_path / "open.yaml"
    file.write_text("server: {host: 0.0.0.0}\ndatasets: {orders: {table: orders, measures: {n: count}}}\n")
    assert run_broker("check-config", "-c", str(file)).returncode == 0
    strict = run_broker("check-config", "-c", str(file), "--strict")
    assert (strict.returncode, "1 warning" in strict.stderr) == (3, True)


def test_a_model_that_does_not_fit_its_database_is_refused(shop: str, tmp_path: Path) -> None:
    file = tmp_path / "misfit.yaml"
    file.write_text(
        "datasets: {orders: {table: orders, dimensions: {stauts: string}, measures: {n: count}}}\n"
    )
    result = run_broker("check-config", "-c", str(file), "--database", env={"DATABASE_URL": shop})
    assert result.returncode == 3
    assert "stauts" in result.stderr


def test_the_schema_for_editors_is_the_one_of_the_documentation() -> None:
    assert run_broker("check-config", "--schema").stdout == (ROOT / "docs/querybroker.schema.json").read_text(
        "utf-8"
    )


async def test_the_printed_migrations_can_be_run_by_hand(databases: Databases, tmp_path: Path) -> None:
    dsn = await databases.create()
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(run_broker("migrate", "--print").stdout)
    finally:
        await connection.close()
    again = run_broker("migrate", "-c", str(FLIGHTS_MODEL), env={"DATABASE_URL": dsn})
    assert "jobs: up to date." in again.stderr
    await databases.drop(dsn)


def test_a_port_that_is_taken_is_said_in_one_line(shop: str, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--set", f"server.port={port}", "--set", "telemetry.prometheus_port=0")
        result = run_broker("serve", "-c", str(FLIGHTS_MODEL), *options, env={"DATABASE_URL": shop})
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"broker: cannot listen on 127.0.0.1:{port}")
