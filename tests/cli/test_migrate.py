"""migrate: tables of jobs in their database, those of rollups in the analytical one where a model declares some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.cli import run_broker
from tests.support.pg import Databases, run_sync

TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'broker' AND tablename LIKE $1"
MODEL = """
datasets:
  sales:
    table: public.sales
    default_time: at
    dimensions:
      at: {type: timestamp, time: true}
      shop: {type: int64}
    measures: {sold: count}
"""
ROLLUPS = """
    rollups:
      by_shop: {dimensions: [shop], measures: [sold]}
"""


@pytest.fixture
def both(databases: Databases) -> Iterator[tuple[str, str]]:
    """The analytical database, whose sessions only read unless they say more, and that of the jobs."""
    dsns = run_sync(databases.create()), run_sync(databases.create())
    run_sync(databases.make_read_only(dsns[0]))
    yield dsns
    for dsn in dsns:
        run_sync(databases.drop(dsn))


def count(dsn: str, name: str) -> int:
    """Tables of the broker with such a name."""

    async def ask() -> int:
        connection = await asyncpg.connect(dsn)
        found: int = await connection.fetchval(TABLES, name)
        await connection.close()
        return found

    return run_sync(ask())


@pytest.mark.parametrize("rollups", [True, False])
def test_each_table_is_made_where_it_belongs(both: tuple[str, str], tmp_path: Path, *, rollups: bool) -> None:
    analytical, jobs = both
    (tmp_path / "querybroker.yaml").write_text(MODEL + ROLLUPS * rollups)
    own = {"DATABASE_URL": analytical, "QUERYBROKER__JOBS__DSN": jobs}
    first = run_broker("migrate", cwd=tmp_path, env=own)
    assert first.returncode == 0, first.stderr
    assert ("rollups: applied 0001_rollups" in first.stderr) is rollups
    assert [count(dsn, "rollup%") > 0 for dsn in both] == [rollups, False]
    assert [count(dsn, "job%") > 0 for dsn in both] == [False, True]
    again = run_broker("migrate", cwd=tmp_path, env=own)
    assert ("rollups: up to date" in again.stderr, "applied" in again.stderr) == (rollups, False)


def test_what_is_printed_says_where_it_belongs(both: tuple[str, str]) -> None:
    printed = run_broker("migrate", "--print").stdout
    jobs, analytical = printed.split("-- For the analytical database")
    assert "CREATE TABLE broker.job " in jobs
    assert "CREATE TABLE broker.rollup " in analytical
    assert "rollup" not in jobs

    async def apply() -> None:
        connection = await asyncpg.connect(both[0], server_settings={"default_transaction_read_only": "off"})
        await connection.execute("--" + analytical)
        await connection.close()

    run_sync(apply())
    assert count(both[0], "rollup%") > 0


def test_an_analytical_database_that_is_away_is_said_to_be(both: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "querybroker.yaml").write_text(MODEL + ROLLUPS)
    own = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "QUERYBROKER__JOBS__DSN": both[1]}
    result = run_broker("migrate", cwd=tmp_path, env=own)
    assert (result.returncode, "The database cannot answer now" in result.stderr) == (6, True), result.stderr
