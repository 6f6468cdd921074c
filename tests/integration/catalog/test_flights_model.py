from __future__ import annotations

from pathlib import Path

import broker.demo
from broker.adapters.pg_catalog import open_catalog
from broker.config.findings import Severity
from broker.config.loader import load
from broker.config.verify import verify
from broker.domain.model import MeasureKind
from broker.domain.values import DataType

FLIGHTS = Path(broker.demo.__file__).with_name("flights.yaml")


async def test_the_model_of_the_demonstration_fits_its_tables(flights_dsn: str) -> None:
    configuration = load(FLIGHTS, {}, {"database.dsn": flights_dsn})
    async with open_catalog(flights_dsn) as catalog:
        findings = await verify(configuration, catalog)
    assert [finding for finding in findings if finding.severity is not Severity.HINT] == []
    assert [finding.message for finding in findings] == [
        "the role 'postgres' is a superuser; give the broker one that may only SELECT"
    ]


def test_the_demonstration_shows_every_kind_of_measure_and_type() -> None:
    flights = load(FLIGHTS, {}, database_needed=False).model.datasets["flights"]
    assert {measure.kind for measure in flights.measures.values()} == set(MeasureKind)
    assert {dimension.type for dimension in flights.dimensions.values()} == set(DataType)
