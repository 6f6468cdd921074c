"""A proposal over a real catalog: the text itself, that it loads, and that it fits the database without a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.adapters.pg_catalog import open_catalog
from broker.config.findings import Severity
from broker.config.loader import load_text
from broker.config.propose import propose
from broker.config.verify import verify

GOLDEN = Path(__file__).with_name("shop.yaml")


async def _proposal(dsn: str, *tables: str) -> str:
    async with open_catalog(dsn) as catalog:
        text = propose(await catalog.catalog(), tables)
    return text.replace(dsn.rpartition("/")[2], "shop")


async def test_the_proposal_for_the_shop_is_the_one_kept_beside_this_file(shop_dsn: str) -> None:
    assert await _proposal(shop_dsn) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("database", ["shop_dsn", "flights_dsn"])
async def test_a_proposal_loads_and_fits_its_database(database: str, request: pytest.FixtureRequest) -> None:
    dsn = request.getfixturevalue(database)
    configuration = load_text(await _proposal(dsn), {"DATABASE_URL": dsn})
    assert configuration.findings == ()
    async with open_catalog(dsn) as catalog:
        findings = await verify(configuration, catalog)
    assert [str(finding) for finding in findings if finding.severity is not Severity.HINT] == []


async def test_tables_may_be_named(shop_dsn: str) -> None:
    text = await _proposal(shop_dsn, "product", "sales.visit")
    assert list(load_text(text, {}, database_needed=False).model.datasets) == ["product", "visit"]
    with pytest.raises(
        ValueError, match=r"no readable table or view is named produkt; there are sales\.Order, "
    ):
        await _proposal(shop_dsn, "produkt")
