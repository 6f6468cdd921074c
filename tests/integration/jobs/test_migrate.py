"""Migrations: applied once, by one process at a time, and never rewritten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import asyncpg
import pytest

from broker.adapters import migrate as module
from broker.adapters.migrate import MigrationError, check_migrated, migrate, migrations, missing, render
from broker.adapters.pg_jobs_pool import open_job_database
from broker.domain.errors import BrokerError, ErrorReason
from tests.conftest import FreshDatabase
from tests.support.pg import Connection

KNOWN = [m.number for m in migrations("jobs")]


async def applied(connection: Connection) -> list[int]:
    rows = await connection.fetch(
        "SELECT number FROM broker.migration WHERE component = 'jobs' ORDER BY number"
    )
    return [row["number"] for row in rows]


async def test_what_is_missing_is_applied_once(fresh_database: FreshDatabase) -> None:
    dsn = await fresh_database()
    assert [m.number for m in await migrate(dsn, "jobs")] == KNOWN
    assert await migrate(dsn, "jobs") == ()
    await check_migrated(dsn, "jobs")


async def test_numbers_have_no_gaps() -> None:
    assert list(range(1, len(KNOWN) + 1)) == KNOWN


async def test_concurrent_processes_apply_each_migration_once(fresh_database: FreshDatabase) -> None:
    dsn = await fresh_database()
    done = await asyncio.gather(*(migrate(dsn, "jobs") for _ in range(6)))
    assert [m.number for made in done for m in made] == KNOWN


async def test_a_missing_migration_is_named_with_the_way_out(fresh_database: FreshDatabase) -> None:
    dsn = await fresh_database()
    with pytest.raises(MigrationError, match=r"0001_jobs.*broker migrate"):
        await check_migrated(dsn, "jobs")
    await migrate(dsn, "jobs")
    connection = await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM broker.migration WHERE number = 1")
    await connection.close()
    with pytest.raises(MigrationError, match="0001_jobs"):
        await check_migrated(dsn, "jobs")


@pytest.fixture
async def role(fresh_database: FreshDatabase) -> AsyncIterator[tuple[Connection, str, str]]:
    """The owner of a new database, a role that may do nothing there, and its DSN."""
    dsn = await fresh_database()
    name = f"role_{dsn.rpartition('_')[2][:12]}"
    owner = await asyncpg.connect(dsn)
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield owner, name, f"postgresql://{name}:secret@{dsn.rpartition('@')[2]}"
    await owner.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
    await owner.close()


async def test_who_owns_the_schema_needs_no_other_right(role: tuple[Connection, str, str]) -> None:
    owner, name, dsn = role
    with pytest.raises(MigrationError, match="owns the schema"):
        await migrate(dsn, "jobs")
    await owner.execute(f"CREATE SCHEMA broker AUTHORIZATION {name}")
    await owner.execute(
        f"ALTER ROLE {name} SET statement_timeout = 1; ALTER ROLE {name} SET lock_timeout = 1"
    )
    assert [m.number for m in await migrate(dsn, "jobs")] == KNOWN


async def test_who_may_not_use_the_tables_or_not_write_is_told_so(role: tuple[Connection, str, str]) -> None:
    owner, name, dsn = role
    await owner.execute(f"CREATE SCHEMA broker AUTHORIZATION {name}")
    await migrate(dsn, "jobs")
    for deed, reason, told in (
        (
            "ALTER ROLE {} SET default_transaction_read_only = on",
            ErrorReason.STORE_UNAVAILABLE,
            "takes no writes",
        ),
        ("ALTER SCHEMA broker OWNER TO CURRENT_USER", ErrorReason.STORE_REJECTED, "own the schema"),
    ):
        await owner.execute(deed.format(name))
        async with open_job_database(dsn, 1, Random(1).random) as database:
            with pytest.raises(BrokerError, match=told) as caught:
                await database.fetch("DELETE FROM broker.worker")
        assert caught.value.reason is reason
    with pytest.raises(MigrationError, match="owns the schema"):
        await missing(dsn, "jobs")


async def test_the_printed_script_does_what_the_command_does(fresh_database: FreshDatabase) -> None:
    printed, done = await fresh_database(), await fresh_database()
    connection = await asyncpg.connect(printed)
    await connection.execute(render("jobs"))
    assert await applied(connection) == KNOWN
    await check_migrated(printed, "jobs")
    assert await migrate(printed, "jobs") == ()
    await migrate(done, "jobs")
    other = await asyncpg.connect(done)
    shape = """SELECT table_name, column_name, data_type, column_default FROM information_schema.columns
               WHERE table_schema = 'broker' ORDER BY 1, ordinal_position"""
    assert await connection.fetch(shape) == await other.fetch(shape)
    await connection.close()
    await other.close()


async def test_a_file_that_was_applied_must_not_change(
    fresh_database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await fresh_database()
    await migrate(dsn, "jobs")
    first, *rest = migrations("jobs")
    monkeypatch.setattr(module, "migrations", lambda _: (replace(first, sql=first.sql + " "), *rest))
    with pytest.raises(MigrationError, match="0001_jobs differs"):
        await migrate(dsn, "jobs")


async def test_an_older_version_refuses_a_newer_database(
    fresh_database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await fresh_database()
    await migrate(dsn, "jobs")
    monkeypatch.setattr(module, "migrations", lambda _: ())
    with pytest.raises(MigrationError, match="newer version"):
        await check_migrated(dsn, "jobs")


async def test_a_failing_migration_leaves_nothing_of_itself(
    fresh_database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await fresh_database()
    bad = module.Migration("jobs", len(KNOWN) + 1, "bad", "CREATE TABLE broker.half (); SELECT 1 / 0;")
    monkeypatch.setattr(module, "migrations", lambda _: (*migrations("jobs"), bad))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(dsn, "jobs")
    connection = await asyncpg.connect(dsn)
    assert await applied(connection) == KNOWN
    assert await connection.fetchval("SELECT to_regclass('broker.half')") is None
    await connection.close()


async def test_a_database_that_is_away_is_said_to_be(fresh_database: FreshDatabase) -> None:
    with pytest.raises(BrokerError) as caught:
        await migrate("postgresql://nobody@127.0.0.1:1/none", "jobs")
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
