"""What is said of the server and of indexes, for a database that exists in values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.config.findings import Severity
from broker.config.loader import load_text
from broker.config.machine import Machine
from broker.config.verify import verify
from broker.domain.relations import (
    DatabaseCatalog,
    Described,
    FunctionFacts,
    Relation,
    RelationColumn,
    RelationKind,
    ServerFacts,
    SqlType,
)
from broker.domain.values import DataType

STAMP = SqlType("timestamp with time zone", DataType.TIMESTAMP)
EVENTS = Relation(
    "public",
    "events",
    RelationKind.TABLE,
    (RelationColumn("at", STAMP), RelationColumn("seen", STAMP)),
    indexed=frozenset({"at"}),
    rows=1_000_000,
)
SERVER = ServerFacts("18", "db", "reader", max_connections=20, reserved_connections=3)
MODEL = """\
datasets:
  events:
    table: events
    dimensions:
      at: timestamp
      seen: timestamp
    measures: {events: count}
pools: {dashboard: {connections: 8}, exploration: {connections: 4}, job: {connections: 3}, admin: {connections: 2}}
"""


@dataclass(frozen=True)
class Known:
    """An introspector that knows one catalog and finds every expression to be an instant."""

    known: DatabaseCatalog

    async def catalog(self) -> DatabaseCatalog:
        return self.known

    async def functions(self, names: Sequence[str]) -> tuple[FunctionFacts, ...]:
        return ()

    async def describe(self, statements: Sequence[str]) -> tuple[Described, ...]:
        return tuple(Described((STAMP,)) for _ in statements)

    async def exists(self, statement: str) -> bool | None:
        raise AssertionError("nothing is to be looked for")


async def findings(
    relation: Relation = EVENTS, server: ServerFacts = SERVER, model: str = MODEL
) -> list[tuple[int, Severity, str]]:
    configuration = load_text(model, {"DATABASE_URL": "postgresql://db/x"}, machine=Machine(1))
    found = await verify(configuration, Known(DatabaseCatalog(server, (relation,))))
    return [(finding.line, finding.severity, finding.message) for finding in found]


async def test_a_time_without_an_index_is_mentioned_where_it_matters() -> None:
    text = "no index begins with it, so every time range reads all rows: CREATE INDEX ON public.events (seen)"
    assert await findings() == [(6, Severity.HINT, text)]
    assert await findings(replace(EVENTS, rows=1000)) == []
    assert await findings(replace(EVENTS, kind=RelationKind.VIEW)) == []
    assert await findings(replace(EVENTS, indexed=frozenset({"at", "seen"}))) == []
    assert await findings(replace(EVENTS, ranged_by="seen")) == []  # its partitions are passed over


async def test_pools_fit_into_the_server() -> None:
    small = replace(SERVER, max_connections=19)
    ((line, severity, text),) = await findings(replace(EVENTS, rows=0), small)
    assert (line, severity) == (8, Severity.ERROR)
    assert text.startswith("the pools may open 17 connections, and the server has 16 for ordinary roles")
    elsewhere = MODEL.replace("connections: 8", "connections: 8, replica: copy")
    elsewhere += "database: {replicas: {copy: postgresql://copy/x}}\n"
    assert await findings(replace(EVENTS, rows=0), small, elsewhere) == []


async def test_a_superuser_is_advised_against() -> None:
    ((_, severity, text),) = await findings(replace(EVENTS, rows=0), replace(SERVER, superuser=True))
    assert severity is Severity.HINT
    assert "one that may only SELECT" in text


async def test_a_time_that_may_be_null_is_advised_against_where_rollups_are_over_it() -> None:
    rollup = "    rollups: {daily: {time: at, measures: [events]}}\n"
    model = MODEL.replace("pools:", f"{rollup}pools:").replace("      seen: timestamp\n", "")
    configuration = load_text(model, {"DATABASE_URL": "postgresql://db/x"}, machine=Machine(2))
    for nullable, count in ((True, 1), (False, 0)):
        columns = (RelationColumn("at", STAMP, nullable=nullable), EVENTS.columns[1])
        catalog = DatabaseCatalog(SERVER, (replace(EVENTS, columns=columns),))
        found = [f for f in await verify(configuration, Known(catalog)) if "may be null" in f.message]
        assert len(found) == count
        assert all(f.severity is Severity.HINT for f in found)
        assert all("ALTER TABLE public.events ALTER COLUMN at SET NOT NULL" in f.message for f in found)


async def test_a_collation_by_which_different_texts_are_equal_is_advised_against() -> None:
    columns = (EVENTS.columns[0], replace(EVENTS.columns[1], folding=True))
    relation = replace(EVENTS, columns=columns, rows=0)
    ((line, severity, text),) = await findings(relation)
    assert (line, severity) == (6, Severity.WARNING)
    assert text.endswith('declare `sql: seen COLLATE "C"`')
    told = MODEL.replace("seen: timestamp", "seen: {sql: 'seen COLLATE \"C\"', type: timestamp}")
    assert await findings(relation, model=told) == []
