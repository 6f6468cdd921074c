"""Statements on the tables of rollups.

Locks are taken in one order: the partition, the source, the rollup. `publish` shares the source's lock with other
publishers, `sweep` has it alone, so no build is published while marks are being collected.
"""

from __future__ import annotations

FIND = """
SELECT r.id, r.source, r.definition, r.quarantine, r.verify_time
FROM broker.rollup AS r JOIN broker.rollup_source AS s ON s.id = r.source
WHERE s.dataset = $1 AND s.time = $2 AND r.name = $3
"""

# Leases. A build's snapshot is taken after its lease, so it sees everything older than the lease's horizon.
LEASE = """
INSERT INTO broker.rollup_partition AS p (rollup, lo, hi, holder, fence, expire_time, horizon)
VALUES ($1, $2, $3, $4, 1, clock_timestamp() + make_interval(secs => $5), pg_snapshot_xmin(pg_current_snapshot()))
ON CONFLICT (rollup, lo) DO UPDATE SET
    hi = EXCLUDED.hi, holder = EXCLUDED.holder, fence = p.fence + 1,
    expire_time = EXCLUDED.expire_time, horizon = EXCLUDED.horizon
WHERE p.expire_time <= clock_timestamp()
RETURNING p.fence
"""
SEALED = """
SELECT EXISTS (
    SELECT FROM broker.rollup_segment
    WHERE rollup = $1 AND retire_time IS NULL AND lo < $3 AND hi > $2 AND sealed)
"""
# Leases are found by the names that they carry; one of a rollup that was dropped is found no more.
_LEASED = """
FROM broker.rollup AS r JOIN broker.rollup_source AS s ON s.id = r.source
WHERE p.rollup = r.id AND s.dataset = $1 AND r.name = $2 AND p.lo = $3 AND p.fence = $4 AND p.holder = $5
"""
RENEW = f"""
UPDATE broker.rollup_partition AS p SET expire_time = clock_timestamp() + make_interval(secs => $6)
{_LEASED} AND p.expire_time > clock_timestamp()
RETURNING 1
"""  # noqa: S608 - constants only
RELEASE = f"""
UPDATE broker.rollup_partition AS p SET expire_time = '-infinity', holder = NULL
{_LEASED}
"""  # noqa: S608 - constants only

# Publishing. The new version is added as one that was replaced already, and becomes current by the last statement.
ADD = """
INSERT INTO broker.rollup_segment
    (rollup, lo, hi, version, snapshot, token, as_of, row_count, byte_count, files, sealed, retire_time)
VALUES ($1, $2, $3, $4, $5::text::pg_snapshot, $6, $7, $8, $9, $10::text::jsonb, $11, clock_timestamp())
RETURNING id
"""
ADD_CHUNK = "INSERT INTO broker.rollup_chunk (segment, grain, part, data) VALUES ($1, $2, $3, $4)"
HOLD_LEASE = """
SELECT fence = $3 AND holder IS NOT DISTINCT FROM $4 AND expire_time > clock_timestamp()
FROM broker.rollup_partition WHERE rollup = $1 AND lo = $2 FOR UPDATE
"""
HOLD_SOURCE = """
SELECT collected <= pg_snapshot_xmin($2::text::pg_snapshot) FROM broker.rollup_source WHERE id = $1 FOR SHARE
"""
HOLD_ROLLUP = "SELECT definition = $2 FROM broker.rollup WHERE id = $1 FOR NO KEY UPDATE"
CHANGED = "UPDATE broker.rollup SET generation = generation + 1 WHERE id = $1"
ANY_CURRENT = "SELECT EXISTS (SELECT FROM broker.rollup_segment WHERE rollup = $1 AND retire_time IS NULL)"
IS_CURRENT = """
SELECT EXISTS (SELECT FROM broker.rollup_segment WHERE rollup = $1 AND id = $2 AND retire_time IS NULL)
"""
RETIRE = """
UPDATE broker.rollup_segment SET retire_time = clock_timestamp()
WHERE rollup = $1 AND retire_time IS NULL AND lo < $3 AND hi > $2
"""
BECOME_CURRENT = "UPDATE broker.rollup_segment SET retire_time = NULL, row_count = $2 WHERE id = $1"

CHUNKS = "SELECT data FROM broker.rollup_chunk WHERE segment = $1 AND grain = $2 ORDER BY part"

