"""A change log under test: its clock is set by hand, and it looks when it is told to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from broker.adapters.migrate import migrate
from broker.adapters.pg_changes import Changes
from broker.adapters.pg_changes_poll import ChangePoller
from broker.adapters.pg_connection import Settings
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.domain.held import Reach
from broker.domain.model import Dataset, RowPolicy
from broker.domain.plan import Finish, Plan, Scan
from broker.domain.query import AbsoluteRange, Query
from tests.integration.rollups.marks.conftest import SCHEMA

YEARS = tuple(datetime(year, 1, 1, tzinfo=UTC) for year in (2023, 2024, 2025))


def plan(
    dataset: Dataset,
    first: datetime | None = YEARS[0],
    last: datetime = YEARS[1],
    *,
    by: tuple[str, ...] = (),
    measures: tuple[str, ...] = ("sold",),
    policies: tuple[RowPolicy, ...] = (),
) -> Plan:
    """A plan that reads measures of a range, or of everything."""
    scan = Scan(
        dataset,
        tuple(dataset.dimensions[name] for name in by),
        tuple(dataset.measures[name] for name in measures),
        dataset.dimensions["at"] if first is not None else None,
        AbsoluteRange(first, last) if first is not None else None,
        policies=policies,
    )
    return Plan(Query(dataset.name, measures), scan, None, Finish((), (), (), ()), "p")


class Clock:
    """Time that passes by a millisecond whenever it is asked, and by what a test adds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@dataclass
class Watch:
    """A change log, and who tells it."""

    changes: Changes
    poller: ChangePoller
    clock: Clock

    def moment(self, asked: Plan) -> str:
        return self.changes.moment(asked)

    async def still(self, reach: Reach, moment: str) -> bool:
        """Whether it is unchanged by a new look."""
        await self.poller.turn()
        return self.changes.unchanged(reach, moment) is not None


def watching(dsn: str, *datasets: Dataset) -> Watch:
    clock = Clock()
    changes = Changes(datasets, clock, patience=1.0)
    return Watch(changes, ChangePoller(changes, dsn, Settings(), 0.01, clock, Random(1)), clock)


async def prepared(dsn: str, dataset: Dataset) -> None:
    """Makes the tables of the sales, and installs the dataset."""
    async with open_rollup_database(dsn) as database:
        async with database.connection() as connection:
            await connection.execute(SCHEMA)
        await migrate(dsn, "rollups")
        await PgRollupSchema(database).install(dataset)
