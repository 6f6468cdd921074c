"""One database with everything built, a worker and a broker, for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.support.pg import Connection, Databases, run_sync
from tests.support.server import running_broker
from tests.system.rolled.place import SMALL, Place, prepare

BUILT = ("sales", "families", "mine", "listed", *SMALL)


@pytest.fixture(scope="package")
def place(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Everything is built, and nothing is refreshed but when a test asks for it."""
    home, dsn = tmp_path_factory.mktemp("rolled"), run_sync(databases.create())
    config = home / "model.yaml"
    prepare(dsn, config)
    settings = {
        "rollups.mirror_dir": str(home / "mirror"),
        "rollups.refresh": False,
        "rollups.verify_share": 0,
        "pools.dashboard.workers": 1,
        "pools.exploration.workers": 1,
    }
    with (
        running_broker(dsn, home, config=config, overrides=settings, role="worker") as worker,
        running_broker(dsn, home, config=config, overrides=settings) as broker,
    ):
        made = Place(dsn, config, home, broker)
        run_sync(made.refreshed(*BUILT))
        yield made
        for running in (worker, broker):
            assert "Traceback" not in running.log.read_text()


@pytest.fixture
async def beside(place: Place) -> AsyncIterator[Connection]:
    """A connection to the database."""
    connection = await asyncpg.connect(place.dsn)
    yield connection
    await connection.close()
