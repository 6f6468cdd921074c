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


async def test_row_level_security_of_the_broker_s_role_is_warned_of(fresh_database: FreshDatabase) -> None:
    dsn = await fresh_database()
    role = f"owner_{dsn.rpartition('_')[2][:8]}"
    own = re.sub(r"//[^@]*@", f"//{role}:secret@", dsn)
    model = """\
datasets:
  theirs: {table: theirs, joins: {mine: {table: mine, on: theirs.x = mine.x}}, measures: {a: count}}
  forced: {table: forced, measures: {b: count}}
"""

    async def warnings() -> list[tuple[str, Severity]]:
        async with open_catalog(own) as catalog:
            found = await verify(load_text(model, {"DATABASE_URL": own}), catalog)
        assert all(f.message.startswith("row level security decides which rows of ") for f in found)
        assert all("BYPASSRLS" in f.message and "`row_policies`" in f.message for f in found)
        return [(f.path, f.severity) for f in found]

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD 'secret';"
            "CREATE TABLE theirs (x int); CREATE TABLE mine (x int PRIMARY KEY); CREATE TABLE forced (x int);"
            f"ALTER TABLE mine OWNER TO {role}; ALTER TABLE forced OWNER TO {role}; GRANT SELECT ON theirs TO {role}"
        )
        assert await warnings() == []
        await connection.execute(
            "ALTER TABLE theirs ENABLE ROW LEVEL SECURITY; ALTER TABLE mine ENABLE ROW LEVEL SECURITY;"
            "ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )
        assert await warnings() == [  # the owner of a table sees all of it, unless it is forced upon him
            ("datasets.theirs.table", Severity.WARNING),
            ("datasets.forced.table", Severity.WARNING),
        ]
        await connection.execute(f"ALTER ROLE {role} BYPASSRLS")
        assert await warnings() == []
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()
