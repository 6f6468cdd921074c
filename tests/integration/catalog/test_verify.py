"""Models that do not fit the shop: each finding, at its line."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from broker.adapters.pg_catalog import open_catalog
from broker.config.findings import Severity
from broker.config.loader import load_text
from broker.config.verify import verify
from tests.conftest import FreshDatabase

# A model after each `=== name`; in it, `#! …` is an error that must be said of its line, `#? …` a warning.
MODELS = dict(
    part.split("\n", 1)
    for part in Path(__file__).with_name("unfit.txt").read_text(encoding="utf-8").split("=== ")[1:]
)
_SEVERITY = {"!": Severity.ERROR, "?": Severity.WARNING}


@pytest.mark.parametrize("name", MODELS)
async def test_what_does_not_fit_is_named(name: str, shop_dsn: str) -> None:
    expected = [
        (number, _SEVERITY[mark], said)
        for number, line in enumerate(MODELS[name].splitlines(), 1)
        for mark, said in re.findall(r"  #(!|\?) (.*?)(?=  #|$)", line)
    ]
    text = re.sub(r"  #[!?] .*$", "", MODELS[name], flags=re.MULTILINE)
    configuration = load_text(text, {"DATABASE_URL": shop_dsn}, source="shop.yaml")
    async with open_catalog(shop_dsn) as catalog:
        findings = [f for f in await verify(configuration, catalog) if f.severity is not Severity.HINT]
    assert len(findings) == len(expected), "\n".join(map(str, findings))
    for finding, (line, severity, said) in zip(findings, expected, strict=True):
        assert said in finding.message
        assert (finding.line, finding.severity) == (line, severity), str(finding)


async def test_a_role_that_may_not_read_is_told_what_to_grant(fresh_database: FreshDatabase) -> None:
    dsn = await fresh_database()
    role = f"reader_{dsn.rpartition('_')[2][:8]}"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "CREATE TABLE open (x int); CREATE TABLE closed (x int);"
            f"CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT SELECT ON open TO {role}"
        )
        own = re.sub(r"//[^@]*@", f"//{role}:secret@", dsn)
        model = "datasets: {open: {table: open, measures: {a: count}}, closed: {table: closed, measures: {b: count}}}"
        async with open_catalog(own) as catalog:
            findings = await verify(load_text(model, {"DATABASE_URL": own}), catalog)
        assert [f.message for f in findings] == [
            f"the role '{role}' may not read it: GRANT SELECT ON public.closed TO {role}"
        ]
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()
