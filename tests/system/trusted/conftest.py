"""The rollup is built once; every test has a copy of the database."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from broker.demo.embedded import EmbeddedPostgres
from tests.support.pg import Databases, run_sync
from tests.support.rollups import install
from tests.support.server import ROOT
from tests.system.trusted.place import EVENTS, MODEL, Place


@pytest.fixture(scope="session")
def template(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A database in which all is built, for copies, and the file of the model."""
    home = tmp_path_factory.mktemp("trusted")
    config, dsn = home / "model.yaml", run_sync(databases.create())
    config.write_text(MODEL)
    run_sync(_fill(dsn, config))
    command = [sys.executable, "-m", "broker", "rollup", "build", "events", "--direct", "-c", str(config)]
    command += ["--set", f"database.dsn={dsn}", "--set", f"rollups.mirror_dir={home / 'mirror'}"]
    subprocess.run(command, check=True, cwd=ROOT)
    return dsn, config


async def _fill(dsn: str, config: Path) -> None:
    owner = await asyncpg.connect(dsn)
    await owner.execute(EVENTS)
    await owner.close()
    await install(dsn, config)


@pytest.fixture
async def place(
    template: tuple[str, Path], postgres: EmbeddedPostgres, databases: Databases, tmp_path: Path
) -> AsyncIterator[Place]:
    dsn, config = template
    name = f"copy_{uuid.uuid4().hex}"
    owner = await asyncpg.connect(postgres.dsn())
    await owner.execute(f"CREATE DATABASE {name} TEMPLATE {dsn.rpartition('/')[2]}")
    await owner.close()
    yield Place(postgres.dsn(name), tmp_path, config)
    await databases.drop(postgres.dsn(name))