# A mark concerns a segment when its transaction is not visible in the segment's snapshot and they overlap. What is
# older than everything in progress at the snapshot is visible in it, and skipped by the index.
_CONCERNED = """
EXISTS (
    SELECT FROM broker.rollup_mark AS m
    WHERE m.source = $1 AND m.lo < g.hi AND m.hi > g.lo
      AND m.xid >= pg_snapshot_xmin(g.snapshot) AND NOT pg_visible_in_snapshot(m.xid, g.snapshot))
"""
# Where another rollup of the dataset was sealed before a segment was built, rows may have been deleted in between;
# along another time nobody knows where those were.
_DOUBTFUL = """
EXISTS (
    SELECT FROM broker.rollup_segment AS o JOIN broker.rollup AS r ON r.id = o.rollup
      JOIN broker.rollup_source AS s ON s.id = r.source
    WHERE o.sealed AND o.retire_time IS NULL AND (o.seal_time <= g.as_of) IS NOT FALSE
      AND s.dataset = (SELECT dataset FROM broker.rollup_source WHERE id = $1)
      AND (s.id <> $1 OR o.lo < g.hi AND o.hi > g.lo))
"""
SEAL = f"""
UPDATE broker.rollup_segment AS g SET sealed = true, seal_time = CASE WHEN g.sealed THEN g.seal_time ELSE now() END
WHERE g.rollup = $2 AND g.retire_time IS NULL AND g.lo >= $3 AND g.hi <= $4
  AND (g.sealed OR NOT {_CONCERNED} AND NOT {_DOUBTFUL})
RETURNING g.lo, g.hi
"""  # noqa: S608 - constants only

# Sweeping.
HOLD_SOURCES = "SELECT id, time FROM broker.rollup_source WHERE dataset = $1 ORDER BY id FOR NO KEY UPDATE"
# A segment that no mark concerns is what a build from this statement's snapshot would give, so it may as well have been
# built from it. Otherwise one that never changes would keep the marks of all others for ever.
ADVANCE = f"""
UPDATE broker.rollup_segment AS g SET snapshot = pg_current_snapshot()
FROM broker.rollup AS r
WHERE r.source = $1 AND g.rollup = r.id AND r.name <> ALL ($2::text[]) AND g.retire_time IS NULL AND NOT g.sealed
  AND EXISTS (SELECT FROM broker.rollup_mark AS any_mark WHERE any_mark.source = $1)
  AND NOT {_CONCERNED}
"""  # noqa: S608 - constants only
COLLECT = """
WITH needed (xid) AS (
    SELECT pg_snapshot_xmin(g.snapshot)
    FROM broker.rollup_segment AS g JOIN broker.rollup AS r ON r.id = g.rollup
    WHERE r.source = $1 AND r.name <> ALL ($2::text[]) AND g.retire_time IS NULL AND NOT g.sealed
    UNION ALL
    SELECT p.horizon FROM broker.rollup_partition AS p JOIN broker.rollup AS r ON r.id = p.rollup
    WHERE r.source = $1 AND p.expire_time > clock_timestamp()
    UNION ALL
    SELECT pg_snapshot_xmin(pg_current_snapshot())
), oldest AS (SELECT xid FROM needed ORDER BY xid LIMIT 1), gone AS (
    DELETE FROM broker.rollup_mark WHERE source = $1 AND xid < (SELECT xid FROM oldest) RETURNING xid
), last AS (SELECT (max(xid)::text::numeric + 1)::text::xid8 AS xid FROM gone)
UPDATE broker.rollup_source AS s SET collected = last.xid
FROM last
WHERE s.id = $1 AND s.collected < last.xid
"""
OUTLIVED = """
UPDATE broker.rollup_segment AS g SET retire_time = clock_timestamp()
FROM broker.rollup AS r
WHERE r.source = $1 AND r.name = $2 AND g.rollup = r.id AND g.retire_time IS NULL AND g.hi <= $3
RETURNING g.lo, g.hi, g.rollup
"""
PURGE = """
DELETE FROM broker.rollup_segment AS g USING broker.rollup AS r
WHERE r.source = $1 AND g.rollup = r.id AND g.retire_time < clock_timestamp() - make_interval(secs => $2)
"""
# Nothing else is locked yet, and what a publisher holds is passed over.
EXPIRE = """
UPDATE broker.rollup_partition AS p SET holder = NULL, expire_time = '-infinity'
WHERE (p.rollup, p.lo) IN (
    SELECT o.rollup, o.lo
    FROM broker.rollup_partition AS o
    JOIN broker.rollup AS r ON r.id = o.rollup
    JOIN broker.rollup_source AS s ON s.id = r.source
    WHERE s.dataset = $1 AND o.holder IS NOT NULL AND o.expire_time <= clock_timestamp()
    FOR UPDATE OF o SKIP LOCKED)
"""

QUARANTINE = "UPDATE broker.rollup SET quarantine = nullif($2, '') WHERE id = $1"
VERIFIED = "UPDATE broker.rollup SET verify_time = now() WHERE id = $1"
BUILDING = """
SELECT EXISTS (SELECT FROM broker.rollup_partition WHERE rollup = $1 AND expire_time > clock_timestamp())
"""
CURRENT = """
SELECT id, lo, hi, version, as_of, row_count, byte_count, sealed
FROM broker.rollup_segment WHERE rollup = $1 AND retire_time IS NULL ORDER BY lo
"""
DROP = "DELETE FROM broker.rollup WHERE id = $1"
