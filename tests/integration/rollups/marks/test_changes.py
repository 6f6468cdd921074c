"""Every way to change a source × what notices it: marks of the buckets, a mark of everything, or the catalog."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from broker.domain.rollup import Coverage, Rule, Span
from tests.integration.rollups.marks.conftest import YEAR_2023, YEAR_2024, World, bucket

OLD, NEXT, LATE = bucket("2023-05-05 10:07"), bucket("2023-05-05 10:20"), bucket("2024-02-02 02:02")
EVERYTHING = (Span(YEAR_2023.lo, YEAR_2024.hi),)
NOTHING: tuple[Span, ...] = ()
CATALOG = None


@dataclass(frozen=True)
class Change:
    """Statements, parted by two semicolons, and the spans that must be dirty after them."""

    name: str
    sql: str
    dirty: tuple[Span, ...] | None


ROWS = (
    Change("insert through the parent", "INSERT INTO sales VALUES (9, '2023-05-05 10:14:59.999999Z', 1, 1)", (OLD,)),
    Change("insert at the very start of a bucket", "INSERT INTO sales VALUES (9, '2023-05-05 10:15Z', 1, 1)", (NEXT,)),
    Change("insert into a partition", "INSERT INTO sales_2023 VALUES (9, '2023-05-05 10:07Z', 1, 1)", (OLD,)),
    Change("insert into a partition's own", "INSERT INTO sales_2024_1 VALUES (9, '2024-02-02 02:03Z', 1, 1)", (LATE,)),
    Change("insert halfway down", "INSERT INTO sales_2024 VALUES (9, '2024-02-02 02:03Z', 1, 1)", (LATE,)),
    Change("several rows in adjacent buckets and one apart",
           "INSERT INTO sales SELECT 100 + g, timestamptz '2023-05-05 10:00Z' + g * interval '1 min', 1, 1 "
           "FROM generate_series(0, 29) AS g UNION ALL SELECT 99, '2024-02-02 02:02Z', 1, 1",
           (Span(OLD.lo, NEXT.hi), LATE)),
    Change("copy", "COPY sales FROM PROGRAM 'echo \"9\t2023-05-05 10:07Z\t1\t1\t1\tx\"'", (OLD,)),
    Change("insert that updates", "INSERT INTO sales_2023 VALUES (1, '2023-05-05 10:20Z', 1, 1) "
           "ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at", (Span(OLD.lo, NEXT.hi),)),
    Change("insert that does nothing", "INSERT INTO sales_2023 VALUES (1, '2023-05-05 10:20Z', 1, 1) "
           "ON CONFLICT (id) DO NOTHING", NOTHING),
    Change("merge", "MERGE INTO sales AS s USING (VALUES (1), (7)) AS v (id) ON s.id = v.id "
           "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, '2024-02-02 02:02Z', 1, 1)",
           (OLD, LATE)),
    Change("update of a measure's column", "UPDATE sales SET amount = amount + 1 WHERE id = 1", (OLD,)),
    Change("update of a join's column", "UPDATE sales SET shop = 2 WHERE id = 1", (OLD,)),
    Change("update that only looks equal", "UPDATE sales SET amount = 1.50 WHERE id = 1", (OLD,)),
    Change("update by the last digit", "SET extra_float_digits = -10 ;; UPDATE sales SET price = price * (1 + 1e-15)"
           " WHERE id = 3", (LATE,)),
    Change("update of a column that no rollup reads", "UPDATE sales SET note = 'changed'", NOTHING),
    Change("update to what it was", "UPDATE sales SET amount = amount, at = at", NOTHING),
    Change("update of time", "UPDATE sales SET at = '2023-05-05 10:20Z' WHERE id = 1", (Span(OLD.lo, NEXT.hi),)),
    Change("update of time across partitions", "UPDATE sales SET at = '2024-02-02 02:02Z' WHERE id = 1", (OLD, LATE)),
    Change("update of time to null", "UPDATE sales SET at = NULL WHERE id = 1", (OLD,)),
    Change("update of time from null", "INSERT INTO sales VALUES (9, NULL, 1, 1) ;; "
           "UPDATE sales SET at = '2023-05-05 10:20Z' WHERE id = 9", (NEXT,)),
    Change("rows without a time that a segment can hold", "INSERT INTO sales VALUES (7, NULL, 1, 1), "
           "(8, 'infinity', 1, 1), (9, '-infinity', 1, 1), (10, '294276-12-31Z', 1, 1), (11, '4713-01-01 BC', 1, 1)",
           NOTHING),
    Change("delete", "DELETE FROM sales WHERE id = 3", (LATE,)),
    Change("delete in a partition", "DELETE FROM sales_2024_1", (LATE,)),
    Change("delete of nothing", "DELETE FROM sales WHERE id = 77", NOTHING),
    Change("truncate", "TRUNCATE sales", EVERYTHING),
    Change("truncate of a partition", "TRUNCATE sales_2024_1", EVERYTHING),
    Change("a replication role", "SET session_replication_role = replica ;; "
           "INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1)", (OLD,)),
    Change("another time zone", "SET timezone = 'Asia/Kathmandu' ;; SET datestyle = 'SQL, DMY' ;; "
           "INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1)", (OLD,)),
    Change("rolled back", "BEGIN ;; INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1) ;; ROLLBACK", NOTHING),
    Change("rolled back in part", "BEGIN ;; SAVEPOINT s ;; INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1) ;; "
           "ROLLBACK TO s ;; SAVEPOINT t ;; INSERT INTO sales VALUES (9, '2024-02-02 02:02Z', 1, 1) ;; "
           "RELEASE t ;; COMMIT", (LATE,)),
    Change("a name of one's own in the way", "SET search_path = public, pg_temp, pg_catalog ;; "
           "CREATE TEMP TABLE rollup_mark (source int, lo bigint, hi bigint) ;; "
           "CREATE FUNCTION public.date_bin(text, timestamptz, text) RETURNS timestamptz LANGUAGE sql "
           "AS 'SELECT NULL::timestamptz' ;; "
           "INSERT INTO public.sales VALUES (9, '2023-05-05 10:07Z', 1, 1)", (OLD,)),
)  # fmt: skip
JOINED = (
    Change("update of a column that is read", "UPDATE shops SET city = 'Bonn' WHERE id = 1", EVERYTHING),
    Change("update of the key", "UPDATE shops SET id = 3 WHERE id = 1", EVERYTHING),
    Change("update of a column that is not", "UPDATE shops SET motto = 'new'", NOTHING),
    Change("update to what it was", "UPDATE shops SET city = city", NOTHING),
    Change("update of nothing", "UPDATE shops SET city = 'x' WHERE id = 77", NOTHING),
    Change("insert", "INSERT INTO shops VALUES (3, 'Rome')", EVERYTHING),
    Change("delete", "DELETE FROM shops WHERE id = 1", EVERYTHING),
    Change("delete of nothing", "DELETE FROM shops WHERE id = 77", NOTHING),
    Change("truncate", "TRUNCATE shops", EVERYTHING),
)
DEFINITIONS = (
    Change("attach", "CREATE TABLE p (LIKE sales) ;; "
           "ALTER TABLE sales ATTACH PARTITION p FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')", CATALOG),
    Change("create a partition", "CREATE TABLE p PARTITION OF sales FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')",
           CATALOG),
    Change("detach", "ALTER TABLE sales DETACH PARTITION sales_2023", CATALOG),
    Change("detach concurrently", "ALTER TABLE sales_2024 DETACH PARTITION sales_2024_1 CONCURRENTLY", CATALOG),
    Change("detach and attach", "ALTER TABLE sales DETACH PARTITION sales_2023 ;; "
           "ALTER TABLE sales ATTACH PARTITION sales_2023 FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')", CATALOG),
    Change("drop a partition", "DROP TABLE sales_2023", CATALOG),
    Change("inherit", "CREATE TABLE more_shops () INHERITS (shops)", CATALOG),
    Change("new column", "ALTER TABLE sales ADD COLUMN colour text DEFAULT 'red'", NOTHING),
    Change("drop a column that is read", "ALTER TABLE sales DROP COLUMN amount", CATALOG),
    Change("drop and add a column", "ALTER TABLE sales DROP COLUMN amount ;; "
           "ALTER TABLE sales ADD COLUMN amount numeric", CATALOG),
    Change("drop a column that is not", "ALTER TABLE sales DROP COLUMN note", NOTHING),
    Change("another type", "ALTER TABLE sales ALTER COLUMN amount TYPE float8", CATALOG),
    Change("the same type, other values",
           "ALTER TABLE sales ALTER COLUMN amount TYPE numeric USING amount * 2", CATALOG),
    Change("rename a column", "ALTER TABLE sales RENAME COLUMN amount TO total", CATALOG),
    Change("rename a joined column", "ALTER TABLE shops RENAME COLUMN city TO town", CATALOG),
    Change("exchange a table", "ALTER TABLE shops RENAME TO old ;; CREATE TABLE shops (LIKE old)", CATALOG),
    Change("drop a trigger", "DROP TRIGGER {trigger} ON shops", CATALOG),
    Change("disable a trigger", "ALTER TABLE sales_2023 DISABLE TRIGGER ALL", CATALOG),
    Change("disable a trigger for a while", "ALTER TABLE shops DISABLE TRIGGER {trigger} ;; "
           "UPDATE shops SET city = 'Bonn' ;; ALTER TABLE shops ENABLE ALWAYS TRIGGER {trigger}", CATALOG),
    Change("a trigger that fires not always", "ALTER TABLE shops ENABLE TRIGGER {trigger}", CATALOG),
    Change("another function", "CREATE OR REPLACE FUNCTION broker.{function}() RETURNS trigger LANGUAGE plpgsql"
           " AS 'BEGIN RETURN NULL; END'", CATALOG),
    Change("not logged", "ALTER TABLE shops SET UNLOGGED", CATALOG),
    Change("row-level security", "ALTER TABLE shops ENABLE ROW LEVEL SECURITY", CATALOG),
    Change("a subscription", "INSERT INTO pg_subscription_rel VALUES (1, 'shops'::regclass, 'r')", CATALOG),
    Change("vacuum, analyze, an index", "VACUUM FULL shops ;; ANALYZE sales ;; CREATE INDEX ON sales (at)", NOTHING),
)  # fmt: skip


async def apply(world: World, change: Change) -> None:
    """Runs the statements."""
    row = await world.writer.fetchrow(
        "SELECT tgname, proname FROM pg_trigger JOIN pg_proc AS p ON p.oid = tgfoid "
        "WHERE tgrelid = 'shops'::regclass AND tgname LIKE 'rollup%update'"
    )
    assert row is not None, "an update of the joined table fires a trigger"
    text = change.sql.replace("{trigger}", row[0]).replace("{function}", row[1])
    connection = await world.connect()
    for statement in text.split(" ;; "):
        await connection.execute(statement)
    await connection.close()


def seen(coverage: Coverage) -> tuple[Span, ...] | None:
    """What the coverage says of changes."""
    if coverage.unusable is not None:
        assert coverage.unusable is Rule.DEF
        return None
    return coverage.dirty


@pytest.mark.parametrize("change", [*ROWS, *JOINED, *DEFINITIONS], ids=lambda change: change.name)
async def test_a_change_is_noticed_by(change: Change, world: World) -> None:
    assert (await world.coverage()).dirty == NOTHING
    await apply(world, change)
    assert seen(await world.coverage()) == change.dirty
